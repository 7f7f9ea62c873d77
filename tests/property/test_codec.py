"""Round trips of keys and rows over every type, by few rows and by many, and across schemas.

The hard cases are 42 to 50 and 13 of the research's list: int64 limits, NaN and -0.0, empty text against null,
zero bytes, nested nulls, sliced and chunked tables, widened types, composite keys that a separator would merge.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
import struct
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from stook.core import dtypes
from stook.core.arrow import to_arrow
from stook.core.definitions import PushSource
from stook.core.dtypes import Array, Decimal, DType, Map, Struct, Vector
from stook.core.ports.keyvalue import KEY_BYTES_MAX
from stook.core.rows import ARRIVAL, DELETED, EVENT_US, KNOWLEDGE_US, unpack_header
from stook.core.specs import Column, Schema, ViewSpec
from stook.core.statuses import NO_TIME, Status
from stook.online.keys import encode_column, join_columns, join_parts, part_encoder, shorten
from stook.online.view_reader import ViewReader
from stook.online.write import encode_rows

FLOAT32 = st.floats(width=32)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TIMES = st.datetimes(timezones=st.just(dt.UTC))
PRIMITIVE_VALUES: dict[DType, st.SearchStrategy[Any]] = {
    dtypes.Bool: st.booleans(),
    dtypes.Float32: FLOAT32,
    dtypes.Float64: st.floats(),
    dtypes.String: TEXT,
    dtypes.Bytes: st.binary(max_size=8),
    dtypes.Date: st.dates(),
    dtypes.Time: st.times(),
    dtypes.Timestamp: TIMES,
} | {
    t: st.integers(0, 2**b - 1) if t in dtypes.UNSIGNED else st.integers(-(2 ** (b - 1)), 2 ** (b - 1) - 1)
    for t in dtypes.INTEGERS
    for b in [dtypes.INTEGER_BITS[str(t)]]
}
PRIMITIVES = st.sampled_from(list(PRIMITIVE_VALUES))
DECIMALS = st.integers(1, 38).flatmap(lambda p: st.integers(0, p).map(lambda s: Decimal(p, s)))
VECTORS = st.builds(Vector, st.sampled_from(dtypes.VECTOR_ELEMENTS), st.integers(1, 4))
NESTED = st.recursive(
    PRIMITIVES | DECIMALS,
    lambda inner: (
        inner.map(Array)
        | st.builds(Map, st.sampled_from([dtypes.String, dtypes.Int64, dtypes.Timestamp]), inner)
        | st.dictionaries(st.sampled_from("abc"), inner, min_size=1).map(Struct)
    ),
    max_leaves=4,
)
TYPES = PRIMITIVES | DECIMALS | VECTORS | NESTED


def values_of(dtype: DType) -> st.SearchStrategy[Any]:
    """Present values of a type, as Arrow's `to_pylist` gives them."""
    match dtype:
        case Decimal(precision, scale):
            most = 10**precision - 1
            context = decimal.Context(prec=40)
            return st.integers(-most, most).map(lambda n: decimal.Decimal(n).scaleb(-scale, context))
        case Vector(element, length):
            return st.lists(values_of(element), min_size=length, max_size=length)
        case Array(element):
            return st.lists(st.none() | values_of(element), max_size=3)
        case Map(key, value):
            pairs = st.tuples(values_of(key), st.none() | values_of(value))
            return st.lists(pairs, max_size=3, unique_by=lambda pair: pair[0])
        case Struct(fields):
            return st.fixed_dictionaries({name: st.none() | values_of(inner) for name, inner in fields})
    return PRIMITIVE_VALUES[dtype]


@st.composite
def tables(draw: st.DrawFn, rows_max: int = 4) -> tuple[tuple[Column, ...], list[dict[str, Any]]]:
    """A schema and rows under it."""
    found = draw(st.lists(TYPES, min_size=1, max_size=10))
    columns = tuple(Column(f"f{n}", dtype) for n, dtype in enumerate(found))
    row = st.fixed_dictionaries({c.name: st.none() | values_of(c.dtype) for c in columns})
    return columns, draw(st.lists(row, min_size=1, max_size=rows_max))


