"""What every offline engine must do, case by case.

It is a file of its own, in the product, so that whoever writes an engine can hold it against the same cases as
ours. A subclass names the factory; each case writes small sources into a fresh project and looks at what comes
back. It must never look inside an engine; random cases against the oracle are the property tests' part.
"""

# ruff: noqa: D102 - the name of a test says what it tests

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal as PyDecimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stook.core import dtypes
from stook.core.arrow import to_arrow
from stook.core.definitions import FileSource, PushSource, SqlSource
from stook.core.dtypes import Array, Decimal, DType, Struct, Vector
from stook.core.errors import EngineUnavailable, SchemaMismatch, SourceUnreadable
from stook.core.plans import (
    ROW,
    History,
    Late,
    PointInTimePlan,
    SourceSnapshot,
    TableSnapshot,
    Window,
)
from stook.core.ports.engine import Engine
from stook.core.rows import ARRIVAL, DELETED, EVENT_US, KNOWLEDGE_US, file_arrival, push_arrival
from stook.core.specs import Column
from stook.testing.contracts import Contract, Opening, in_threads
from stook.testing.contracts.engine_cases import (
    ALL_TIME,
    EXACT_VALUES,
    KEY,
    NUMBER,
    ORDER_FIELDS,
    PHYSICAL,
    instants,
    join_of,
    joined,
    labels_of,
    newest_keys,
    of_source,
    rows_table,
    run,
    same_bits,
    simple,
    view_of,
    write,
)
from stook.testing.oracles.pointintime import HistoryRow, Label


