"""A view's history as relations of one shape each: groups of files, a query, our own table, the log's tail.

It is a file of its own because it is where a pinned history meets the disk: it looks at shapes and registers Arrow
tables. The engine calls it once per plan and view; `compile` turns its parts into SQL. It must never read rows,
nor decide which of them count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from stook.backends.duckdb.compile import Part
from stook.backends.duckdb.delta import read_commit
from stook.backends.duckdb.describe import csv_header, csv_relation, cut_times, footer, parquet_relation, shape_of
from stook.backends.duckdb.failures import translated
from stook.backends.duckdb.pin import check_unchanged, locate, stat_file
from stook.backends.duckdb.queries import query_relation
from stook.backends.duckdb.sqltypes import Held, Misread, literal, read_as_text, sql_type
from stook.core import dtypes
from stook.core.arrow import from_arrow
from stook.core.definitions import FileSource, PushSource
from stook.core.dtypes import DType
from stook.core.errors import SchemaMismatch
from stook.core.plans import History, SourceFile, SourceSnapshot, TableSnapshot
from stook.core.rows import FILE_ROWS_MAX
from stook.core.specs import ViewSpec

TAIL: Final = "pushed_tail"
_CUT_TIMES: Final = "INT96 times with digits below a microsecond"
_WRITE_INT64: Final = (
    "write the file with INT64 timestamps (Spark: outputTimestampType=TIMESTAMP_MICROS), or whole microseconds"
)


def parts_of(cursor: duckdb.DuckDBPyConnection, history: History, root: Path) -> tuple[Part, ...]:
    """All parts of a history. Raises SourceUnreadable, SchemaMismatch."""
    parts: list[Part] = []
    if history.source is not None:
        check_unchanged(history.source)
        parts += _source_parts(cursor, history.view, history.source, root)
    if history.pushed is not None:
        parts += _table_parts(cursor, history.pushed)
    if history.tail is not None and history.tail.num_rows:
        parts.append(_tail_part(cursor, history.tail))
    return tuple(parts)


def _source_parts(
    cursor: duckdb.DuckDBPyConnection, view: ViewSpec, source: SourceSnapshot, root: Path
) -> Iterable[Part]:
    what = f"the source of feature view {view.name!r}"
    if source.kind == "sql":
        assert source.query is not None
        relation = query_relation(cursor, source.query, root)
        with translated(what):
            shape = shape_of(cursor, relation)
        held = _held(shape.names, shape.arrow, shape.sql_types)
        columns = {n: replace(held[n], misread=m) for n, m in zip(shape.names, shape.misread, strict=True)}
        return [Part(_aliased(relation, len(shape.names)), columns, "0", True)]
    if source.kind == "csv":
        return [_csv_part(cursor, view, source, file) for file in source.files]
    if source.kind == "delta":
        return _delta_parts(cursor, view, source, root)
    return [_parquet_part(cursor, files) for files in _by_shape(source.files)]


def _by_shape(files: Sequence[SourceFile]) -> list[list[SourceFile]]:
    groups: dict[str, list[SourceFile]] = {}
    for file in files:
        groups.setdefault(footer(file).key, []).append(file)
    return list(groups.values())


def _parquet_part(
    cursor: duckdb.DuckDBPyConnection, files: Sequence[SourceFile], constants: Mapping[str, Held] | None = None
) -> Part:
    relation = parquet_relation(file.path for file in files)
    with translated(files[0].path):
        shape = shape_of(cursor, relation)
    schema = footer(files[0]).schema
    names = tuple(schema.names)  # DuckDB renames what differs only in case
    arrow = [own if _is_misread(own) else read for own, read in zip(schema.types, shape.arrow, strict=True)]
    ordinals = [file.ordinal for file in files]
    columns = _held(names, arrow, shape.sql_types)
    for file in files:
        for name in cut_times(file):
            columns[name] = replace(columns[name], misread=Misread(f"{_CUT_TIMES} in {file.path}", _WRITE_INT64))
    return Part(
        relation=_aliased(relation, len(names)),
        columns={**columns, **(constants or {})},
        arrival=f"{_ordinal(ordinals)} * {FILE_ROWS_MAX} + CAST(file_row_number AS BIGINT)",
    )


def _is_misread(arrow: pa.DataType) -> bool:
    """Whether DuckDB would read the type as another one, wide decimals as doubles and durations as integers: such a
    column keeps its own, which nothing can be made of."""
    is_wide = pa.types.is_decimal(arrow) and arrow.precision > dtypes.DECIMAL_PRECISION_MAX
    return is_wide or pa.types.is_duration(arrow)


def _ordinal(ordinals: Sequence[int]) -> str:
    """SQL of a row's file ordinal."""
    first = ordinals[0]
    if len(ordinals) == 1:
        return f"CAST({first} AS BIGINT)"
    if list(ordinals) == list(range(first, first + len(ordinals))):
        return f"({first} + CAST(file_index AS BIGINT))"
    return f"(CAST({list(ordinals)} AS BIGINT[]))[CAST(file_index AS BIGINT) + 1]"


