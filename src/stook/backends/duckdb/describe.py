"""What shape a source's files or query have, as DuckDB reads them and as users know them.

It is a file of its own because looking costs: footers and headers are kept by path, size and time. The
engine describes sources with it, `scan` builds its relations from it. It must never read rows beyond what
sniffing needs and old files' times, nor decide what a column is used for.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from duckdb.sqltypes import DuckDBPyType

from stook.backends.duckdb.delta import read_commit
from stook.backends.duckdb.failures import translated
from stook.backends.duckdb.pin import list_files, locate, stat_file
from stook.backends.duckdb.queries import GLOB_ESCAPES, query_relation
from stook.backends.duckdb.sqltypes import Misread, literal, text_list
from stook.core import dtypes
from stook.core.arrow import from_arrow
from stook.core.definitions import FileSource, SqlSource
from stook.core.dtypes import DType
from stook.core.errors import SourceUnreadable, first_line
from stook.core.plans import SourceFile
from stook.core.pythonic import leaves
from stook.core.specs import Column

FOOTERS_MAX: Final = 4_096  # files whose footer or header is remembered
HEADER_BYTES_MAX: Final = 1 << 20  # of a CSV file, among which its first line must end
ISO_DATE: Final = "%Y-%m-%d"
_DELIMITERS: Final = (",", ";", "\t", "|")
_MISREAD: Final = {
    "time with time zone": "times of day with a zone (TIMETZ)",
    "bit": "bits (BIT)",
    "variant": "values of any type (VARIANT)",
}
_NESTED: Final = ("list", "array", "struct", "map", "union")
_NO_DIALECT: Final = "detect the CSV parsing dialect"
_NOT_UTF8: Final = "\ufffd"  # stands for bytes that cannot be decoded


@dataclass(frozen=True)
class Shape:
    """A relation's columns: their names, and their types on both sides of DuckDB's door.

    `misread` says of each what stands in it that Arrow is told otherwise, if anything does.
    """

    names: tuple[str, ...]
    arrow: tuple[pa.DataType, ...]
    sql_types: tuple[str, ...]
    misread: tuple[Misread | None, ...]


@dataclass(frozen=True)
class Footer:
    """A Parquet file's columns. `key` is equal for files that can be read as one relation; `int96` are the paths of
    columns, or parts of columns, that hold times as old writers do."""

    key: str
    schema: pa.Schema
    int96: tuple[str, ...]


@dataclass(frozen=True)
class CsvHeader:
    """What the first line of a CSV file says: the columns' names, and what separates them in the whole file."""

    names: tuple[str, ...]
    delimiter: str


def shape_of(cursor: duckdb.DuckDBPyConnection, relation: str) -> Shape:
    """The shape of a FROM item. DuckDB's errors pass through."""
    found = cursor.sql(f"SELECT * FROM {relation} LIMIT 0")
    schema = found.to_arrow_table().schema
    types = found.types
    return Shape(
        names=tuple(found.columns),
        arrow=tuple(schema.types),
        sql_types=tuple(str(t) for t in types),
        misread=tuple(_misread(t) for t in types),
    )


def _misread(sql_type: DuckDBPyType) -> Misread | None:
    """Refuses types, at any depth, that Arrow is told as other ones: a time without its zone, bits with other padding."""
    if sql_type.id in _MISREAD:
        return Misread(_MISREAD[sql_type.id], "cast it to another type in the source's query")
    inner = [t for _, t in sql_type.children] if sql_type.id in _NESTED else []
    found = (_misread(t) for t in inner if isinstance(t, DuckDBPyType))  # an array has its length there too
    return next((misread for misread in found if misread is not None), None)


def parquet_relation(paths: Iterable[str]) -> str:
    """Files of one shape as a FROM item; names that look like globs mean themselves."""
    return f"read_parquet({text_list(p.translate(GLOB_ESCAPES) for p in paths)}, hive_partitioning = false)"


