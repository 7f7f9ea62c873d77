"""The door to the online store.

It is a port so that LMDB, Redis or HBase can stand behind the same read and write paths. The online room calls
it; backends implement it; `stook.testing.contracts.keyvalue` is the suite they pass. It must never know what a
value holds beyond its header (`core.rows`).

A *space* holds one view's rows. In it, numbered *generations* are written by bulk loads, at most one of them
live; the *overlay* takes upserts. A read answers, for each key, the larger of overlay and live generation by the
write rule. Tombstones are answered as values: their header says that they are deletes.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from stook.core.errors import TooLarge

Row = tuple[bytes, bytes]
KEY_BYTES_MAX = 480  # keys as handed to the port; the online room shortens longer ones
READ_AT_ONCE = 32  # values that a bounded read takes before it adds up what it holds


class KeyValueAbility(enum.Enum):
    """What an online store may or may not do."""

    SNAPSHOT = "all keys of one get_many are read from one consistent state"
    PROCESSES = "several processes may open the same store at once"


class GenerationState(enum.Enum):
    """Where a generation stands. LOADING: unfinished. READY: complete, not live. LIVE: answers reads."""

    LOADING = "loading"
    READY = "ready"
    LIVE = "live"


@dataclass(frozen=True)
class Generation:
    """One bulk load of a space."""

    number: int
    rows: int
    state: GenerationState
    created_us: int


class Load(NamedTuple):
    """An open bulk load: `rows` and `last_key` tell how far an interrupted one had come (0 and None: new)."""

    generation: int
    rows: int
    last_key: bytes | None


def spend(values: Sequence[bytes | None], left: int) -> int:
    """What a read bounded by `bytes_max` may still take after these values. Raises TooLarge when it may not take them.

    >>> spend([b"abc", None], 10)
    7
    """
    left -= sum(map(len, filter(None, values)))
    if left < 0:
        raise TooLarge(
            "the rows asked for hold more than one read may answer",
            hint="ask for fewer at a time, or raise serve.answer_limit_mib in stook.toml",
        )
    return left


class KeyValue(Protocol):
    """Rows by key, newest wins."""

    abilities: frozenset[KeyValueAbility]

    def get_many(
        self, reads: Sequence[tuple[str, Sequence[bytes]]], *, bytes_max: int | None = None
    ) -> list[list[bytes | None]]:
        """For each (space, keys), the values in the order of the keys; None where there is none.

        One round trip. With SNAPSHOT, all answers come from one state: one generation per space. A key may repeat.
        Raises EngineUnavailable when nothing can be read, CorruptStore when the store does not read back, and
        TooLarge when the values have more than `bytes_max` bytes together (it holds READ_AT_ONCE values more at most).
        """
        ...

    def put_newest(
        self, writes: Sequence[tuple[str, Sequence[Row]]], *, position: tuple[str, int] | None = None
    ) -> int:
        """Upserts rows into overlays under the write rule; returns how many replaced what was there.

        Atomic per key at least; durable when it returns. `position` (stream, n) is stored in the same
        transaction, never moving backwards, and only once all rows are in. Idempotent. A row also loses against
        the live generation's larger one (then nothing need be written). Raises EngineUnavailable, DiskFull.
        """
        ...

    def position(self, stream: str) -> int:
        """The largest position stored for `stream`; 0 when none."""
        ...

    def begin_load(self, space: str, *, token: str, now_us: int) -> Load:
        """Opens a new generation, or the unfinished one begun under the same token.

        Unfinished generations of the space under other tokens are dropped. Loading does not disturb readers.
        """
        ...

    def load(self, space: str, generation: int, rows: Sequence[Row]) -> None:
        """Adds rows to an unfinished generation and remembers the last one's key; all or nothing, durable.

        Rows in key order, also from call to call, load fastest; any order is correct, and a repeated key follows
        the write rule. Raises InvalidArgument when the generation is not LOADING; EngineUnavailable, DiskFull.
        """
        ...

    def activate(self, space: str, generation: int, *, expected: int | None) -> None:
        """Makes a generation live, in one step, when the live one is `expected` (None: there is none).

        The one before stays READY. A LOADING generation is complete from now on. Raises Conflict when another
        is live, UnknownObject when there is no such generation.
        """
        ...

    def generations(self, space: str) -> list[Generation]:
        """All generations of the space, by number."""
        ...

    def drop(self, space: str, generation: int) -> None:
        """Deletes a generation that is not live, in short transactions. Idempotent. Raises InvalidArgument if live."""
        ...

    def scan(self, space: str) -> Iterator[Row]:
        """Every key's winning value in key order, tombstones too, from one state where SNAPSHOT holds."""
        ...

    def clear(self, space: str) -> None:
        """Deletes overlay and generations of the space. Idempotent."""
        ...

    def close(self) -> None:
        """Releases what is held. Idempotent; the object is unusable afterwards."""
        ...
