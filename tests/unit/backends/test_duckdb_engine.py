"""What is DuckDB's alone: Delta sources, settings, spilling, failures."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from stook.backends.duckdb.engine import TEMP_FOLDER, DuckEngine, open_engine
from stook.backends.duckdb.failures import translate
from stook.core import dtypes
from stook.core.definitions import FileSource, PushSource, SqlSource
from stook.core.dtypes import Array, DType, Map, Struct
from stook.core.errors import (
    DiskFull,
    EngineUnavailable,
    InvalidSettings,
    NewerStore,
    SchemaMismatch,
    SourceUnreadable,
    StookError,
)
from stook.core.plans import History, PointInTimePlan, TableSnapshot
from stook.core.rows import push_arrival
from stook.core.settings import parse_url
from stook.core.specs import Column
from stook.testing.contracts.engine_cases import (
    ALL_TIME,
    KEY,
    NUMBER,
    ORDER_FIELDS,
    instants,
    join_of,
    joined,
    labels_of,
    of_source,
    rows_table,
    view_of,
    write,
)
from stook.testing.oracles.pointintime import HistoryRow, Label


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[DuckEngine]:
    engine = opened(tmp_path, "duckdb:?threads=2&memory_mib=256")
    yield engine
    engine.close()


def opened(root: Path, url: str) -> DuckEngine:
    return open_engine(parse_url(url, root, "test"), root)


def frame(driver: list[int], at: list[int], trips: list[int], day: list[str | None]) -> pa.Table:
    return pa.table({"driver": driver, "at": instants(at), "trips": trips, "day": day})


def test_a_delta_source_at_a_commit_with_its_partitions(engine: DuckEngine, tmp_path: Path) -> None:
    path = str(tmp_path / "d")
    write_deltalake(path, frame([1, 2], [10, 10], [1, 2], ["a b", None]), partition_by=["day"])
    source = FileSource("d", timestamp_field="at")
    assert [(c.name, str(c.dtype)) for c in engine.describe(source)][-1] == ("day", "string")
    features = (NUMBER, Column("day", dtypes.String))
    old = of_source(engine, source, features=features)
    assert old.source is not None
    assert (old.source.kind, old.source.delta_version) == ("delta", 0)
    write_deltalake(path, frame([1], [10], [9], ["c"]), mode="append")
    new = of_source(engine, source, features=features)
    labels = labels_of([KEY], [Label((1,), 10), Label((2,), 10)])
    answers = [engine.point_in_time(PointInTimePlan((join_of(h),)), labels).to_pydict() for h in (old, new)]
    assert answers[0] == {"trips": [1, 2], "day": ["a b", None]}
    assert answers[1] == {"trips": [9, 2], "day": ["c", None]}


def test_a_delta_source_stands_behind_a_push_source_too(engine: DuckEngine, tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "d"), frame([1], [10], [1], ["a"]))
    batch = FileSource("d", timestamp_field="at")
    history = History(view_of([KEY], [NUMBER], PushSource("p", batch_source=batch)), engine.pin(batch))
    assert joined(engine, history, [(1, 10)]) == [1]


def test_delta_files_keep_their_numbers_while_commits_are_added(engine: DuckEngine, tmp_path: Path) -> None:
    path, source = str(tmp_path / "d"), FileSource("d", timestamp_field="at")
    write_deltalake(path, frame([1], [10], [1], ["a"]))
    first = engine.pin(source)
    write_deltalake(path, frame([1], [11], [2], ["a"]), mode="append")
    second = engine.pin(source, previous=first)
    assert second.files[0] == first.files[0]
    assert [f.ordinal for f in second.files] == [0, 1]
    DeltaTable(path).optimize.compact()
    assert [f.ordinal for f in engine.pin(source, previous=second).files] == [2]


@pytest.mark.parametrize("url", ["duckdb:?threads=-1", "duckdb:?memory_mib=1", "duckdb:?memory_mib=lots"])
def test_wrong_options_refuse_to_start(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidSettings, match=r"threads|memory_mib"):
        opened(tmp_path, url)


def test_a_project_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / ".stook").write_text("a file where a folder must be")
    with pytest.raises(EngineUnavailable, match="tmp"):
        opened(tmp_path, "duckdb:")


def test_more_than_memory_spills_into_the_project(engine: DuckEngine, tmp_path: Path) -> None:
    engine.close()
    small = opened(tmp_path, "duckdb:?threads=1&memory_mib=64")
    rows, rng = 600_000, np.random.default_rng(7)
    columns = {f"f{i}": rng.random(rows) for i in range(20)}  # 96 MB
    table = pa.table(
        {"driver": rng.permutation(rows), "at": instants([10]).take(pa.array(np.zeros(rows, int))), **columns}
    )
    pq.write_table(table, tmp_path / "big.parquet")
    history = of_source(
        small, FileSource("big.parquet", timestamp_field="at"), features=[Column(n, dtypes.Float64) for n in columns]
    )
    last = -1
    for batch in small.newest(history, ALL_TIME):
        drivers = batch.column("driver").to_numpy()
        assert drivers[0] == last + 1
        last = int(drivers[-1])
    assert last == rows - 1
    small.close()
    assert not any((tmp_path / TEMP_FOLDER).iterdir())


def test_an_abandoned_stream_leaves_the_engine_usable(engine: DuckEngine, tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [(i, 10, i) for i in range(1000)])
    history = of_source(engine, FileSource("a.parquet", timestamp_field="at"))
    stream = engine.newest(history, ALL_TIME, batch_rows=10)
    next(stream)
    del stream
    assert joined(engine, history, [(5, 10)]) == [5]


def test_a_broken_csv_line_is_named(engine: DuckEngine, tmp_path: Path) -> None:
    lines = "\n".join(f"{i},1970-01-01,0" for i in range(30_000))
    (tmp_path / "c.csv").write_text(f"driver,at,extra\n{lines}\n1,1970-01-01,0,0,0\n")
    history = of_source(engine, FileSource("c.csv", timestamp_field="at"), features=())
    with pytest.raises(SourceUnreadable, match="30002"):
        list(engine.newest(history, ALL_TIME))


TIMES: tuple[tuple[DType, str], ...] = (
    (dtypes.Timestamp, "TIMESTAMP 'infinity'"),
    (dtypes.Timestamp, "TIMESTAMPTZ '-infinity'"),
    (dtypes.Timestamp, "CAST('infinity' AS TIMESTAMP_NS)"),
    (dtypes.Timestamp, "TIMESTAMP_S '-infinity'"),
    (dtypes.Timestamp, "TIMESTAMP '10000-01-01'"),
    (dtypes.Timestamp, "TIMESTAMPTZ '0001-01-01 (BC) 00:00:00Z'"),
    (dtypes.Date, "DATE 'infinity'"),
    (dtypes.Date, "DATE '10000-01-01'"),
    (dtypes.Time, "TIME '24:00:00'"),
    (dtypes.Time, "CAST('24:00:00' AS TIME_NS)"),
    (Array(dtypes.Timestamp), "[NULL, TIMESTAMP 'infinity']"),
    (Array(dtypes.Timestamp), "[TIMESTAMPTZ 'infinity']"),
    (Array(Array(dtypes.Time)), "[[TIME '24:00:00']]"),
    (Struct({"a": dtypes.Int64, "it's": dtypes.Date}), """{'a': 1, 'it''s': DATE 'infinity'}"""),
    (Map(dtypes.String, dtypes.Timestamp), "MAP {'a': TIMESTAMP 'infinity'}"),
    (Map(dtypes.Date, dtypes.Int64), "MAP {DATE 'infinity': 1}"),
)


@pytest.mark.parametrize(("dtype", "value"), TIMES, ids=[value for _, value in TIMES])
def test_times_beyond_what_a_type_has_are_refused(engine: DuckEngine, dtype: DType, value: str) -> None:
    """DuckDB holds infinities, other years and 24:00; the microseconds of infinity are null."""
    source = SqlSource(f"SELECT 1 AS driver, make_timestamp(10) AS at, {value} AS x", timestamp_field="at")
    history = of_source(engine, source, features=(Column("x", dtype),))
    with pytest.raises(SchemaMismatch, match=r"'stats'.*'x'"):
        joined(engine, history, [(1, 10)])
    with pytest.raises(SchemaMismatch, match=r"'stats'.*'x'"):
        list(engine.newest(history, ALL_TIME))


def test_times_at_the_bounds_are_kept_at_any_depth(engine: DuckEngine) -> None:
    query = """
        SELECT 1 AS driver, make_timestamp(10) AS at,
               [{'m': MAP {DATE '0001-01-01': [TIME '23:59:59.999999', NULL]}, 't': TIMESTAMP '9999-12-31 23:59:59.999999'}, NULL] AS x
    """
    dtype = Array(Struct({"m": Map(dtypes.Date, Array(dtypes.Time)), "t": dtypes.Timestamp}))
    history = of_source(engine, SqlSource(query, timestamp_field="at"), features=(Column("x", dtype),))
    last = datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)
    expected = [{"m": [(date(1, 1, 1), [time(23, 59, 59, 999999), None])], "t": last}, None]
    assert joined(engine, history, [(1, 10)]) == [expected]


def test_a_parquet_time_of_24_00_is_refused(engine: DuckEngine, tmp_path: Path) -> None:
    held = pa.array([86_400_000_000], pa.time64("us"))
    pq.write_table(pa.table({"driver": [1], "at": instants([10]), "x": held}), tmp_path / "t.parquet")
    history = of_source(engine, FileSource("t.parquet", timestamp_field="at"), features=(Column("x", dtypes.Time),))
    with pytest.raises(SchemaMismatch, match=r"'x' holds times, of which 24:00:00.*exactly as time") as caught:
        joined(engine, history, [(1, 10)])
    assert "24:00" in caught.value.hint


def test_a_stored_time_of_24_00_is_refused(engine: DuckEngine, tmp_path: Path) -> None:
    """It would begin the day anew."""
    order = rows_table([KEY], [], [HistoryRow((1,), 10, 10, push_arrival(1, 0), deleted=False, values=())], ours=True)
    pq.write_table(order.append_column("t", pa.array([[86_400_000_000]])), tmp_path / "stored.parquet")
    times = Column("t", Array(dtypes.Time))
    pushed = TableSnapshot("t", 1, (str(tmp_path / "stored.parquet"),), (KEY, times, *ORDER_FIELDS))
    with pytest.raises(SchemaMismatch, match="86400000000 cannot be kept as a time of day"):
        joined(engine, History(view_of([KEY], [times], PushSource("p")), None, pushed), [(1, 10)])


@pytest.mark.parametrize(
    "value", ["TIMESTAMP 'infinity'", "TIMESTAMPTZ '-infinity'", "DATE 'infinity'", "CAST('infinity' AS TIMESTAMP_NS)"]
)
def test_rows_of_an_infinite_time_are_refused_not_dropped(engine: DuckEngine, value: str) -> None:
    for at, created in ((value, "make_timestamp(10)"), ("make_timestamp(10)", value)):
        query = f"SELECT 1 AS driver, {at} AS at, {created} AS created, 5 AS trips"
        source = SqlSource(query, timestamp_field="at", created_timestamp_column="created")
        with pytest.raises(SchemaMismatch, match=r"'stats'.*of which the value -?infinity cannot be kept as a time"):
            engine.counts(of_source(engine, source), ALL_TIME)


@pytest.mark.parametrize(
    ("dtype", "value", "holds"),
    [
        (dtypes.Time, "CAST('10:00:00+02' AS TIMETZ)", "zone"),
        (Array(dtypes.Time), "[CAST('10:00:00+02' AS TIMETZ)]", "zone"),
        (Struct({"t": dtypes.Time}), "{'t': CAST('10:00:00+02' AS TIMETZ)}", "zone"),
        (Array(dtypes.Time), "array_value(CAST('10:00:00+02' AS TIMETZ))", "zone"),
        (dtypes.Bytes, "CAST('0101' AS BIT)", "bits"),
        (Struct({"metadata": dtypes.Bytes, "value": dtypes.Bytes}), "CAST(1 AS VARIANT)", "any type"),
    ],
    ids=str,
)
def test_what_duckdb_hands_over_as_another_type_is_refused(
    engine: DuckEngine, dtype: DType, value: str, holds: str
) -> None:
    source = SqlSource(f"SELECT 1 AS driver, make_timestamp(10) AS at, {value} AS x, 5 AS trips", timestamp_field="at")
    assert [c.name for c in engine.describe(source)] == ["driver", "at", "trips"]
    with pytest.raises(SchemaMismatch, match=f"'stats'.*'x' holds .*{holds}"):
        joined(engine, of_source(engine, source, features=(Column("x", dtype),)), [(1, 10)])
    assert joined(engine, of_source(engine, source), [(1, 10)]) == [5]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (duckdb.OutOfMemoryException("Out of Memory Error: could not allocate"), EngineUnavailable),
        (duckdb.IOException("IO Error: Could not write file: No space left on device"), DiskFull),
        (duckdb.ConversionException("Conversion Error: Could not convert"), SchemaMismatch),
        (OSError("Invalid Input Error: stook-mismatch: column 'x' holds 1.5"), SchemaMismatch),
        (pa.ArrowInvalid("Conversion Error: overflow"), SchemaMismatch),
        (duckdb.BinderException("Binder Error: no such column"), SourceUnreadable),
    ],
    ids=lambda e: str(e)[:30],
)
def test_failures_tell_what_to_do(error: Exception, expected: type[StookError]) -> None:
    found = translate(error, "the source of feature view 'v'")
    assert type(found) is expected is not NewerStore
    assert found.hint
