"""The suites of the `Tables` port: what holds for any, and what holds for those that outlive a process.

It is a file of its own because there is one suite per port. Backends' tests subclass a suite. It must never know
how a backend lays its files out.
"""

# ruff: noqa: D102 - the name of a test says what it tests

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stook.core import dtypes
from stook.core.arrow import arrow_schema
from stook.core.errors import Conflict, InvalidArgument, SchemaMismatch
from stook.core.ports.tables import Tables
from stook.core.specs import Column
from stook.testing.contracts import Contract, Opening, child, in_threads

X = (Column("x", dtypes.Int64),)
WORST: dict[str, tuple[dtypes.DType, list[Any]]] = {
    "bool": (dtypes.Bool, [True, None, False]),
    "int8": (dtypes.Int8, [-128, None, 127]),
    "int64": (dtypes.Int64, [-(2**63), None, 2**63 - 1]),
    "uint8": (dtypes.UInt8, [0, None, 255]),
    "uint16": (dtypes.UInt16, [0, None, 65_535]),
    "uint32": (dtypes.UInt32, [0, None, 2**32 - 1]),
    "uint64": (dtypes.UInt64, [0, None, 2**64 - 1]),
    "float32": (dtypes.Float32, [float("inf"), None, 1.100000023841858]),
    "float64": (dtypes.Float64, [-0.0, None, 5e-324]),
    "decimal": (dtypes.Decimal(38, 10), [Decimal("9" * 28 + "." + "9" * 10), None, Decimal("-0.0000000001")]),
    "string": (dtypes.String, ["", None, "😀\x00é"]),
    "bytes": (dtypes.Bytes, [b"", None, b"\x00\xff"]),
    "date": (dtypes.Date, [date(1, 1, 1), None, date(9999, 12, 31)]),
    "time": (dtypes.Time, [time(0), None, time(23, 59, 59, 999_999)]),
    "timestamp": (
        dtypes.Timestamp,
        [datetime(1, 1, 1, tzinfo=UTC), None, datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)],
    ),
    "list": (dtypes.Array(dtypes.UInt64), [[], None, [None, 2**64 - 1]]),
    "nested": (dtypes.Array(dtypes.Array(dtypes.Time)), [[[], None], None, [[time(1), None]]]),
    "vector": (dtypes.Vector(dtypes.UInt8, 2), [[0, 255], None, [1, 2]]),
    "struct": (
        dtypes.Struct({"u": dtypes.UInt32, "l": dtypes.Array(dtypes.String)}),
        [{"u": 2**32 - 1, "l": [""]}, None, {"u": None, "l": None}],
    ),
    "map": (dtypes.Map(dtypes.String, dtypes.UInt64), [[("a", 1), ("", None)], None, []]),
}


def reader(columns: tuple[Column, ...], values: dict[str, list[Any]]) -> pa.RecordBatchReader:
    """Rows as the port takes them."""
    return pa.table(values, schema=arrow_schema(columns)).to_reader()


def xs(*values: int) -> pa.RecordBatchReader:
    """Rows of the one-column table."""
    return reader(X, {"x": list(values)})


