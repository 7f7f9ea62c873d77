"""Python values of every kind in columns of every type: what they say, or refused, and never Arrow's guess."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal as Exact
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from stook import Array, Bytes, Date, Decimal, Float32, Float64, Int64, Map, String, Struct, Time, Timestamp, Vector
from stook.core.arrow import as_table, conform, event_micros
from stook.core.dtypes import DType
from stook.core.errors import SchemaMismatch
from stook.core.specs import Column

NOON = datetime(2020, 1, 1, 12)
AWARE = datetime(2020, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
ODD_NS = pd.Timestamp(1_999)  # 1 us and 999 ns after 1970


def forms(values: list[Any]) -> list[Any]:
    """The same Python objects as programs bring them."""
    objects = np.empty(len(values), object)
    objects[:] = values
    return [
        {"x": values},
        [{"x": value} for value in values],
        {"x": objects},
        {"x": pd.Series(values, dtype=object)},
        pd.DataFrame({"x": pd.Series(values, dtype=object)}),
    ]


def taken(data: Any, dtype: DType) -> list[Any]:
    table = as_table(data, "the table", [Column("x", dtype)])
    found: list[Any] = conform(table["x"], dtype, "the table: column 'x'").to_pylist()
    return found


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (Date, [date(2020, 1, 1), None], None),
        (Date, [date(2020, 1, 1), pd.NaT, pd.NA], [date(2020, 1, 1), None, None]),
        (Time, [time(1, 2, 3, 4), None], None),
        (Timestamp, [pd.NaT, NOON], [None, NOON.replace(tzinfo=UTC)]),
        (Int64, [1, pd.NA], [1, None]),
        (Array(Int64), [[1], pd.NA], [[1], None]),
        (Timestamp, [NOON, AWARE, None], [NOON.replace(tzinfo=UTC), AWARE, None]),
        (Timestamp, [pd.Timestamp(2_000), NOON], [datetime(1970, 1, 1, 0, 0, 0, 2, UTC), NOON.replace(tzinfo=UTC)]),
        (Decimal(9, 2), [Exact("1.5"), 2, None], [Exact("1.50"), Exact("2.00"), None]),
        (Array(Int64), [[1, 2.0, Exact(3), np.int8(4), None], [], None], [[1, 2, 3, 4, None], [], None]),
        (Array(Float64), [[1, 2**63, 0.1, np.float32(0.5)]], [[1.0, 2.0**63, 0.1, 0.5]]),
        (Array(Float32), [[1, 0.5, float("inf")]], [[1.0, 0.5, float("inf")]]),
        (Array(Timestamp), [[NOON, np.datetime64(2_000, "ns")]], [[NOON.replace(tzinfo=UTC), datetime(1970, 1, 1, 0, 0, 0, 2, UTC)]]),
        (Vector(Float32, 2), [np.array([0.5, 1.5], np.float32), (1.0, 2.0)], [[0.5, 1.5], [1.0, 2.0]]),
        (Struct({"a": Int64, "b": Array(Date)}), [{"b": [date(2020, 1, 1)]}], [{"a": None, "b": [date(2020, 1, 1)]}]),
        (Map(String, Int64), [{"k": 1}, [("j", 2)]], [[("k", 1)], [("j", 2)]]),
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.case(51)
def test_values_of_the_type_are_taken_as_they_are(dtype: DType, values: list[Any], expected: list[Any] | None) -> None:
    for data in forms(values):
        assert taken(data, dtype) == (values if expected is None else expected)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (Date, [date(2020, 1, 1), NOON]),
        (Date, [NOON]),
        (Time, [time(10, tzinfo=UTC)]),
        (Time, [time(10), NOON]),
        (Timestamp, [ODD_NS]),
        (Timestamp, [NOON, ODD_NS]),
        (Timestamp, [NOON, date(2020, 1, 1)]),
        (Bytes, ["a", b"b"]),
        (String, ["a", b"b"]),
        (Float32, [1.5, 2**24 + 1]),
        (Float32, [1.5, 1e39]),
        (Array(Int64), [[1.9]]),
        (Array(Int64), [[2.0**53]]),
        (Array(Int64), [[Exact("1.9")]]),
        (Array(Int64), [[True]]),
        (Array(Int64), [b"ab"]),
        (Array(Float64), [[True]]),
        (Array(Float64), [[2**53 + 1]]),
        (Array(Float32), [[2**24 + 1]]),
        (Array(Date), [[NOON]]),
        (Array(Date), [[date(2020, 1, 1), NOON]]),
        (Array(Time), [[time(10, tzinfo=UTC)]]),
        (Array(Timestamp), [[ODD_NS]]),
        (Array(Timestamp), [[np.datetime64(1_999, "ns")]]),
        (Array(Timestamp), [[5]]),
        (Array(String), ["abc"]),
        (Array(String), [{"a": 1}]),
        (Array(String), [{"a"}]),
        (Array(String), [["a", b"b"]]),
        (Array(Decimal(38, 30)), [[Exact(5_855_128_937)]]),
        (Struct({"a": Int64}), [{"a": 1.9}]),
        (Struct({"a": Int64}), [{"b": 1}]),
        (Map(String, Int64), [{"k": 1.9}]),
        (Map(Float64, Int64), [[(0.0, 1), (-0.0, 2)]]),
        (Vector(Float32, 2), [[1.0, None]]),
        (Array(Vector(Float32, 2)), [[[1.0, None]]]),
    ],
    ids=repr,
)
@pytest.mark.case(51)
def test_what_arrow_would_cut_or_guess_is_refused(dtype: DType, values: list[Any]) -> None:
    for data in forms(values):
        with pytest.raises(SchemaMismatch, match="the table"):
            taken(data, dtype)


def test_the_refusal_names_column_row_and_value() -> None:
    with pytest.raises(SchemaMismatch, match=r"the table: column 'x': row 1 holds \[1.9\], which is not array<int64>"):
        taken({"x": [[1], [1.9]]}, Array(Int64))


@pytest.mark.case(21)
def test_times_of_no_declared_type_keep_their_time_of_day() -> None:
    """Such as event times and label times."""
    mixed: list[list[Any]] = [[date(2023, 12, 31), NOON], [NOON, date(2023, 12, 31)], [NOON, "2020-01-01"]]
    for values in mixed:
        for data in forms(values)[:4]:
            with pytest.raises(SchemaMismatch, match="the table"):
                as_table(data, "the table")
    for values in ([NOON, AWARE], [AWARE, NOON]):
        micros, _ = event_micros(as_table({"x": values}, "the table")["x"], "x", round_up=True)
        assert micros.to_pylist() == [int(v.replace(tzinfo=v.tzinfo or UTC).timestamp() * 1e6) for v in values]


def test_nanoseconds_of_pandas_times_count() -> None:
    for values in ([NOON, ODD_NS], [ODD_NS], [ODD_NS.tz_localize("UTC"), NOON]):
        for data in forms(list(values)):
            column = as_table(data, "the table")["x"]
            up, rounded = event_micros(column, "x", round_up=True)
            down, _ = event_micros(column, "x", round_up=False)
            at = values.index(ODD_NS) if ODD_NS in values else 0
            assert (up[at].as_py(), down[at].as_py(), rounded) == (2, 1, 1)
    exact = as_table({"x": [date(2020, 1, 1), None]}, "the table")["x"]
    assert exact.type == pa.date32()
