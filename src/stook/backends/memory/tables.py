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

from stook.core.arrow import arrow_schema, conform, require_columns
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
        added = _exact(batches.read_all(), columns, f"table {name!r}")
        with self._lock:
            commits = self._tables.get(name, [])
            before = commits[-1] if commits else _Commit((), pa.table({}), 0)
            if not position or position > before.position:
                merged = _merge(name, before.columns, columns)
                parts = [_padded(part, merged) for part in (before.rows, added) if part.num_columns]
                rows = pa.concat_tables(parts) if parts else arrow_schema(merged).empty_table()
                self._tables[name] = commits = [*commits, _Commit(merged, rows, max(position, before.position))]
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


def _exact(rows: pa.Table, columns: Sequence[Column], what: str) -> pa.Table:
    require_columns(rows, [c.name for c in columns], what)
    arrays = [conform(rows.column(c.name), c.dtype, f"{what}: column {c.name!r}") for c in columns]
    return pa.table(arrays, schema=arrow_schema(columns))


def _merge(name: str, known: Sequence[Column], added: Sequence[Column]) -> tuple[Column, ...]:
    types = {c.name: c.dtype for c in known}
    for column in added:
        if types.get(column.name, column.dtype) != column.dtype:
            raise SchemaMismatch(
                f"table {name!r}: column {column.name!r} is {types[column.name]}, not {column.dtype}",
                hint="keep its type",
            )
    merged = (*known, *(c for c in added if c.name not in types))
    folded = {c.name.casefold(): c.name for c in merged}
    for column in merged:
        if folded.pop(column.name.casefold(), None) != column.name:
            raise SchemaMismatch(
                f"table {name!r}: column {column.name!r} stands there twice, or differs from another by case alone",
                hint="rename a column",
            )
    return merged


def _padded(rows: pa.Table, columns: Sequence[Column]) -> pa.Table:
    schema = arrow_schema(columns)
    arrays = [rows.column(f.name) if f.name in rows.column_names else pa.nulls(rows.num_rows, f.type) for f in schema]
    return pa.table(arrays, schema=schema)