class TablesContract(Contract):
    """Appends are atomic, in order, and readable for ever."""

    @pytest.fixture
    def tables(self, opening: Opening) -> Tables:
        """The tables under test, empty."""
        return opening.open()

    def test_rows_come_back_in_the_order_of_appends(self, tables: Tables) -> None:
        for values in ((3, 1), (2,), (), (9, 9)):
            tables.append("t", X, xs(*values))
        snapshot = tables.pin("t")
        assert snapshot is not None
        assert tables.read(snapshot)["x"].to_pylist() == [3, 1, 2, 9, 9]

    def test_what_is_not_there(self, tables: Tables) -> None:
        assert tables.pin("t") is None
        tables.append("t", X, xs(1))
        assert tables.pin("t", 99) is None
        assert tables.pin("t", -1) is None
        assert tables.pin("other") is None
        tables.drop("other")

    def test_every_commit_stays_readable(self, tables: Tables) -> None:
        first = tables.append("t", X, xs(1))
        second = tables.append("t", X, xs(2))
        assert first.commit != second.commit
        assert tables.read(first)["x"].to_pylist() == [1]
        pinned = tables.pin("t", first.commit)
        assert pinned is not None and tables.read(pinned)["x"].to_pylist() == [1]

    def test_a_position_is_taken_once(self, tables: Tables) -> None:
        """Case 29: a fold that is repeated after a kill adds nothing."""
        assert tables.append("t", X, xs(1), position=5).position == 5
        assert tables.append("t", X, xs(1), position=5).position == 5
        assert tables.append("t", X, xs(1), position=4).position == 5
        last = tables.append("t", X, xs(2), position=6)
        assert (last.position, tables.read(last)["x"].to_pylist()) == (6, [1, 2])

    @pytest.mark.parametrize("name", WORST)
    def test_a_type_comes_back_exactly(self, tables: Tables, name: str) -> None:
        """Cases 42 to 48, with nulls."""
        dtype, values = WORST[name]
        columns = (Column("v", dtype), Column("n", dtypes.Int64))
        snapshot = tables.append("t", columns, reader(columns, {"v": values, "n": [0, 1, 2]}))
        found = tables.read(snapshot)
        assert snapshot.columns == columns
        assert found.schema.equals(arrow_schema(columns))
        assert found["v"].to_pylist() == values

    def test_floats_keep_their_bits(self, tables: Tables) -> None:
        """Case 43: NaN payloads and -0.0."""
        bits = np.array([0x7FF8000000000001, 0x7FF0000000000001, 0x8000000000000000, 0], dtype=np.uint64)
        columns = (Column("f", dtypes.Float64),)
        rows = pa.table({"f": bits.view(np.float64)}).to_reader()
        found = tables.read(tables.append("t", columns, rows))["f"].combine_chunks().to_numpy()
        assert (found.view(np.uint64) == bits).all()

    def test_sliced_and_chunked_rows(self, tables: Tables) -> None:
        """Case 49."""
        columns = (Column("v", dtypes.Vector(dtypes.Float32, 2)), Column("t", dtypes.Time))
        whole = pa.table(
            {"v": [[1, 2], None, [3, 4], [5, 6]], "t": [None, time(1), time(2), None]}, arrow_schema(columns)
        )
        parts = pa.concat_tables([whole.slice(1, 2), whole.slice(3, 1), whole.slice(0, 0)])
        found = tables.read(tables.append("t", columns, parts.to_reader()))
        assert found.to_pylist() == parts.to_pylist()

    def test_columns_may_be_added_and_left_out(self, tables: Tables) -> None:
        """Case 50: older rows are null in what came later."""
        wide = (*X, Column("y", dtypes.UInt64))
        tables.append("t", X, xs(1))
        tables.append("t", wide, reader(wide, {"x": [2], "y": [2**64 - 1]}))
        last = tables.append("t", X, xs(3))
        assert tables.read(last).to_pylist() == [{"x": 1, "y": None}, {"x": 2, "y": 2**64 - 1}, {"x": 3, "y": None}]

    def test_a_column_keeps_its_type(self, tables: Tables) -> None:
        before = tables.append("t", X, xs(1))
        other = (Column("x", dtypes.String),)
        with pytest.raises(SchemaMismatch, match="'x'"):
            tables.append("t", other, reader(other, {"x": ["a"]}))
        assert tables.pin("t") == before

    @pytest.mark.parametrize(
        "rows",
        [{"x": ["5"]}, {"x": [1.5]}, {"y": [1]}, {"x": pa.array([2**63], pa.uint64())}],
        ids=["text", "fraction", "absent", "too large"],
    )
    def test_rows_that_do_not_fit_are_refused_whole(self, tables: Tables, rows: dict[str, Any]) -> None:
        """Case 15: nothing is parsed, cut or wrapped on the way to a file."""
        before = tables.append("t", X, xs(1), position=1)
        with pytest.raises(SchemaMismatch, match="'x'"):
            tables.append("t", X, pa.table(rows).to_reader(), position=2)
        assert tables.pin("t") == before
        assert tables.read(before)["x"].to_pylist() == [1]

    def test_finer_times_are_never_cut(self, tables: Tables) -> None:
        """Case 22: nanoseconds pass where they are zero; a zone names the same instant."""
        columns = (Column("x", dtypes.Timestamp),)
        tokyo = pa.table({"x": pa.array([7_000], pa.timestamp("ns", "Asia/Tokyo"))})
        kept = tables.append("t", columns, tokyo.to_reader())
        assert tables.read(kept)["x"].cast(pa.int64()).to_pylist() == [7]
        with pytest.raises(SchemaMismatch, match="'x'"):
            tables.append("t", columns, pa.table({"x": pa.array([7_001], pa.timestamp("ns"))}).to_reader())

    @pytest.mark.parametrize("names", [("a", "A"), ("a", "a")])
    def test_names_that_differ_by_case_alone_are_refused(self, tables: Tables, names: tuple[str, str]) -> None:
        """Case 14: engines that read a table take both for one column."""
        columns = tuple(Column(name, dtypes.Int64) for name in names)
        with pytest.raises(SchemaMismatch):
            tables.append("t", columns, pa.table([[1], [2]], names=list(names)).to_reader())
        tables.append("u", columns[:1], reader(columns[:1], {"a": [1]}))
        if names[1] != "a":
            with pytest.raises(SchemaMismatch):
                tables.append("u", columns[1:], reader(columns[1:], {"A": [1]}))

    def test_rows_that_end_too_early_add_nothing(self, tables: Tables) -> None:
        """Case 60: the source of the rows fails in the middle of an append."""

        def ending() -> Iterator[pa.RecordBatch]:
            yield pa.record_batch([[2]], schema=arrow_schema(X))
            raise ValueError("the source is gone")

        before = tables.append("t", X, xs(1))
        with pytest.raises(ValueError, match="the source is gone"):
            tables.append("t", X, pa.RecordBatchReader.from_batches(arrow_schema(X), ending()))
        assert tables.pin("t") == before

    def test_an_append_that_is_overtaken_goes_last(self, tables: Tables) -> None:
        """Rows stand in the order of commits: what was read before is the beginning of what is read after."""
        started, go = threading.Event(), threading.Event()

        def slow() -> Iterator[pa.RecordBatch]:
            started.set()
            assert go.wait(60)
            yield pa.record_batch([[100]], schema=arrow_schema(X))

        def work(number: int) -> None:
            if number == 0:
                tables.append("t", X, pa.RecordBatchReader.from_batches(arrow_schema(X), slow()))
                return
            assert started.wait(60)
            for n in (1, 2, 3):
                tables.append("t", X, xs(n))
            go.set()

        tables.append("t", X, xs(0))
        in_threads(2, work)
        snapshot = tables.pin("t")
        assert snapshot is not None
        assert tables.read(snapshot)["x"].to_pylist() == [0, 1, 2, 3, 100]

    def test_a_position_that_is_overtaken_is_taken_once(self, tables: Tables) -> None:
        """Case 29: two folds of one log stretch, at once."""
        started, go = threading.Event(), threading.Event()

        def slow() -> Iterator[pa.RecordBatch]:
            started.set()
            assert go.wait(60)
            yield pa.record_batch([[1]], schema=arrow_schema(X))

        def work(number: int) -> None:
            if number == 0:
                found = tables.append("t", X, pa.RecordBatchReader.from_batches(arrow_schema(X), slow()), position=5)
                assert found.position == 5
                return
            assert started.wait(60)
            tables.append("t", X, xs(1), position=5)
            go.set()

        tables.append("t", X, xs(0), position=4)
        in_threads(2, work)
        snapshot = tables.pin("t")
        assert snapshot is not None
        assert tables.read(snapshot)["x"].to_pylist() == [0, 1]

    def test_odd_column_names(self, tables: Tables) -> None:
        """Case 14."""
        columns = tuple(Column(name, dtypes.Int64) for name in ('a "b"', "c.d", "select", "ä b,c;{}()=", "x'y"))
        values = {c.name: [n] for n, c in enumerate(columns)}
        assert tables.read(tables.append("t", columns, reader(columns, values))).to_pylist() == [
            {name: v[0] for name, v in values.items()}
        ]

    def test_names_are_listed_and_dropped(self, tables: Tables) -> None:
        for name in ("push/b@1.f", "push/a", "datasets/x/1"):
            tables.append(name, X, xs(1))
        assert tables.names() == ["datasets/x/1", "push/a", "push/b@1.f"]
        assert tables.names("push/") == ["push/a", "push/b@1.f"]
        tables.drop("push/a")
        tables.drop("push/a")
        assert tables.names("push/") == ["push/b@1.f"]
        assert tables.pin("push/a") is None

    def test_threads_append_together(self, tables: Tables) -> None:
        """Everything that was acknowledged is there once; a conflict is said, never swallowed."""

        kept: list[int] = []

        def work(number: int) -> None:
            for n in range(5):
                try:
                    tables.append("t", X, xs(number * 100 + n))
                except Conflict:
                    continue
                kept.append(number * 100 + n)

        tables.append("t", X, xs())
        in_threads(4, work)
        snapshot = tables.pin("t")
        assert snapshot is not None and sorted(tables.read(snapshot)["x"].to_pylist()) == sorted(kept)


