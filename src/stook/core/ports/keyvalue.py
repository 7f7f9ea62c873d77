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
from typing import Final, NamedTuple, Protocol

from stook.core.errors import TooLarge

Row = tuple[bytes, bytes]
KEY_BYTES_MAX = 480  # keys as handed to the port; the online room shortens longer ones
READ_AT_ONCE = 32  # values that a bounded read takes before it adds up what it holds
UNREAD: Final = b""  # no stored value is empty: the server that would hold this key's row could not be asked

Lifetimes = Sequence[int | None] | None
"""For each row, for how many milliseconds from now on it must be kept: None is for ever; 0 or less need not be kept."""


class KeyValueAbility(enum.Enum):
    """What an online store may or may not do."""

    SNAPSHOT = "all keys of one get_many are read from one consistent state"
    PROCESSES = "several processes may open the same store at once"
    STEADY_SCAN = "a scan answers one consistent state, whatever is written while it runs"
    EXPIRY = "a row leaves by itself when the lifetime that came with it has passed, and frees its memory"


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
        raise over_limit()
    return left


def over_limit() -> TooLarge:
    """The error of a read that holds more than it may."""
    return TooLarge(
        "the rows asked for hold more than one read may answer",
        hint="ask for fewer at a time, or raise serve.answer_limit_mib in stook.toml",
    )


class KeyValue(Protocol):
    """Rows by key, newest wins."""

    abilities: frozenset[KeyValueAbility]

    def get_many(
        self, reads: Sequence[tuple[str, Sequence[bytes]]], *, bytes_max: int | None = None
    ) -> list[list[bytes | None]]:
        """For each (space, keys), the values in the order of the keys; None where there is none.

        One round trip. With SNAPSHOT, all answers come from one state; without, still one generation per space. A key
        may repeat. Where a store stands on several servers and some cannot be asked, their keys' values are UNREAD.
        Raises EngineUnavailable when nothing can be read, CorruptStore when the store does not read back, and
        TooLarge when the values have more than `bytes_max` bytes together (it holds READ_AT_ONCE values more at most;
        a store that says so in its documents may hold a few times as much).
        """
        ...

    def put_newest(
        self,
        writes: Sequence[tuple[str, Sequence[Row]]],
        *,
        position: tuple[str, int] | None = None,
        lifetimes_ms: Sequence[Lifetimes] | None = None,
    ) -> int:
        """Upserts rows into overlays under the write rule; returns how many replaced what was there.

        Atomic per key at least; durable when it returns. `position` (stream, n) is stored in the same
        transaction, never moving backwards, and only once all rows are in. Idempotent. A row also loses against
        the live generation's larger one (then nothing need be written). Raises EngineUnavailable, DiskFull.

        `lifetimes_ms` has an entry for each of the writes. Stores without EXPIRY ignore it; with it, a row is kept at
        least as long as it says, and as long as the older row that it replaces or covers would have been, so that
        none comes back; one that need not be kept is kept where it replaces or covers such a row.
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

    def load(self, space: str, generation: int, rows: Sequence[Row], *, lifetimes_ms: Lifetimes = None) -> None:
        """Adds rows to an unfinished generation and remembers the last one's key; durable. What is remembered covers
        all rows or none; where it fails half way, rows may be there that repeating the call brings in again.

        Rows in key order, also from call to call, load fastest; any order is correct, and a repeated key follows
        the write rule. With EXPIRY, rows that need not be kept are neither kept nor counted, and those that ended
        later stay counted. Raises InvalidArgument when the generation is not LOADING; EngineUnavailable, DiskFull.
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
        """Every key's winning value in key order, tombstones too; from one state where STEADY_SCAN holds. Without it,
        rows written meanwhile may be missed; raises Conflict when the generation it reads is dropped meanwhile."""
        ...

    def clear(self, space: str) -> None:
        """Deletes overlay and generations of the space. Idempotent."""
        ...

    def close(self) -> None:
        """Releases what is held. Idempotent; the object is unusable afterwards."""
        ...