def csv_relation(path: str, header: CsvHeader, sql_types: Iterable[str]) -> str:
    """One CSV file as a FROM item, its columns (named c0, c1 ...) read as the types given; nothing is guessed."""
    columns = ", ".join(f"'c{i}': {literal(t)}" for i, t in enumerate(sql_types))
    # quoted, nothing is the empty text; else it is null
    return (
        f"read_csv({literal(path.translate(GLOB_ESCAPES))}, auto_detect = false, allow_quoted_nulls = false, "
        f"columns = {{{columns}}}, {_dialect(header)})"
    )


def _dialect(header: CsvHeader) -> str:
    """RFC 4180, whatever a file looks like: a sample knows nothing of the quotes that come behind it, and a line that
    begins with # is a row."""
    return f"""delim = {literal(header.delimiter)}, quote = '"', escape = '"', comment = '', header = true, skip = 0"""


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
            ends = [file.schema.column(i) for i in range(len(file.schema))]
            int96 = tuple(end.path for end in ends if end.physical_type == "INT96")
            # Parquet tells some types of Arrow apart by metadata alone
            return Footer(f"{key}{schema}", schema, int96)
    except (pa.ArrowException, OSError) as error:
        why = first_line(error)
        raise SourceUnreadable(f"{path} is not a readable Parquet file: {why}", hint="write it again") from None


def cut_times(file: SourceFile) -> frozenset[str]:
    """The columns whose INT96 times have digits below a microsecond, which DuckDB would cut off. Raises SourceUnreadable.

    Such a column is read once for it, a row group at a time.
    """
    return _cut_times(file.path, file.size_bytes, file.mtime_ns) if footer(file).int96 else frozenset()


@lru_cache(maxsize=FOOTERS_MAX)
def _cut_times(path: str, size_bytes: int, mtime_ns: int) -> frozenset[str]:
    int96 = _footer(path, size_bytes, mtime_ns).int96
    try:
        with (
            pq.ParquetFile(path, coerce_int96_timestamp_unit="ns") as fine,
            pq.ParquetFile(path, coerce_int96_timestamp_unit="us") as coarse,
        ):
            pairs = (
                (fine.read_row_group(i, columns=[leaf]), coarse.read_row_group(i, columns=[leaf]))
                for i in range(fine.num_row_groups)
                for leaf in int96
            )
            return frozenset(
                name
                for nanos, micros in pairs
                for name in nanos.column_names
                if _are_cut(nanos.column(name), micros.column(name))
            )
    except (pa.ArrowException, OSError) as error:
        why = first_line(error)
        raise SourceUnreadable(f"{path} is not a readable Parquet file: {why}", hint="write it again") from None


def _are_cut(nanos: pa.ChunkedArray, micros: pa.ChunkedArray) -> bool:
    """Whether two readings differ. Nanoseconds wrap outside the years 1678 to 2261, and so does the product here."""
    for fine, coarse in zip(_timestamps(nanos, "ns"), _timestamps(micros, "us"), strict=True):
        if np.any(fine != coarse * 1000):
            return True
    return False


def _timestamps(column: pa.ChunkedArray, unit: str) -> list[npt.NDArray[np.int64]]:
    """All timestamps of a unit in a column, at any depth, as numbers."""
    parts = [leaf for chunk in column.chunks for leaf in leaves(chunk)]
    return [
        part.cast(pa.int64()).fill_null(0).to_numpy()
        for part in parts
        if pa.types.is_timestamp(part.type) and part.type.unit == unit
    ]


def csv_header(file: SourceFile, timestamp_field: str) -> CsvHeader:
    """The header of a CSV file, by which a file is read the same however it grows. Raises SourceUnreadable.

    Of the separators, the one counts that makes the timestamp column a name of its own.
    """
    return _csv_header(file.path, timestamp_field, file.size_bytes, file.mtime_ns)


