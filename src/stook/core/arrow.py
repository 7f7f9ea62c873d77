"""Logical types in Arrow, and the exact way from what users bring to what a view declares.

It is a file of its own because it is the only part of `core` that needs Arrow, so `import stook` does not pay
for it. Every room that touches data conforms it here first; nothing else may cast. It must never round, wrap or
guess: what a type cannot hold exactly is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from stook.core import dtypes
from stook.core.dtypes import MAP_KEYS, Array, Decimal, DType, Map, Primitive, Struct, Vector
from stook.core.errors import SchemaMismatch, did_you_mean, first_line
from stook.core.instants import MAX_US, MIN_US
from stook.core.pythonic import NotOfType, column_of, leaves, levels, repeats_a_key, with_ends
from stook.core.specs import Column

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TIMESTAMP: Final = pa.timestamp("us", tz="UTC")
_PRIMITIVES: Final[dict[str, pa.DataType]] = {
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "bytes": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": TIMESTAMP,
}
DAY_US: Final = 86_400_000_000
_VIEWS: Final = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}  # Arrow cannot take rows of these
_LOGICAL: Final = {arrow: dtypes.PRIMITIVES[name] for name, arrow in _PRIMITIVES.items()}


def to_arrow(dtype: DType) -> pa.DataType:
    """The Arrow type that holds a logical type inside stook.

    >>> to_arrow(dtypes.Timestamp)
    TimestampType(timestamp[us, tz=UTC])
    """
    match dtype:
        case Primitive(name):
            return _PRIMITIVES[name]
        case Decimal(precision, scale):
            return pa.decimal128(precision, scale)
        case Array(element):
            return pa.list_(to_arrow(element))
        case Vector(element, length):
            return pa.list_(to_arrow(element), length)
        case Struct(fields):
            return pa.struct([pa.field(n, to_arrow(t)) for n, t in fields])
        case Map(key, value):
            return pa.map_(to_arrow(key), to_arrow(value))
    raise AssertionError(dtype)


def from_arrow(arrow: pa.DataType) -> DType | None:
    """The logical type for data of an Arrow type; None where there is none (durations, unions, wide decimals)."""
    if (known := _LOGICAL.get(arrow)) is not None:
        return known
    if pa.types.is_dictionary(arrow):
        return from_arrow(arrow.value_type)
    if pa.types.is_timestamp(arrow):
        return dtypes.Timestamp
    if pa.types.is_date64(arrow):
        return dtypes.Date
    if pa.types.is_time(arrow):
        return dtypes.Time
    if pa.types.is_large_string(arrow) or pa.types.is_string_view(arrow):
        return dtypes.String
    if pa.types.is_large_binary(arrow) or pa.types.is_binary_view(arrow) or pa.types.is_fixed_size_binary(arrow):
        return dtypes.Bytes
    if pa.types.is_float16(arrow):
        return dtypes.Float32
    if pa.types.is_decimal(arrow) and arrow.precision <= dtypes.DECIMAL_PRECISION_MAX and arrow.scale >= 0:
        return Decimal(arrow.precision, max(arrow.scale, 0))
    return _nested_from_arrow(arrow)


def _nested_from_arrow(arrow: pa.DataType) -> DType | None:
    if pa.types.is_fixed_size_list(arrow):
        element = from_arrow(arrow.value_type)
        if element in dtypes.VECTOR_ELEMENTS:
            return Vector(element, arrow.list_size)
        return None if element is None else Array(element)
    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow) or pa.types.is_list_view(arrow):
        element = from_arrow(arrow.value_type)
        return None if element is None else Array(element)
    if pa.types.is_map(arrow):
        key, value = from_arrow(arrow.key_type), from_arrow(arrow.item_type)
        return None if not isinstance(key, MAP_KEYS) or value is None else Map(key, value)
    if pa.types.is_struct(arrow):
        fields = {arrow.field(i).name: from_arrow(arrow.field(i).type) for i in range(arrow.num_fields)}
        known = {n: t for n, t in fields.items() if t is not None}
        return Struct(known) if known and len(known) == len(fields) == arrow.num_fields else None
    return None


def arrow_schema(columns: Iterable[Column]) -> pa.Schema:
    """The Arrow schema of logical columns, in order."""
    return pa.schema([pa.field(c.name, to_arrow(c.dtype)) for c in columns])


def as_table(data: Any, what: str, columns: Iterable[Column] = ()) -> pa.Table:
    """An Arrow table from an Arrow table or batch, a pandas or Polars DataFrame, a list of dicts or a dict of lists.

    A pandas index is not a column. `columns` say what Python values are meant to be. Raises SchemaMismatch naming
    `what` for anything else, and for a column's name that stands twice.
    """
    table = _table_of(data, what, columns)
    names = table.column_names
    if len(set(names)) < len(names):
        require_columns(table, names, what)
    return table


def _table_of(data: Any, what: str, columns: Iterable[Column]) -> pa.Table:
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    try:
        types = {c.name: c.dtype for c in columns}
        if isinstance(data, dict):
            return pa.table({name: _column(values, types.get(name), name) for name, values in data.items()})
        if isinstance(data, list | tuple):
            names = dict.fromkeys(name for row in data for name in row)
            return pa.table({n: _column([row.get(n) for row in data], types.get(n), n) for n in names})
        module = type(data).__module__.partition(".")[0]
        if module == "pandas":
            return _from_pandas(data, types)
        if hasattr(data, "__arrow_c_stream__"):
            return pa.table(_in_classic_layout(data))
    except NotOfType as error:
        raise SchemaMismatch(f"{what}: {error}", hint="convert it, or declare the column as what it holds") from None
    except (pa.ArrowException, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise SchemaMismatch(f"{what} cannot be read as a table: {first_line(error)}", hint=_TABLE_HINT) from None
    raise SchemaMismatch(f"{what} is a {type(data).__name__}, not a table", hint=_TABLE_HINT)


def _column(values: Any, dtype: DType | None, name: str) -> Any:
    if isinstance(values, list | tuple):
        try:
            return column_of(values, dtype, None if dtype is None else to_arrow(dtype))
        except NotOfType as error:
            raise NotOfType(f"column {name!r}: {error}") from None
    if isinstance(values, str | bytes | bytearray | Set | Mapping):  # each would come apart, or in any order
        raise TypeError(f"column {name!r} is a {type(values).__name__}, not a list")
    if str(getattr(values, "dtype", "")) == "object":
        return _column(python_objects(values), dtype, name)
    return _in_classic_layout(values)


def _from_pandas(data: Any, types: Mapping[str, DType]) -> pa.Table:
    """A DataFrame's columns, without its index; Python objects are taken as a list of them is."""
    names = [str(name) for name in data.columns]
    columns = [data.iloc[:, number] for number in range(len(names))]
    arrays = [
        _column(column, types.get(name), name) if str(column.dtype) == "object" else pa.array(column, from_pandas=True)
        for name, column in zip(names, columns, strict=True)
    ]
    return pa.Table.from_arrays(arrays, names=names)


