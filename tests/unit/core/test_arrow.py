"""What users bring, in the declared types: exactly, or refused (cases 15, 17, 21 to 23, 42 to 50)."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Context
from decimal import Decimal as Exact
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stook import (
    Array,
    Bool,
    Bytes,
    Date,
    Decimal,
    Float32,
    Float64,
    Int8,
    Int32,
    Int64,
    Map,
    String,
    Struct,
    Time,
    Timestamp,
    UInt64,
    Vector,
)
from stook.core.arrow import arrow_schema, as_table, conform, event_micros, from_arrow, require_columns, to_arrow
from stook.core.dtypes import DType
from stook.core.errors import SchemaMismatch
from stook.core.specs import Column

NS = pa.timestamp("ns")
BIG = 2**53 + 1
_EXACT = Context(prec=120)


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (pa.array([1, None], pa.int8()), Int64, [1, None]),
        (pa.array([BIG, None], pa.int64()), Int64, [BIG, None]),
        (pa.array([2**64 - 1, None], pa.uint64()), UInt64, [2**64 - 1, None]),
        (pa.array([1.0, 2.0]), Int64, [1, 2]),
        (pa.array([1, None]), Float64, [1.0, None]),
        (pa.array([2**60, -(2**63), None]), Float64, [2.0**60, -(2.0**63), None]),
        (pa.array([2**31 + 2**8]), Float32, [2.0**31 + 2.0**8]),
        (pa.array([2**63], pa.uint64()), Float32, [2.0**63]),
        (pa.array([0.5, None]), Float32, [0.5, None]),
        (pa.array(["a", None]).dictionary_encode(), String, ["a", None]),
        (pa.array(["a", None], pa.large_string()), String, ["a", None]),
        (pa.array([b"\x00", None], pa.binary(1)), Bytes, [b"\x00", None]),
        (pa.nulls(2), Float64, [None, None]),
        (pa.nulls(2), String, [None, None]),
        (pa.nulls(2), Array(Int64), [None, None]),
        (pa.array([[1, None], None, []]), Array(Int64), [[1, None], None, []]),
        (pa.array([[1.0, 2.0], None]), Vector(Float64, 2), [[1.0, 2.0], None]),
        (pa.array([7], pa.int32()), Decimal(10, 2), [Exact("7.00")]),
        (pa.array([date(2024, 2, 29)], pa.date64()), Date, [date(2024, 2, 29)]),
        (pa.array([{"a": 1}], pa.struct([("a", pa.int32())])), Struct({"a": Int64}), [{"a": 1}]),
        (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int32())), Map(String, Int64), [[("k", 1)]]),
        (pa.array([1], pa.time32("s")), Time, None),
        (pa.array([], pa.float64()), Float32, []),
        (pa.chunked_array([pa.array([], pa.float64()), [0.5], pa.array([], pa.float64())]), Float32, [0.5]),
        (pa.array([], pa.list_(pa.float64(), 2)), Vector(Float32, 2), []),
    ],
)
def test_what_fits_passes_unchanged(values: pa.Array, dtype: DType, expected: list[Any] | None) -> None:
    found = conform(values, dtype, "x")
    assert found.type == to_arrow(dtype)
    assert expected is None or found.to_pylist() == expected


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (pa.array([BIG]), Float64),
        (pa.array([2**63 - 1]), Float64),
        (pa.array([2**64 - 1], pa.uint64()), Float64),
        (pa.array([2**24 + 1]), Float32),
        (pa.array([0.1]), Float32),
        (pa.array([1.5]), Int64),
        (pa.array([float("nan")]), Int64),
        (pa.array([128]), Int8),
        (pa.array([-1]), UInt64),
        (pa.array([2**64 - 1], pa.uint64()), Int64),
        (pa.array(["1"]), Int64),
        (pa.array([1]), String),
        (pa.array([1]), Bool),
        (pa.array([True]), Int64),
        (pa.array(["a"]), Bytes),
        (pa.array([b"a"]), String),
        (pa.array([Exact("1.234")]), Decimal(5, 2)),
        (pa.array([[1.0]]), Vector(Float64, 2)),
        (pa.array([[1.0, None]]), Vector(Float64, 2)),
        (pa.array([[1.0, None]], pa.list_(pa.float64(), 2)), Vector(Float64, 2)),
        (pa.array([1], NS), Timestamp),
        (pa.array([{"b": 1}]), Struct({"a": Int64})),
        (pa.array([1], pa.duration("s")), Int64),
        (pa.array([Exact(5_855_128_937)]), Decimal(38, 30)),  # Arrow's own rescaling wraps these two
        (pa.array([Exact(41599331093281945610720255438702521666)]), Decimal(38, 2)),
        (pa.array([[Exact(5_855_128_937)]]), Array(Decimal(38, 30))),
        (pa.array([{"a": Exact(5_855_128_937)}]), Struct({"a": Decimal(38, 30)})),
        (pa.ListArray.from_arrays([0, 1], pa.array([0.1]).dictionary_encode()), Array(Float32)),
        (pa.array([{"f": 0.1, "d": Exact("1.5")}]), Struct({"f": Float32, "d": Decimal(9, 2)})),
        (pa.array([86_400_000_000], pa.time64("us")), Time),
        (pa.array([[-1]], pa.list_(pa.time64("us"))), Array(Time)),
        (pa.array([[[1.0, None]]], pa.list_(pa.list_(pa.float64(), 2))), Array(Vector(Float64, 2))),
        (pa.array([[(0.0, 1), (-0.0, 2)]], pa.map_(pa.float64(), pa.int64())), Map(Float64, Int64)),
        (pa.array([[[1]]], pa.list_(pa.list_view(pa.int64()))), Array(Array(Int64))),
    ],
)
@pytest.mark.case(15, 47, 48)
def test_what_would_change_is_refused_by_name(values: pa.Array, dtype: DType) -> None:
    with pytest.raises(SchemaMismatch, match="column 'x'") as caught:
        conform(values, dtype, "column 'x'")
    assert caught.value.hint


@pytest.mark.case(18)
@given(
    unscaled=st.integers(-(10**38) + 1, 10**38 - 1), scale=st.integers(0, 38),
    precision=st.integers(1, 38), wanted=st.integers(0, 38),
)  # fmt: skip
def test_a_decimal_is_kept_or_refused(unscaled: int, scale: int, precision: int, wanted: int) -> None:
    value, dtype = Exact(unscaled).scaleb(-scale, _EXACT), Decimal(precision, min(wanted, precision))
    times = Exact(10) ** dtype.scale
    fits = _EXACT.multiply(value, times) == _EXACT.multiply(value, times).to_integral_value(context=_EXACT)
    fits = fits and abs(_EXACT.multiply(value, times)) < Exact(10) ** precision
    for nested in (False, True):
        array = pa.array([value], pa.decimal128(38, scale))
        array = pa.ListArray.from_arrays([0, 1], array) if nested else array
        kind = Array(dtype) if nested else dtype
        try:
            (found,) = conform(array, kind, "x").to_pylist()
        except SchemaMismatch:
            assert not fits
        else:
            assert fits
            assert found == ([value] if nested else value)


def test_a_list_view_is_read_as_it_lies() -> None:
    views = pa.array([[1, 2], None, [], [3]], pa.list_view(pa.int64()))
    for held in (views, views[1:], pa.chunked_array([views[:1], views[1:]])):
        found = conform(held, Array(Int64), "x")
        assert found.to_pylist() == held.to_pylist()
        assert all(chunk.validate(full=True) is None for chunk in found.chunks)


def test_null_and_nan_stay_apart() -> None:
    """Case 18."""
    found = conform(pa.array([None, float("nan"), -0.0]), Float64, "x")
    assert found.null_count == 1
    assert np.signbit(found[2].as_py()) and np.isnan(found[1].as_py())


@pytest.mark.case(49)
def test_slices_and_chunks_are_taken_whole() -> None:
    """Case 49."""
    chunked = pa.chunked_array([pa.array([0, 1, 2])[1:], pa.array([], pa.int64()), pa.array([3, None])])
    assert conform(chunked, Int32, "x").to_pylist() == [1, 2, 3, None]
    vectors = pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int64(), 2))
    assert conform(vectors[1:], Vector(Int64, 2), "x").to_pylist() == [None, [3, 4]]


@pytest.mark.parametrize(
    ("values", "up", "down"),
    [
        (pa.array([1_001, -1_001, 2_000], NS), [2, -1, 2], [1, -2, 2]),
        (pa.array([1], pa.timestamp("s", "Asia/Tokyo")), [1_000_000], [1_000_000]),
        (pa.array([1, None], pa.timestamp("ms")), [1_000, None], [1_000, None]),
        (pa.array([date(1970, 1, 2)]), [86_400_000_000], [86_400_000_000]),
        (pa.array(["1970-01-01T00:00:01Z"]), [1_000_000], [1_000_000]),
        (pa.array(["1970-01-01 00:00:01"]), [1_000_000], [1_000_000]),
        (pa.array(["1970-01-01T01:00:00+01:00"]), [0], [0]),
    ],
)
@pytest.mark.case(22)
def test_times_round_so_that_nothing_leaks(values: pa.Array, up: list[int], down: list[int]) -> None:
    """Cases 21 and 22: features round up, labels down."""
    chunked = pa.chunked_array([values])
    assert event_micros(chunked, "t", round_up=True)[0].to_pylist() == up
    assert event_micros(chunked, "t", round_up=False)[0].to_pylist() == down


@pytest.mark.case(21)
def test_daylight_saving_overlap_is_two_instants() -> None:
    """Case 21."""
    berlin = ZoneInfo("Europe/Berlin")
    twice = [datetime(2024, 10, 27, 2, 30, fold=fold, tzinfo=berlin) for fold in (0, 1)]
    stored = pa.array([t.astimezone(UTC) for t in twice], pa.timestamp("us", "Europe/Berlin"))
    micros = event_micros(pa.chunked_array([stored]), "t", round_up=True)[0].to_pylist()
    assert micros[1] - micros[0] == 3_600_000_000


@pytest.mark.parametrize("values", [pa.array([1]), pa.array(["yesterday"]), pa.array([2**40], pa.timestamp("s"))])
def test_what_is_no_time_is_refused(values: pa.Array) -> None:
    with pytest.raises(SchemaMismatch, match=r"^t "):
        event_micros(pa.chunked_array([values]), "t", round_up=True)


@given(st.lists(st.integers(-(2**62), 2**62), max_size=20))
def test_rounding_is_floor_and_ceiling(nanos: list[int]) -> None:
    values = pa.chunked_array([pa.array(nanos, NS)])
    up, counted = event_micros(values, "t", round_up=True)
    down, _ = event_micros(values, "t", round_up=False)
    assert up.to_pylist() == [-(-n // 1000) for n in nanos]
    assert down.to_pylist() == [n // 1000 for n in nanos]
    assert counted == sum(n % 1000 != 0 for n in nanos)


@pytest.mark.parametrize(
    "data",
    [
        pa.table({"x": [1, None]}),
        pa.RecordBatch.from_pydict({"x": [1, None]}),
        [{"x": 1}, {"x": None}],
        {"x": [1, None]},
        pd.DataFrame({"x": pd.array([1, None], "Int64")}, index=[5, 6]),
        pl.DataFrame({"x": [1, None]}),
    ],
)
def test_tables_of_every_kind(data: object) -> None:
    table = as_table(data, "the table")
    assert table.column_names == ["x"]
    assert conform(table["x"], Int64, "x").to_pylist() == [1, None]


@pytest.mark.parametrize("data", [3, "x", object(), [1, 2], {"x": [1], "y": [1, 2]}])
def test_what_is_no_table_is_refused(data: object) -> None:
    with pytest.raises(SchemaMismatch, match="the table"):
        as_table(data, "the table")


def test_missing_and_repeated_columns_are_named() -> None:
    table = pa.table([[1], [2]], names=["a", "a"])
    with pytest.raises(SchemaMismatch, match="2 columns named 'a'"):
        require_columns(table, ["a"], "it")
    with pytest.raises(SchemaMismatch, match="no column 'b'"):
        require_columns(table, ["b"], "it")


def test_every_logical_type_has_one_arrow_type_and_back() -> None:
    every = [Int64, Bool, Decimal(38, 10), Array(Array(Time)), Vector(Float32, 3), Struct({"a": Map(String, Date)})]
    for dtype in every:
        assert from_arrow(to_arrow(dtype)) == dtype
    assert arrow_schema([Column("a", Timestamp)]).field("a").type == pa.timestamp("us", "UTC")
    assert from_arrow(pa.duration("s")) is None
