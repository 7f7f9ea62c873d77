"""The platform through its own verbs, on real engines: what the parity story does not tell."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import stook
from stook import (
    Array,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    Float32,
    Float64,
    Int32,
    Int64,
    Map,
    PushSource,
    SqlSource,
    String,
    Struct,
    Timestamp,
    UInt64,
    Vector,
)
from stook.app.doctor import examine
from stook.core.errors import (
    Conflict,
    CorruptStore,
    IncompatibleChange,
    InvalidArgument,
    SchemaMismatch,
    TooLarge,
    UnknownFeature,
    UnknownObject,
)

NOON = datetime(2024, 1, 10, 12, tzinfo=UTC)
driver = Entity("driver", join_keys={"driver_id": Int64})
stats = FeatureView(
    "stats",
    entities=[driver],
    ttl=timedelta(days=3),
    schema=[Field("rate", Float64), Field("trips", Int64)],
    source=PushSource("events", FileSource("stats.parquet", created_timestamp_column="created")),
)
clicks = FeatureView(
    "clicks",
    entities=[driver],
    schema=[Field("n", Int32)],
    source=PushSource("click", created_timestamp_column="known"),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "stook.toml").write_text('[project]\nname = "p"\n')
    days = [NOON - timedelta(days=n) for n in (9, 2, 1)]
    rows = {
        "driver_id": [1, 1, 2],
        "event_timestamp": days,
        "created": days,
        "rate": [0.1, 0.2, 0.3],
        "trips": [1, None, 3],
    }
    pq.write_table(pa.table(rows), tmp_path / "stats.parquet")
    return tmp_path


def at(root: Path, when: datetime = NOON) -> Any:
    return stook.open(root, clock=when)


def online(p: Any, feature: str, *ids: int) -> list[Any]:
    return p.get_online_features([feature], entities={"driver_id": list(ids)}).to_dict()[feature.split(":")[1]]  # type: ignore[no-any-return]


@pytest.mark.case(55)
def test_all_statuses_tell_why(root: Path) -> None:
    """Case 55, and 37: what is expired is withheld, with its age."""
    with at(root) as p:
        p.apply([stats])
        p.materialize(None, NOON)
        p.push("stats", [{"driver_id": 4, "event_timestamp": NOON - timedelta(days=4), "rate": 0.5}])
        rows = [{"driver_id": n} for n in (1, 2, 3, 4, None)]
        result = p.get_online_features(["stats:trips", "stats:rate"], rows)
    assert result.statuses["trips"] == ["NULL_VALUE", "PRESENT", "NOT_FOUND", "OUTSIDE_MAX_AGE", "NOT_FOUND"]
    assert result.to_dict()["rate"] == [0.2, 0.3, None, None, None]
    assert result.ages["rate"] == [2 * 86_400.0, 86_400.0, None, 4 * 86_400.0, None]


@pytest.mark.case(38)
def test_ttl_takes_effect_on_stored_rows(root: Path) -> None:
    """Case 38."""
    with at(root) as p:
        p.apply([stats])
        p.materialize(None, NOON)
        changed = FeatureView(
            "stats", entities=[driver], ttl=timedelta(hours=30), schema=list(stats.schema or ()), source=stats.source
        )
        p.apply([changed])
        assert online(p, "stats:rate", 1, 2) == [None, 0.3]


@pytest.mark.case(24)
def test_a_push_known_or_dated_later_waits_for_its_time(root: Path) -> None:
    """Case 24."""
    later = NOON + timedelta(hours=2)
    with at(root) as p:
        p.apply([clicks])
        p.push("click", [{"driver_id": 1, "n": 1, "event_timestamp": later}])
        p.push("click", [{"driver_id": 2, "n": 2, "event_timestamp": NOON - timedelta(days=1), "known": later}])
        with pytest.raises(InvalidArgument, match="later than now"):
            p.push("click", [{"driver_id": 3, "n": 3, "event_timestamp": later}], to="online")
        p.materialize_incremental(NOON + timedelta(days=9))
        assert online(p, "clicks:n", 1, 2, 3) == [None, None, None]
    with at(root, later) as p:
        p.materialize_incremental(later)
        assert online(p, "clicks:n", 1, 2, 3) == [1, 2, None]


@pytest.mark.case(3, 4, 10, 11)
def test_history_keeps_order_duplicates_and_unmatched_rows(root: Path) -> None:
    """Cases 3, 10, 11 and 16: every row comes back, once, in its order."""
    labels = pd.DataFrame(
        {
            "driver_id": pd.array([2, 1, 1, 9, None, 1], "Int64"),
            "event_timestamp": [NOON] * 3 + [NOON] * 2 + [NOON - timedelta(days=30)],
            "label": list("abcdef"),
        }
    )
    with at(root) as p:
        p.apply([stats])
        got = p.get_historical_features(labels, ["stats:rate", "stats:trips"])
        assert got.to_df()["label"].tolist() == list("abcdef")
        assert got.to_arrow()["rate"].to_pylist() == [0.3, 0.2, 0.2, None, None, None]
        assert isinstance(got.to_polars(), pl.DataFrame)
        assert got.to_df()["trips"].dtype == pd.Int64Dtype()


@pytest.mark.case(12)
def test_the_same_view_twice_under_two_keys(root: Path) -> None:
    """Case 12."""
    service = FeatureService(
        "pair", [stats[["rate"]], stats[["rate"]].with_name("other").with_join_key_map({"driver_id": "other_id"})]
    )
    with at(root) as p:
        p.apply([stats, service])
        p.materialize(None, NOON)
        result = p.get_online_features("pair", entities={"driver_id": [1], "other_id": [2]})
        assert result.to_dict() == {"driver_id": [1], "other_id": [2], "stats__rate": [0.2], "other__rate": [0.3]}
        labels = pa.table({"driver_id": [1], "other_id": [2], "event_timestamp": [NOON]})
        assert p.get_historical_features(labels, "pair").to_arrow()["other__rate"].to_pylist() == [0.3]


@pytest.mark.case(9)
def test_a_training_set_is_rebuilt_byte_for_byte(root: Path) -> None:
    """Case 9: as known at a time, whatever was corrected since; the manifest says so."""
    labels = pa.table({"driver_id": [1, 2], "event_timestamp": [NOON, NOON]})
    with at(root) as p:
        p.apply([stats])
        first = p.get_historical_features(labels, ["stats:rate"], as_known_at=NOON).save("train")
        assert p.dataset("train").verify() == []
    with at(root, NOON + timedelta(days=1)) as p:
        p.push("stats", [{"driver_id": 1, "rate": 9.9, "event_timestamp": NOON - timedelta(days=1)}])
        corrected = p.get_historical_features(labels, ["stats:rate"])
        assert corrected.to_arrow()["rate"].to_pylist() == [9.9, 0.3]
        again = p.get_historical_features(labels, ["stats:rate"], as_known_at=NOON).save("train")
        assert (again.digests, again.plan_hash) == (first.digests, first.plan_hash)
        assert again.created_us != first.created_us
        assert p.dataset("train").to_arrow()["rate"].to_pylist() == [0.2, 0.3]
        assert first.reads[0].source is not None and first.reads[0].source.files[0].digest


@pytest.mark.case(63)
def test_stored_rows_survive_a_changed_schema(root: Path) -> None:
    """Cases 50 and 63: added, dropped and widened features, also for pushes already folded into history."""
    with at(root) as p:
        p.apply([clicks])
        p.push("click", [{"driver_id": 1, "n": 7}])
        p.fold()
        wider = FeatureView(
            "clicks", entities=[driver], schema=[Field("n", Int64), Field("why", String)], source=clicks.source
        )
        p.apply([wider])
        p.push("click", [{"driver_id": 2, "n": 2**40, "why": "x"}])
        p.fold()
        assert online(p, "clicks:n", 1, 2) == [7, 2**40]
        assert online(p, "clicks:why", 1, 2) == [None, "x"]
        labels = pa.table({"driver_id": [1, 2], "event_timestamp": [NOON, NOON]})
        assert p.get_historical_features(labels, ["clicks:n"]).to_arrow()["n"].to_pylist() == [7, 2**40]
        with pytest.raises(IncompatibleChange, match="cannot hold exactly"):
            p.apply([clicks])


@pytest.mark.case(61)
def test_a_dropped_view_leaves_nothing_to_its_successor(root: Path) -> None:
    """Case 61."""
    with at(root) as p:
        p.apply([clicks])
        p.push("click", [{"driver_id": 1, "n": 7}])
        p.fold()
        p.push("click", [{"driver_id": 2, "n": 8}])
        p.delete("feature-view", "clicks")
        with pytest.raises(UnknownFeature):
            online(p, "clicks:n", 1)
        p.apply([clicks])
        assert online(p, "clicks:n", 1, 2) == [None, None]
        labels = pa.table({"driver_id": [1, 2], "event_timestamp": [NOON, NOON]})
        assert p.get_historical_features(labels, ["clicks:n"]).to_arrow()["n"].to_pylist() == [None, None]


def test_a_query_is_a_source(root: Path) -> None:
    query = "select driver_id, event_timestamp, sum(trips) over (partition by driver_id order by event_timestamp) as total from 'stats.parquet'"
    total = FeatureView("total", entities=[driver], source=SqlSource(query))
    with at(root) as p:
        p.apply([total])
        p.materialize_incremental(NOON)
        assert online(p, "total:total", 1, 2) == [1, 3]


def test_a_late_row_of_a_query_may_be_known_at_the_same_time_as_the_last(root: Path) -> None:
    (root / "src").mkdir()
    written = NOON - timedelta(hours=1)

    def write(name: str, *rows: tuple[int, datetime, int]) -> None:
        ids, days, numbers = zip(*rows, strict=True)
        times = pa.array(days, pa.timestamp("us", "UTC"))
        created = pa.array([written] * len(rows), times.type)
        columns = {"driver_id": ids, "event_timestamp": times, "created": created, "n": numbers}
        pq.write_table(pa.table(columns), root / "src" / name)

    source = SqlSource("select * from 'src/*.parquet'", created_timestamp_column="created")
    counted = FeatureView("counted", entities=[driver], schema=[Field("n", Int64)], source=source)
    with at(root) as p:
        write("a.parquet", (1, NOON - timedelta(days=1), 1))
        p.apply([counted])
        assert [done.rows for done in p.materialize_incremental(NOON)] == [1]
        write("b.parquet", (2, NOON - timedelta(days=2), 2))
        assert [done.rows for done in p.materialize_incremental(NOON)] == [2]
        assert online(p, "counted:n", 1, 2) == [1, 2]
        assert [done.rows for done in p.materialize_incremental(NOON)] == [2]
        assert online(p, "counted:n", 1, 2) == [1, 2]


def test_the_times_that_rows_are_stored_by_may_not_change(root: Path) -> None:
    """A row known late would go on answering online, whatever corrected it in a source without that column."""
    known = FileSource("stats.parquet", created_timestamp_column="created")
    stats = FeatureView("s", entities=[driver], schema=[Field("rate", Float64)], source=known)
    with at(root) as p:
        p.apply([stats])
        p.materialize_incremental(NOON)
        for source in (FileSource("stats.parquet"), FileSource("stats.parquet", timestamp_field="created")):
            with pytest.raises(IncompatibleChange, match=r"'s': the .* column of its source changes"):
                p.apply([replace(stats, source=source)])
        p.delete("feature-view", "s")
        p.apply([replace(stats, source=FileSource("stats.parquet"))])


def test_delta_and_csv_are_sources(root: Path) -> None:
    from deltalake import write_deltalake

    table = pq.read_table(root / "stats.parquet")
    write_deltalake(root / "delta", table.slice(0, 2))
    write_deltalake(root / "delta", table.slice(2), mode="append")
    days = pd.DataFrame({"driver_id": [1], "event_timestamp": ["2024-01-09T00:00:00Z"], "rate": [0.7]})
    days.to_csv(root / "rates.csv", index=False)
    schema = [Field("rate", Float64)]
    views = [
        FeatureView(
            "d", entities=[driver], schema=schema, source=FileSource("delta", created_timestamp_column="created")
        ),
        FeatureView("c", entities=[driver], schema=schema, source=FileSource("rates.csv")),
    ]
    with at(root) as p:
        p.apply(views)
        p.materialize_incremental(NOON)
        assert online(p, "d:rate", 1, 2) == [0.2, 0.3]
        assert online(p, "c:rate", 1, 2) == [0.7, None]
        write_deltalake(root / "delta", table.slice(0, 1).set_column(0, "driver_id", [[5]]), mode="append")
        p.materialize_incremental(NOON)
        assert online(p, "d:rate", 5) == [0.1]


@pytest.mark.case(12)
def test_a_view_without_entities(root: Path) -> None:
    world = FeatureView("world", schema=[Field("mood", String), Field("seen", Timestamp)], source=PushSource("moods"))
    with at(root) as p:
        p.apply([world])
        p.push("world", [{"mood": "calm", "seen": NOON}])
        result = p.get_online_features(["world:mood", "world:seen"], [{}])
        assert result.to_dict() == {"mood": ["calm"], "seen": [NOON]}
        labels = pa.table({"event_timestamp": [NOON, NOON - timedelta(1)]})
        assert p.get_historical_features(labels, ["world:mood"]).to_arrow()["mood"].to_pylist() == ["calm", None]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"driver_id": 1, "trip": 3}], "did you mean 'trips'"),
        ([{"trips": 3}], "no column 'driver_id'"),
        ([{"driver_id": None, "trips": 3}], "'driver_id' is null in row 0"),
        ([{"driver_id": "1"}], "cannot be kept exactly as int64"),
        ([{"driver_id": 1, "trips": 1.5}], "'trips'"),
        ([{"driver_id": 1, "event_timestamp": None}], "is null in row 0"),
        ([{"driver_id": 1, "event_timestamp": "soon"}], "is not a time"),
        ({"driver_id": [1, 1], "event_timestamp": [NOON, NOON.date()]}, "datetimes beside dates"),
        (7, "not a table"),
    ],
)
def test_a_wrong_push_changes_nothing(root: Path, rows: Any, says: str) -> None:
    with at(root) as p:
        p.apply([stats])
        with pytest.raises(SchemaMismatch) as caught:
            p.push("stats", rows)
        assert says in str(caught.value)
        assert online(p, "stats:rate", 1) == [None]


def test_prepared_reads_follow_the_registry(root: Path) -> None:
    with at(root) as p:
        p.apply([stats, FeatureService("s", [stats[["rate"]]])])
        p.materialize(None, NOON)
        read = p.prepare("s")
        assert read({"driver_id": [1]}).feature_names == ["rate"]
        with at(root) as other:
            other.apply([stats, FeatureService("s", [stats])])
        p._parts.registry.catalogue(fresh=True)
        assert read({"driver_id": np.array([1])}).feature_names == ["rate", "trips"]


def test_what_the_store_cannot_hold_never_reaches_the_log(root: Path) -> None:
    """One bad push must not stop everybody: it is refused before it is logged."""
    text = Entity("text", join_keys={"name": String})
    named = FeatureView("named", entities=[text], schema=[Field("when", Timestamp)], source=PushSource("names"))
    with at(root) as p:
        p.apply([named])
        end = p._parts.wiring.log.end("push")
        far = pa.table({"name": ["a"], "when": pa.array([2**62], pa.timestamp("us", "UTC"))})
        offsets = pa.py_buffer(np.array([0, 1], np.int32))
        damaged = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(b"\xff")])
        for rows in ([{"name": "k" * 70_000}], far, pa.table({"name": damaged, "when": [NOON]})):
            with pytest.raises((SchemaMismatch, InvalidArgument, TooLarge)):
                p.push("named", rows)
        with pytest.raises((SchemaMismatch, TooLarge)):
            p.delete_rows("named", ["k" * 70_000])
        assert p._parts.wiring.log.end("push") == end
        p.push("named", [{"name": "a", "when": NOON}])


def test_a_fold_that_was_cut_short_folds_each_row_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with at(root) as p:
        p.apply([clicks])
        p.push("click", [{"driver_id": 1, "n": 1}])
        with monkeypatch.context() as patch:
            patch.setattr(
                type(p._parts.wiring.log), "truncate", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
            )
            with pytest.raises(KeyboardInterrupt):
                p.fold()
        p.push("click", [{"driver_id": 2, "n": 2}])
        p.fold()
        tables = p._parts.wiring.tables
        (name,) = tables.names("push/")
        assert tables.read(tables.pin(name))["n"].to_pylist() == [1, 2]


def test_a_stale_catalogue_loses_no_push(root: Path) -> None:
    """Another process may have applied a view and pushed to it within the quarter second that a catalogue is old."""
    with at(root) as p, at(root) as other:
        p.apply([clicks])
        p._parts.registry.catalogue(fresh=True)
        news = FeatureView("news", entities=[driver], schema=[Field("x", Int64)], source=PushSource("newsfeed"))
        other.apply([news])
        log = other._parts.wiring.log
        from stook.ingest.accept import accept_push
        from stook.ingest.entries import Target, encode_entries
        from stook.ingest.pushes import _header

        view = other._parts.registry.catalogue(fresh=True).view("news")
        now = other.clock.now_us()
        rows = accept_push(view, [{"driver_id": 1, "x": 5}], now_us=now)
        log.append("push", encode_entries(_header(view, Target.BOTH, now, now), rows))
        p.push("click", [{"driver_id": 1, "n": 1}])  # catches up and, below, folds with what it knew of the views
        p.fold()
        assert online(other, "news:x", 1) == [5]
        labels = pa.table({"driver_id": [1], "event_timestamp": [NOON]})
        assert other.get_historical_features(labels, ["news:x"]).to_arrow()["x"].to_pylist() == [5]


def test_a_feature_that_comes_back_finds_its_values_on_both_sides(root: Path) -> None:
    both = [Field("n", Int32), Field("m", Int64)]
    wide = FeatureView("clicks", entities=[driver], schema=both, source=clicks.source)
    labels = pa.table({"driver_id": [1], "event_timestamp": [NOON]})
    with at(root) as p:
        p.apply([wide])
        p.push("click", [{"driver_id": 1, "n": 1, "m": 4}])
        p.apply([clicks])
        p.fold()
        p.apply([wide])
        assert online(p, "clicks:m", 1) == [4]
        assert p.get_historical_features(labels, ["clicks:m"]).to_arrow()["m"].to_pylist() == [4]


def test_a_name_may_not_change_by_case(root: Path) -> None:
    with at(root) as p:
        p.apply([clicks])
        loud = FeatureView("clicks", entities=[driver], schema=[Field("N", Int32)], source=clicks.source)
        with pytest.raises(IncompatibleChange, match="differs by case alone"):
            p.apply([loud])


def test_incremental_runs_repair_after_a_rollback_and_a_changed_definition(root: Path) -> None:
    file_view = FeatureView("f", entities=[driver], schema=[Field("rate", Float64)], source=FileSource("stats.parquet"))
    wider = FeatureView(
        "f", entities=[driver], schema=[Field("rate", Float64), Field("trips", Int64)], source=file_view.source
    )
    with at(root) as p:
        p.apply([file_view])
        p.materialize(None, NOON - timedelta(days=5), ["f"])
        p.materialize(None, NOON, ["f"], replace=True)
        p.activate("f", 1)
        assert online(p, "f:rate", 1, 2) == [0.1, None]
        p.materialize_incremental(NOON)
        assert online(p, "f:rate", 1, 2) == [0.2, 0.3]
        p.apply([wider])
        p.materialize_incremental(NOON)
        assert online(p, "f:trips", 1, 2) == [None, 3]
        assert p.parity(["f:rate", "f:trips"], {"driver_id": [1, 2, 3]})


def test_python_values_of_nested_and_narrow_types(root: Path) -> None:
    """Cases 43 and 46: a Python float is the nearest float32; what would become infinite is refused."""
    shapes = [
        Field("f", Float32), Field("tags", Array(String)), Field("counts", Map(String, Int64)),
        Field("place", Struct({"lat": Float32, "name": String})), Field("v", Vector(Float32, 2)), Field("u", Array(UInt64)),
    ]  # fmt: skip
    rich = FeatureView("rich", entities=[driver], schema=shapes, source=PushSource("rich_rows"))
    row = {
        "driver_id": 1, "f": 0.1, "tags": [], "counts": {"a": 1}, "place": {"name": "x", "lat": 1.5},
        "v": [0.1, 2], "u": [2**64 - 1],
    }  # fmt: skip
    with at(root) as p:
        p.apply([rich])
        p.push("rich", [row, {"driver_id": 2, "place": {"name": "y"}, "counts": [("b", None)]}])
        found = p.get_online_features([f"rich:{s.name}" for s in shapes], entities={"driver_id": [1, 2]}).to_dict()
        nearest = float(np.float32(0.1))
        assert found["f"] == [nearest, None] and found["v"] == [[nearest, 2.0], None]
        assert found["tags"] == [[], None] and found["u"] == [[2**64 - 1], None]
        assert found["counts"] == [[("a", 1)], [("b", None)]]
        assert found["place"] == [{"lat": 1.5, "name": "x"}, {"lat": None, "name": "y"}]
        for bad in ({"f": 1e300}, {"v": [1e300, 0.0]}, {"place": {"nam": "x"}}, {"tags": [1]}, {"u": [-1]}):
            with pytest.raises(SchemaMismatch):
                p.push("rich", [{"driver_id": 3, **bad}])
        with pytest.raises(SchemaMismatch, match="round"):
            p.push("rich", pa.table({"driver_id": [1], "v": pa.array([[0.1, 0.2]], pa.list_(pa.float64(), 2))}))


def test_one_push_source_feeds_views_with_different_features(root: Path) -> None:
    source = PushSource("shared")
    one = FeatureView("one", entities=[driver], schema=[Field("x", Int64)], source=source)
    two = FeatureView("two", entities=[driver], schema=[Field("y", String)], source=source)
    with at(root) as p:
        p.apply([one, two])
        p.push("shared", [{"driver_id": 1, "x": 1, "y": "q"}])
        assert online(p, "one:x", 1) + online(p, "two:y", 1) == [1, "q"]
        with pytest.raises(SchemaMismatch, match="'z'"):
            p.push("shared", [{"driver_id": 1, "z": 1}])


def test_one_view_under_two_names(root: Path) -> None:
    with at(root) as p:
        p.apply([clicks])
        p.push("click", [{"driver_id": 1, "n": 1}])
        read = p.prepare([clicks[["n"]], clicks.with_name("again")[["n"]]])
        for count in (1, 100):
            assert read({"driver_id": [1] * count}).to_dict()["again__n"] == [1] * count


def test_saved_lists_verify(root: Path) -> None:
    rich = FeatureView(
        "rich",
        entities=[driver],
        schema=[Field("a", Array(Int64)), Field("v", Vector(Float32, 2))],
        source=PushSource("r"),
    )
    with at(root) as p:
        p.apply([rich])
        p.push("rich", [{"driver_id": 1, "a": [1], "v": [1.0, 2.0]}])
        labels = pa.table({"driver_id": [1, 2], "event_timestamp": [NOON, NOON]})
        p.get_historical_features(labels, ["rich:a", "rich:v"]).save("lists")
        assert p.dataset("lists").verify() == []


def test_what_a_deployment_reads_is_not_taken_away(root: Path) -> None:
    def fit(data: pa.Table, params: dict[str, Any], run: Any) -> Any:
        from sklearn.linear_model import LinearRegression

        return LinearRegression().fit(run.matrix(data), data["y"].to_numpy())

    two = FeatureView("clicks", entities=[driver], schema=[Field("n", Int32), Field("m", Int64)], source=clicks.source)
    with at(root) as p:
        p.apply([two])
        run = p.train("m", fit, data=pa.table({"m": [1, 2, 3], "y": [1.0, 2.0, 3.0]}), label="y")
        p.deploy("m", p.release("m", run, features=["clicks:m"]))
        with pytest.raises(IncompatibleChange, match="deployment 'm' reads"):
            p.apply([clicks])
        with pytest.raises(InvalidArgument, match="read by deployment 'm'"):
            p.delete("feature-view", "clicks")


def test_pushes_are_folded_when_enough_has_gathered(root: Path) -> None:
    (root / "stook.toml").write_text('[project]\nname = "p"\n[limits]\nfold_rows = 100\n')
    batch = pa.table({"driver_id": range(60), "n": pa.array(range(60), pa.int32())})
    with at(root) as p:
        p.apply([clicks])
        p.push("click", batch)
        log = p._parts.wiring.log
        assert (log.base("push"), log.end("push")) == (0, 1)
        p.push("click", batch)
        assert log.base("push") == log.end("push") == 2
        assert online(p, "clicks:n", 59) == [59]


def test_a_view_that_cannot_be_folded_stops_no_other(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Delta keeps no fields that differ by case alone: `apply` refuses them, an older project may hold them."""
    (root / "stook.toml").write_text('[project]\nname = "p"\n[limits]\nfold_rows = 100\n')
    monkeypatch.setattr("stook.ingest.pushes.READ_ENTRIES_MAX", 2)  # a fold in several parts
    twins = Field("x", Struct({"a": Int64, "A": Int64}))
    source = PushSource("twin")
    labels = pa.table({"driver_id": [1, 60], "event_timestamp": [NOON, NOON]})
    with at(root) as p:
        with monkeypatch.context() as patch:
            patch.setattr("stook.registry.declare.check_fields", lambda *_: None)
            p.apply([FeatureView("twins", entities=[driver], schema=[twins], source=source), clicks])
        log, tables = p._parts.wiring.log, p._parts.wiring.tables
        p.push("click", [{"driver_id": 60, "n": 7}])
        p.push("twin", [{"driver_id": 1, "x": {"a": 1, "A": 2}}])
        for n in range(5):
            p.push("click", pa.table({"driver_id": range(60), "n": pa.array([n] * 60, pa.int32())}))
            p.push("twin", [{"driver_id": 1, "x": {"a": n, "A": 2}}])
        assert log.base("push") == 0, "the entries that cannot be folded stay, and what stands behind them"
        (folded,) = tables.names("push/")
        assert len(tables.read(tables.pin(folded))) > 100
        assert p.fold() == 0
        before = len(tables.read(tables.pin(folded)))
        assert before == 5 * 60 + 1
        assert p.fold() == 0 and len(tables.read(tables.pin(folded))) == before, "once is enough"
        assert "twins" in caplog.text and "stays in the push log" in caplog.text
        assert online(p, "clicks:n", 1, 60) == [4, 7]
        assert p.get_historical_features(labels, ["clicks:n"]).to_arrow()["n"].to_pylist() == [4, 7]
        (finding,) = [f for f in examine(root) if f.what == "view twins"]
        assert not finding.well and "'a' and 'A' differ by case alone" in finding.detail
        p.delete("feature-view", "twins")
        assert p.fold() == log.end("push") == log.base("push")
        assert len(tables.read(tables.pin(folded))) == before