def python_objects(values: Any) -> list[Any]:
    """Python objects of pandas or NumPy as a list; what pandas takes for missing is None."""
    cells: list[Any] = values.tolist()
    if type(values).__module__.partition(".")[0] == "pandas":
        return [None if absent else cell for cell, absent in zip(cells, values.isna().tolist(), strict=True)]
    return cells


def _in_classic_layout(data: Any) -> Any:
    """Polars' frames and series in the layouts that Arrow can compute with; it cannot decode a dictionary of views."""
    if type(data).__module__.partition(".")[0] != "polars":
        return data
    import polars as pl  # optional driver: where the data is its own, it is there

    return data.to_arrow(compat_level=pl.CompatLevel.oldest())


_TABLE_HINT: Final = "give an Arrow table, a DataFrame, a list of dicts or a dict of lists"


def require_columns(table: pa.Table, names: Sequence[str], what: str) -> None:
    """Raises SchemaMismatch when a name is missing from the table, or stands in it twice."""
    have = table.column_names
    for name in names:
        if name not in have:
            raise SchemaMismatch(
                f"{what} has no column {name!r}", hint=did_you_mean(name, have) if have else "it is empty"
            )
        if have.count(name) > 1:
            raise SchemaMismatch(f"{what} has {have.count(name)} columns named {name!r}", hint="rename one")