def view_of(*schemas: tuple[Column, ...], ttl_us: int | None = None) -> ViewSpec:
    numbered = tuple(Schema(number, columns) for number, columns in enumerate(schemas, 1))
    return ViewSpec("v", "u", ("e",), (Column("id", dtypes.String),), numbered, PushSource("p"), ttl_us)


def batch_of(columns: tuple[Column, ...], rows: list[dict[str, Any]], keys: list[str] | None = None) -> pa.Table:
    features = {c.name: pa.array([row[c.name] for row in rows], to_arrow(c.dtype)) for c in columns}
    count = len(rows)
    return pa.table({
        "id": pa.array(keys if keys is not None else [str(n) for n in range(count)], pa.string()),
        **features,
        EVENT_US: pa.array(range(count), pa.int64()),
        KNOWLEDGE_US: pa.array(range(count), pa.int64()),
        ARRIVAL: pa.array(range(count), pa.int64()),
        DELETED: pa.array([False] * count),
    })  # fmt: skip


def exact(value: Any) -> Any:
    """A value in a form whose equality is identity: -0.0 is not 0.0, NaN is NaN, 1 is not 1.0 nor True."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("<d", value)
    if isinstance(value, dict):
        return {name: exact(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [exact(inner) for inner in value]
    if isinstance(value, decimal.Decimal):
        return value.as_tuple()
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat()
    return (type(value), value)


def read_both(
    view: ViewSpec, values: list[bytes | None], full: dict[int, bytes] | None = None, now_us: int = 0
) -> dict[str, Any]:
    """Every feature's values, statuses and times, which must be the same by few rows and by many."""
    few = ViewReader(view, view.features).few(values, full or {}, now_us)
    many = ViewReader(view, view.features).many(values, full or {}, now_us)
    assert many.event_us.tolist() == few.event_us
    answer = {}
    for number, column in enumerate(view.features):
        assert many.values[number].type == to_arrow(column.dtype)
        many.values[number].validate(full=True)
        as_list = many.values[number].to_pylist()
        assert exact(as_list) == exact(few.values[number])
        assert many.statuses[number].tolist() == few.statuses[number]
        answer[column.name] = (few.values[number], few.statuses[number])
    return answer


@settings(max_examples=300, deadline=None)
@given(tables())
@pytest.mark.case(42, 43, 44, 45, 46, 47, 48)
def test_what_is_written_reads_back(drawn: tuple[tuple[Column, ...], list[dict[str, Any]]]) -> None:
    columns, rows = drawn
    view = view_of(columns)
    encoded = encode_rows(view, batch_of(columns, rows))
    assert encoded.null_keys == 0
    values: list[bytes | None] = [value for _, value in encoded.rows]
    answer = read_both(view, [None, *values, None])
    for column in columns:
        cells = [row[column.name] for row in rows]
        found, statuses = answer[column.name]
        assert exact(found) == exact([None, *cells, None])
        inner = [Status.NULL_VALUE if cell is None else Status.PRESENT for cell in cells]
        assert statuses == [Status.NOT_FOUND, *inner, Status.NOT_FOUND]


@settings(max_examples=60, deadline=None)
@given(tables(rows_max=6), st.data())
@pytest.mark.case(49)
def test_slices_and_chunks_encode_alike(
    drawn: tuple[tuple[Column, ...], list[dict[str, Any]]], data: st.DataObject
) -> None:
    columns, rows = drawn
    view, table = view_of(columns), batch_of(columns, rows)
    whole = encode_rows(view, table).rows
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    assert encode_rows(view, table.slice(start, stop - start)).rows == whole[start:stop]
    chunked = pa.concat_tables([table.slice(0, start), table.slice(start)])
    assert encode_rows(view, chunked).rows == whole


