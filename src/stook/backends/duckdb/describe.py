"""What shape a source's files or query have, as DuckDB reads them and as users know them.

It is a file of its own because looking costs: footers and sniffed dialects are kept by path, size and time. The
engine describes sources with it, `scan` builds its relations from it. It must never read rows beyond what
sniffing needs, nor decide what a column is used for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from stook.backends.duckdb.delta import read_commit
from stook.backends.duckdb.failures import translated
from stook.backends.duckdb.pin import list_files, locate, stat_file
from stook.backends.duckdb.queries import GLOB_ESCAPES, query_relation
from stook.backends.duckdb.sqltypes import literal, text_list
from stook.core import dtypes
from stook.core.arrow import from_arrow
from stook.core.definitions import FileSource, SqlSource
from stook.core.dtypes import DType
from stook.core.errors import SourceUnreadable, first_line
from stook.core.plans import SourceFile
from stook.core.specs import Column

FOOTERS_MAX: Final = 4_096  # files whose footer is remembered
ISO_DATE: Final = "%Y-%m-%d"
_EMPTY: Final = "(empty)"  # sniff_csv's word for no character


@dataclass(frozen=True)
class Shape:
    """A relation's columns: their names, and their types on both sides of DuckDB's door."""

    names: tuple[str, ...]
    arrow: tuple[pa.DataType, ...]
    sql_types: tuple[str, ...]


@dataclass(frozen=True)
class Footer:
    """A Parquet file's columns. `key` is equal for files that can be read as one relation."""

    key: str
    schema: pa.Schema


@dataclass(frozen=True)
class CsvDialect:
    """How DuckDB's sniffer reads a CSV file. `custom_times`, `custom_dates`: they are not ISO 8601."""

    names: tuple[str, ...]
    sql_types: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    custom_times: bool
    custom_dates: bool


def shape_of(cursor: duckdb.DuckDBPyConnection, relation: str) -> Shape:
    """The shape of a FROM item. DuckDB's errors pass through."""
    found = cursor.sql(f"SELECT * FROM {relation} LIMIT 0")
    schema = found.to_arrow_table().schema
    return Shape(tuple(found.columns), tuple(schema.types), tuple(str(t) for t in found.types))


def parquet_relation(paths: Iterable[str]) -> str:
    """Files of one shape as a FROM item; names that look like globs mean themselves."""
    return f"read_parquet({text_list(p.translate(GLOB_ESCAPES) for p in paths)}, hive_partitioning = false)"


def csv_relation(path: str, dialect: CsvDialect, sql_types: Iterable[str]) -> str:
    """One CSV file as a FROM item, its columns (named c0, c1 ...) read as the types given; nothing is guessed."""
    columns = ", ".join(f"'c{i}': {literal(t)}" for i, t in enumerate(sql_types))
    options = "".join(f", {name} = {value}" for name, value in dialect.options)
    path = path.translate(GLOB_ESCAPES)
    # quoted, nothing is the empty text; else it is null
    return (
        f"read_csv({literal(path)}, auto_detect = false, allow_quoted_nulls = false, columns = {{{columns}}}{options})"
    )


def footer(file: SourceFile) -> Footer:
    """The footer of a Parquet file. Raises SourceUnreadable."""
    return _footer(file.path, file.size_bytes, file.mtime_ns)


@lru_cache(maxsize=FOOTERS_MAX)
def _footer(path: str, size_bytes: int, mtime_ns: int) -> Footer:
    del size_bytes, mtime_ns  # part of what is remembered
    try:
        with pq.ParquetFile(path) as file:
            key = str(file.schema).partition("\n")[2]  # the first line is an address
            schema = file.schema_arrow.remove_metadata()
            return Footer(f"{key}{schema}", schema)  # Parquet tells some types of Arrow apart by metadata alone
    except (pa.ArrowException, OSError) as error:
        why = first_line(error)
        raise SourceUnreadable(f"{path} is not a readable Parquet file: {why}", hint="write it again") from None


def sniff(cursor: duckdb.DuckDBPyConnection, file: SourceFile) -> CsvDialect:
    """How a CSV file is to be read. Raises SourceUnreadable."""
    with translated(file.path):
        (found,) = (
            cursor.sql(f"FROM sniff_csv({literal(file.path.translate(GLOB_ESCAPES))})").to_arrow_table().to_pylist()
        )
    options = {
        "delim": literal(_character(found["Delimiter"])),
        "quote": literal(_character(found["Quote"])),
        "escape": literal(_character(found["Escape"])),
        "comment": literal(_character(found["Comment"])),
        "skip": str(found["SkipRows"]),
        "header": str(found["HasHeader"]).lower(),
    }
    for name, key in (("dateformat", "DateFormat"), ("timestampformat", "TimestampFormat")):
        if found[key]:
            options[name] = literal(found[key])
    return CsvDialect(
        names=tuple(c["name"] for c in found["Columns"]),
        sql_types=tuple(c["type"] for c in found["Columns"]),
        options=tuple(options.items()),
        custom_times=bool(found["TimestampFormat"]),
        custom_dates=found["DateFormat"] not in (None, "", ISO_DATE),
    )


def _character(sniffed: str) -> str:
    return "" if sniffed == _EMPTY else sniffed


def describe(cursor: duckdb.DuckDBPyConnection, source: FileSource | SqlSource, root: Path) -> tuple[Column, ...]:
    """The source's columns with their logical types, those without one left out. Raises SourceUnreadable."""
    if isinstance(source, SqlSource):
        with translated("the query of a SqlSource"):
            shape = shape_of(cursor, query_relation(cursor, source.query, root))
        return _columns([dict(zip(shape.names, shape.arrow, strict=True))])
    place = locate(source, root)
    if place.kind == "delta":
        schema = read_commit(place.path).schema
        return _columns([dict(zip(schema.names, schema.types, strict=True))])
    files = [stat_file(path) for path in list_files(place)]
    if place.kind == "csv":
        return _columns([_csv_types(cursor, file) for file in files])
    return _columns([_parquet_types(cursor, file) for file in files])


def _csv_types(cursor: duckdb.DuckDBPyConnection, file: SourceFile) -> dict[str, pa.DataType]:
    dialect = sniff(cursor, file)
    with translated(file.path):
        shape = shape_of(cursor, csv_relation(file.path, dialect, dialect.sql_types))
    return dict(zip(dialect.names, shape.arrow, strict=True))


def _parquet_types(cursor: duckdb.DuckDBPyConnection, file: SourceFile) -> dict[str, pa.DataType]:
    """Arrow's view of the file, which remembers vectors; DuckDB's where Arrow has an extension type (UUID, JSON)."""
    schema = footer(file).schema
    types = dict(zip(schema.names, schema.types, strict=True))
    if any(isinstance(t, pa.BaseExtensionType) for t in types.values()):
        with translated(file.path):
            shape = shape_of(cursor, parquet_relation([file.path]))
        for name, arrow, ours in zip(schema.names, shape.arrow, schema.types, strict=True):
            types[name] = arrow if isinstance(ours, pa.BaseExtensionType) else ours
    return types


def _columns(files: Iterable[Mapping[str, Any]]) -> tuple[Column, ...]:
    """The columns of all files in order of appearance, each with the widest type that a file gives it."""
    found: dict[str, DType] = {}
    for types in files:
        for name, arrow in types.items():
            dtype = from_arrow(arrow)
            if dtype is not None and (name not in found or dtypes.widens(found[name], dtype)):
                found[name] = dtype
    return tuple(Column(name, dtype) for name, dtype in found.items())
