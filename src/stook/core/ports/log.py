"""The door to replayable streams.

It is a port so that a local file and Kafka serve the same push path. Ingest appends and reads. It must never look
into a payload.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

PAYLOAD_BYTES_MAX = 64 * 1024 * 1024


class Entry(NamedTuple):
    """A payload and its position. Positions of a stream grow from 1, without gaps."""

    position: int
    payload: bytes


class Log(Protocol):
    """Append-only streams by name. A stream exists from its first append."""

    def append(self, stream: str, payloads: Sequence[bytes]) -> int:
        """Appends all payloads, in order, as one; returns the position of the last.

        They survive kill -9 and loss of power once it returns; all of them or none. Safe from several threads
        and processes. Raises TooLarge, EngineUnavailable, DiskFull.
        """
        ...

    def read(self, stream: str, *, after: int, limit: int, bytes_max: int = PAYLOAD_BYTES_MAX) -> list[Entry]:
        """At most `limit` entries with position > `after`, in order; fewer (but at least one) once their payloads
        reach `bytes_max`; empty at the end. Raises Conflict when entries after `after` were already truncated."""
        ...

    def end(self, stream: str) -> int:
        """The position of the last entry ever appended; 0 when none."""
        ...

    def base(self, stream: str) -> int:
        """The position through which entries were truncated; 0 when none."""
        ...

    def truncate(self, stream: str, *, through: int) -> None:
        """Forgets entries with position <= `through`. Idempotent. Positions are never used again."""
        ...

    def close(self) -> None:
        """Releases what is held. Idempotent."""
        ...
