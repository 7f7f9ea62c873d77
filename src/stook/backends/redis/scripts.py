"""The Lua that Redis runs for us: what must be decided in the server, because it must be one step.

It is a file of its own because these lines are another language and are read as one. `fleet` sends them by digest
and loads them where a server does not know them; `rows`, `states` and `reading` name them. It must never compare
strings with Lua's `<`: that is strcoll, which follows the server's locale and stops at a zero byte.
"""

from __future__ import annotations

import hashlib
from typing import Final


class Script:
    """A script and its digest."""

    def __init__(self, text: str) -> None:
        self.text = text.encode()
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest().encode()


_LESS: Final = """
local function less(a, b, n)
  for i = 1, n do
    local x, y = string.byte(a, i) or -1, string.byte(b, i) or -1
    if x ~= y then return x < y end
  end
  return false
end
"""

KEEP_NEWEST: Final = Script(
    """
-- The write rule: the order's 24 bytes, then the schema revision's four, of which the greatest stands last.
local function older(a, b)
  for i = 1, 28 do
    local at = i <= 24 and i or 53 - i
    local x, y = string.byte(a, at), string.byte(b, at)
    if x ~= y then return x < y end
  end
  return false
end
-- KEYS: of each row, its own key and then (where ARGV[1] is 2) the live generation's; ARGV: of each row value, lifetime.
-- A lifetime is milliseconds, '' for ever, '0' one that is over: such a row only replaces older ones.
-- A row never ends before the older one it covers would, or the older one would come back.
local per, replaced = tonumber(ARGV[1]), 0
for i = 1, #KEYS / per do
  local key, value, lifetime = KEYS[(i - 1) * per + 1], ARGV[2 * i], ARGV[2 * i + 1]
  local stored = redis.call('GETRANGE', key, 0, 27)
  if stored == '' or not older(value, stored) then
    local live = per == 2 and redis.call('GETRANGE', KEYS[i * 2], 0, 27) or ''
    local covers = stored ~= '' and { key } or {}
    if live ~= '' and not older(value, live) then covers[#covers + 1] = KEYS[i * 2] end
    if lifetime ~= '' then
      for _, covered in ipairs(covers) do
        local left = redis.call('PTTL', covered)
        if left == -1 then lifetime = '' break end
        if left > tonumber(lifetime) then lifetime = string.format('%.0f', left) end
      end
    end
    if lifetime ~= '0' then
      if lifetime == '' then redis.call('SET', key, value) else redis.call('SET', key, value, 'PX', lifetime) end
      if live == '' or not older(value, live) then replaced = replaced + 1 end
    end
  end
end
return replaced
"""
)

COMPARE_AND_SET: Final = Script(
    """
-- KEYS: a space's state and what reads see of it, set together when the state is still ARGV[1]; '' means absent.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
for i = 1, 2 do
  if ARGV[i + 1] == '' then redis.call('DEL', KEYS[i]) else redis.call('SET', KEYS[i], ARGV[i + 1]) end
end
return 1
"""
)

SET_LARGER: Final = Script(
    _LESS
    + """
-- KEYS[1] becomes ARGV[1], 20 digits, unless it is larger already.
if less(redis.call('GET', KEYS[1]) or '', ARGV[1], 20) then redis.call('SET', KEYS[1], ARGV[1]) end
return 1
"""
)

READ_WITHIN: Final = Script(
    """
-- The values of KEYS, in one step; an error where they have more than ARGV[1] bytes together.
local found, left = {}, tonumber(ARGV[1])
for i = 1, #KEYS do
  found[i] = redis.call('GET', KEYS[i])
  if found[i] then left = left - #found[i] end
  if left < 0 then return redis.error_reply('TOOLARGE over the limit') end
end
return found
"""
)

FORGET_ENDED: Final = Script(
    """
-- Takes the members ARGV[2], ... out of the sorted set KEYS[1] where they still end before ARGV[1].
local gone = 0
for i = 2, #ARGV do
  local ends = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if ends and tonumber(ends) < tonumber(ARGV[1]) then gone = gone + redis.call('ZREM', KEYS[1], ARGV[i]) end
end
return gone
"""
)

SCRIPTS: Final = {
    script.sha: script for script in (KEEP_NEWEST, COMPARE_AND_SET, SET_LARGER, READ_WITHIN, FORGET_ENDED)
}
