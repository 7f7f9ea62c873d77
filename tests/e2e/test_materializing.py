"""Materializations that are interrupted, or have others beside them: what stands online in the end is what one run that
nothing disturbed would have left. Kills by signal are in `test_kills`; here an exception ends a run at a chosen chunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import stook
from stook import Entity, FeatureView, Field, FileSource, Int64, SqlSource
from stook.core.errors import Conflict
from stook.ingest.materialize import PINNED, PROGRESS, WATERMARK

Fact = tuple[int, int, int]  # key, day of January, value; known the day it happened
entity = Entity("e", join_keys={"k": Int64})
QUERY = SqlSource("SELECT k, event_timestamp, created, v FROM 'f.parquet'", created_timestamp_column="created")
FILES = FileSource("*.parquet")


class Killed(BaseException):
    """Ends a run at once, as a signal would."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "stook.toml").write_text('[project]\nname = "p"\n[limits]\nchunk_rows = 2\n')
    return tmp_path


def on(root: Path, day: int) -> Any:
    return stook.open(root, clock=at(day))


def at(day: int) -> datetime:
    return datetime(2024, 1, 1, tzinfo=UTC).replace(day=day)


def view(source: FileSource | SqlSource, *names: str) -> FeatureView:
    return FeatureView("a", entities=[entity], schema=[Field(n, Int64) for n in names or ("v",)], source=source)


def write(root: Path, facts: Sequence[Fact], name: str = "f") -> None:
    days = [at(day) for _, day, _ in facts]
    values = [v for *_, v in facts]
    columns = {"k": [k for k, *_ in facts], "event_timestamp": days, "created": days, "v": values}
    pq.write_table(pa.table({**columns, "w": [10 * v for v in values]}), root / f"{name}.parquet")


def online(p: Any, *keys: int, feature: str = "v") -> list[int | None]:
    answer = p.get_online_features([f"a:{feature}"], entities={"k": list(keys)})
    return answer.to_dict()[feature]  # type: ignore[no-any-return]


def die_at(rows: int) -> Callable[[str, int, int], None]:
    def progress(_: str, done: int, __: int) -> None:
        if done >= rows:
            raise Killed

    return progress


@pytest.mark.parametrize("incremental", [True, False])
@pytest.mark.parametrize("mode", ["load", "upsert"])
def test_a_run_over_a_query_begins_anew(root: Path, mode: str, incremental: bool) -> None:
    """Its rows may be others by now, with or without the query telling: those counted as done were never written."""
    old, new = [(99, 1, 0)], [(k, 5, k) for k in range(10, 20)]

    def run(p: Any, day: int, **options: Any) -> Any:
        if incremental:
            return p.materialize_incremental(at(day), **options)
        return p.materialize(None, at(day), **options)

    write(root, old)
    with on(root, 2) as p:
        p.apply([view(QUERY)])
        if mode == "upsert":
            run(p, 2)
    write(root, old + new)
    with on(root, 10) as p, pytest.raises(Killed):
        run(p, 9, progress=die_at(4))
    write(root, old + new + [(k, 6, k) for k in range(10)])
    with on(root, 11) as p:
        (done,) = run(p, 9)
        assert (done.mode, done.resumed_rows) == (mode, 0)
        assert online(p, *range(20), 99) == [*range(20), 0]
        assert [g.state.value for g in p.generations("a")] == ["live"]
        assert p.parity(["a:v"], {"k": [*range(20), 99]})


def test_a_full_run_after_a_rollback_hides_nothing_from_the_next_incremental_one(root: Path) -> None:
    write(root, [(1, 5, 5), (2, 12, 12), (3, 25, 25)])
    with on(root, 31) as p:
        p.apply([view(FILES)])
        p.materialize(None, at(10))
        p.materialize(None, at(20), replace=True)
        p.activate("a", 1)
        p.materialize(at(24), at(26))
        p.materialize_incremental(at(30))
        assert online(p, 1, 2, 3) == [5, 12, 25]


@pytest.mark.parametrize("fresh", [True, False])
def test_a_feature_that_was_added_is_loaded_where_incremental_runs_had_brought_rows(root: Path, fresh: bool) -> None:
    """Those lie over the generation, with the very times and arrivals that it has them with."""
    write(root, [(k, 1, k) for k in range(1, 5)])
    with on(root, 20) as p:
        p.apply([view(FILES)])
        p.materialize_incremental(at(2))
        write(root, [(1, 5, 1), (2, 5, 2)], "g")
        p.materialize_incremental(at(6))
        p.apply([view(FILES, "v", "w")])
        p.materialize(None, at(19), replace=fresh)
        assert online(p, 1, 2, 3, 4, feature="w") == [10, 20, 30, 40]
        assert p.parity(["a:v", "a:w"], {"k": [1, 2, 3, 4]})


