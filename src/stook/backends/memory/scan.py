"""A view's history as Python rows: who they are of, when they were, and where in a table their values stand.

It is a file of its own because everything exact happens here, one column at a time: names, types, times and
arrivals. The memory engine sorts and picks what it makes. It must never decide which rows count.

Values stay in Arrow, so that a NaN keeps its bits and a zero its sign; a row points at them by number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stook.backends.memory.files import MEND, check_unchanged
from stook.core import dtypes
from stook.core.arrow import arrow_schema, conform, decoded, event_micros, from_arrow, to_arrow
from stook.core.dtypes import DType
from stook.core.errors import InvalidArgument, NotSupported, SchemaMismatch, SourceUnreadable, did_you_mean, first_line
from stook.core.instants import to_us
from stook.core.physical import to_logical
from stook.core.plans import History, SourceSnapshot
from stook.core.pythonic import leaves
from stook.core.rows import ARRIVAL, DELETED, EVENT_US, KNOWLEDGE_US, file_arrival
from stook.core.specs import Column

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:?\d\d)?)?)?")
_LONG_FRACTION: Final = re.compile(r"(\.\d{6})(\d+)")


class Row(NamedTuple):
    """One row of a history; `at` is its place in the table of values. Nothing in it is null but `created_us`."""

    key: tuple[Any, ...]
    event_us: int
    knowledge_us: int
    arrival: int
    deleted: bool
    created_us: int | None
    rounded: bool
    at: int

    @property
    def order(self) -> tuple[int, int, int]:
        """What decides which of two rows of a key is newer."""
        return self.event_us, self.knowledge_us, self.arrival


@dataclass(frozen=True)
class _Part:
    """Columns as one file or table holds them; `logical` are their types where it is a table of ours."""

    columns: Mapping[str, pa.ChunkedArray]
    rows: int
    logical: Mapping[str, DType]


class _Times(NamedTuple):
    """What each row of a part says of its order; an event of None keeps the row out."""

    event: Sequence[int | None]
    knowledge: Sequence[int | None]
    arrival: Sequence[int]
    deleted: Sequence[bool | None]
    created: Sequence[int | None]
    rounded: Sequence[bool]


def read_history(history: History, features: Sequence[Column]) -> tuple[list[Row], pa.Table]:
    """All rows with a key and an event time, in no order, and the table of the features asked for.

    Raises SourceUnreadable, SchemaMismatch.
    """
    rows: list[Row] = []
    tables = [arrow_schema(features).empty_table()]
    start = 0
    for part, times in _parts(history, features):
        keys = tuples([comparable(_exact(history, part, c)) for c in history.view.keys], part.rows)
        values = [_exact(history, part, c) for c in features]
        for i, (key, event) in enumerate(zip(keys, times.event, strict=True)):
            if event is None or None in key:
                continue
            known = times.knowledge[i]
            order = (event, event if known is None else known, times.arrival[i], bool(times.deleted[i]))
            rows.append(Row(key, *order, times.created[i], times.rounded[i], start + i))
        start += part.rows
        tables.append(pa.table(values, schema=arrow_schema(features)))
    return rows, pa.concat_tables(tables).combine_chunks()


def _parts(history: History, features: Sequence[Column]) -> Iterator[tuple[_Part, _Times]]:
    source = history.source
    if source is not None:
        yield from _source_parts(history, source, features)
    if history.pushed is not None:
        logical = {c.name: c.dtype for c in history.pushed.columns}
        for path in history.pushed.files:
            part = _part(read_parquet(path), logical)
            yield part, _own_times(part)
    if history.tail is not None:
        part = _part(history.tail)
        yield part, _own_times(part)


def _source_parts(
    history: History, source: SourceSnapshot, features: Sequence[Column]
) -> Iterator[tuple[_Part, _Times]]:
    if source.kind != "parquet":
        raise NotSupported(f"the memory engine does not read sources of kind {source.kind!r}", hint=MEND)
    for file in source.files:
        check_unchanged(file)
    parts = [_part(read_parquet(file.path)) for file in source.files]
    if parts:
        _require(history, source, [p.columns for p in parts], features)
    what = f"feature view {history.view.name!r}: column "
    for file, part in zip(source.files, parts, strict=True):
        event = times_of(part.columns[source.timestamp_field], what + repr(source.timestamp_field))
        rounded = _rounded(part.columns[source.timestamp_field])
        created: Sequence[int | None] = [None] * part.rows
        if source.created_timestamp_column is not None:
            name = source.created_timestamp_column
            created = times_of(part.columns[name], what + repr(name))
            rounded = [a or b for a, b in zip(rounded, _rounded(part.columns[name]), strict=True)]
        arrival = [file_arrival(file.ordinal, i) for i in range(part.rows)]
        yield part, _Times(event, created, arrival, [False] * part.rows, created, rounded)


def _require(
    history: History, source: SourceSnapshot, parts: Sequence[Mapping[str, Any]], features: Sequence[Column]
) -> None:
    """Keys and times must stand in every file of the source, a feature in one of them at least."""
    every = [*history.view.key_names, source.timestamp_field]
    if source.created_timestamp_column is not None:
        every.append(source.created_timestamp_column)
    known = {name for part in parts for name in part}
    missing = [n for n in every if any(n not in part for part in parts)]
    missing += [c.name for c in features if c.name not in known]
    if missing:
        where = "" if missing[0] not in known else " in some of its files"
        raise SchemaMismatch(
            f"the source of feature view {history.view.name!r} has no column {missing[0]!r}{where}",
            hint=did_you_mean(missing[0], known - {missing[0]}),
        )


def _own_times(part: _Part) -> _Times:
    event, knowledge, arrival, deleted = (
        part.columns[n].to_pylist() for n in (EVENT_US, KNOWLEDGE_US, ARRIVAL, DELETED)
    )
    return _Times(event, knowledge, arrival, deleted, [None] * part.rows, [False] * part.rows)


def _part(table: pa.Table, logical: Mapping[str, DType] | None = None) -> _Part:
    names = table.column_names
    repeated = sorted(n for n in names if names.count(n) > 1)
    if repeated:
        raise SchemaMismatch(f"a source has several columns named {repeated[0]!r}", hint="rename one")
    columns = {n: _plain(c) for n, c in zip(names, table.columns, strict=True)}
    return _Part(columns, table.num_rows, logical or {})


def _exact(history: History, part: _Part, column: Column) -> pa.ChunkedArray:
    """The part's column in the declared type, nulls where the part has none."""
    held = part.columns.get(column.name)
    if held is None:
        return pa.chunked_array([pa.nulls(part.rows, to_arrow(column.dtype))])
    if column.name in part.logical:
        held = to_logical(held, part.logical[column.name])
    return conform(held, column.dtype, f"feature view {history.view.name!r}: column {column.name!r}")


