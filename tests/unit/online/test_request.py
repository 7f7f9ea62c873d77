"""What users hand as entities: every mistake gets one clear message before a store is asked."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal as PyDecimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from stook.core import dtypes
from stook.core.dtypes import DType
from stook.core.errors import InvalidArgument, SchemaMismatch, TooLarge
from stook.core.specs import Column
from stook.online.request import check_list, gather

KEYS = (Column("driver_id", dtypes.Int64), Column("city", dtypes.String))


def ask(entities: Any = None, rows: Any = None, keys: tuple[Column, ...] = KEYS) -> tuple[dict[str, Any], int]:
    return gather(entities, rows, keys, rows_max=5)


@pytest.mark.parametrize(
    ("entities", "rows", "error", "says"),
    [
        (None, None, InvalidArgument, "no entities are given"),
        ({"driver_id": [1], "city": ["a"]}, [], InvalidArgument, "both entities and entity_rows"),
        ({"driver_idd": [1], "city": ["a"]}, None, SchemaMismatch, "has no key column 'driver_id'.*did you mean 'driver_idd'"),
        ({}, None, SchemaMismatch, "entities has no key column 'driver_id'.*it needs 'driver_id', 'city'"),
        ({"driver_id": [1], "city": ["a"], "town": ["b"]}, None, SchemaMismatch, "has 'town', which is no key"),
        ({"driver_id": [1, 2], "city": ["a"]}, None, SchemaMismatch, "not equally long: 'driver_id' 2, 'city' 1"),
        ({"driver_id": 1, "city": ["a"]}, None, SchemaMismatch, "'driver_id' is a int, not a column"),
        ({"driver_id": [1], "city": "a"}, None, SchemaMismatch, "'city' is a str, not a column"),
        ({"driver_id": np.zeros((1, 1)), "city": ["a"]}, None, SchemaMismatch, "is a ndarray, not a column"),
        ({"driver_id": np.array([1.5]), "city": ["a"]}, None, SchemaMismatch, "key 'driver_id' holds double"),
        ({"driver_id": np.array([2.0**53]), "city": ["a"]}, None, SchemaMismatch, "holds double with 9007199254740992 in it.*as integers"),
        ({"driver_id": pa.array([-(2.0**24)], pa.float32()), "city": ["a"]}, None, SchemaMismatch, r"from 2\*\*24 on"),
        ({"driver_id": ["1"], "city": ["a"]}, None, SchemaMismatch, "key 'driver_id' is '1' in row 0, not int64"),
        ({"driver_id": [1] * 6, "city": ["a"] * 6}, None, TooLarge, "6 entity rows, over the limit of 5"),
        (None, [{"driver_id": 1, "city": "a"}] * 6, TooLarge, "over the limit"),
        (None, {"driver_id": 1}, SchemaMismatch, "entity_rows is a dict, not a list of dicts"),
        (None, [{"driver_id": 1, "city": "a"}, 7], SchemaMismatch, r"entity_rows\[1\] is a int"),
        (None, [{"driver_id": 1, "city": "a"}, {"driver_id": 1}], SchemaMismatch, r"entity_rows\[1\] has no key column 'city'"),
        (None, [{"driver_id": 1, "city": "a", "x": 1}], SchemaMismatch, r"entity_rows\[0\] has 'x'"),
        (None, [{"driver_id": 1, "x": "a"}], SchemaMismatch, "has no key column 'city'"),
    ],
)  # fmt: skip
@pytest.mark.case(52)
def test_mistakes_are_named(entities: Any, rows: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        ask(entities, rows)


NOON = dt.datetime(2013, 10, 15, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("dtype", "given", "kept"),
    [
        (dtypes.Int64, [1, None, -(2**63), 2**63 - 1], [1, None, -(2**63), 2**63 - 1]),
        (dtypes.Int8, [np.int64(5), -128], [5, -128]),
        (dtypes.UInt64, [2**64 - 1, 0], [2**64 - 1, 0]),
        (dtypes.Int64, [1.0, None, np.float32(-2), 3], [1, None, -2, 3]),
        (dtypes.Bool, [True, np.bool_(False)], [True, False]),
        (dtypes.String, ["", "é\0", None], ["", "é\0", None]),
        (dtypes.Bytes, [b"", bytearray(b"a")], [b"", b"a"]),
        (dtypes.Date, [dt.date(2013, 1, 1), "2013-10-15"], [dt.date(2013, 1, 1), dt.date(2013, 10, 15)]),
        (dtypes.Timestamp, [NOON, NOON.replace(tzinfo=None), "2013-10-15T14:00:00+02:00"], [NOON, NOON, NOON]),
        (dtypes.Timestamp, [pd.NaT, pd.NA, NOON], [None, None, NOON]),
        (dtypes.Int64, [pd.NA, 1], [None, 1]),
        (dtypes.Timestamp, [dt.date(2013, 10, 15), "2013-10-15"], [NOON.replace(hour=0)] * 2),
        (dtypes.Int64, [PyDecimal("7.00"), PyDecimal(2**63 - 1)], [7, 2**63 - 1]),
        (dtypes.Int64, [2.0**53 - 1, np.float32(2**24 - 1)], [2**53 - 1, 2**24 - 1]),
        (dtypes.Int64, [None], [None]),
        (dtypes.Int64, [], []),
    ],
)
def test_python_values_of_the_type_pass(dtype: DType, given: list[Any], kept: list[Any]) -> None:
    found = check_list(given, Column("k", dtype))
    assert found == kept
    assert [type(v) for v in found] == [type(v) for v in kept]
    assert found is not given


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (dtypes.Int64, True), (dtypes.Int64, np.bool_(True)), (dtypes.Int64, 1.5), (dtypes.Int64, float("inf")), (dtypes.Int64, 2.0**63),
        (dtypes.Int64, "1"), (dtypes.Int64, 2.0**53), (dtypes.Int64, -(2.0**53)), (dtypes.UInt64, np.float32(2**24)),
        (dtypes.Int64, 2**63), (dtypes.Int8, 128), (dtypes.UInt8, -1), (dtypes.Int64, float("nan")),
        (dtypes.Bool, 1), (dtypes.Bool, "true"), (dtypes.String, 1), (dtypes.String, b"a"), (dtypes.String, "\ud800"),
        (dtypes.Bytes, "a"), (dtypes.Date, NOON), (dtypes.Date, "yesterday"), (dtypes.Date, 15_000),
        (dtypes.Timestamp, 1_000), (dtypes.Timestamp, "noon"), (dtypes.Int64, PyDecimal("1.5")),
        (dtypes.Timestamp, pd.Timestamp(1, unit="ns")), (dtypes.Timestamp, "2020-01-01T00:00:00,0000019Z"),
    ],
)  # fmt: skip
@pytest.mark.case(15)
def test_values_of_another_type_are_refused_with_key_row_and_type(dtype: DType, value: object) -> None:
    with pytest.raises(SchemaMismatch, match=f"key 'k' is .* in row 1, not {dtype}") as caught:
        check_list([None, value], Column("k", dtype))
    assert caught.value.hint


@pytest.mark.parametrize(
    "column",
    [
        [1, None, 2],
        (1, None, 2),
        pa.array([1, None, 2], pa.int8()),
        pa.chunked_array([[1], [None, 2]]),
        pa.array([1, None, 2]).dictionary_encode(),
        pd.Series([1, None, 2], dtype="Int64"),
        pd.Series([1.0, None, 2.0]),
        pl.Series([1, None, 2]),
        np.array([1, None, 2], dtype=object),
    ],
    ids=lambda c: type(c).__name__,
)
def test_columns_of_every_kind_mean_the_same(column: Any) -> None:
    found, rows = ask({"driver_id": column}, keys=KEYS[:1])
    values = found["driver_id"]
    assert rows == 3
    assert (values if isinstance(values, list) else values.to_pylist()) == [1, None, 2]


@pytest.mark.parametrize("absent", [None, pd.NA, np.nan])
def test_large_unsigned_keys_among_nulls_in_pandas(absent: Any) -> None:
    column = pd.Series([2**64 - 1, absent], dtype=object)
    assert ask({"driver_id": column}, keys=(Column("driver_id", dtypes.UInt64),))[0] == {"driver_id": [2**64 - 1, None]}
    with pytest.raises(SchemaMismatch, match="18446744073709551615 in row 0, not int64"):
        ask({"driver_id": column}, keys=KEYS[:1])


@pytest.mark.parametrize(
    "column",
    [
        pa.array([dt.date(2013, 10, 15), None]),
        pd.Series([dt.date(2013, 10, 15), None], dtype=object),
        pd.Series([dt.datetime(2013, 10, 15), pd.NaT]),
        np.array(["2013-10-15", "NaT"], "M8[ns]"),
    ],
)
def test_a_day_is_its_midnight_where_the_key_is_a_timestamp(column: Any) -> None:
    found = ask({"at": column}, keys=(Column("at", dtypes.Timestamp),))[0]["at"]
    assert (found if isinstance(found, list) else found.to_pylist()) == [NOON.replace(hour=0), None]


def test_a_time_among_days_keeps_its_hour() -> None:
    column = pd.Series([dt.date(2013, 10, 15), NOON], dtype=object)
    found = ask({"at": column}, keys=(Column("at", dtypes.Timestamp),))[0]["at"]
    assert found == [NOON.replace(hour=0), NOON]
    with pytest.raises(SchemaMismatch, match="in row 1, not date"):
        ask({"at": column}, keys=(Column("at", dtypes.Date),))


def test_text_that_is_no_utf8_is_refused() -> None:
    offsets = pa.py_buffer(np.array([0, 1], np.int32))
    damaged = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(b"\xff")])
    with pytest.raises(SchemaMismatch, match="key 'city' is damaged"):
        ask({"city": damaged}, keys=KEYS[1:])


def test_tables_and_rows_mean_the_same() -> None:
    frame = pd.DataFrame({"driver_id": [1, 2], "city": ["a", "b"]})
    for table in (frame, pl.from_pandas(frame), pa.Table.from_pandas(frame)):
        found, rows = ask(table)
        assert rows == 2
        assert {k: v if isinstance(v, list) else v.to_pylist() for k, v in found.items()} == frame.to_dict("list")
    assert ask(rows=frame.to_dict("records")) == (frame.to_dict("list"), 2)


def test_a_plan_without_keys_has_one_row_unless_rows_are_given() -> None:
    assert ask(keys=()) == ({}, 1)
    assert ask({}, keys=()) == ({}, 1)
    assert ask(rows=[{}, {}], keys=()) == ({}, 2)
    assert ask(rows=[], keys=()) == ({}, 0)
    with pytest.raises(SchemaMismatch, match="have no keys"):
        ask({"driver_id": [1]}, keys=())