def test_entries_kept_back_do_not_make_every_push_fold(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stook.ingest.pushes.ENTRIES_UNFOLDED_MAX", 4)
    with at(root) as p:
        p.apply([clicks, stats])
        p.push("events", [{"driver_id": 1, "event_timestamp": NOON}])
        tables = p._parts.wiring.tables
        folds: list[str] = []
        append = tables.append

        def refusing(name: str, *args: Any, **options: Any) -> Any:
            if p.get("feature-view", "stats").spec["uid"] in name:
                raise SchemaMismatch("such rows cannot be kept", hint="mend them")
            folds.append(name)
            return append(name, *args, **options)

        monkeypatch.setattr(tables, "append", refusing)
        for n in range(12):
            p.push("click", [{"driver_id": 1, "n": n}])
        assert len(folds) == 3


def test_a_push_that_is_durable_raises_nothing_of_its_fold(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("stook.ingest.pushes.ENTRIES_UNFOLDED_MAX", 1)
    with at(root) as p:
        p.apply([clicks])
        log = p._parts.wiring.log
        monkeypatch.setattr(log, "truncate", lambda *_, **__: (_ for _ in ()).throw(CorruptStore("no", hint="mend")))
        assert p.push("click", [{"driver_id": 1, "n": 1}]).rows == 1
        assert "not folded" in caplog.text
        with pytest.raises(CorruptStore):
            p.fold()


def test_a_dataset_with_fields_that_tables_cannot_keep_is_refused(root: Path) -> None:
    own = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["a", "A"])
    labels = pa.table({"driver_id": [1], "event_timestamp": [NOON], "own": own})
    with at(root) as p:
        p.apply([clicks])
        with pytest.raises(SchemaMismatch, match="column 'own': 'a' and 'A' differ by case alone, which tables cannot"):
            p.get_historical_features(labels, ["clicks:n"]).save("d")


def test_a_deleted_online_store_comes_back_from_history(root: Path) -> None:
    """What was pushed and folded, what is still in the log, and what the files hold."""
    with at(root) as p:
        p.apply([stats])
        p.push("stats", [{"driver_id": 7, "rate": 0.7, "event_timestamp": NOON - timedelta(hours=2)}])
        p.materialize_incremental(NOON)
        p.fold()
        p.push("stats", [{"driver_id": 8, "rate": 0.8, "event_timestamp": NOON - timedelta(hours=1)}])
    shutil.rmtree(root / ".stook" / "online")
    with at(root) as p:
        assert online(p, "stats:rate", 1, 2, 7, 8) == [None, None, None, 0.8]
        p.materialize_incremental(NOON)
        assert online(p, "stats:rate", 1, 2, 7, 8) == [0.2, 0.3, 0.7, 0.8]


@pytest.fixture
def seldom_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Platforms look at what others declared when they must only, however slow the machine is."""
    monkeypatch.setattr("stook.registry.registry.REFRESH_AFTER_S", 3_600.0)


@pytest.mark.usefixtures("seldom_looking")
def test_what_goes_to_a_view_that_was_made_anew_elsewhere_is_not_acknowledged_and_lost(root: Path) -> None:
    with at(root) as here, at(root) as there:
        here.apply([clicks])
        there._parts.catalogue(fresh=True)
        for act in (
            lambda: there.push("click", [{"driver_id": 1, "n": 2}]),
            lambda: there.delete_rows("clicks", [1]),
        ):
            there.push("click", [{"driver_id": 1, "n": 1}])  # whoever acts next holds a fresh catalogue
            here.delete("feature-view", "clicks")
            here.apply([clicks])
            with pytest.raises(Conflict, match="'clicks' was deleted, or deleted and made anew"):
                act()
            act()
        there.push("click", [{"driver_id": 1, "n": 2}])
        assert online(here, "clicks:n", 1) == [2]
        here.delete("feature-view", "clicks")
        with pytest.raises(Conflict, match="was deleted"):
            there.push("click", [{"driver_id": 1, "n": 2}])
        with pytest.raises(UnknownObject):
            there.push("click", [{"driver_id": 1, "n": 2}])


@pytest.mark.usefixtures("seldom_looking")
def test_rows_of_definitions_that_came_a_moment_ago_are_read(root: Path) -> None:
    wider = FeatureView(
        "clicks", entities=[driver], schema=[*(clicks.schema or ()), Field("why", String)], source=clicks.source
    )
    with at(root) as here, at(root) as there:
        here.apply([clicks])
        here.push("click", [{"driver_id": 1, "n": 1}])
        read = there.prepare(["clicks:n"])
        run = there.train(
            "m",
            lambda *_: _Nothing(),
            data=pa.table({"n": pa.array([1], pa.int32()), "y": [0]}),
            label="y",
            allow_pickle=True,
        )
        there.deploy("m", there.release("m", run, features=["clicks:n"]))
        there.predict("m", entities={"driver_id": [1]}, allow_pickle=True)
        assert read({"driver_id": [1]}).to_dict()["n"] == [1]
        here.apply([wider])
        here.push("click", [{"driver_id": 1, "n": 2, "why": "x"}])
        assert there.predict("m", entities={"driver_id": [1]}, allow_pickle=True).features == {"n": [2]}
        assert read({"driver_id": [1]}).to_dict()["n"] == [2]


class _Nothing:
    def predict(self, table: pa.Table) -> list[int]:
        return [0] * table.num_rows