class EngineContract(Contract):
    """A subclass names the engine's `factory` and `url`."""

    @pytest.fixture
    def engine(self, opening: Opening) -> Iterator[Engine]:
        """The engine of an empty project."""
        engine = opening.open()
        yield engine
        engine.close()

    @pytest.fixture
    def root(self, opening: Opening) -> Path:
        """The project's folder."""
        return opening.root

    # -- the point-in-time rule ------------------------------------------------------------------------------------

    def test_every_label_comes_back_once_in_its_order(self, engine: Engine, root: Path) -> None:
        history = simple(engine, root, [(1, 10, 100), (2, 20, 200)])
        labels = [(2, 25), (1, 5), (1, 10), (1, 10), (None, 30), (3, 30), (1, None), (2, 20)]
        assert joined(engine, history, labels) == [200, None, 100, 100, None, None, None, 200]

    def test_labels_are_answered_by_row_number_not_by_position(self, engine: Engine, root: Path) -> None:
        history = simple(engine, root, [(1, 10, 100), (2, 20, 200)])
        table = labels_of([KEY], [Label((2,), 30), Label((1,), 30)]).set_column(0, ROW, pa.array([1, 0]))
        answer = engine.point_in_time(PointInTimePlan((join_of(history),)), table)
        assert answer.column("trips").to_pylist() == [100, 200]

    def test_no_labels_and_no_history(self, engine: Engine, root: Path) -> None:
        history = simple(engine, root, [(1, 10, 100)])
        assert joined(engine, history, []) == []
        assert joined(engine, History(history.view, None), [(1, 10)]) == [None]
        assert list(engine.newest(History(history.view, None), ALL_TIME)) == []
        assert engine.counts(History(history.view, None), ALL_TIME) == (0, 0, None, 0)

    def test_a_ttl_counts_from_the_label_and_holds_its_last_microsecond(self, engine: Engine, root: Path) -> None:
        history = simple(engine, root, [(1, 10, 100)])
        assert joined(engine, history, [(1, 15), (1, 16), (1, 10)], ttl_us=5) == [100, None, 100]

    def test_an_expired_winner_is_not_replaced_by_an_older_row(self, engine: Engine, root: Path) -> None:
        history = simple(engine, root, [(1, 10, 100), (1, 11, None)])
        assert joined(engine, history, [(1, 12), (1, 17)], ttl_us=5) == [None, None]

    def test_a_later_row_and_a_later_file_win_ties(self, engine: Engine, root: Path) -> None:
        write(root / "d/a.parquet", [(1, 10, 100), (1, 10, 101), (2, 10, 200)])
        write(root / "d/b.parquet", [(2, 10, 201)])
        write(root / "d/z/c.parquet", [(2, 10, 202)])
        history = of_source(engine, FileSource("d", timestamp_field="at", format="parquet"))
        assert joined(engine, history, [(1, 10), (2, 10)]) == [101, 202]

    def test_knowledge_time_decides_before_arrival(self, engine: Engine, root: Path) -> None:
        source = FileSource("c.parquet", timestamp_field="at", created_timestamp_column="created")
        write(root / "c.parquet", [(1, 10, 100, 30), (1, 10, 101, 20), (1, 12, 102, 15), (1, 14, 103, None)])
        history = of_source(engine, source)
        plan = PointInTimePlan((join_of(history),))
        assert joined(engine, history, [(1, 11), (1, 13), (1, 14)]) == [100, 102, 103]
        assert run(engine, replace(plan, known_by_us=20), [Label((1,), 11)]) == [101]
        own = [Label((1,), 11, 11), Label((1,), 13, 13), Label((1,), 15, 15), Label((1,), 40, 40), Label((1,), 11, 40)]
        assert run(engine, replace(plan, known_by_column=True), own) == [None, None, 103, 103, 100]

    def test_a_push_outranks_a_source_row_and_a_tombstone_hides_it(self, engine: Engine, root: Path) -> None:
        history = simple(engine, root, [(1, 10, 100), (2, 10, 200), (3, 10, 300)])
        tail = [
            HistoryRow((1,), 10, 10, push_arrival(1, 0), deleted=False, values=(101,)),
            HistoryRow((2,), 12, 12, push_arrival(1, 1), deleted=True, values=(999,)),
            HistoryRow((2,), 11, 11, push_arrival(1, 2), deleted=False, values=(201,)),
        ]
        history = replace(history, tail=rows_table([KEY], [NUMBER], tail, ours=True))
        assert joined(engine, history, [(1, 10), (2, 10), (2, 11), (2, 12), (3, 99)]) == [101, 200, 201, None, 300]

    def test_the_last_rows_of_a_table_and_its_tail_may_be_the_same(self, engine: Engine, root: Path) -> None:
        row = HistoryRow((1,), 10, 10, push_arrival(1, 0), deleted=False, values=(7,))
        table = rows_table([KEY], [NUMBER], [row], ours=True)
        pq.write_table(table, root / "folded.parquet")
        pushed = TableSnapshot("t", 1, (str(root / "folded.parquet"),), (KEY, NUMBER, *ORDER_FIELDS))
        history = History(view_of([KEY], [NUMBER], PushSource("p")), None, pushed, table)
        assert joined(engine, history, [(1, 10), (1, 11)]) == [7, 7]
        assert [b.num_rows for b in engine.newest(history, ALL_TIME)] == [1]

    def test_nulls_in_the_history_never_match(self, engine: Engine, root: Path) -> None:
        history = simple(engine, root, [(None, 10, 1), (1, None, 2), (1, 5, 3)])
        assert joined(engine, history, [(None, 20), (1, 20)]) == [None, 3]
        assert engine.counts(history, ALL_TIME)[0] == 1

    def test_a_view_without_keys(self, engine: Engine, root: Path) -> None:
        pq.write_table(pa.table({"at": instants([10, 20, 20]), "trips": [1, 2, 3]}), root / "g.parquet")
        history = of_source(engine, FileSource("g.parquet", timestamp_field="at"), keys=())
        answer = run(
            engine, PointInTimePlan((join_of(history),)), [Label((), 9), Label((), 10), Label((), 25)], keys=()
        )
        assert answer == [None, 1, 3]
        (batch,) = engine.newest(history, ALL_TIME)
        assert batch.column("trips").to_pylist() == [3]
        assert list(engine.newest(history, ALL_TIME, after=())) == []

    def test_composite_keys_are_never_glued(self, engine: Engine, root: Path) -> None:
        keys = (Column("a", dtypes.String), Column("b", dtypes.String))
        rows = [("x", "yz", 1), ("xy", "z", 2), ("", "xyz", 3)]
        table = pa.table({n: [r[i] for r in rows] for i, n in enumerate(("a", "b", "trips"))})
        pq.write_table(table.append_column("at", instants([10] * 3)), root / "k.parquet")
        history = of_source(engine, FileSource("k.parquet", timestamp_field="at"), keys=keys)
        labels = [Label(("xy", "z"), 10), Label(("x", "yz"), 10), Label(("", "xyz"), 10), Label(("xyz", ""), 10)]
        assert run(engine, PointInTimePlan((join_of(history),)), labels, keys=keys) == [2, 1, 3, None]

    def test_two_views_of_one_label_table(self, engine: Engine, root: Path) -> None:
        history = simple(engine, root, [(1, 10, 100), (2, 10, 200)])
        table = labels_of([KEY], [Label((1,), 10), Label((2,), 10)])
        table = table.append_column("home_driver", pa.array([2, None], pa.int64()))
        joins = (join_of(history), join_of(history, prefix="home_", rename="home_"))
        answer = engine.point_in_time(PointInTimePlan(joins), table)
        assert answer.to_pydict() == {"trips": [100, 200], "home_trips": [200, None]}

    @pytest.mark.parametrize("name", ['a "b"', "sélect", "event_us", "key0", "file_row_number", "AT", "a.b", "arrival"])
    def test_columns_may_bear_any_name(self, engine: Engine, root: Path, name: str) -> None:
        keys, features = (Column(f"{name}'s", dtypes.Int64),), (Column(name, dtypes.Int64),)
        table = pa.table({f"{name}'s": [1, 2], "at": instants([10, 10]), name: [5, 6], name.swapcase() + "_": [0, 0]})
        pq.write_table(table, root / "n.parquet")
        history = of_source(engine, FileSource("n.parquet", timestamp_field="at"), keys=keys, features=features)
        plan = PointInTimePlan((join_of(history),))
        answer = engine.point_in_time(plan, labels_of(keys, [Label((2,), 10)]))
        assert answer.to_pydict() == {name: [6]}
        assert [b.column(name).to_pylist() for b in engine.newest(history, ALL_TIME)] == [[5, 6]]

    def test_names_that_differ_only_in_case_are_different(self, engine: Engine, root: Path) -> None:
        features = (Column("A", dtypes.Int64), Column("a", dtypes.Int64))
        pq.write_table(pa.table({"driver": [1], "at": instants([10]), "A": [5], "a": [6]}), root / "n.parquet")
        history = of_source(engine, FileSource("n.parquet", timestamp_field="at"), features=features)
        answer = engine.point_in_time(PointInTimePlan((join_of(history),)), labels_of([KEY], [Label((1,), 10)]))
        assert answer.to_pydict() == {"A": [5], "a": [6]}

    def test_event_times_may_be_text(self, engine: Engine, root: Path) -> None:
        at = ["1970-01-01T00:00:00.00001Z", "1970-01-01T02:00:00.0000101+02:00", None]
        pq.write_table(pa.table({"driver": [1, 2, 3], "at": at, "trips": [1, 2, 3]}), root / "t.parquet")
        history = of_source(engine, FileSource("t.parquet", timestamp_field="at"))
        assert joined(engine, history, [(1, 9), (1, 10), (2, 10), (2, 11), (3, 99)]) == [None, 1, None, 2, None]

    # -- types -----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(("dtype", "values"), EXACT_VALUES, ids=[str(d) for d, _ in EXACT_VALUES])
    def test_values_come_out_exactly(self, engine: Engine, root: Path, dtype: DType, values: list[Any]) -> None:
        held = pa.array(values, to_arrow(dtype))
        ids = list(range(len(values)))
        table = pa.table({"driver": ids, "at": instants([10] * len(ids)), "value": held})
        pq.write_table(table, root / "t.parquet")
        source = FileSource("t.parquet", timestamp_field="at")
        assert {c.name: c.dtype for c in engine.describe(source)}["value"] == dtype
        history = of_source(engine, source, features=(Column("value", dtype),))
        labels = labels_of([KEY], [Label((i,), 10) for i in [*ids, 99]])
        answer = engine.point_in_time(PointInTimePlan((join_of(history),)), labels).column("value").combine_chunks()
        assert same_bits(answer, pa.array([*values, None], to_arrow(dtype)))
        (batch,) = engine.newest(history, ALL_TIME)
        assert same_bits(batch.column("value"), held)

    @pytest.mark.parametrize(("dtype", "physical", "stored", "values"), PHYSICAL, ids=[str(p[0]) for p in PHYSICAL])
    def test_our_tables_may_hold_another_physical_type(
        self, engine: Engine, root: Path, dtype: DType, physical: pa.DataType, stored: list[Any], values: list[Any]
    ) -> None:
        count = len(stored)
        order = rows_table(
            [KEY], [], [HistoryRow((i,), 10, 10, push_arrival(1, i), False, ()) for i in range(count)], ours=True
        )
        pq.write_table(order.append_column("value", pa.array(stored, physical)), root / "new.parquet")
        older = [HistoryRow((9,), 10, 10, push_arrival(0, 0), deleted=False, values=())]
        pq.write_table(rows_table([KEY], [], older, ours=True), root / "old.parquet")
        value = Column("value", dtype)
        paths = (str(root / "old.parquet"), str(root / "new.parquet"))
        pushed = TableSnapshot("t", 1, paths, (KEY, value, *ORDER_FIELDS))
        history = History(view_of([KEY], [value], PushSource("p")), None, pushed)
        (batch,) = engine.newest(history, ALL_TIME)
        assert same_bits(batch.column("value"), pa.array([*values, None], to_arrow(dtype)))

    def test_keys_are_found_across_widths(self, engine: Engine, root: Path) -> None:
        """A pandas column of integers with a null is one of doubles."""
        table = pa.table({"driver": pa.array([1.0, None, 2.0]), "at": instants([10] * 3), "trips": [1, 2, 3]})
        pq.write_table(table, root / "f.parquet")
        history = of_source(engine, FileSource("f.parquet", timestamp_field="at"))
        assert joined(engine, history, [(2, 10), (1, 10)]) == [3, 1]

    @pytest.mark.parametrize(
        ("held", "want"),
        [
            (pa.array([300]), dtypes.Int8),
            (pa.array([-1]), dtypes.UInt64),
            (pa.array([1.5]), dtypes.Int64),
            (pa.array([2**53 + 1]), dtypes.Float64),
            (pa.array([0.1]), dtypes.Float32),
            (pa.array([1.005]), Decimal(5, 2)),
            (pa.array([PyDecimal("1.005")]), Decimal(5, 2)),
            (pa.array(["1"]), dtypes.Int64),
            (pa.array([1]), dtypes.String),
            (pa.array([1]), dtypes.Bool),
            (pa.array([1], pa.timestamp("ns")), dtypes.Timestamp),
            (pa.array([1], pa.timestamp("ns", "UTC")), dtypes.Timestamp),
            (pa.array([1], pa.time64("ns")), dtypes.Time),
            (pa.array([[1.0, 2.0]], pa.list_(pa.float32())), Vector(dtypes.Float32, 3)),
            (pa.array([[1.0, None]], pa.list_(pa.float32())), Vector(dtypes.Float32, 2)),
            (pa.array([[1.5]]), Array(dtypes.Int64)),
            (pa.array([{"a": 1}]), Struct({"b": dtypes.Int64})),
        ],
        ids=str,
    )
    def test_what_a_type_cannot_hold_exactly_is_refused_by_name(
        self, engine: Engine, root: Path, held: pa.Array, want: DType
    ) -> None:
        pq.write_table(pa.table({"driver": [1], "at": instants([10]), "value": held}), root / "t.parquet")
        history = of_source(engine, FileSource("t.parquet", timestamp_field="at"), features=(Column("value", want),))
        with pytest.raises(SchemaMismatch, match=r"'stats'.*'value'"):
            joined(engine, history, [(1, 10)])
        with pytest.raises(SchemaMismatch, match=r"'stats'.*'value'"):
            list(engine.newest(history, ALL_TIME))

    def test_a_column_may_come_later_or_grow_wider_from_file_to_file(self, engine: Engine, root: Path) -> None:
        at = instants([10])
        pq.write_table(pa.table({"driver": pa.array([1], pa.int32()), "at": at}), root / "s1.parquet")
        table = pa.table({"trips": pa.array([7], pa.int16()), "at": pa.array([1], pa.timestamp("ms")), "driver": [2]})
        pq.write_table(table, root / "s2.parquet")
        table = pa.table({"at": at, "driver": [3], "trips": [2**53 + 1], "more": [1.5]})
        pq.write_table(table, root / "s3.parquet")
        source = FileSource("s*.parquet", timestamp_field="at")
        assert [(c.name, str(c.dtype)) for c in engine.describe(source)] == [
            ("driver", "int64"), ("at", "timestamp"), ("trips", "int64"), ("more", "float64"),
        ]  # fmt: skip
        history = of_source(engine, source)
        assert joined(engine, history, [(1, 9_999), (2, 9_999), (3, 9_999)]) == [None, 7, 2**53 + 1]

    # -- time ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("raw", "type_", "expected"),
        [
            (1_000_000_001, pa.timestamp("ns"), 1_000_001),
            (-1_000_000_001, pa.timestamp("ns"), -1_000_000),
            (1_000_000_000, pa.timestamp("ns", "UTC"), 1_000_000),
            (7, pa.timestamp("us", "America/New_York"), 7),
            (-7, pa.timestamp("us"), -7),
            (7, pa.timestamp("ms"), 7_000),
            (7, pa.timestamp("s"), 7_000_000),
            (1, pa.date32(), 86_400_000_000),
            (-1, pa.date32(), -86_400_000_000),
            (253_402_300_799_999_999, pa.timestamp("us"), 253_402_300_799_999_999),
        ],
        ids=str,
    )
    def test_event_times_of_every_kind_round_up_at_most(
        self, engine: Engine, root: Path, raw: int, type_: pa.DataType, expected: int
    ) -> None:
        storage = pa.int32() if pa.types.is_date(type_) else pa.int64()
        at = pa.array([raw], storage).cast(type_)
        pq.write_table(pa.table({"driver": [1], "at": at, "created": at, "trips": [5]}), root / "t.parquet")
        source = FileSource("t.parquet", timestamp_field="at", created_timestamp_column="created")
        (batch,) = engine.newest(of_source(engine, source), Window(None, 2**60, 2**60))
        assert batch.column(EVENT_US).to_pylist() == [expected]
        assert batch.column(KNOWLEDGE_US).to_pylist() == [expected]

    @pytest.mark.parametrize(
        "at",
        [
            pa.array(["soon"]),
            pa.array(["20200101"]),
            pa.array(["9999-12-31T23:59:59.9999999Z"]),
            pa.array(["infinity"]),
            pa.array(["epoch"]),
            pa.array(["2020-01-01 00:00:00 Europe/Berlin"]),
            pa.array([5]),
            pa.array([10**18], pa.timestamp("us")),
            pa.array([2**63 - 1], pa.timestamp("us")),
            pa.array([-(2**63) + 1], pa.timestamp("us", "UTC")),
            pa.array([2**31 - 1], pa.int32()).cast(pa.date32()),
        ],
        ids=str,
    )
    def test_what_is_no_time_is_refused(self, engine: Engine, root: Path, at: pa.Array) -> None:
        pq.write_table(pa.table({"driver": [1], "at": at, "trips": [5]}), root / "t.parquet")
        history = of_source(engine, FileSource("t.parquet", timestamp_field="at"))
        with pytest.raises(SchemaMismatch, match="'stats'"):
            joined(engine, history, [(1, 10)])

    def test_int96_times_of_whole_microseconds_are_read(self, engine: Engine, root: Path) -> None:
        """As Spark wrote them; the years are far outside what nanoseconds can count."""
        micros = [-62_135_596_800_000_000, -1, 0, 1_577_836_800_000_001, 253_402_300_799_999_999, None]
        held = pa.array(micros, pa.timestamp("us"))
        nested = pa.array([None if m is None else [m, None] for m in micros], pa.list_(pa.timestamp("us")))
        ids = list(range(len(micros)))
        table = pa.table({"driver": ids, "at": held, "when": held, "whens": nested})
        pq.write_table(table, root / "t.parquet", use_deprecated_int96_timestamps=True, row_group_size=2)
        features = (Column("when", dtypes.Timestamp), Column("whens", Array(dtypes.Timestamp)))
        source = FileSource("t.parquet", timestamp_field="at")
        assert [c.dtype for c in engine.describe(source)][1:] == [dtypes.Timestamp, *(c.dtype for c in features)]
        (batch,) = engine.newest(of_source(engine, source, features=features), Window(None, 2**60, 2**60))
        assert batch.column(EVENT_US).to_pylist() == micros[:-1]
        assert batch.column("when").cast(pa.int64()).to_pylist() == micros[:-1]
        assert batch.column("whens").cast(pa.list_(pa.int64())).to_pylist() == [[m, None] for m in micros[:-1]]

    @pytest.mark.parametrize("column", ["at", "created", "when", "whens"])
    def test_int96_times_below_a_microsecond_are_refused(self, engine: Engine, root: Path, column: str) -> None:
        """An engine would cut them off, so that a row of one nanosecond after its label counted."""
        whole, fine = pa.array([0, 0, 2_000], pa.timestamp("ns")), pa.array([0, None, 1_999], pa.timestamp("ns"))
        columns = {name: fine if name == column else whole for name in ("at", "created", "when")}
        columns["whens"] = pa.array([[0], None, [None, 1_999 if column == "whens" else 0]], pa.list_(whole.type))
        table = pa.table({"driver": [1, 2, 3], **columns})
        pq.write_table(table, root / "t.parquet", use_deprecated_int96_timestamps=True, row_group_size=1)
        source = FileSource("t.parquet", timestamp_field="at", created_timestamp_column="created")
        features = (Column("when", dtypes.Timestamp), Column("whens", Array(dtypes.Timestamp)))
        with pytest.raises(SchemaMismatch, match=f"{column!r} holds INT96 times .* in .*t.parquet"):
            list(engine.newest(of_source(engine, source, features=features), ALL_TIME))

    # -- CSV and SQL -----------------------------------------------------------------------------------------------

    def test_csv_is_read_as_declared(self, engine: Engine, root: Path) -> None:
        lines = [
            "driver,at,zip,big,money,ratio,when,flag",
            "1,2020-01-01 00:00:00,01234,9007199254740993,1.50,0.1,2020-01-01T02:00:00+02:00,true",
            "2,2020-01-01T00:00:00.0000001Z,,,,,,",
        ]
        (root / "c.csv").write_text("\n".join(lines) + "\n")
        features = (
            Column("zip", dtypes.String), Column("big", dtypes.Int64), Column("money", Decimal(5, 2)),
            Column("ratio", dtypes.Float32), Column("when", dtypes.Timestamp), Column("flag", dtypes.Bool),
        )  # fmt: skip
        history = of_source(engine, FileSource("c.csv", timestamp_field="at"), features=features)
        (batch,) = engine.newest(history, Window(None, 2**60, 2**60))
        first, second = batch.select([c.name for c in features]).to_pylist()
        midnight = datetime(2020, 1, 1, tzinfo=UTC)
        assert list(first.values()) == [
            "01234", 2**53 + 1, PyDecimal("1.50"), 0.10000000149011612, midnight, True,
        ]  # fmt: skip
        assert set(second.values()) == {None}
        start = int(midnight.timestamp()) * 1_000_000
        assert batch.column(EVENT_US).to_pylist() == [start, start + 1]

    @pytest.mark.parametrize(
        ("text", "want"),
        [
            ("1.5", dtypes.Int64), ("x", dtypes.Int64), ("1_000", dtypes.Int64), ("1.005", Decimal(5, 2)),
            ("2020-01-01T00:00:00.0000001", dtypes.Timestamp), ("infinity", dtypes.Timestamp), ("epoch", dtypes.Date),
            ("1e400", dtypes.Float64), ("1e39", dtypes.Float32), ("1_000", dtypes.Float64), ("2", dtypes.Bool),
            ("yes", dtypes.Bool), ("10:00:00+02:00", dtypes.Time), ("2020-01-01 11:00:00", dtypes.Time),
            ("24:00:00", dtypes.Time), ("10:00:00.0000001", dtypes.Time), ("01/02/2020", dtypes.Date),
            ("2020/01/02", dtypes.Date), ("2020-1-2", dtypes.Date), ("2020-01-01 00:00:00", dtypes.Date),
            ("01/02/2020 10:00", dtypes.Timestamp), ("2020-01-01 10:00 UTC", dtypes.Timestamp),
            ("2020-01-01T24:00:00Z", dtypes.Timestamp), ("0000-01-01", dtypes.Timestamp), ("0000-01-01", dtypes.Date),
        ],
    )  # fmt: skip
    def test_csv_text_is_not_rounded(self, engine: Engine, root: Path, text: str, want: DType) -> None:
        (root / "c.csv").write_text(f"driver,at,value\n1,1970-01-01,{text}\n")
        history = of_source(engine, FileSource("c.csv", timestamp_field="at"), features=(Column("value", want),))
        with pytest.raises(SchemaMismatch, match=f"'value'.*{re.escape(text)}"):
            joined(engine, history, [(1, 10)])

    def test_csv_tells_nothing_from_quoted_nothing(self, engine: Engine, root: Path) -> None:
        """Unquoted it is null; quoted it is the empty text, and null where no text is declared."""
        lines = [
            "driver,at,word,number,ratio,flag,day",
            "1,1970-01-01,,,,,",
            '2,1970-01-01,"","","","",""',
            "3,1970-01-01,NULL,1,nan,true,2020-02-29",
        ]
        (root / "c.csv").write_text("\n".join(lines) + "\n")
        features = tuple(
            Column(name, dtype)
            for name, dtype in (
                ("word", dtypes.String), ("number", dtypes.Int64), ("ratio", dtypes.Float64), ("flag", dtypes.Bool), ("day", dtypes.Date),
            )
        )  # fmt: skip
        (batch,) = engine.newest(
            of_source(engine, FileSource("c.csv", timestamp_field="at"), features=features), ALL_TIME
        )
        assert batch.column("word").to_pylist() == [None, "", "NULL"]
        assert [batch.column(c.name).null_count for c in features] == [1, 2, 2, 2, 2]

    def test_a_csv_line_that_begins_like_a_comment_is_a_row(self, engine: Engine, root: Path) -> None:
        """DuckDB's sniffer takes # for the mark of a comment."""
        (root / "c.csv").write_text("word,at,trips\n#1,1970-01-01,1\n2,1970-01-01,2\n#3,1970-01-01,3\n")
        keys = (Column("word", dtypes.String),)
        history = of_source(engine, FileSource("c.csv", timestamp_field="at"), keys=keys)
        assert newest_keys(engine, history, ALL_TIME) == ["#1", "#3", "2"]

    def test_csv_is_quoted_the_same_in_every_file_and_at_every_line(self, engine: Engine, root: Path) -> None:
        """A sample knows nothing of quotes that come behind it, and another file's may look otherwise."""
        lines = [f"{i},1970-01-01,v{i}" for i in range(60_000)]
        lines += ['70000,1970-01-01,"z"', '70001,1970-01-01,""', '70002,1970-01-01,"a ""b"", c"']
        (root / "a.csv").write_text("\n".join(["driver,at,word", *lines]) + "\n")
        (root / "b.csv").write_text("driver;at;word\n80000;1970-01-01;'x'\n80001;1970-01-01;'y'\n")
        (root / "c.csv").write_text("word\tdriver\tat\n5'10\"\t90000\t1970-01-01\n")
        features = (Column("word", dtypes.String),)
        history = of_source(engine, FileSource("*.csv", timestamp_field="at"), features=features)
        ids = [5, 70_000, 70_001, 70_002, 80_000, 80_001, 90_000]
        expected = ["v5", "z", "", 'a "b", c', "'x'", "'y'", "5'10\""]
        assert joined(engine, history, [(i, 10) for i in ids]) == expected

    def test_a_csv_file_is_separated_by_what_its_header_says(self, engine: Engine, root: Path) -> None:
        """However its rows look: `a;b` holds one comma a line."""
        (root / "c.csv").write_text("driver;at;word\n1;1970-01-01;a,b\n2;1970-01-01;c,d\n")
        features = (Column("word", dtypes.String),)
        source = FileSource("c.csv", timestamp_field="at")
        assert [c.name for c in engine.describe(source)] == ["driver", "at", "word"]
        assert joined(engine, of_source(engine, source, features=features), [(1, 10), (2, 10)]) == ["a,b", "c,d"]

    def test_a_csv_file_that_is_none_is_refused(self, engine: Engine, root: Path) -> None:
        cases = {
            "\ndriver,at\n1,1970-01-01\n": "first line is empty",
            "driver,at,x,x\n": "named 'x'",
            "driver,at\n1,1970-01-01,2,3\n1,1970-01-01,2\n": "2 columns of its header",
            'driver,at\n1,"1970-01-01\n': "2 columns of its header",
        }
        for text, said in cases.items():
            (root / "c.csv").write_text(text)
            with pytest.raises(SourceUnreadable, match=said):
                engine.describe(FileSource("c.csv", timestamp_field="at"))
        (root / "c.csv").write_bytes(b"driver,at,\xe9\n")
        with pytest.raises(SourceUnreadable, match="UTF-8"):
            engine.describe(FileSource("c.csv", timestamp_field="at"))

    def test_a_csv_file_may_be_wide_and_may_hold_a_header_alone(self, engine: Engine, root: Path) -> None:
        names = [f"{'x' * 600}_{i}" for i in range(300)]
        (root / "c.csv").write_text(";".join(["driver", "at", "", *names]) + "\n")
        source = FileSource("c.csv", timestamp_field="at")
        assert [c.name for c in engine.describe(source)] == ["driver", "at", "column2", *names]
        history = of_source(engine, source, features=(Column(names[-1], dtypes.Int64),))
        assert joined(engine, history, [(1, 10)]) == [None]

    def test_csv_dates_are_never_guessed(self, engine: Engine, root: Path) -> None:
        """One file's 02/13/2020 says nothing of another's 01/02/2020; as event times both are refused."""
        (root / "a.csv").write_text("driver,at,day\n1,1970-01-01,02/13/2020\n")
        (root / "b.csv").write_text("driver,at,day\n2,1970-01-01,01/02/2020\n")
        source = FileSource("*.csv", timestamp_field="at")
        assert {c.name: c.dtype for c in engine.describe(source)}["day"] == dtypes.String
        days = of_source(engine, source, features=(Column("day", dtypes.Date),))
        with pytest.raises(SchemaMismatch, match=r"'day'.*/2020") as caught:
            joined(engine, days, [(1, 10)])
        assert "2013-10-15" in caught.value.hint
        by_day = of_source(engine, FileSource("*.csv", timestamp_field="day"), features=())
        with pytest.raises(SchemaMismatch, match=r"'day'.*/2020") as caught:
            newest_keys(engine, by_day, Window(None, 2**60, 2**60))
        assert "2013-10-15T12:00:00Z" in caught.value.hint

    def test_csv_rows_arrive_in_the_order_of_their_lines(self, engine: Engine, root: Path) -> None:
        count = 400_000  # enough for several threads to share
        lines = "\n".join(f"{i % 5},1970-01-01,{i}" for i in range(count))
        (root / "c.csv").write_text(f"driver,at,trips\n{lines}\n")
        (root / "d.csv").write_text("driver,at,trips\n4,1970-01-01,-1\n")
        history = of_source(engine, FileSource("*.csv", timestamp_field="at"))
        (batch,) = engine.newest(history, ALL_TIME)
        assert batch.column("trips").to_pylist() == [count - 5, count - 4, count - 3, count - 2, -1]
        assert batch.column(ARRIVAL).to_pylist()[3:] == [file_arrival(0, count - 2), file_arrival(1, 0)]

    def test_a_query_reads_relative_to_the_project_and_breaks_ties_by_content(self, engine: Engine, root: Path) -> None:
        write(root / "q.parquet", [(1, 10, 5), (1, 10, None), (1, 10, 7), (1, 10, 6), (2, 10, None), (2, 10, None)])
        source = SqlSource("SELECT * FROM 'q.parquet' -- a comment", timestamp_field="at")
        assert [c.name for c in engine.describe(source)] == ["driver", "at", "trips"]
        history = of_source(engine, source)
        assert joined(engine, history, [(1, 10), (2, 10), (1, 9)]) == [7, None, None]
        (batch,) = engine.newest(history, ALL_TIME)
        assert batch.column(ARRIVAL).to_pylist() == [3, 1]
        own = [Label((1,), 10, 10)]
        assert run(engine, PointInTimePlan((join_of(history),), known_by_column=True), own) == [7]

    @pytest.mark.parametrize(
        "query",
        [
            "FROM 'q.parquet'",
            "SELECT * FROM q.parquet AS q",
            "SELECT * FROM 'nest/../*.parquet';",
            "WITH w AS (SELECT * FROM read_parquet(['q.parquet', 'q.parquet'])) SELECT DISTINCT * FROM w -- once",
            "SELECT * FROM read_csv('q.csv') WHERE driver IN (SELECT driver FROM 'q.parquet')",
            "SELECT 1 AS driver, make_timestamp(10) AS at, 5 AS trips",
        ],
    )
    def test_paths_in_queries_start_at_the_project_wherever_it_runs(
        self,
        engine: Engine,
        root: Path,
        query: str,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> None:
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        for folder, trips in ((root, 5), (elsewhere, -1)):
            (folder / "nest").mkdir()
            write(folder / "q.parquet", [(1, 10, trips)])
            (folder / "q.csv").write_text(f"driver,at,trips\n1,1970-01-01 00:00:00.00001,{trips}\n")
        monkeypatch.chdir(elsewhere)
        assert joined(engine, of_source(engine, SqlSource(query, timestamp_field="at")), [(1, 10)]) == [5]

    @pytest.mark.parametrize(
        "query", ["SELEC 1", "SELECT 1; SELECT 2", "DROP TABLE x", "SELECT * FROM 'absent.parquet'"]
    )
    def test_a_query_that_is_not_one_select_is_refused(self, engine: Engine, query: str) -> None:
        with pytest.raises(SourceUnreadable):
            engine.describe(SqlSource(query))
        with pytest.raises(SourceUnreadable):
            engine.pin(SqlSource(query))

    # -- sources and pins ------------------------------------------------------------------------------------------

    def test_sources_that_cannot_be_read_say_which_and_what_is_near(self, engine: Engine, root: Path) -> None:
        write(root / "data/stats.parquet", [(1, 10, 1)])
        (root / "empty.parquet").touch()
        (root / "text.parquet").write_text("not parquet at all")
        (root / "folder.d").mkdir()
        cases = {
            "data/stat.parquet": "stats.parquet", "nowhere/x.parquet": "data", "*.nothing.parquet": "matches no file",
            "empty.parquet": "is empty", "text.parquet": "text.parquet", "folder.d": "holds no parquet",
            "s3://bucket/x.parquet": "local",
        }  # fmt: skip
        for path, said in cases.items():
            with pytest.raises(SourceUnreadable, match=said):
                engine.describe(FileSource(path))

    def test_a_missing_column_names_a_near_one(self, engine: Engine, root: Path) -> None:
        write(root / "a.parquet", [(1, 10, 1)])
        for source, features in (
            (FileSource("a.parquet", timestamp_field="att"), (NUMBER,)),
            (FileSource("a.parquet", timestamp_field="at"), (Column("trip", dtypes.Int64),)),
        ):
            history = of_source(engine, source, features=features)
            with pytest.raises(SchemaMismatch, match="did you mean"):
                joined(engine, history, [(1, 10)])

    def test_a_pinned_file_that_changed_or_went_is_refused(self, engine: Engine, root: Path) -> None:
        history = simple(engine, root, [(1, 10, 100)])
        write(root / "simple.parquet", [(1, 10, 100), (1, 11, 101)])
        with pytest.raises(SourceUnreadable, match=r"simple\.parquet changed"):
            joined(engine, history, [(1, 10)])
        (root / "simple.parquet").unlink()
        with pytest.raises(SourceUnreadable, match=r"simple\.parquet"):
            list(engine.newest(history, ALL_TIME))

    def test_pins_number_files_by_path_and_changed_ones_anew(self, engine: Engine, root: Path) -> None:
        source = FileSource("p/*.parquet", timestamp_field="at")
        for name in "abc":
            write(root / f"p/{name}.parquet", [(1, 10, 1)])
        first = engine.pin(source, digests=True)
        assert [f.ordinal for f in first.files] == [0, 1, 2]
        assert all(f.digest is not None and len(f.digest) == 32 for f in first.files)
        assert engine.pin(source, previous=first, digests=True) == first
        (root / "p/b.parquet").touch()
        assert [f.ordinal for f in engine.pin(source, previous=first, digests=True).files] == [0, 1, 2]
        write(root / "p/b.parquet", [(1, 10, 2), (2, 10, 2)])
        again = engine.pin(source, previous=first, digests=True)
        assert [f.ordinal for f in again.files] == [0, 2, 3]
        assert SourceSnapshot.from_spec(again.to_spec()) == again

    def test_paths_with_the_letters_of_globs_mean_themselves(self, engine: Engine, root: Path) -> None:
        write(root / "x[1].parquet", [(1, 10, 1)])
        write(root / "x1.parquet", [(1, 10, 2)])
        assert joined(engine, of_source(engine, FileSource("x[1].parquet", timestamp_field="at")), [(1, 10)]) == [1]

    # -- the newest rows -------------------------------------------------------------------------------------------

    def test_newest_goes_by_key_resumes_and_holds_tombstones(self, engine: Engine, root: Path) -> None:
        history = simple(engine, root, [(3, 10, 30), (1, 10, 10), (2, 10, 20), (1, 9, 9), (-1, 10, 1)])
        tail = [HistoryRow((2,), 11, 11, push_arrival(1, 0), deleted=True, values=(5,))]
        history = replace(history, tail=rows_table([KEY], [NUMBER], tail, ours=True))
        batches = list(engine.newest(history, ALL_TIME, batch_rows=3))
        assert [b.num_rows for b in batches] == [3, 1]
        table = pa.Table.from_batches(batches)
        assert table.column_names == ["driver", "trips", EVENT_US, KNOWLEDGE_US, ARRIVAL, DELETED]
        assert table.column("driver").to_pylist() == [-1, 1, 2, 3]
        assert table.column("trips").to_pylist() == [1, 10, None, 30]
        assert table.column(DELETED).to_pylist() == [False, False, True, False]
        assert table.schema.field(ARRIVAL).type == pa.int64()
        resumed = pa.Table.from_batches(engine.newest(history, ALL_TIME, after=[1]))
        assert resumed.column("driver").to_pylist() == [2, 3]

    def test_a_window_reads_late_rows_too(self, engine: Engine, root: Path) -> None:
        write(root / "w/a.parquet", [(1, 10, 1), (2, 30, 2)])
        write(root / "w/b.parquet", [(3, 10, 3), (4, 50, 4)])
        history = of_source(engine, FileSource("w/*.parquet", timestamp_field="at"))
        window = Window(20, 40, 100)
        assert newest_keys(engine, history, window) == [2]
        assert newest_keys(engine, history, replace(window, start_us=30)) == [2]
        assert newest_keys(engine, history, replace(window, start_us=30, start_exclusive=True)) == []
        assert newest_keys(engine, history, replace(window, late=Late(frozenset({1})))) == [2, 3]
        assert newest_keys(engine, history, replace(window, known_by_us=29)) == []

    def test_counts_tell_rows_keys_and_the_last_created_time(self, engine: Engine, root: Path) -> None:
        source = FileSource("c.parquet", timestamp_field="at", created_timestamp_column="created")
        write(root / "c.parquet", [(1, 10, 1, 50), (1, 11, 1, 70), (2, 12, 1, None), (3, 99, 1, 60)])
        assert engine.counts(of_source(engine, source), Window(None, 20, 65)) == (2, 2, 60, 0)

    def test_counts_tell_how_many_times_were_rounded(self, engine: Engine, root: Path) -> None:
        source = FileSource("r/*.parquet", timestamp_field="at", created_timestamp_column="created")
        (root / "r").mkdir()
        nanos = pa.array([1_000, 1_001, 2_000, None], pa.timestamp("ns", "UTC"))
        later = pa.array([5_000, 5_000, 5_999, 5_000], pa.timestamp("ns", "UTC"))
        pq.write_table(
            pa.table({"driver": [1, 2, 3, 4], "at": nanos, "created": later, "trips": [1, 2, 3, 4]}),
            root / "r/a.parquet",
        )
        texts = ["1970-01-01T00:00:00.0000010Z", "1970-01-01T00:00:00.0000011Z"]
        pq.write_table(
            pa.table({"driver": [5, 6], "at": texts, "created": texts, "trips": [5, 6]}), root / "r/b.parquet"
        )
        history = of_source(engine, source)
        assert engine.counts(history, ALL_TIME) == (5, 5, 6, 3)
        assert engine.counts(history, Window(None, 1, 100)).rounded == 0

    def test_threads_may_share_an_engine(self, engine: Engine, root: Path) -> None:
        histories = []
        for i in range(4):
            write(root / f"t{i}.parquet", [(1, 10, i)])
            histories.append(of_source(engine, FileSource(f"t{i}.parquet", timestamp_field="at")))

        def work(number: int) -> None:
            for _ in range(5):
                assert joined(engine, histories[number], [(1, 10), (1, 9)]) == [number, None]

        in_threads(4, work)

    def test_closing_twice_is_harmless_and_ends_the_engine(self, engine: Engine, root: Path) -> None:
        write(root / "a.parquet", [(1, 10, 1)])
        engine.close()
        engine.close()
        with pytest.raises(EngineUnavailable):
            engine.describe(FileSource("a.parquet"))