def widened(dtype: DType) -> list[DType]:
    """The type itself and all it widens into."""
    wider: list[DType] = [t for t in dtypes.PRIMITIVES.values() if dtypes.widens(dtype, t)]
    if isinstance(dtype, Decimal):
        wider += [Decimal(38, s) for s in range(dtype.scale, 38) if dtypes.widens(dtype, Decimal(38, s))]
    return [dtype, *wider]


@settings(max_examples=200, deadline=None)
@given(tables(), tables(), st.data())
@pytest.mark.case(63)
def test_rows_of_older_schemas_read_in_the_current_types(
    drawn: tuple[tuple[Column, ...], list[dict[str, Any]]],
    other: tuple[tuple[Column, ...], list[dict[str, Any]]],
    data: st.DataObject,
) -> None:
    old, rows = drawn
    kept = data.draw(st.lists(st.sampled_from(old), unique=True))
    changed = [Column(c.name, data.draw(st.sampled_from(widened(c.dtype)))) for c in kept]
    added = [Column("new_" + c.name, c.dtype) for c in other[0]]
    current = tuple(data.draw(st.permutations([*changed, *added])))
    before = [value for _, value in encode_rows(view_of(old), batch_of(old, rows)).rows]
    now = view_of(old, current)
    fresh_row: dict[str, Any] = {c.name: None for c in current}
    after = [value for _, value in encode_rows(now, batch_of(current, [fresh_row])).rows]
    answer = read_both(now, [*after, *before, *after])
    for column in current:
        found = answer[column.name][0][1 : len(rows) + 1]
        if column.name.startswith("new_"):
            assert found == [None] * len(rows)
            continue
        cells = pa.array(
            [row[column.name] for row in rows], next(to_arrow(c.dtype) for c in old if c.name == column.name)
        )
        expected = cells.cast(to_arrow(column.dtype)).to_pylist()
        assert exact(found) == exact(expected)


@settings(max_examples=100, deadline=None)
@given(tables(rows_max=3), st.integers(-5, 5), st.none() | st.integers(0, 4))
def test_ttl_and_tombstones_withhold_the_values(
    drawn: tuple[tuple[Column, ...], list[dict[str, Any]]], now_us: int, ttl_us: int | None
) -> None:
    columns, rows = drawn
    view, table = view_of(columns, ttl_us=ttl_us), batch_of(columns, rows)
    deleted = pa.array([True, *[False] * (len(rows) - 1)])
    table = table.set_column(table.column_names.index(DELETED), DELETED, deleted)
    values: list[bytes | None] = [value for _, value in encode_rows(view, table).rows]
    assert unpack_header(values[0] or b"").deleted and len(values[0] or b"") == 32
    for found, statuses in read_both(view, values, now_us=now_us).values():
        for row in range(len(rows)):
            if row == 0:
                assert (found[row], statuses[row]) == (None, Status.NOT_FOUND)
            elif ttl_us is not None and now_us - row > ttl_us:
                assert (found[row], statuses[row]) == (None, Status.OUTSIDE_MAX_AGE)
            else:
                assert statuses[row] in (Status.PRESENT, Status.NULL_VALUE)
    many = ViewReader(view, view.features).many(values, {}, now_us)
    assert many.event_us.tolist() == [NO_TIME, *range(1, len(rows))]


KEY_VALUES = {t: PRIMITIVE_VALUES[t] for t in dtypes.KEY_TYPES}
# few letters and many zeros, so that equal beginnings and would-be separators are common
KEY_VALUES[dtypes.String] = st.text("a\0\x01\x7f\u00ff\U0001f600", max_size=4)
KEY_VALUES[dtypes.Bytes] = st.text("a\0\x01\xff", max_size=4).map(lambda s: s.encode("latin-1"))