SCALED = replace(QUERY, query="SELECT k, event_timestamp, created, v * 100 AS v FROM 'f.parquet'")


@pytest.mark.parametrize(("before", "after", "times"), [(QUERY, SCALED, 100), (SCALED, QUERY, 1)])
def test_a_query_whose_text_changed_is_loaded_where_incremental_runs_had_brought_rows(
    root: Path, before: SqlSource, after: SqlSource, times: int
) -> None:
    write(root, [(k, 1, k) for k in range(1, 5)])
    with on(root, 20) as p:
        p.apply([view(before)])
        p.materialize_incremental(at(2))
        write(root, [*((k, 1, k) for k in range(1, 5)), (1, 5, 1), (2, 5, 2)])
        p.materialize_incremental(at(6))
        p.apply([view(after)])
        p.materialize(None, at(19), replace=True)
        assert online(p, 1, 2, 3, 4) == [times * k for k in range(1, 5)]
        p.materialize_incremental(at(19))
        assert p.parity(["a:v"], {"k": [1, 2, 3, 4]})
        # the definition before comes back as a third one, and wins in turn
        p.apply([view(before)])
        p.materialize(None, at(19), replace=True)
        assert p.parity(["a:v"], {"k": [1, 2, 3, 4]})


@pytest.mark.parametrize("mode", ["load", "replace", "upsert"])
def test_a_full_run_with_an_end_after_now_reaches_through_the_now_of_the_call_that_ends_it(
    root: Path, mode: str
) -> None:
    write(root, [*((k, 5, k) for k in range(10)), *((k, 20, 100 + k) for k in range(10))])
    fresh = {"replace": mode == "replace"}
    with on(root, 10) as p:
        p.apply([view(FILES)])
        if mode != "load":
            p.materialize(None, at(4))
        with pytest.raises(Killed):
            p.materialize(None, "2030-01-01", progress=die_at(4), **fresh)
    with on(root, 25) as p:
        (done,) = p.materialize(None, "2030-01-01", **fresh)
        assert done.end_us == int(at(25).timestamp() * 1e6)
        assert online(p, *range(10)) == [100 + k for k in range(10)]
        p.materialize_incremental(at(25))
        assert p.parity(["a:v"], {"k": list(range(10))})


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("mode", ["load", "upsert"])
def test_a_view_that_is_deleted_beside_a_run_leaves_nothing(root: Path, mode: str, again: bool) -> None:
    write(root, [(k, 5, k) for k in range(10)])
    with on(root, 10) as p, on(root, 10) as other:
        p.apply([view(FILES)])
        if mode == "upsert":
            p.materialize(None, at(4))
        uid = p.get("feature-view", "a").spec["uid"]

        def delete(_: str, done: int, __: int) -> None:
            if done == 6:
                other.delete("feature-view", "a")
                if again:
                    other.apply([view(FILES)])
                    other.materialize_incremental(at(9))

        with pytest.raises(Conflict, match="'a' was deleted while it was materialized"):
            p.materialize_incremental(at(9), progress=delete)
        wiring = p._parts.wiring
        assert not wiring.online.generations(uid) and not list(wiring.online.scan(uid))
        left = [r for kind in (WATERMARK, PINNED, PROGRESS) for r in wiring.records.list(kind)]
        assert uid not in str(left)
        assert len(left) == 2 * again
    with on(root, 10) as p:
        p.apply([view(FILES)])
        assert [done.rows for done in p.materialize_incremental(at(9))] == [0 if again else 10]
        assert online(p, *range(10)) == [*range(10)]


@pytest.mark.parametrize("mode", ["load", "upsert"])
def test_a_run_over_files_goes_on_where_it_was_killed(root: Path, mode: str) -> None:
    write(root, [(99, 1, 0)])
    with on(root, 2) as p:
        p.apply([view(FILES)])
        if mode == "upsert":
            p.materialize_incremental(at(2))
    write(root, [(k, 5, k) for k in range(10)], "g")
    with on(root, 10) as p, pytest.raises(Killed):
        p.materialize_incremental(at(9), progress=die_at(4))
    with on(root, 11) as p:
        (done,) = p.materialize_incremental(at(9))
        assert (done.mode, done.resumed_rows) == (mode, 4)
        assert online(p, *range(10), 99) == [*range(10), 0]
