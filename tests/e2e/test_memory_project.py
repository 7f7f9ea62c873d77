"""A whole project on memory backends, beside the embedded one: whatever the engines, every verb answers the same."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LinearRegression

import stook
from stook import Entity, FeatureView, Field, FileSource, Float64, Int32, Int64, PushSource, SqlSource, String
from stook.core.errors import NotSupported, UnknownObject

NOON = datetime(2024, 1, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MEMORY = 'records = "memory:"\nonline = "memory:"\nlog = "memory:"\nblobs = "memory:"\n'
ENGINES = {
    "embedded": "",
    "memory": MEMORY + 'tables = "memory+memory:"\n',
    "memory, read by DuckDB": MEMORY + 'tables = "memory+duckdb:"\n',
    "embedded, read in memory": 'tables = "delta+memory:///.stook/tables"\n',
}
driver = Entity("driver", join_keys={"driver_id": Int64})
stats = FeatureView(
    "stats",
    entities=[driver],
    ttl=3 * DAY,
    schema=[Field("rate", Float64), Field("trips", Int64)],
    source=PushSource("events", FileSource("data", format="parquet", created_timestamp_column="created")),
)
clicks = FeatureView("clicks", entities=[driver], schema=[Field("n", Int32)], source=PushSource("click"))


def write(path: Path, rows: list[tuple[int, int, float, int | None]]) -> None:
    """Rows of (driver, days before noon, rate, trips)."""
    ids, days, rates, trips = zip(*rows, strict=True)
    at = [NOON - n * DAY for n in days]
    table = {
        "driver_id": ids,
        "event_timestamp": at,
        "created": at,
        "rate": rates,
        "trips": pa.array(trips, pa.int64()),
    }
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(table), path)


@pytest.fixture(params=list(ENGINES))
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    engines = ENGINES[request.param]
    (tmp_path / "stook.toml").write_text(f'[project]\nname = "p"\n[engines]\n{engines}[limits]\nchunk_rows = 2\n')
    write(tmp_path / "data/a.parquet", [(1, 9, 0.1, 1), (1, 2, 0.2, None), (2, 1, 0.3, 3)])
    return tmp_path


@pytest.fixture
def p(root: Path) -> Iterator[Any]:
    with stook.open(root, clock=NOON) as platform:
        yield platform


def online(p: Any, feature: str, *ids: int) -> list[Any]:
    return p.get_online_features([feature], entities={"driver_id": list(ids)}).to_dict()[feature.split(":")[1]]  # type: ignore[no-any-return]


def past(p: Any, feature: str, *labels: tuple[int, datetime]) -> list[Any]:
    table = pa.table({"driver_id": [n for n, _ in labels], "event_timestamp": [at for _, at in labels]})
    return p.get_historical_features(table, [feature]).to_arrow()[feature.split(":")[1]].to_pylist()  # type: ignore[no-any-return]


@pytest.mark.case(26, 28, 33, 55)
def test_what_happened_is_the_same_online_and_in_history(p: Any, root: Path) -> None:
    p.apply([stats, clicks])
    assert [m.rows for m in p.materialize(None, NOON, ["stats"])] == [2]
    write(root / "data/b.parquet", [(3, 2, 0.4, 4), (2, 8, 0.9, 9)])  # late, and of another file
    assert [m.rows for m in p.materialize_incremental(NOON, ["stats"])] == [2]
    assert online(p, "stats:rate", 1, 2, 3, 9) == [0.2, 0.3, 0.4, None]
    p.push("stats", [{"driver_id": 1, "rate": 0.5, "trips": 5, "event_timestamp": NOON - DAY}])
    p.push("stats", [{"driver_id": 2, "rate": 0.6, "trips": 6, "event_timestamp": NOON - 2 * DAY}])  # an older one
    p.fold()
    p.push("stats", [{"driver_id": 4, "rate": 0.7, "trips": 7, "event_timestamp": NOON - 2 * DAY}])
    p.delete_rows("stats", [3])
    p.fold()
    p.push("stats", [{"driver_id": 3, "rate": 0.8, "event_timestamp": NOON - DAY}])  # older than the delete
    p.push("stats", [{"driver_id": 5, "rate": 0.9, "event_timestamp": NOON - 5 * DAY}])
    ids = (1, 2, 3, 4, 5, 9)
    found = p.get_online_features(["stats:rate"], entities={"driver_id": list(ids)})
    assert found.to_dict()["rate"] == [0.5, 0.3, None, 0.7, None, None]
    assert found.statuses["rate"] == ["PRESENT", "PRESENT", "NOT_FOUND", "PRESENT", "OUTSIDE_MAX_AGE", "NOT_FOUND"]
    assert past(p, "stats:rate", *((n, NOON) for n in ids)) == [0.5, 0.3, None, 0.7, None, None]
    yesterday = NOON - DAY - timedelta(hours=1)
    assert past(p, "stats:rate", *((n, yesterday) for n in ids)) == [0.2, 0.6, 0.4, 0.7, None, None]
    assert p.parity(["stats:rate", "stats:trips"], {"driver_id": list(ids)})


@pytest.mark.case(34, 36)
def test_a_load_is_switched_to_and_back(p: Any, root: Path) -> None:
    p.apply([stats])
    p.materialize(None, NOON)
    write(root / "data/a.parquet", [(1, 1, 1.0, 1)])
    p.push("stats", [{"driver_id": 7, "rate": 0.7}])
    p.materialize(None, NOON, replace=True)
    assert online(p, "stats:rate", 1, 2, 7) == [1.0, None, 0.7]
    assert [(g.number, g.state.name) for g in p.generations("stats")] == [(1, "READY"), (2, "LIVE")]
    p.activate("stats", 1)
    assert online(p, "stats:rate", 1, 2, 7) == [0.2, 0.3, 0.7]
    with pytest.raises(UnknownObject):
        p.activate("stats", 9)


@pytest.mark.case(50, 63)
def test_folded_pushes_outlive_a_wider_schema(p: Any) -> None:
    p.apply([clicks])
    p.push("click", [{"driver_id": 1, "n": 7}])
    p.fold()
    wide = [Field("n", Int64), Field("why", String)]
    p.apply([FeatureView("clicks", entities=[driver], schema=wide, source=clicks.source)])
    p.push("click", [{"driver_id": 2, "n": 2**40, "why": "x"}])
    p.fold()
    p.push("click", [{"driver_id": 1, "n": 8, "event_timestamp": NOON - DAY}])
    assert online(p, "clicks:n", 1, 2) == past(p, "clicks:n", (1, NOON), (2, NOON)) == [7, 2**40]
    assert past(p, "clicks:why", (1, NOON), (2, NOON)) == [None, "x"]
    assert p.parity(["clicks:n", "clicks:why"], {"driver_id": [1, 2]})


@pytest.mark.case(9)
def test_a_training_set_is_saved_trained_on_released_and_answers(p: Any) -> None:
    p.apply([stats])
    p.push("stats", [{"driver_id": n, "rate": float(n), "trips": 2 * n} for n in (5, 6, 7, 8)])
    p.fold()
    labels = pa.table({"driver_id": [5, 6, 7, 8], "event_timestamp": [NOON] * 4, "paid": [10.0, 12.0, 14.0, 16.0]})
    wanted = ["stats:rate", "stats:trips"]
    first = p.get_historical_features(labels, wanted, as_known_at=NOON).save("pay")
    assert first.rows == 4
    assert first.reads[0].table_commit is not None
    assert first.reads[0].source is not None and first.reads[0].source.files[0].digest
    assert p.get_historical_features(labels, wanted, as_known_at=NOON).save("pay").digests == first.digests
    assert p.dataset("pay").verify() == []

    def fit(data: pa.Table, params: Any, run: Any) -> LinearRegression:
        return LinearRegression().fit(run.matrix(data), data["paid"].to_numpy())

    run = p.train("pay", fit, data=p.dataset("pay"), label="paid")
    p.deploy("live", p.release("pay", run, features=wanted))
    answer = p.predict("live", entities={"driver_id": [8, 5]})
    assert answer.predictions == pytest.approx([16.0, 10.0])
    p.deploy("live", p.release("pay", run, features=wanted))
    assert p.rollback("live").release == "pay-1"
    assert p.score("live", pa.table({"rate": [9.0], "trips": [18]})).to_pylist() == pytest.approx([18.0])


def test_a_dropped_view_leaves_nothing_to_its_successor(p: Any) -> None:
    p.apply([clicks])
    p.push("click", [{"driver_id": 1, "n": 7}])
    p.fold()
    p.delete("feature-view", "clicks")
    p.apply([clicks])
    assert online(p, "clicks:n", 1) == past(p, "clicks:n", (1, NOON)) == [None]


def test_what_the_memory_engine_does_not_read_names_the_one_that_does(tmp_path: Path) -> None:
    (tmp_path / "stook.toml").write_text(f'[project]\nname = "p"\n[engines]\n{ENGINES["memory"]}')
    (tmp_path / "a.csv").write_text("driver_id,event_timestamp,x\n1,2024-01-01,1\n")
    with stook.open(tmp_path, clock=NOON) as p:
        for source in (SqlSource("SELECT 1 AS driver_id"), FileSource("a.csv")):
            with pytest.raises(NotSupported, match=r"memory\+duckdb:"):
                p.apply([FeatureView("v", entities=[driver], source=source)])
