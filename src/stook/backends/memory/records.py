"""Records in memory.

It is a file of its own because one backend is one class behind one factory. Tests, and projects whose settings
say `records = "memory:"`, open it. It must never hand out what it keeps: specs are kept as text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from stook.core.errors import Conflict
from stook.core.ports.records import ABSENT, ANY, Change, Put, Record, RecordsAbility, dump_spec
from stook.core.settings import EngineUrl


class _Kept(NamedTuple):
    spec: str
    revision: int
    created: int


class MemoryRecords:
    """`Records` in a dict; see the port for what each method promises."""

    abilities = frozenset({RecordsAbility.AT_HAND})

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._revision = 0
        self._mutex = Lock()

    def get(self, kind: str, name: str) -> Record | None:
        kept = self._kept.get((kind, name))
        return None if kept is None else _record((kind, name), kept)

    def list(self, kind: str | None = None) -> list[Record]:
        with self._mutex:
            found = [(key, kept) for key, kept in self._kept.items() if kind in (None, key[0])]
        return [_record(key, kept) for key, kept in sorted(found)]

    def commit(self, changes: Sequence[Change], *, expected_revision: int = ANY) -> int:
        specs = [dump_spec(change) if isinstance(change, Put) else "" for change in changes]
        with self._mutex:
            if expected_revision not in (ANY, self._revision):
                raise Conflict(
                    f"the registry is at revision {self._revision}, not {expected_revision}: somebody changed it",
                    hint="read it again, then repeat",
                )
            if changes:
                revision = self._revision + 1
                after = dict(self._kept)
                for change, spec in zip(changes, specs, strict=True):
                    _apply(after, change, spec, revision)
                self._kept, self._revision = after, revision
            return self._revision

    def revision(self) -> int:
        return self._revision

    def close(self) -> None:
        """Nothing is held."""


def open_records(url: EngineUrl, root: Path) -> MemoryRecords:
    """Empty records; neither the URL nor the project matters."""
    del url, root
    return MemoryRecords()


def _record(key: tuple[str, str], kept: _Kept) -> Record:
    return Record(*key, json.loads(kept.spec), kept.revision, kept.created)


def _apply(kept: dict[tuple[str, str], _Kept], change: Change, spec: str, revision: int) -> None:
    key = (change.kind, change.name)
    present = kept.get(key)
    if change.expected not in (ANY, ABSENT if present is None else present.revision):
        stands = "does not exist" if present is None else f"is at revision {present.revision}"
        wanted = "not to exist" if change.expected == ABSENT else f"at revision {change.expected}"
        raise Conflict(f"{change.kind} {change.name!r} {stands}, expected {wanted}", hint="read it again, then repeat")
    if isinstance(change, Put):
        kept[key] = _Kept(spec, revision, revision if present is None else present.created)
    else:
        kept.pop(key, None)