def _delta_parts(
    cursor: duckdb.DuckDBPyConnection, view: ViewSpec, source: SourceSnapshot, root: Path
) -> Iterable[Part]:
    batch = view.source.batch_source if isinstance(view.source, PushSource) else view.source
    assert isinstance(batch, FileSource)
    commit = read_commit(locate(batch, root).path, source.delta_version)
    partitions = {file.path: file.partitions for file in commit.files}
    groups: dict[tuple[str, object], list[SourceFile]] = {}
    for file in source.files:
        groups.setdefault((footer(file).key, partitions.get(file.path, ())), []).append(file)
    for (_, values), files in groups.items():
        constants = {}
        for name, value in values:  # type: ignore[attr-defined]
            dtype = from_arrow(commit.schema.field(name).type)
            assert dtype is not None
            spelled = "NULL" if value is None else literal(value)
            constants[name] = Held(
                f"CAST({spelled} AS {sql_type(dtype)})", commit.schema.field(name).type, sql_type(dtype)
            )
        yield _parquet_part(cursor, files, constants)


def _csv_part(cursor: duckdb.DuckDBPyConnection, view: ViewSpec, source: SourceSnapshot, file: SourceFile) -> Part:
    """A CSV file, read as written; what has a use is converted exactly, or refused."""
    header = csv_header(file, source.timestamp_field)
    declared: dict[str, DType] = {c.name: c.dtype for c in (*view.keys, *view.features)}
    for name in (source.timestamp_field, source.created_timestamp_column):
        if name is not None:
            declared[name] = dtypes.Timestamp
    relation = csv_relation(file.path, header, ["VARCHAR"] * len(header.names))
    with translated(file.path):
        shape = shape_of(cursor, relation)
    is_text = [name in declared and read_as_text(declared[name]) for name in header.names]
    columns = _held(header.names, shape.arrow, shape.sql_types, is_text)
    # rows come in file order on any number of threads; DuckDB numbers them in one stream
    numbered = f"(SELECT *, row_number() OVER () - 1 AS file_row FROM {relation})"
    return Part(numbered, columns, f"CAST({file.ordinal} AS BIGINT) * {FILE_ROWS_MAX} + file_row")


def _table_parts(cursor: duckdb.DuckDBPyConnection, table: TableSnapshot) -> Iterable[Part]:
    logical = {c.name: c.dtype for c in table.columns}
    for group in _by_shape([stat_file(path) for path in table.files]):
        relation = parquet_relation(file.path for file in group)
        with translated(group[0].path):
            shape = shape_of(cursor, relation)
        names = tuple(footer(group[0]).schema.names)
        held = _held(names, shape.arrow, shape.sql_types)
        ours = {n: Held(h.expr, h.arrow, h.sql_type, logical=logical.get(n)) for n, h in held.items()}
        yield Part(_aliased(relation, len(names)), ours, None)


def _tail_part(cursor: duckdb.DuckDBPyConnection, tail: pa.Table) -> Part:
    names = [f"c{i}" for i in range(tail.num_columns)]
    cursor.register(TAIL, tail.rename_columns(names))
    with translated("the log's tail"):
        shape = shape_of(cursor, TAIL)
    return Part(TAIL, _held(tuple(tail.column_names), shape.arrow, shape.sql_types), None)


def _aliased(relation: str, count: int) -> str:
    """A FROM item whose columns are c0, c1 ..., so that no name of the user's can clash with another."""
    return f"{relation} AS part({', '.join(f'c{i}' for i in range(count))})"


def _held(
    names: Sequence[str], arrow: Sequence[pa.DataType], sql_types: Sequence[str], text: Sequence[bool] = ()
) -> dict[str, Held]:
    repeated = sorted({n for n in names if names.count(n) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        raise SchemaMismatch(f"a source has several columns named {repeated[0]!r}", hint="rename one")
    is_text = text or [False] * len(names)
    return {n: Held(f"c{i}", arrow[i], sql_types[i], text=is_text[i]) for i, n in enumerate(names)}