@st.composite
def key_pairs(draw: st.DrawFn) -> tuple[list[DType], list[Any], list[Any]]:
    """Key column types and two keys, which often share a beginning."""
    types: list[DType] = draw(st.lists(st.sampled_from(list(KEY_VALUES)), min_size=1, max_size=3))
    first = [draw(KEY_VALUES[t]) for t in types]
    second = [a if draw(st.booleans()) else draw(KEY_VALUES[t]) for t, a in zip(types, first, strict=True)]
    return types, first, second


def encode_one(types: list[DType], key: list[Any]) -> bytes:
    (encoded,) = join_parts([[part_encoder(t)(v)] for t, v in zip(types, key, strict=True)], 1)
    assert encoded is not None
    return encoded


def comparable(key: list[Any]) -> list[Any]:
    return [value.encode() if isinstance(value, str) else value for value in key]


@settings(max_examples=500, deadline=None)
@given(key_pairs())
@example(([dtypes.String, dtypes.String], ["a", "bc"], ["ab", "c"]))
@example(([dtypes.Int64, dtypes.Int64], [1, 11], [11, 1]))
@example(([dtypes.String, dtypes.String], ["", "a"], ["a", ""]))
@example(([dtypes.String, dtypes.Bool], ["a\0", False], ["a", True]))
@example(([dtypes.String], ["\u00e9"], ["e\u0301"]))
@pytest.mark.case(13)
def test_key_bytes_compare_as_the_keys_do(drawn: tuple[list[DType], list[Any], list[Any]]) -> None:
    types, first, second = drawn
    one, two = encode_one(types, first), encode_one(types, second)
    assert (one < two) == (comparable(first) < comparable(second))
    assert (one == two) == (comparable(first) == comparable(second))
    if one != two:
        assert not one.startswith(two) and not two.startswith(one)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whole_columns_of_keys_encode_as_single_ones(data: st.DataObject) -> None:
    types: list[DType] = data.draw(st.lists(st.sampled_from(list(KEY_VALUES)), min_size=1, max_size=3))
    rows = data.draw(st.lists(st.tuples(*(st.none() | KEY_VALUES[t] for t in types)), min_size=1, max_size=5))
    skip = data.draw(st.integers(0, len(rows)))
    arrays = [pa.array([r[n] for r in rows], to_arrow(t)).slice(skip) for n, t in enumerate(types)]
    whole = join_columns([encode_column(a, t) for a, t in zip(arrays, types, strict=True)], len(rows) - skip)
    assert whole == [None if None in row else encode_one(types, list(row)) for row in rows[skip:]]


@settings(max_examples=100, deadline=None)
@given(st.integers(390, 420), st.integers(390, 420), st.text("ab", min_size=1, max_size=3), st.text("ab", max_size=3))
def test_long_keys_stay_distinct_and_short_enough(one: int, two: int, end: str, other: str) -> None:
    texts = ["x" * one + end, "x" * two + other]
    assume(texts[0] != texts[1])
    columns = (Column("f", dtypes.Int64),)
    view = view_of(columns)
    encoded = encode_rows(view, batch_of(columns, [{"f": 1}, {"f": 2}], texts)).rows
    assert encoded[0][0] != encoded[1][0]
    assert all(len(key) <= KEY_BYTES_MAX for key, _ in encoded)
    full = join_parts([[part_encoder(dtypes.String)(text) for text in texts]], 2)
    keys = shorten(full, "test", [dtypes.String])
    assert keys.stored == [key for key, _ in encoded]
    values: list[bytes | None] = [value for _, value in encoded]
    assert read_both(view, values, keys.full)["f"][0] == [1, 2]
    # another key that had the same digest would not be answered for this one
    swapped = {row: key + b"x" for row, key in keys.full.items()}
    expected = [None if row in keys.full else row + 1 for row in range(2)]
    assert read_both(view, values, swapped)["f"][0] == expected