def read_parquet(path: str) -> pa.Table:
    """A whole file. Raises SourceUnreadable; SchemaMismatch where INT96 times are no whole microseconds."""
    try:
        with pq.ParquetFile(path) as file:
            table = file.read().replace_schema_metadata(None)
            is_old = any(file.schema.column(i).physical_type == "INT96" for i in range(len(file.schema)))
        if not is_old:
            return table
        with pq.ParquetFile(path, coerce_int96_timestamp_unit="us") as file:
            micros = file.read().replace_schema_metadata(None)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None
    for name, fine, coarse in zip(table.column_names, table.columns, micros.columns, strict=True):
        if fine.type != coarse.type and _raw(fine) != _raw(coarse, 1000):
            raise SchemaMismatch(
                f"column {name!r} holds INT96 times with digits below a microsecond in {path}",
                hint="write the file with INT64 timestamps, or whole microseconds",
            )
    return micros


def _raw(values: pa.ChunkedArray, factor: int = 1) -> list[list[int]]:
    """The timestamps of a column, at any depth, as 64-bit numbers times a factor; both wrap outside the years 1678 to 2261."""
    ends = (leaf for chunk in values.chunks for leaf in leaves(chunk))
    times = (leaf.drop_null().cast(pa.int64()) for leaf in ends if pa.types.is_timestamp(leaf.type))
    return [pc.multiply(time, factor).to_pylist() for time in times]


def parquet_schema(path: str) -> pa.Schema:
    """A file's columns. Raises SourceUnreadable."""
    try:
        with pq.ParquetFile(path) as file:
            return file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str, error: Exception) -> SourceUnreadable:
    why = first_line(error)
    return SourceUnreadable(f"{path} is not a readable Parquet file: {why}", hint="write it again")


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type that a column is read as: an extension's storage, and text for a UUID."""
    if isinstance(kind, pa.UuidType):
        return pa.string()
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if isinstance(values.type, pa.UuidType):
        texts = [None if v is None else str(v) for v in values.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    if isinstance(values.type, pa.BaseExtensionType):
        return pa.chunked_array([c.storage for c in values.chunks], values.type.storage_type)
    return values


def comparable(values: pa.ChunkedArray) -> list[Any]:
    """Keys as Python values that sort as keys do: text by its code points, as its bytes would, times by number."""
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.int64())
    elif pa.types.is_date32(values.type):
        values = values.cast(pa.int32())
    return values.to_pylist()


def times_of(values: pa.ChunkedArray, what: str) -> list[int | None]:
    """Instants as microseconds; what lies below a microsecond rounds up. Raises SchemaMismatch naming `what`."""
    values = decoded(values)
    if from_arrow(values.type) == dtypes.String:
        return [None if text is None else _text_us(text, what) for text in values.to_pylist()]
    micros, _ = event_micros(values, what, round_up=True)
    return micros.to_pylist()


def _rounded(values: pa.ChunkedArray) -> list[bool]:
    """Which of the times have digits below a microsecond."""
    values = decoded(values)
    if from_arrow(values.type) == dtypes.String:
        return [text is not None and _is_between(text) for text in values.to_pylist()]
    if pa.types.is_timestamp(values.type) and values.type.unit == "ns":
        return [raw is not None and raw % 1000 != 0 for raw in values.cast(pa.int64()).to_pylist()]
    return [False] * len(values)


def _is_between(text: str) -> bool:
    rest = _LONG_FRACTION.search(text)
    return rest is not None and rest.group(2).strip("0") != ""


def _text_us(text: str, what: str) -> int:
    """The instant of an RFC 3339 text, its digits below a microsecond rounded up."""
    try:
        if not _TIME.fullmatch(text):
            raise InvalidArgument("it is no RFC 3339", hint="")
        return to_us(to_us(_LONG_FRACTION.sub(r"\1", text)) + _is_between(text))
    except InvalidArgument as error:
        raise SchemaMismatch(
            f"{what} holds text, of which {text!r} cannot be kept as a time: {error.message}",
            hint="write it as 2013-10-15T12:00:00Z",
        ) from None


def tuples(columns: Sequence[Sequence[Any]], count: int) -> list[tuple[Any, ...]]:
    """Columns row by row; of no columns, `count` empty rows."""
    return list(zip(*columns, strict=True)) if columns else [()] * count
