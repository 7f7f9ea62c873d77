"""The `Tables` port in memory.

It is a file of its own because there is one small module per port. Tests and trials open it. It must never be
faster at the price of being less plain. Its tables live in Arrow, so that `TableSnapshot.files` is empty, and
histories are read through the port.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from stook.core.arrow import arrow_schema
from stook.core.errors import SchemaMismatch, UnknownObject
from stook.core.plans import TableSnapshot
from stook.core.settings import EngineUrl
from stook.core.specs import Column


def open_tables(url: EngineUrl, root: Path) -> MemoryTables:  # noqa: ARG001  every backend opens alike
    """New, empty tables."""
    return MemoryTables()


@dataclass(frozen=True)
class _Commit:
    columns: tuple[Column, ...]
    rows: pa.Table
    position: int


class MemoryTables:
    """Tables as lists of commits. Thread-safe."""

    def __init__(self) -> None:
        self._tables: dict[str, list[_Commit]] = {}
        self._lock = threading.Lock()

    def append(
        self,
        name: str,
        columns: Sequence[Column],
        batches: pa.RecordBatchReader,
        *,
        position: int = 0,
        metadata: dict[str, Any] | None = None,  # noqa: ARG002  kept by tables that others read
    ) -> TableSnapshot:
        added = batches.read_all()
        with self._lock:
            commits = self._tables.setdefault(name, [])
            before = commits[-1] if commits else _Commit((), pa.table({}), 0)
            if not position or position > before.position:
                merged = _merge(name, before.columns, columns)
                parts = [_padded(part, merged) for part in (before.rows, added) if part.num_columns]
                rows = pa.concat_tables(parts) if parts else arrow_schema(merged).empty_table()
                commits.append(_Commit(merged, rows, max(position, before.position)))
            return self._snapshot(name, len(commits) - 1)

    def pin(self, name: str, commit: int | None = None) -> TableSnapshot | None:
        with self._lock:
            commits = self._tables.get(name, [])
            number = len(commits) - 1 if commit is None else commit
            return self._snapshot(name, number) if 0 <= number < len(commits) else None

    def read(self, snapshot: TableSnapshot) -> pa.Table:
        with self._lock:
            commits = self._tables.get(snapshot.name)
            if commits is None:
                raise UnknownObject(f"there is no table {snapshot.name!r}", hint="it was dropped")
            return _padded(commits[snapshot.commit].rows, snapshot.columns)

    def names(self, prefix: str = "") -> list[str]:
        with self._lock:
            return sorted(name for name in self._tables if name.startswith(prefix))

    def drop(self, name: str) -> None:
        with self._lock:
            self._tables.pop(name, None)

    def _snapshot(self, name: str, number: int) -> TableSnapshot:
        commit = self._tables[name][number]
        return TableSnapshot(name, number, (), commit.columns, commit.position)


def _merge(name: str, known: Sequence[Column], added: Sequence[Column]) -> tuple[Column, ...]:
    types = {c.name: c.dtype for c in known}
    for column in added:
        if types.get(column.name, column.dtype) != column.dtype:
            raise SchemaMismatch(
                f"table {name!r}: column {column.name!r} is {types[column.name]}, not {column.dtype}",
                hint="keep its type",
            )
    return (*known, *(c for c in added if c.name not in types))


def _padded(rows: pa.Table, columns: Sequence[Column]) -> pa.Table:
    schema = arrow_schema(columns)
    arrays = [rows.column(f.name) if f.name in rows.column_names else pa.nulls(rows.num_rows, f.type) for f in schema]
    return pa.table(arrays, schema=schema)
