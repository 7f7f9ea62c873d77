"""Which keys an overlay or a generation holds, so that they are scanned and deleted without looking at all others.

It is a file of its own because Redis has no order of its own: what is not written here is found by nobody. `keyvalue`,
`loading` and `sweeping` call it, always before they write a row. It must never forget a key whose row may be there.

An overlay's keys stand in BUCKETS sorted sets, scored by when their rows end; those that ended are taken out by the
score, not by looking at rows, so that a key whose row is still on its way is safe. A generation's keys, of which there
are many and which come sorted, stand in packed lists.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final

from stook.backends.redis.fleet import Fleet, call, command
from stook.backends.redis.layout import BUCKETS, Names, bucket_of, pack_keys, unpack_keys
from stook.backends.redis.rows import LIFETIME_MS_MAX, RowWriter, in_rounds, pieces
from stook.backends.redis.scripts import FORGET_ENDED
from stook.core.ports.keyvalue import Lifetimes

GRACE_MS: Final = 600_000  # keys are kept this long behind their rows' end: clocks differ, and writes take a while
MEMBERS_AT_ONCE: Final = 1_000
BUCKET_STEPS_MAX: Final = 1_000_000  # of one bucket: a thousand million keys
FOR_EVER: Final = b"inf"


class Index:
    """The keys of overlays and generations."""

    def __init__(self, fleet: Fleet, names: Names, rows: RowWriter) -> None:
        self._fleet = fleet
        self._names = names
        self._rows = rows

    def add(self, uid: str, keys: Sequence[bytes], lifetimes_ms: Lifetimes) -> None:
        """Notes keys of an overlay whose rows are about to be written. An end that is noted never moves back."""
        now_ms = int(time.time() * 1_000)
        scored: dict[int, list[bytes]] = {}
        for number, key in enumerate(keys):
            lifetime_ms = None if lifetimes_ms is None else lifetimes_ms[number]
            if lifetime_ms is None or lifetime_ms > LIFETIME_MS_MAX:
                ends = FOR_EVER
            else:
                ends = b"%d" % (now_ms + max(lifetime_ms, 0) + GRACE_MS)
            scored.setdefault(bucket_of(key), []).extend((ends, key))
        commands = (
            command("ZADD", self._names.bucket(uid, number), "GT", *some)
            for number, members in scored.items()
            for some in pieces(members, 2 * MEMBERS_AT_ONCE)
        )
        for some in in_rounds(commands):
            self._fleet.do(some, confirm=True)

    def forget_ended(self, uid: str, number: int, *, now_ms: int | None = None) -> int:
        """Takes up to MEMBERS_AT_ONCE keys whose rows have ended out of a bucket; how many were looked at."""
        before_ms = int(time.time() * 1_000) if now_ms is None else now_ms
        bucket = self._names.bucket(uid, number)
        found = command("ZRANGEBYSCORE", bucket, "-inf", b"(%d" % before_ms, "LIMIT", 0, MEMBERS_AT_ONCE)
        (keys,) = self._fleet.do([found])
        if keys:
            left_ms = self._rows.ask("PTTL", uid, keys)
            # a row may have been given a longer life by the one it replaced
            alive = [(key, left) for key, left in zip(keys, left_ms, strict=True) if left != -2]
            if alive:
                self.add(uid, [key for key, _ in alive], [None if left < 0 else left for _, left in alive])
            self._fleet.do([call(FORGET_ENDED, [bucket], [b"%d" % before_ms, *keys])])
        return len(keys)

    def members(self, uid: str) -> list[bytes]:
        """All keys of an overlay, in order. They are held in memory: a sorted set is not read in key order."""
        found: set[bytes] = set()
        for number in range(BUCKETS):
            cursor = b"0"
            for _ in range(BUCKET_STEPS_MAX):
                bucket = self._names.bucket(uid, number)
                ((cursor, some),) = self._fleet.do([command("ZSCAN", bucket, cursor, "COUNT", MEMBERS_AT_ONCE)])
                found.update(some[::2])
                if cursor == b"0":
                    break
        return sorted(found)

    def clear(self, uid: str) -> None:
        """Deletes an overlay's rows and keys, in short steps."""
        for number in range(BUCKETS):
            bucket = self._names.bucket(uid, number)
            for _ in range(BUCKET_STEPS_MAX):
                (keys,) = self._fleet.do([command("ZRANGE", bucket, 0, MEMBERS_AT_ONCE - 1)])
                if not keys:
                    break
                self._rows.delete(uid, keys)
                self._fleet.do([command("ZREM", bucket, *keys)])

    def write_lists(self, uid: str, first: int, keys: Sequence[bytes]) -> None:
        """Packs sorted keys of a generation into lists numbered from `first`."""
        lists = (
            command("SET", self._names.list_of(uid, first + number), packed)
            for number, packed in enumerate(pack_keys(keys))
        )
        for some in in_rounds(lists):
            self._fleet.do(some, confirm=True)

    def read_list(self, uid: str, number: int) -> list[bytes]:
        """The keys of a list; none where it is gone, or was never written."""
        (packed,) = self._fleet.do([command("GET", self._names.list_of(uid, number))])
        return unpack_keys(packed) if packed else []

    def read_lists(self, uid: str, ranges: Sequence[tuple[int, int]]) -> Iterator[list[bytes]]:
        """The lists of these (first, count), one at a time."""
        for first, count in ranges:
            for number in range(first, first + count):
                yield self.read_list(uid, number)

    def drop(self, uid: str, lists: int) -> None:
        """Deletes a generation's rows and lists, in short steps; what an earlier attempt deleted is passed over."""
        for number in range(lists):
            keys = self.read_list(uid, number)
            if keys:
                self._rows.delete(uid, keys)
                self._fleet.do([command("UNLINK", self._names.list_of(uid, number))])