def conform(values: pa.ChunkedArray | pa.Array, dtype: DType, what: str) -> pa.ChunkedArray:
    """The values in the Arrow type of `dtype`, exactly.

    Widening integers, naming a zone, dictionary and large encodings, integers that a float holds exactly, whole
    decimals for integers, and timestamps of any unit whose sub-microsecond digits are zero all pass; anything that
    would change a value, and text for numbers or the reverse, raises SchemaMismatch naming `what`.
    """
    chunked = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
    chunked = decoded(chunked)
    target = to_arrow(dtype)
    held = chunked
    if held.type == target:
        return _check_shape(held, dtype, what)
    if not _comparable(held.type, dtype) or "list_view" in str(held.type):  # Arrow casts no view within another type
        raise SchemaMismatch(
            f"{what} holds {held.type}, which cannot be kept exactly as {dtype}",
            hint=f"convert it, or declare the column as {from_arrow(held.type) or 'a supported type'}",
        )
    try:
        if pa.types.is_timestamp(chunked.type) and chunked.type.tz is None and dtype == dtypes.Timestamp:
            chunked = pc.assume_timezone(chunked.cast(pa.timestamp("us")), "UTC")
        if dtype in dtypes.INTEGERS and pa.types.is_decimal(chunked.type) and chunked.type.bit_width < 128:
            chunked = chunked.cast(
                pa.decimal128(chunked.type.precision, chunked.type.scale)
            )  # Arrow misreads narrow ones
        if "decimal" in str(target):
            # at 128 bits Arrow wraps what is too large, and wants room for any integer
            chunked = chunked.cast(with_ends(target, _roomy))
        is_widened = dtype in dtypes.FLOATS and pa.types.is_integer(chunked.type)
        converted = chunked.cast(target, safe=not is_widened)  # Arrow's own check refuses large powers of two
        if is_widened:
            _check_integers_survive(chunked, converted, what)
        _check_floats_survive(held, converted, what)
    except (pa.ArrowException, ValueError) as error:
        raise SchemaMismatch(
            f"{what} holds {held.type}, of which a value cannot be kept exactly as {dtype}: {first_line(error)}",
            hint="widen the declared type or mend the value",
        ) from None
    return _check_shape(converted, dtype, what)


