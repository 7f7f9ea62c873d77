"""JSON spelling of every type, both ways, from lists and from Arrow arrays."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, time
from decimal import Decimal as PyDecimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stook import (
    Array,
    Bool,
    Bytes,
    Date,
    Decimal,
    Float32,
    Float64,
    Int64,
    Map,
    String,
    Struct,
    Time,
    Timestamp,
    UInt64,
    Vector,
)
from stook.core import dtypes
from stook.core.arrow import to_arrow
from stook.core.dtypes import DType
from stook.core.errors import SchemaMismatch
from stook.core.jsoncolumns import column_from_json, table_column
from stook.core.statuses import NO_TIME
from stook.edge.jsonvalues import ages_json, statuses_json, times_json, values_json

BIG = 2**63 - 1
CASES: list[tuple[DType, Any, str]] = [
    (Bool, True, "true"),
    (Int64, -BIG - 1, "-9223372036854775808"),
    (UInt64, 2**64 - 1, "18446744073709551615"),
    (Float64, 0.1, "0.1"),
    (Float64, math.inf, '"Infinity"'),
    (Float32, -math.inf, '"-Infinity"'),
    (String, 'é"\x00', '"é\\"\\u0000"'),
    (Bytes, b"\x00\xff", '"AP8="'),
    (Decimal(20, 8), PyDecimal("0.00000001"), '"0.00000001"'),
    (Date, date(2013, 10, 15), '"2013-10-15"'),
    (Time, time(1, 2, 3, 4), '"01:02:03.000004"'),
    (Timestamp, datetime(2013, 10, 15, 12, tzinfo=UTC), '"2013-10-15T12:00:00Z"'),
    (Array(Float64), [1.0, None, math.inf], '[1.0,null,"Infinity"]'),
    (Array(Bytes), [b"a", None], '["YQ==",null]'),
    (Vector(Float64, 2), [1.0, 2.0], "[1.0,2.0]"),
    (Struct({"lat": Float64, "at": Timestamp}), {"lat": math.inf, "at": None}, '{"lat":"Infinity","at":null}'),
    (Map(String, Decimal(5, 2)), [("a", PyDecimal("1.50")), ("b", None)], '[["a","1.50"],["b",null]]'),
    (Map(Int64, Int64), [(1, 2)], "[[1,2]]"),
]


@pytest.mark.parametrize(("dtype", "value", "text"), CASES, ids=lambda c: str(c)[:30])
def test_a_value_is_spelled_and_read_back(dtype: DType, value: Any, text: str) -> None:
    arrow = pa.array([value, None], to_arrow(dtype))
    assert bytes(values_json([value, None], dtype)).decode() == f"[{text},null]"
    assert bytes(values_json(arrow, dtype)).decode() == f"[{text},null]"
    back = column_from_json(json.loads(f"[{text},null]"), dtype, "x", int64_text=True)
    assert pa.array(back, to_arrow(dtype)).equals(arrow)


def test_nan_is_text_and_comes_back() -> None:
    assert bytes(values_json([math.nan], Float64)) == b'["NaN"]'
    assert bytes(values_json(pa.array([math.nan, None]), Float64)) == b'["NaN",null]'
    assert math.isnan(column_from_json(["NaN"], Float64, "x")[0])


def test_int64_as_text_reaches_into_nested_values_and_back() -> None:
    dtype = Struct({"a": Array(Int64)})
    assert bytes(values_json([{"a": [BIG, None]}], dtype, int64_text=True)) == b'[{"a":["9223372036854775807",null]}]'
    assert bytes(values_json([1], Bool, int64_text=True)) == b"[1]"
    assert column_from_json([str(BIG), None], Int64, "x", int64_text=True) == [BIG, None]


@pytest.mark.parametrize(
    ("dtype", "cell"),
    [
        (Bytes, "not base64!"),
        (Bytes, 1),
        (Float64, "nan"),
        (Float64, True),
        (Decimal(5, 2), 1.5),  # a double is no exact decimal
        (Decimal(5, 2), "NaN"),
        (Date, "15.10.2013"),
        (Timestamp, "soon"),
        (Timestamp, 5),
        (Array(Int64), [1.5]),  # Arrow alone would make 1 of it
        (Array(Int64), [True]),
        (Array(Int64), [2**70]),
        (Array(Int64), "1"),
        (Vector(Float64, 2), [1.0]),
        (Struct({"a": Int64}), {"b": 1}),
        (Struct({"a": Int64}), [1]),
        (Map(String, Int64), {"a": 1}),
        (Map(String, Int64), [["a"]]),
        (Map(String, Int64), [[None, 1]]),
    ],
    ids=str,
)
def test_what_the_type_does_not_say_is_refused(dtype: DType, cell: Any) -> None:
    with pytest.raises(SchemaMismatch, match="column 'x'"):
        column_from_json([None, cell], dtype, "column 'x'", int64_text=True)


def test_times_of_lists_and_arrays_are_spelled_alike() -> None:
    micros = [0, 1_500_000, NO_TIME, -1, 253_402_300_799_999_999, -62_135_596_800_000_000, 1_381_838_400_000_000]
    spelled = bytes(times_json(micros))
    assert bytes(times_json(np.array(micros))) == spelled
    assert json.loads(spelled)[:4] == [
        "1970-01-01T00:00:00Z",
        "1970-01-01T00:00:01.500000Z",
        None,
        "1969-12-31T23:59:59.999999Z",
    ]


def test_statuses_and_ages_of_lists_and_arrays_are_spelled_alike() -> None:
    assert bytes(statuses_json(np.array([0, 4], np.uint8))) == bytes(statuses_json([0, 4])) == b'["PRESENT","ERROR"]'
    assert bytes(ages_json(np.array([0, NO_TIME]), 1_000_000)) == bytes(ages_json([0, NO_TIME], 1_000_000))


@pytest.mark.parametrize(
    "dtype", [dtypes.Int64, dtypes.Int8, dtypes.UInt64, dtypes.Float64, dtypes.String, dtypes.Bool]
)
@pytest.mark.parametrize("cell", [2**64, -(2**63) - 1, 10**400])
def test_integers_beyond_64_bits_are_refused_in_our_words(dtype: dtypes.DType, cell: int) -> None:
    with pytest.raises(SchemaMismatch, match=r"column 'x' is .* in row 1") as caught:
        table_column([1, cell], dtype, "column 'x'")
    assert "Python" not in caught.value.message and len(caught.value.message) < 300


def test_negative_beside_wide_integers_are_refused_in_our_words() -> None:
    for dtype in (dtypes.Int64, dtypes.UInt64):
        with pytest.raises(SchemaMismatch, match="column 'x'"):
            table_column([-1, 2**64 - 1], dtype, "column 'x'")


def test_a_whole_float_is_an_integer_where_it_can_be_no_other() -> None:
    assert table_column([1.0, "2", 3, None], dtypes.Int64, "column 'x'") == [1, 2, 3, None]
    for wrong in (1.5, 2.0**53, math.inf):
        with pytest.raises(SchemaMismatch, match="column 'x'"):
            table_column([1, wrong], dtypes.Int64, "column 'x'")


def test_what_does_not_fit_inside_is_refused_in_our_words() -> None:
    place = dtypes.Struct({"lat": dtypes.Float64, "when": dtypes.Timestamp})
    with pytest.raises(SchemaMismatch, match="column 'x' is not struct") as caught:
        table_column([{"lat": 2**63 + 1, "when": "2024-05-01T00:00:00Z"}], place, "column 'x'")
    assert "datetime" not in caught.value.message


@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        (Time, "12:30:00.1234567"),
        (Time, "12:30:00,1234567"),
        (Array(Time), "12:30:00.0000001"),
        (Timestamp, "2020-01-01T00:00:00,0000019Z"),
        (Timestamp, "2020-01-01T00:00:00.1234567 Z"),
        (Timestamp, "2020-01-01T00:00:00+00:00:00.1234567"),
    ],
)
def test_digits_below_a_microsecond_are_refused_whatever_their_mark(dtype: DType, text: str) -> None:
    cell = [text] if isinstance(dtype, Array) else text
    with pytest.raises(SchemaMismatch, match=f"x is .* in row 1, not {dtype}"):
        column_from_json([None, cell], dtype, "x")


def test_zeros_below_a_microsecond_pass() -> None:
    assert column_from_json(["12:30:00.123456000", "12:30:00,5"], Time, "x") == [
        time(12, 30, 0, 123456),
        time(12, 30, 0, 500000),
    ]
    noon = datetime(2013, 10, 15, 12, 0, 0, 100_000, tzinfo=UTC)
    assert column_from_json(["2013-10-15T12:00:00,1000000Z"], Timestamp, "x") == [noon]
