"""Rows into Redis under the write rule, and out of it for good.

It is a file of its own because pushes and loads write alike and every clean-up deletes alike: by keys that an index
named, in rounds of bounded size. `keyvalue`, `loading` and `sweeping` call it. It must never write a row whose key no
index holds yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from stook.backends.redis.fleet import Command, Fleet, call, command
from stook.backends.redis.layout import Names, slot_of
from stook.backends.redis.scripts import KEEP_NEWEST
from stook.core.ports.keyvalue import Lifetimes, Row

SCRIPT_ROWS_MAX: Final = 128  # rows that one run of the script writes: the server does nothing else meanwhile
SCRIPT_BYTES_MAX: Final = 1 << 20
ROUND_BYTES_MAX: Final = 4 << 20  # bytes on their way to all servers at once
ROUND_COMMANDS_MAX: Final = 4_096
LIFETIME_MS_MAX: Final = 1 << 52  # longer is for ever


def lifetime_text(lifetime_ms: int | None) -> bytes:
    """A lifetime as the script takes it: nothing for ever, 0 for one that is over."""
    if lifetime_ms is None or lifetime_ms > LIFETIME_MS_MAX:
        return b""
    return b"%d" % max(lifetime_ms, 0)


class RowWriter:
    """Writes and deletes rows, each in the slot of its key."""

    def __init__(self, fleet: Fleet, names: Names) -> None:
        self._fleet = fleet
        self._names = names

    def keep_newest(self, uid: str, rows: Sequence[Row], lifetimes_ms: Lifetimes, *, live: str = "") -> int:
        """Puts rows of an overlay or generation under the write rule; how many won, against the live one too.

        The rows of a key are applied in their order.
        """
        names = self._names.rows(uid, [key for key, _ in rows])
        lives = self._names.rows(live, [key for key, _ in rows]) if live else []
        cluster = self._fleet.address.cluster
        groups: dict[int, _Group] = {}

        def runs() -> Iterator[Command]:
            for number, (_, value) in enumerate(rows):
                slot = slot_of(names[number]) if cluster else 0
                group = groups.get(slot)
                if group is None:
                    group = groups[slot] = _Group(2 if live else 1)
                keys = (names[number], lives[number]) if live else (names[number],)
                group.add(keys, value, lifetime_text(None if lifetimes_ms is None else lifetimes_ms[number]))
                if group.is_full:
                    yield groups.pop(slot).run()
            for group in groups.values():
                yield group.run()

        return sum(sum(self._fleet.do(some, confirm=True)) for some in in_rounds(runs()))

    def delete(self, uid: str, keys: Sequence[bytes]) -> None:
        """Deletes rows; those that are gone already are passed over."""
        by_slot: dict[int, list[bytes]] = {}
        for name in self._names.rows(uid, keys):
            by_slot.setdefault(slot_of(name) if self._fleet.address.cluster else 0, []).append(name)
        commands = (command("UNLINK", *some) for names in by_slot.values() for some in pieces(names, SCRIPT_ROWS_MAX))
        for commands_ in in_rounds(commands):
            self._fleet.do(commands_)

    def ask(self, name: str, uid: str, keys: Sequence[bytes]) -> list[Any]:
        """The answer of a command that takes one key, such as GET or EXISTS, for each row."""
        found: list[Any] = []
        for some in in_rounds(command(name, row) for row in self._names.rows(uid, keys)):
            found += self._fleet.do(some)
        return found


class _Group:
    """Rows of one slot, gathered for one run of the script."""

    def __init__(self, keys_per_row: int) -> None:
        self._per = keys_per_row
        self._keys: list[bytes] = []
        self._arguments: list[bytes | int] = [keys_per_row]
        self._bytes = 0

    def add(self, keys: Sequence[bytes], value: bytes, lifetime: bytes) -> None:
        self._keys += keys
        self._arguments += (value, lifetime)
        self._bytes += len(value)

    @property
    def is_full(self) -> bool:
        return len(self._keys) >= SCRIPT_ROWS_MAX * self._per or self._bytes >= SCRIPT_BYTES_MAX

    def run(self) -> Command:
        return call(KEEP_NEWEST, self._keys, self._arguments)


def in_rounds(commands: Iterable[Command]) -> Iterator[list[Command]]:
    """Commands in rounds of at most ROUND_COMMANDS_MAX and about ROUND_BYTES_MAX, one command being the least."""
    some: list[Command] = []
    size = 0
    for one in commands:
        some.append(one)
        size += sum(len(part) for part in one.parts if isinstance(part, bytes))
        if size >= ROUND_BYTES_MAX or len(some) >= ROUND_COMMANDS_MAX:
            yield some
            some, size = [], 0
    if some:
        yield some


def pieces(things: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Things in pieces of at most that many."""
    rest = iter(things)
    while some := list(islice(rest, size)):
        yield some