def decoded(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values of a column without dictionaries, views and list views, at any depth, one a row; any other as it is."""
    kind = values.type
    if pa.types.is_list_view(kind):
        return decoded(pa.chunked_array([_as_list(chunk) for chunk in values.chunks], pa.list_(kind.value_field)))
    if pa.types.is_dictionary(kind) and (plain := _VIEWS.get(kind.value_type)) is not None:
        chunks = [pa.DictionaryArray.from_arrays(c.indices, c.dictionary.cast(plain)) for c in values.chunks]
        return pa.chunked_array(chunks, pa.dictionary(kind.index_type, plain)).cast(plain)
    plain = with_ends(kind, _without_encoding)
    return values if plain == kind else values.cast(plain)


def _without_encoding(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return with_ends(kind.value_type, _without_encoding)
    return _VIEWS.get(kind, kind)


def _as_list(values: pa.Array) -> pa.Array:
    """A list view as a list; Arrow's own cast makes arrays that are none."""
    lengths = pc.list_value_length(values)
    ends = pc.cumulative_sum(pc.fill_null(lengths, 0))
    offsets = pa.concat_arrays([pa.array([0], ends.type), ends]).cast(pa.int32())
    mask = pc.is_null(values) if values.null_count else None
    return pa.ListArray.from_arrays(offsets, values.flatten(), pa.list_(values.type.value_field), mask=mask)


def _roomy(kind: pa.DataType) -> pa.DataType:
    """A decimal of 76 digits for one of ours, which holds it at any of our scales."""
    return pa.decimal256(76, kind.scale) if pa.types.is_decimal(kind) else kind


def _comparable(have: pa.DataType, want: DType) -> bool:
    """Whether the two are of one family, so that a safe cast between them means what users expect."""
    if pa.types.is_null(have):
        return True
    logical = from_arrow(have)
    if logical is None:
        return False
    families: list[tuple[Any, ...]] = [
        (*dtypes.INTEGERS, *dtypes.FLOATS),
        (dtypes.String,),
        (dtypes.Bytes,),
        (dtypes.Bool,),
        (dtypes.Date,),
        (dtypes.Time,),
        (dtypes.Timestamp,),
    ]
    for family in families:
        if want in family:
            return logical in family or (want in dtypes.INTEGERS and isinstance(logical, Decimal))
    match want, logical:
        case Decimal(), _:
            return isinstance(logical, Decimal) or logical in dtypes.INTEGERS
        case ((Array(inner) | Vector(inner, _)), (Array(other) | Vector(other, _))):
            return _comparable(to_arrow(other), inner)
        case Map(key, value), Map(other_key, other_value):
            return _comparable(to_arrow(other_key), key) and _comparable(to_arrow(other_value), value)
        case Struct(fields), Struct(others):
            return [n for n, _ in fields] == [n for n, _ in others] and all(
                _comparable(to_arrow(b), a) for (_, a), (_, b) in zip(fields, others, strict=True)
            )
    return False


def _check_integers_survive(before: pa.ChunkedArray, after: pa.ChunkedArray, what: str) -> None:
    back = after.cast(before.type, safe=False)
    limit = 2.0 ** (before.type.bit_width - pa.types.is_signed_integer(before.type))  # casting back from it wraps
    same = pc.and_(pc.equal(back, before), pc.less(after, limit))
    if pc.all(same, min_count=0).as_py() not in (True, None):
        raise SchemaMismatch(f"{what} holds integers that {after.type} would round", hint="declare it as Int64")


def _check_floats_survive(before: pa.ChunkedArray, after: pa.ChunkedArray, what: str) -> None:
    """Refuses doubles that a float32 would round, at any depth."""
    if "float" not in str(after.type) or "double" not in str(before.type):
        return
    chunks = (
        [chunk for chunk in values.chunks if len(chunk)] for values in (before, after)
    )  # casting drops empty ones
    for old, new in zip(*chunks, strict=True):
        for wide, narrow in zip(leaves(old), leaves(new), strict=True):
            if pa.types.is_float64(wide.type) and pa.types.is_float32(narrow.type):
                same = pc.or_(pc.equal(narrow.cast(pa.float64()), wide), pc.is_nan(wide))
                if pc.all(same, min_count=0).as_py() not in (True, None):
                    raise SchemaMismatch(
                        f"{what} holds doubles that float32 would round", hint="declare it as Float64, or round it"
                    )


def _check_shape(values: pa.ChunkedArray, dtype: DType, what: str) -> pa.ChunkedArray:
    """Refuses, at any depth, vectors with a null element, maps with a key twice, which engines do not read, and times of
    day that no day has."""
    spelled = str(dtype)
    if "vector<" in spelled or "map<" in spelled or "time" in spelled:
        for level in (level for chunk in values.chunks for level in levels(chunk)):
            _check_level(level, what)
    return values


def _check_level(values: pa.Array, what: str) -> None:
    kind = values.type
    if pa.types.is_fixed_size_list(kind) and values.drop_null().flatten().null_count:
        raise SchemaMismatch(f"{what} holds a vector with a null element", hint="a vector's elements are never null")
    if pa.types.is_map(kind) and repeats_a_key(values):
        raise SchemaMismatch(f"{what} holds a map with a key twice", hint="keep one of them")
    if pa.types.is_time(kind):
        extent = pc.min_max(values.cast(pa.int64()))
        low, high = extent["min"].as_py(), extent["max"].as_py()
        if low is not None and (low < 0 or high >= DAY_US):
            raise SchemaMismatch(f"{what} holds a time of day outside 00:00 to 23:59:59.999999", hint="mend it")


def require_valid(values: pa.ChunkedArray, what: str) -> None:
    """Raises SchemaMismatch for a column whose buffers do not hold what its type says, such as text that is no UTF-8."""
    for chunk in values.chunks:
        try:
            chunk.validate(full=True)
        except pa.ArrowInvalid as error:
            raise SchemaMismatch(f"{what} is damaged: {first_line(error)}", hint="mend whoever made it") from None


def event_micros(values: pa.ChunkedArray, what: str, *, round_up: bool) -> tuple[pa.ChunkedArray, int]:
    """Timestamps of any unit as int64 microseconds, and how many had to be rounded.

    Text is RFC 3339; naive means UTC. Nanoseconds round up for features and down for labels, so that nothing leaks. Dates mean
    their midnight. Raises SchemaMismatch for other types and for instants outside the years 1 to 9999.
    """
    chunked = decoded(values)
    if pa.types.is_null(chunked.type):
        return chunked.cast(pa.int64()), 0
    if from_arrow(chunked.type) == dtypes.String:
        chunked = _parse_times(chunked, what)
    if pa.types.is_date(chunked.type):
        chunked = chunked.cast(pa.timestamp("s" if pa.types.is_date32(chunked.type) else "ms"))
    if not pa.types.is_timestamp(chunked.type):
        raise SchemaMismatch(f"{what} holds {chunked.type}, not timestamps", hint="convert it to timestamps (UTC)")
    micros, count = _to_micros(chunked, what, round_up=round_up)
    bounds = pc.min_max(micros)
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    if low is not None and (low < MIN_US or high > MAX_US):
        raise SchemaMismatch(f"{what} holds an instant outside the years 1 to 9999", hint="mend it")
    return micros, count


def _to_micros(values: pa.ChunkedArray, what: str, *, round_up: bool) -> tuple[pa.ChunkedArray, int]:
    unit, raw = values.type.unit, values.cast(pa.int64())
    if unit != "ns":
        factor = {"s": 1_000_000, "ms": 1_000, "us": 1}[unit]
        try:
            return (raw if factor == 1 else pc.multiply_checked(raw, factor)), 0
        except pa.ArrowInvalid:
            raise SchemaMismatch(f"{what} holds an instant outside the years 1 to 9999", hint="mend it") from None
    floor = _floor_div(raw, 1000)
    rest = pc.subtract(raw, pc.multiply(floor, 1000))
    inexact = pc.not_equal(rest, 0)
    count = pc.sum(inexact.cast(pa.int64())).as_py() or 0
    return (pc.add(floor, inexact.cast(pa.int64())) if round_up else floor), count


def _parse_times(values: pa.ChunkedArray, what: str) -> pa.ChunkedArray:
    """Text as times; either all name a zone, or none does and UTC is meant."""
    try:
        return values.cast(TIMESTAMP)
    except pa.ArrowInvalid:
        pass
    try:
        return pc.assume_timezone(values.cast(pa.timestamp("us")), "UTC")
    except pa.ArrowInvalid as error:
        raise SchemaMismatch(
            f"{what} is not a time: {first_line(error)}", hint="write RFC 3339, e.g. 2013-10-15T12:00:00Z"
        ) from None


def _floor_div(values: pa.ChunkedArray, divisor: int) -> pa.ChunkedArray:
    truncated = pc.divide(values, divisor)
    negative_rest = pc.less(pc.subtract(values, pc.multiply(truncated, divisor)), 0)
    return pc.subtract(truncated, negative_rest.cast(pa.int64()))
