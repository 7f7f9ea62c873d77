"""The door to the registry's store: typed records with revisions.

It is a port so that SQLite and PostgreSQL serve the same registry. Registry, ingest, offline and models write
records; the app watches. It must never learn a kind: kinds and their specs belong to the rooms.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from stook.core.errors import InvalidArgument, TooLarge

ANY: Final = -1
ABSENT: Final = 0
SPEC_BYTES_MAX: Final = 16 * 1024 * 1024


@dataclass(frozen=True)
class Record:
    """One stored object. `revision` is the store's revision at its last write, `created` at its first; `spec` is
    a JSON object. Treat `spec` as frozen."""

    kind: str
    name: str
    spec: dict[str, Any]
    revision: int
    created: int


@dataclass(frozen=True)
class Put:
    """Write `spec` where the record's revision is `expected` (ABSENT: it must not exist; ANY: whatever it is)."""

    kind: str
    name: str
    spec: dict[str, Any]
    expected: int = ANY


@dataclass(frozen=True)
class Delete:
    """Delete the record where its revision is `expected` (ANY: whatever it is, also absent)."""

    kind: str
    name: str
    expected: int = ANY


Change = Put | Delete


def dump_spec(change: Put) -> str:
    """The spec as JSON text, as every store keeps it. Raises InvalidArgument for what is no JSON, TooLarge."""
    what = f"the spec of {change.kind} {change.name!r}"
    try:
        text = json.dumps(change.spec, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"{what} is not a JSON object: {error}", hint="use JSON's own types only") from error
    if len(text) > SPEC_BYTES_MAX:
        raise TooLarge(f"{what} has {len(text)} bytes", hint=f"at most {SPEC_BYTES_MAX}; keep large parts as blobs")
    return text


class RecordsAbility(enum.Enum):
    """What a records store may or may not do."""

    AT_HAND = "revision() asks no other machine, so that it may be called amid a request"


class Records(Protocol):
    """Records by (kind, name). One revision counter for the whole store grows by one with each commit."""

    abilities: frozenset[RecordsAbility]

    def get(self, kind: str, name: str) -> Record | None:
        """The record, or None."""
        ...

    def list(self, kind: str | None = None) -> list[Record]:
        """All records of the kind (None: of every kind) by kind and name, from one state."""
        ...

    def commit(self, changes: Sequence[Change], *, expected_revision: int = ANY) -> int:
        """Applies all changes or none, durably; returns the store's new revision.

        Raises Conflict when a record's revision is not the one expected or, with `expected_revision`, when the
        store's is not. With no changes nothing is written and the present revision is returned. Raises
        EngineUnavailable, DiskFull; nothing was written then, unless the message says that the outcome is unknown, as
        only an engine behind a network may: then the caller reads again before repeating what is no compare-and-set.
        """
        ...

    def revision(self) -> int:
        """The store's revision; 0 when nothing was ever written. Cheap enough to poll every 100 ms."""
        ...

    def close(self) -> None:
        """Releases what is held. Idempotent."""
        ...
