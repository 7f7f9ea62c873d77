"""Hard cases that are stories: what comes late, what is deleted, loaded again, expires, fails, changes its shape.

Each is told on every set of engines that lives in one process, with a clock that the story moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import stook
from stook import Entity, FeatureView, Field, FileSource, Float64, Int32, Int64, PushSource, String
from stook.backends.memory.clock import FrozenClock
from stook.core.definitions import Source
from stook.core.errors import IncompatibleChange, SchemaMismatch, SourceUnreadable, StookError
from stook.core.instants import to_us
from stook.testing.cases.case import HOUR, NOW

from .worlds import EMBEDDED, MEMORY, ON_REDIS, engines_on_redis, settings

ENGINES: dict[str, Callable[[], Mapping[str, str]]] = {
    "embedded": lambda: EMBEDDED,
    "memory": lambda: MEMORY,
    "memory, read by DuckDB": lambda: {**MEMORY, "tables": "memory+duckdb:"},
    ON_REDIS: engines_on_redis,
}
TIMES = pa.timestamp("us", "UTC")
item = Entity("item", join_keys={"id": Int64})
Row = tuple[int, int, int | None]


class Story:
    """One project, one view `v` with the feature `x`, and a clock."""

    def __init__(self, root: Path, platform: Any, clock: FrozenClock) -> None:
        self.root, self.p, self.clock = root, platform, clock

    def define(self, *, ttl: timedelta | None = None, created: bool = False, pushes: bool = True) -> None:
        column = "created" if created else None
        files = FileSource("data/*.parquet", created_timestamp_column=column)
        source: Source = PushSource("pushes", batch_source=files) if pushes else files
        self.p.apply([FeatureView("v", entities=[item], schema=[Field("x", Int64)], source=source, ttl=ttl)])

    def write(self, name: str, *rows: Row, created: int | None = None) -> None:
        (self.root / "data").mkdir(exist_ok=True)
        columns = {
            "id": pa.array([row[0] for row in rows], pa.int64()),
            "event_timestamp": pa.array([row[1] for row in rows], pa.int64()).cast(TIMES),
            "x": pa.array([row[2] for row in rows], pa.int64()),
        }
        if created is not None:
            columns["created"] = pa.array([created] * len(rows), pa.int64()).cast(TIMES)
        pq.write_table(pa.table(columns), self.root / "data" / f"{name}.parquet")

    def push(self, *rows: Row, to: str = "both") -> None:
        self.p.push("v", [{"id": i, "event_timestamp": when(at), "x": x} for i, at, x in rows], to=to)

    def now(self, *ids: int) -> list[Any]:
        """Values; the status where there is none."""
        found = self.p.get_online_features(["v:x"], entities={"id": list(ids)})
        return [v if s == "PRESENT" else s for v, s in zip(found.to_dict()["x"], found.statuses["x"], strict=True)]

    def past(self, *labels: tuple[int, int], **options: Any) -> list[Any]:
        table = pa.table({
            "id": [i for i, _ in labels], "event_timestamp": pa.array([at for _, at in labels], pa.int64()).cast(TIMES),
        })  # fmt: skip
        return self.p.get_historical_features(table, ["v:x"], **options).to_arrow().column("x").to_pylist()  # type: ignore[no-any-return]


def when(us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)


@pytest.fixture(params=list(ENGINES))
def story(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Story]:
    (tmp_path / "stook.toml").write_text(settings(ENGINES[request.param](), limits="chunk_rows = 2"))
    clock = FrozenClock(NOW)
    with stook.open(tmp_path, clock=clock) as platform:
        yield Story(tmp_path, platform, clock)


@pytest.mark.case(26, 27, 32)
def test_older_and_corrected_rows(story: Story) -> None:
    story.write("a", (1, NOW - HOUR, 1), created=NOW - HOUR)
    story.define(created=True)
    story.p.materialize(None, NOW)
    story.write("b", (1, NOW - 2 * HOUR, 2), created=NOW)  # older event, newer file
    story.p.materialize_incremental(NOW)
    assert story.now(1) == [1]
    assert story.past((1, NOW), (1, NOW - 2 * HOUR)) == [1, 2]
    story.write("c", (1, NOW - HOUR, 3), created=NOW)  # a correction of the same event
    story.p.materialize_incremental(NOW)
    assert story.now(1) == [3]
    assert story.past((1, NOW)) == [3]
    assert story.past((1, NOW), as_known_at=when(NOW - 1)) == [1]


@pytest.mark.case(32)
def test_disorder_within_one_push(story: Story) -> None:
    story.write("a", (9, NOW, 9))
    story.define()
    story.push((1, NOW - HOUR, 2), (1, NOW - 3 * HOUR, 1), (1, NOW - HOUR, 3), (1, NOW - 2 * HOUR, 4))
    assert story.now(1) == [3]
    assert story.past((1, NOW), (1, NOW - 2 * HOUR), (1, NOW - 3 * HOUR)) == [3, 4, 1]


@pytest.mark.case(28)
def test_a_late_row_is_loaded_by_the_next_incremental_run(story: Story) -> None:
    story.write("m", (1, NOW - HOUR, 1))
    story.define()
    story.p.materialize_incremental(NOW)
    story.write("a", (2, NOW - 5 * HOUR, 2))  # older than the last end, in a file that sorts first
    story.write("z", (3, NOW - 4 * HOUR, 3), (1, NOW - 9 * HOUR, 9))
    story.clock.advance(HOUR)
    story.p.materialize_incremental(NOW + HOUR)
    assert story.now(1, 2, 3) == [1, 2, 3]


@pytest.mark.case(29)
def test_materializing_twice_is_materializing_once(story: Story) -> None:
    story.write("a", *((i, NOW - i * HOUR, i) for i in range(9)))
    story.define()
    for _ in range(3):
        story.p.materialize(None, NOW)
        story.p.materialize_incremental(NOW)
        assert story.now(*range(10)) == [*range(9), "NOT_FOUND"]


@pytest.mark.case(30)
def test_applying_again_keeps_the_progress(story: Story) -> None:
    story.write("a", (1, NOW - HOUR, 1))
    story.define()
    story.p.materialize_incremental(NOW)
    story.define(ttl=timedelta(days=9))
    story.write("b", (2, NOW + HOUR, 2))
    story.clock.advance(2 * HOUR)
    (run,) = story.p.materialize_incremental(NOW + 2 * HOUR)
    assert (run.rows, run.start_us) == (1, NOW)
    assert story.now(1, 2) == [1, 2]


@pytest.mark.case(31, 24)
def test_an_end_in_the_far_future_blocks_nothing(story: Story) -> None:
    story.write("a", (1, NOW - HOUR, 1), (2, NOW + HOUR, 2))
    story.define()
    story.p.materialize_incremental(NOW + 10_000 * HOUR)
    assert story.now(1, 2) == [1, "NOT_FOUND"]
    story.clock.advance(2 * HOUR)
    story.p.materialize_incremental(NOW + 2 * HOUR)
    assert story.now(1, 2) == [1, 2]


@pytest.mark.case(24)
def test_a_push_dated_in_the_future_waits_for_its_time(story: Story) -> None:
    story.write("a", (9, NOW, 9))
    story.define()
    story.push((1, NOW - HOUR, 1), (1, NOW + HOUR, 2))
    assert story.now(1) == [1]
    story.clock.advance(HOUR)
    assert story.past((1, NOW), (1, NOW + HOUR)) == [1, 2]
    story.p.materialize_incremental(NOW + HOUR)
    assert story.now(1) == [2]


@pytest.mark.case(33)
@pytest.mark.parametrize("fold", [False, True], ids=["in the log", "folded"])
def test_a_deleted_entity_stays_deleted(story: Story, fold: bool) -> None:
    story.write("a", (1, NOW - HOUR, 1), (2, NOW - HOUR, 2))
    story.define()
    story.p.materialize(None, NOW)
    story.p.delete_rows("v", [1])
    if fold:
        story.p.fold()
    story.push((1, NOW - 1, 8))
    story.write("b", (1, NOW - 2, 7))
    story.p.materialize_incremental(NOW)
    story.p.materialize(None, NOW, replace=True)
    assert story.now(1, 2) == ["NOT_FOUND", 2]
    assert story.past((1, NOW), (1, NOW - 1), (2, NOW)) == [None, 8, 2]
    story.clock.advance(HOUR)
    story.push((1, NOW + HOUR, 9))  # newer than the delete
    assert story.now(1) == [9]


@pytest.mark.case(34, 36)
def test_pushes_survive_a_switch_and_a_rollback(story: Story) -> None:
    story.write("a", (1, NOW - 3 * HOUR, 1), (2, NOW - 3 * HOUR, 2))
    story.define()
    story.p.materialize(None, NOW)
    story.push((1, NOW - HOUR, 10))
    story.write("a", (1, NOW - 2 * HOUR, 100), (2, NOW - 2 * HOUR, 200))
    story.p.materialize(None, NOW, replace=True)
    assert story.now(1, 2) == [10, 200]
    live, before = sorted((g.number for g in story.p.generations("v")), reverse=True)
    story.p.activate("v", before)
    assert story.now(1, 2) == [10, 2]
    story.p.activate("v", live)
    assert story.now(1, 2) == [10, 200]


@pytest.mark.case(37, 38, 40)
def test_age_follows_the_clock_and_the_ttl(story: Story) -> None:
    story.write("a", (1, NOW - HOUR, 1))
    story.define(ttl=timedelta(hours=2))
    story.p.materialize(None, NOW)
    story.clock.advance(HOUR)
    assert story.now(1) == [1]
    story.clock.advance(1)
    assert story.now(1) == ["OUTSIDE_MAX_AGE"]
    story.clock.set(NOW - HOUR)  # a clock set back: the value is as old as it is
    assert story.now(1) == [1]
    story.clock.set(NOW + 100 * HOUR)
    story.define(ttl=None)
    assert story.now(1) == [1]
    story.define(ttl=timedelta(hours=101, microseconds=-1))
    assert story.now(1) == ["OUTSIDE_MAX_AGE"]


@pytest.mark.case(41, 53)
def test_a_failed_load_leaves_the_last_good_one(story: Story) -> None:
    story.write("a", (1, NOW - HOUR, 1))
    story.define(pushes=False)
    story.p.materialize(None, NOW)
    file = story.root / "data" / "a.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    for replace in (False, True):
        with pytest.raises(SourceUnreadable, match=r"a\.parquet"):
            story.p.materialize(None, NOW, replace=replace)
        assert story.now(1) == [1]
    file.unlink()
    with pytest.raises(SourceUnreadable):
        story.p.materialize(None, NOW, replace=True)
    assert story.now(1) == [1]
    story.write("a", (1, NOW, 2))
    story.p.materialize(None, NOW, replace=True)
    assert story.now(1) == [2]


WIDER: list[tuple[str, Callable[[pa.Table], pa.Table]]] = [
    ("narrower", lambda t: t.set_column(2, "x", t.column("x").cast(pa.int8()))),
    ("reordered", lambda t: t.select(["x", "event_timestamp", "id"])),
    ("extra", lambda t: t.append_column("more", pa.array(["?"] * t.num_rows))),
    ("narrow key", lambda t: t.set_column(0, "id", t.column("id").cast(pa.int16()))),
    ("unsigned key", lambda t: t.set_column(0, "id", t.column("id").cast(pa.uint8()))),
    ("dictionary", lambda t: t.set_column(2, "x", t.column("x").dictionary_encode())),
    ("naive times", lambda t: t.set_column(1, "event_timestamp", t.column(1).cast(pa.timestamp("us")))),
    ("seconds", lambda t: t.set_column(1, "event_timestamp", t.column(1).cast(pa.timestamp("s", "UTC")))),
    ("milliseconds", lambda t: t.set_column(1, "event_timestamp", t.column(1).cast(pa.timestamp("ms", "UTC")))),
    ("nanoseconds", lambda t: t.set_column(1, "event_timestamp", t.column(1).cast(pa.timestamp("ns", "UTC")))),
    ("another zone", lambda t: t.set_column(1, "event_timestamp", t.column(1).cast(pa.timestamp("us", "Asia/Tokyo")))),
]


@pytest.mark.case(15, 22, 49, 50)
@pytest.mark.parametrize(("how", "change"), WIDER, ids=[how for how, _ in WIDER])
def test_files_and_pushes_of_another_shape_mean_the_same(
    story: Story, how: str, change: Callable[[pa.Table], pa.Table]
) -> None:
    plain = pa.table({
        "id": pa.array([1, 2, 3], pa.int64()),
        "event_timestamp": pa.array([NOW - HOUR] * 3, pa.int64()).cast(TIMES),
        "x": pa.array([10, None, 30], pa.int64()),
    })  # fmt: skip
    story.write("a", (9, NOW - HOUR, 9))
    story.define()
    changed = change(plain)
    pq.write_table(changed, story.root / "data" / "b.parquet")
    story.p.materialize_incremental(NOW)
    assert story.now(1, 2, 3, 9) == [10, "NULL_VALUE", 30, 9]
    assert story.past((1, NOW - HOUR), (2, NOW), (3, NOW - HOUR - 1)) == [10, None, None]
    if how != "extra":  # a push says what it holds, so that a misspelled column is not lost
        moved = changed.set_column(
            changed.column_names.index("id"), "id", pa.chunked_array([[4], [5, 6]], changed.schema.field("id").type)
        )
        story.p.push("v", moved)
        assert story.now(4, 5, 6) == [10, "NULL_VALUE", 30]


@pytest.mark.case(50, 63)
def test_rows_of_older_schemas_stay_readable(story: Story) -> None:
    def view(*fields: Field) -> FeatureView:
        return FeatureView("v", entities=[item], schema=list(fields), source=PushSource("pushes"))

    story.p.apply([view(Field("x", Int32))])
    story.p.push("v", [{"id": 1, "x": 7}])
    story.p.fold()
    story.p.push("v", [{"id": 2, "x": 8}])
    story.p.apply([view(Field("y", String), Field("x", Int64))])
    story.p.push("v", [{"id": 3, "x": 2**40, "y": "new"}])
    assert story.now(1, 2, 3) == [7, 8, 2**40]
    assert story.past((1, NOW), (2, NOW), (3, NOW)) == [7, 8, 2**40]
    with pytest.raises(IncompatibleChange):
        story.p.apply([view(Field("x", Int32), Field("y", String))])


UNFIT: list[tuple[str, Any, str]] = [
    ("text for integers", pa.array(["1", "2"]), "string"),
    ("half", pa.array([1.0, 1.5]), "1.5|double"),
    ("too large", pa.array([1, 2**64 - 1], pa.uint64()), "18446744073709551615|uint64"),
    ("duration", pa.array([1, 2], pa.duration("us")), "duration"),
    ("booleans", pa.array([True, False]), "bool"),
]


@pytest.mark.case(15, 47)
@pytest.mark.parametrize(("what", "held", "says"), UNFIT, ids=[what for what, *_ in UNFIT])
def test_what_cannot_be_kept_exactly_is_refused_and_harms_nothing(
    story: Story, what: str, held: Any, says: str
) -> None:
    story.write("a", (9, NOW - HOUR, 9))
    story.define()
    story.p.materialize_incremental(NOW)
    times = pa.array([NOW - HOUR] * 2, pa.int64()).cast(TIMES)
    bad = pa.table({"id": [1, 2], "event_timestamp": times, "x": held})
    with pytest.raises(SchemaMismatch, match=says):
        story.p.push("v", bad)
    pq.write_table(bad, story.root / "data" / "b.parquet")
    with pytest.raises(SchemaMismatch, match="'x'"):
        story.p.materialize_incremental(NOW)
    with pytest.raises(SchemaMismatch, match="'x'"):
        story.past((9, NOW))
    (story.root / "data" / "b.parquet").unlink()
    story.p.materialize_incremental(NOW)
    assert story.now(9, 1, 2) == [9, "NOT_FOUND", "NOT_FOUND"]


@pytest.mark.case(15)
def test_keys_of_another_type_are_refused_on_both_sides(story: Story) -> None:
    story.write("a", (1, NOW - HOUR, 1))
    story.define()
    story.p.materialize(None, NOW)
    for wrong in (["1"], [True], [1.5], [2**63], [b"1"]):
        with pytest.raises(StookError, match="id"):
            story.p.get_online_features(["v:x"], entities={"id": wrong})
        with pytest.raises(StookError, match="id"):
            story.p.get_historical_features({"id": wrong, "event_timestamp": [when(NOW)]}, ["v:x"])
    for right in ([1], [1.0], pa.array([1], pa.uint8()), pa.array([1], pa.decimal128(20, 0))):
        assert story.p.get_online_features(["v:x"], entities={"id": right}).to_dict()["x"] == [1]
        labels = {"id": right, "event_timestamp": [when(NOW)]}
        assert story.p.get_historical_features(labels, ["v:x"]).to_arrow().column("x").to_pylist() == [1]


@pytest.mark.case(61)
def test_a_removed_view_leaves_nothing_to_its_successor(story: Story) -> None:
    story.write("a", (1, NOW - HOUR, 1))
    story.define()
    story.p.materialize(None, NOW)
    story.push((2, NOW - HOUR, 2))
    story.p.fold()
    story.push((3, NOW - HOUR, 3))
    story.p.delete("feature-view", "v")
    story.define()
    assert story.now(1, 2, 3) == ["NOT_FOUND"] * 3
    assert story.past((1, NOW), (2, NOW), (3, NOW)) == [1, None, None]


@pytest.mark.case(21)
def test_labels_of_every_zone_and_kind(story: Story) -> None:
    """Naive means UTC; the hour that daylight saving repeats is two hours."""
    first, second = to_us("2024-10-27T00:30:00Z"), to_us("2024-10-27T01:30:00Z")  # both 02:30 in Berlin
    story.write("a", (1, first, 1), (1, second, 2))
    story.define()
    berlin = pa.timestamp("us", "Europe/Berlin")
    for column in (
        pa.array([first, second - 1, second], pa.int64()).cast(berlin),
        pa.array([first, second - 1, second], pa.int64()).cast(pa.timestamp("us")),
        pa.array([when(first), when(second - 1), when(second)]),
        pa.array(["2024-10-27T02:30:00+02:00", "2024-10-27T02:29:59.999999+01:00", "2024-10-27T02:30:00+01:00"]),
        pa.array(["2024-10-27T00:30:00", "2024-10-27T01:29:59.999999", "2024-10-27T01:30:00"]),
    ):
        labels = pa.table({"id": [1, 1, 1], "event_timestamp": column})
        assert story.p.get_historical_features(labels, ["v:x"]).to_arrow().column("x").to_pylist() == [1, 1, 2]


@pytest.mark.case(22)
def test_nanoseconds_never_leak(story: Story) -> None:
    """Below a microsecond, event times round up and labels down, so that a row is never seen before its time."""
    (story.root / "data").mkdir()
    at = pa.array([1_000_000_500], pa.timestamp("ns", "UTC"))
    pq.write_table(pa.table({"id": [1], "event_timestamp": at, "x": [7]}), story.root / "data" / "a.parquet")
    story.define()
    labels = pa.table({"id": [1, 1, 1], "event_timestamp": pa.array(
        [1_000_000_499, 1_000_000_999, 1_000_001_000], pa.timestamp("ns", "UTC"))})  # fmt: skip
    assert story.p.get_historical_features(labels, ["v:x"]).to_arrow().column("x").to_pylist() == [None, None, 7]


@pytest.mark.case(42, 43, 44, 18)
def test_frames_keep_integers_and_booleans_beside_nulls(story: Story) -> None:
    fields = [Field("i", Int64), Field("b", stook.Bool), Field("f", Float64)]
    story.p.apply([FeatureView("t", entities=[item], schema=fields, source=PushSource("ts"))])
    story.p.push("t", [{"id": 1, "i": 2**53 + 1, "b": True, "f": 0.5}, {"id": 2}])
    labels = pa.table({"id": [1, 2], "event_timestamp": [when(NOW)] * 2})
    past = story.p.get_historical_features(labels, ["t:i", "t:b", "t:f"]).to_df()
    now = story.p.get_online_features(["t:i", "t:b", "t:f"], entities={"id": [1, 2]}).to_df()
    for frame in (past, now):
        assert [str(frame[name].dtype) for name in "ibf"] == ["Int64", "boolean", "float64"]
        assert (int(frame["i"][0]), bool(frame["b"][0])) == (2**53 + 1, True)
        assert frame["i"].isna().tolist() == frame["b"].isna().tolist() == [False, True]


@pytest.mark.case(52, 54)
def test_online_requests_of_every_size(story: Story) -> None:
    story.write("a", *((i, NOW - HOUR, i) for i in range(0, 10_000, 2)))
    story.define()
    story.p.materialize(None, NOW)
    assert story.now() == []
    assert story.now(*range(10_000)) == [i if i % 2 == 0 else "NOT_FOUND" for i in range(10_000)]
    assert story.now(2, 2, 3, 2) == [2, 2, "NOT_FOUND", 2]
    for wrong in ({"id": [1], "other": [1]}, {}, {"od": [1]}):
        with pytest.raises(SchemaMismatch, match="id"):
            story.p.get_online_features(["v:x"], entities=wrong)
    for rows in ([{"id": None}], [{"id": 3}]):
        assert story.p.get_online_features(["v:x"], rows).statuses["x"] == ["NOT_FOUND"]
    with pytest.raises(SchemaMismatch, match="id"):
        story.p.get_online_features(["v:x"], [{}])
    assert story.p.get_online_features(["v:x"], []).to_dict() == {"id": [], "x": []}