def append_for_ever(pipe: Connection, opening: Opening) -> None:
    """A child: appends 0, 1, 2 ... and says each once it is acknowledged."""
    tables: Tables = opening.open()
    for number in range(10_000):
        tables.append("t", X, xs(number), position=number + 1)
        pipe.send(number)


class DurableTablesContract(TablesContract):
    """What was acknowledged outlives its process, also a killed one."""

    def test_another_opening_sees_the_same(self, opening: Opening) -> None:
        opening.open().append("a/b", X, xs(7), position=3)
        other: Tables = opening.open()
        snapshot = other.pin("a/b")
        assert snapshot is not None
        assert (snapshot.position, other.read(snapshot)["x"].to_pylist()) == (3, [7])
        assert all(path.startswith("/") for path in snapshot.files)

    @pytest.mark.parametrize("name", ["", "/", "../x", "a/../b", ".hidden", "a b", "a//b", "ä", "a\\b"])
    def test_names_cannot_escape(self, opening: Opening, name: str) -> None:
        with pytest.raises(InvalidArgument):
            opening.open().append(name, X, xs(1))

    def test_a_killed_writer_loses_nothing_acknowledged(self, opening: Opening) -> None:
        for _ in range(3):
            with child(append_for_ever, opening) as writer:
                last = [writer.receive() for _ in range(4)][-1]
                writer.kill()
            tables: Tables = opening.open()
            snapshot = tables.pin("t")
            assert snapshot is not None
            found = tables.read(snapshot)["x"].to_pylist()
            assert found == list(range(len(found))) and len(found) > last
            tables.drop("t")
