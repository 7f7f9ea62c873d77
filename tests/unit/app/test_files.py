"""Named files: what is declared is read so or refused, anything else says what its text said."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal as PyDecimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stook import (
    Array,
    Bool,
    Bytes,
    Date,
    Decimal,
    Float32,
    Float64,
    Int8,
    Int64,
    String,
    Struct,
    Time,
    Timestamp,
    UInt64,
)
from stook.app.files import read_table
from stook.app.textcolumns import declared_column, instants, own_column
from stook.core.dtypes import DType
from stook.core.errors import SchemaMismatch, SourceUnreadable
from stook.core.specs import Column

NAN = float("nan")
INF = float("inf")


def texts(*cells: str | None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(cells, pa.string())])


@pytest.mark.parametrize(
    ("dtype", "written", "kept"),
    [
        (Int64, ["9007199254740993", "1.0", "+5", "-0", " 7 ", "007", None], [2**53 + 1, 1, 5, 0, 7, 7, None]),
        (UInt64, ["18446744073709551615", "-0", "0000000000000000000000001"], [2**64 - 1, 0, 1]),
        (Float64, ["0.1", "-Infinity", "1e308", "5.", "-0", "9007199254740992"], [0.1, -INF, 1e308, 5.0, -0.0, 2.0**53]),
        (Float32, ["0.5", "16777216", "inf"], [0.5, 2.0**24, INF]),
        (Decimal(20, 2), ["1.5", "-.50000", "123456789012345678", ""], [PyDecimal("1.50"), PyDecimal("-0.50"), 123456789012345678, None]),
        (Bool, ["true", "FALSE", "1", "0"], [True, False, True, False]),
        (String, ["", " a ", "007", None], ["", " a ", "007", None]),
        (Bytes, ["a", ""], [b"a", b""]),
        (Date, ["2024-02-29", ""], [date(2024, 2, 29), None]),
        (Time, ["12:30", "12:30:00.123456000"], [time(12, 30), time(12, 30, 0, 123456)]),
        (Timestamp, ["2024-01-01", "2024-01-01T02:00:00.5+02:00", "2024-01-01 00:00Z"], [
            datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, 0, 0, 0, 500_000, UTC), datetime(2024, 1, 1, tzinfo=UTC)]),
        (Array(Int64), ["[1]"], ["[1]"]),
    ],
)  # fmt: skip
def test_texts_are_what_is_declared(dtype: DType, written: list[Any], kept: list[Any]) -> None:
    assert declared_column(texts(*written), dtype, "x").to_pylist() == kept


@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        (Int64, "1.5"), (Int64, "1e3"), (Int64, "0x10"), (Int64, "9223372036854775808"), (Int8, "128"), (UInt64, "-1"), (Int64, "1_0"),
        (UInt64, "18446744073709551616"), (Float64, "1e400"), (Float32, "1e39"), (Float32, "16777217"),
        (Float64, "9007199254740993"), (Float64, "0x1p3"), (Float64, "many"), (Decimal(5, 2), "1.555"), (Decimal(5, 2), "1234"),
        (Decimal(5, 2), "nan"), (Bool, "yes"), (Date, "2024-02-30"), (Date, "2024-01-01T00:00:00"), (Time, "12:30:00.1234567"),
        (Time, "12:30:00+02:00"), (Time, "24:00:00"), (Timestamp, "2024-01-01T00:00:00.1234567Z"), (Timestamp, "soon"),
        (Timestamp, "2024-01-01T00:00:00,5Z"), (Timestamp, "infinity"),
    ],
)  # fmt: skip
def test_a_text_that_is_not_exactly_of_the_type_is_refused(dtype: DType, text: str) -> None:
    with pytest.raises(SchemaMismatch, match="the column") as caught:
        declared_column(texts(None, text), dtype, "the column")
    assert text in str(caught.value) or isinstance(dtype, Decimal)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("written", "kind", "kept"),
    [
        (["1", None, "-2"], "int64", [1, None, -2]),
        (["18446744073709551615"], "uint64", [2**64 - 1]),
        (["12345678901234567890123", "-1"], "decimal128(23, 0)", [12345678901234567890123, -1]),
        (["1" * 39], "string", ["1" * 39]),
        (["007", "1"], "string", ["007", "1"]),
        (["+49"], "string", ["+49"]),
        (["0.5", "2", "0.30000000000000004"], "double", [0.5, 2.0, 0.30000000000000004]),
        (["0.12345678901234567890"], "decimal128(21, 20)", [PyDecimal("0.12345678901234567890")]),
        (["9007199254740993", "1.5"], "decimal128(17, 1)", [2**53 + 1, PyDecimal("1.5")]),
        (["1e400"], "string", ["1e400"]),
        (["inf", "1"], "double", [INF, 1.0]),
        (["nan"], "string", ["nan"]),
        (["true", "false"], "bool", [True, False]),
        (["true", "1"], "string", ["true", "1"]),
        (["2024-01-01"], "date32[day]", [date(2024, 1, 1)]),
        (["2024-02-30"], "string", ["2024-02-30"]),
        (["2024-01-01T00:00:00.5Z"], "timestamp[us, tz=UTC]", [datetime(2024, 1, 1, 0, 0, 0, 500_000, UTC)]),
        (["2024-01-01 10:00"], "timestamp[us]", [datetime(2024, 1, 1, 10)]),
        (["2024-01-01T00:00:00+02:00"], "string", ["2024-01-01T00:00:00+02:00"]),
        (["", "1"], "string", ["", "1"]),
        ([None], "string", [None]),
    ],
)
def test_texts_without_a_declared_type_lose_nothing(written: list[str | None], kind: str, kept: list[Any]) -> None:
    found = own_column(texts(*written))
    assert (str(found.type), found.to_pylist()) == (kind, kept)


def test_times_keep_nanoseconds_for_whoever_rounds_them() -> None:
    assert instants(texts("2024-01-01T00:00:00.000000001Z", "2024-01-01"), "t").cast(pa.int64()).to_pylist() == [
        1704067200000000001,
        1704067200000000000,
    ]
    for text in ("2024-01-01T00:00:00.0000000001Z", "2300-01-01T00:00:00.0000001Z"):
        with pytest.raises(SchemaMismatch, match=r"t holds a text that is no time"):
            instants(texts(text), "t")


def read(folder: Path, ending: str, content: str, *columns: Column, times: tuple[str, ...] = ()) -> pa.Table:
    path = folder / f"rows.{ending}"
    path.write_text(content, encoding="utf-8")
    return read_table(str(path), columns, times)


def test_csv_columns(tmp_path: Path) -> None:
    found = read(
        tmp_path, "csv", 'id,zip,t,note\n1.0,007,2024-01-01,"a\nb"\n9007199254740993,,2024-01-01T00:00:00Z,""\n',
        Column("id", Int64), times=("t",),
    )  # fmt: skip
    assert found["id"].to_pylist() == [1, 2**53 + 1]
    assert found["zip"].to_pylist() == ["007", None] and found["note"].to_pylist() == ["a\nb", ""]
    assert found["t"].to_pylist() == [datetime(2024, 1, 1, tzinfo=UTC)] * 2
    with pytest.raises(SchemaMismatch, match=r"rows.csv: column 'id' is 'x' in row 1, not exactly int64"):
        read(tmp_path, "csv", "id\n1\nx\n", Column("id", Int64))


def test_json_lines(tmp_path: Path) -> None:
    lines = (
        '\ufeff{"id": 9223372036854775809, "f": 0.1, "at": "2024-01-01T00:00:00.5Z", "own": 12345678901234567890123, "d": 0.5}\n\n'
        '{"id": "7", "f": 0.1234567890123456789, "b": "YQ==", "own": 1, "d": 0.12345678901234567890, "s": {"x": [1.5, null]}}\n'
    )
    columns = (Column("id", UInt64), Column("f", Float32), Column("b", Bytes), Column("at", Timestamp))
    found = read(tmp_path, "jsonl", lines, *columns)
    assert found["id"].to_pylist() == [2**63 + 1, 7] and found["id"].type == pa.uint64()
    assert found["f"].type == pa.float32() and found["b"].to_pylist() == [None, b"a"]
    assert found["own"].to_pylist() == [12345678901234567890123, 1]
    assert found["d"].to_pylist() == [PyDecimal("0.5"), PyDecimal("0.12345678901234567890")]
    assert found["s"].to_pylist() == [None, {"x": [1.5, None]}]
    assert found["at"].to_pylist() == [datetime(2024, 1, 1, 0, 0, 0, 500_000, UTC), None]
    assert read(tmp_path, "ndjson", '{"t": "2024-01-01"}', times=("t",))["t"].type == pa.timestamp("us", "UTC")
    assert read(tmp_path, "json", '{"t": "2024-01-01", "n": null}')["t"].to_pylist() == ["2024-01-01"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"x": 1e400}', "line 2: 1e400 is beyond a double"),
        ('{"x": NaN}', "line 2: JSON is malformed"),
        ("[1]", "line 2: Expected `object`"),
        ('{"x": "\xff', "line 2"),
        ("[" * 100_000, "line 2"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(SourceUnreadable, match=f"rows.jsonl cannot be read: {says}"):
        read(tmp_path, "jsonl", '{"x": 1}\n' + line)


@pytest.mark.parametrize(
    ("lines", "dtype", "says"),
    [
        ('{"x": 1}\n{"x": "a"}', None, "column 'x' cannot be read"),
        ('{"x": [0.12345678901234567890]}', None, "more digits than a double"),
        ('{"x": 1.5}', Int64, "column 'x' is 1.5 in row 0, not int64"),
        ('{"x": true}', Int64, "not int64"),
        ('{"x": 9223372036854775808}', Int64, "beyond int64"),
        ('{"x": 0.5}', Decimal(5, 2), "not decimal"),
        ('{"x": "12:30:00.1234567"}', Time, "not time"),
        ('{"x": {"b": 1}}', Struct({"a": Int64}), "not struct"),
    ],
)
def test_a_value_that_json_lines_cannot_mean_is_refused(tmp_path: Path, lines: str, dtype: DType, says: str) -> None:
    with pytest.raises(SchemaMismatch, match=says):
        read(tmp_path, "jsonl", lines, *([] if dtype is None else [Column("x", dtype)]))


def test_tables_come_as_they_are(tmp_path: Path) -> None:
    table = pa.table({"id": pa.array([1.0]), "zip": ["007"]})
    pq.write_table(table, tmp_path / "t.parquet")
    assert read_table(str(tmp_path / "t.parquet"), [Column("id", Int64)]) == table