@lru_cache(maxsize=FOOTERS_MAX)
def _csv_header(path: str, timestamp_field: str, size_bytes: int, mtime_ns: int) -> CsvHeader:
    del size_bytes, mtime_ns  # part of what is remembered
    try:
        with pa.input_stream(path) as stream:  # decompresses by the file's name
            text = stream.read(HEADER_BYTES_MAX).decode("utf-8-sig", errors="replace")
    except (pa.ArrowException, OSError) as error:
        why = first_line(error)
        raise SourceUnreadable(f"{path} is not a readable CSV file: {why}", hint="write it again") from None
    headers = [CsvHeader(_names(text, delimiter), delimiter) for delimiter in _DELIMITERS]
    fitting = [h for h in headers if timestamp_field in h.names] or headers
    header = max(fitting, key=lambda h: len(h.names))
    if not header.names:
        raise SourceUnreadable(
            f"{path}: its first line is empty", hint="the first line of a CSV file names its columns"
        )
    if any(_NOT_UTF8 in name for name in header.names):
        raise SourceUnreadable(f"{path}: its first line is not UTF-8", hint="write the file in UTF-8")
    repeated = sorted({n for n in header.names if header.names.count(n) > 1})
    if repeated:
        raise SourceUnreadable(f"{path} has several columns named {repeated[0]!r}", hint="rename one")
    return header


def _names(text: str, delimiter: str) -> tuple[str, ...]:
    """The names in the first line, if they are separated so; a column without one goes by its position."""
    try:
        names = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:  # a long line without that separator
        return ()
    return tuple(name.strip() or f"column{i}" for i, name in enumerate(names))


def describe(cursor: duckdb.DuckDBPyConnection, source: FileSource | SqlSource, root: Path) -> tuple[Column, ...]:
    """The source's columns with their logical types, those without one left out. Raises SourceUnreadable."""
    if isinstance(source, SqlSource):
        with translated("the query of a SqlSource"):
            shape = shape_of(cursor, query_relation(cursor, source.query, root))
        seen = zip(shape.names, shape.arrow, shape.misread, strict=True)
        return _columns([{name: arrow for name, arrow, misread in seen if misread is None}])
    place = locate(source, root)
    if place.kind == "delta":
        schema = read_commit(place.path).schema
        return _columns([dict(zip(schema.names, schema.types, strict=True))])
    files = [stat_file(path) for path in list_files(place)]
    if place.kind == "csv":
        return _columns([_csv_types(cursor, file, source.timestamp_field) for file in files])
    return _columns([_parquet_types(cursor, file) for file in files])


def _csv_types(cursor: duckdb.DuckDBPyConnection, file: SourceFile, timestamp_field: str) -> dict[str, pa.DataType]:
    """What the columns of a CSV file seem to hold, from its first rows."""
    header = csv_header(file, timestamp_field)
    if timestamp_field not in header.names:  # perhaps no header, or other separators: there is nothing to look at
        return dict.fromkeys(header.names, pa.string())
    with translated(file.path):
        sniffing = f"FROM sniff_csv({literal(file.path.translate(GLOB_ESCAPES))}, {_dialect(header)})"
        try:
            (found,) = cursor.sql(sniffing).to_arrow_table().to_pylist()
        except duckdb.InvalidInputException as error:
            if _NO_DIALECT not in str(error):  # it names a line
                raise
            raise SourceUnreadable(
                f"{file.path}: its first lines do not all have the {len(header.names)} columns of its header, "
                f"separated by {header.delimiter!r} and quoted by RFC 4180",
                hint="mend them, or read the file in an SqlSource, by DuckDB's read_csv with the options it needs",
            ) from None
        types = [_seen_type(column["type"], found) for column in found["Columns"]]
        shape = shape_of(cursor, csv_relation(file.path, header, types))
    return dict(zip(header.names, shape.arrow, strict=True))


def _seen_type(sql_type: str, sniffed: Mapping[str, Any]) -> str:
    """A sniffed type. Dates and times in forms other than ISO 8601 are text: 01/02/2020 is January here, February there."""
    date_format, time_format = sniffed["DateFormat"], sniffed["TimestampFormat"]
    is_custom = {"DATE": date_format not in (None, "", ISO_DATE), "TIMESTAMP": bool(time_format)}
    return "VARCHAR" if is_custom.get(sql_type, False) else sql_type


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
