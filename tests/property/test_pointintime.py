"""Every engine against the oracle, on histories drawn to tie and to collide."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stook.backends.duckdb.engine import open_engine as open_duckdb
from stook.backends.memory.engine import open_engine as open_memory
from stook.core.definitions import FileSource, SqlSource
from stook.core.plans import History, PointInTimePlan
from stook.core.ports.engine import Engine
from stook.core.settings import parse_url
from stook.testing.contracts.engine_cases import ALL_TIME, CASE_FEATURES, join_of, labels_of, lay_out
from stook.testing.oracles import pointintime as oracle
from stook.testing.oracles.pointintime import BY_COLUMN, HistoryRow
from stook.testing.strategies import Case, cases, labels, times, ttls, windows

FIXED = "STOOK_TEST_SEED" not in os.environ  # with a seed, other examples are drawn: `--hypothesis-seed` repeats them
SETTINGS = settings(
    max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=FIXED, print_blob=True
)

ENGINES = {
    "duckdb_one_thread": (open_duckdb, "duckdb:?threads=1"),
    "duckdb_two_threads": (open_duckdb, "duckdb:?threads=2"),
    "memory": (open_memory, "memory:"),
}


def opened(name: str, root: Path) -> Engine:
    opener, url = ENGINES[name]
    return opener(parse_url(url, root, "test"), root)


@pytest.fixture(scope="module", params=list(ENGINES))
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = opened(request.param, tmp_path_factory.mktemp("project"))
    yield engine
    engine.close()


@pytest.fixture(scope="module", params=[name for name in ENGINES if name != "memory"])
def query_engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The engines that run queries."""
    engine = opened(request.param, tmp_path_factory.mktemp("project"))
    yield engine
    engine.close()


def joined(engine: Engine, plan: PointInTimePlan, table: object, names: list[str]) -> list[tuple[object, ...]]:
    answer = engine.point_in_time(plan, table)
    return list(zip(*(answer.column(n).to_pylist() for n in names), strict=True))


def expected(found: list[tuple[object, ...] | None]) -> list[tuple[object, ...]]:
    return [(None, None) if values is None else values for values in found]


@pytest.mark.parametrize("mode", ["newest knowledge", "known by", "by its own time", "by another column"])
@given(case=cases(), ttl_us=ttls(), data=st.data())
@SETTINGS
@pytest.mark.case(1, 2, 3, 4, 5, 6, 7, 8, 16, 17)
def test_a_join_equals_the_oracle(
    engine: Engine, mode: str, case: Case, ttl_us: int | None, data: st.DataObject
) -> None:
    drawn = data.draw(labels(case, equal_limits=mode != "by another column"))
    known = {"newest knowledge": None, "known by": data.draw(times())}.get(mode, BY_COLUMN)
    with TemporaryDirectory() as folder:
        history = lay_out(case, Path(folder), engine)
        plan = PointInTimePlan(
            (join_of(history, ttl_us=ttl_us),),
            known_by_us=known if isinstance(known, int) else None,
            known_by_column=known == BY_COLUMN,
        )
        found = joined(engine, plan, labels_of(history.view.keys, drawn), [c.name for c in CASE_FEATURES])
    assert found == expected(oracle.join(drawn, case.rows, ttl_us, known))


@given(one=cases(), other=cases(), data=st.data())
@settings(SETTINGS, max_examples=20)
@pytest.mark.case(12)
def test_views_joined_together_equal_views_joined_alone(
    engine: Engine, one: Case, other: Case, data: st.DataObject
) -> None:
    one_labels = data.draw(labels(one, equal_limits=True))
    other_labels = data.draw(labels(other, equal_limits=True))
    count = min(len(one_labels), len(other_labels))
    with TemporaryDirectory() as first, TemporaryDirectory() as second:
        histories = [lay_out(one, Path(first), engine), lay_out(other, Path(second), engine)]
        left = labels_of(histories[0].view.keys, one_labels[:count])
        right = labels_of(histories[1].view.keys, other_labels[:count])
        for column in histories[1].view.keys:  # both sides have a k0: the second is found by another column
            left = left.append_column("other_" + column.name, right.column(column.name))
        times_of = one_labels[:count]
        plan = PointInTimePlan((join_of(histories[0]), join_of(histories[1], prefix="other_", rename="other_")))
        found = joined(engine, plan, left, ["number", "word", "other_number", "other_word"])
    moved = [oracle.Label(b.key, a.label_us, a.known_us) for a, b in zip(times_of, other_labels[:count], strict=True)]
    mine = expected(oracle.join(times_of, one.rows, None, None))
    theirs = expected(oracle.join(moved, other.rows, None, None))
    assert found == [(*a, *b) for a, b in zip(mine, theirs, strict=True)]


@given(case=cases(), window=windows(), batch_rows=st.integers(1, 5), data=st.data())
@SETTINGS
@pytest.mark.case(28)
def test_the_newest_rows_equal_the_oracles(
    engine: Engine, case: Case, window: object, batch_rows: int, data: st.DataObject
) -> None:
    with TemporaryDirectory() as folder:
        history = lay_out(case, Path(folder), engine)
        best = oracle.newest(case.rows, window)
        skip = data.draw(st.integers(0, len(best)))
        after = best[skip - 1].key if skip else None
        found = [
            tuple(row.values())
            for batch in engine.newest(history, window, after=after, batch_rows=batch_rows)
            for row in batch.to_pylist()
        ]
        counted = engine.counts(history, window)
    assert found == [(*r.key, *r.values, *r.order, r.deleted) for r in best[skip:]]
    assert counted.rows == sum(oracle.qualifies(row, window) for row in case.rows)
    assert counted.keys <= counted.rows
    assert (counted.keys == 0) == (len(best) == 0)


def by_content(rows: list[HistoryRow]) -> list[HistoryRow]:
    """The rows with the arrivals that a query's rows have: their rank among full ties, nulls first."""
    ranked = []
    for row in rows:
        ties = [r for r in rows if (r.key, r.event_us, r.knowledge_us) == (row.key, row.event_us, row.knowledge_us)]
        contents = sorted(
            tuple((v is not None, v or "" if i else v or 0) for i, v in enumerate(r.values)) for r in ties
        )
        mine = tuple((v is not None, v or "" if i else v or 0) for i, v in enumerate(row.values))
        ranked.append(replace(row, arrival=contents.index(mine)))
    return ranked


@given(case=cases(pushes=False), data=st.data())
@settings(SETTINGS, max_examples=30)
@pytest.mark.case(7)
def test_a_query_breaks_ties_by_content(query_engine: Engine, case: Case, data: st.DataObject) -> None:
    engine = query_engine
    drawn = data.draw(labels(case, equal_limits=True))
    rows = by_content(case.rows)
    with TemporaryDirectory() as folder:
        laid = lay_out(case, Path(folder), engine)
        assert isinstance(laid.view.source, FileSource)
        created = laid.view.source.created_timestamp_column
        shuffled = f"SELECT * FROM read_parquet('{laid.view.source.path}') ORDER BY hash(word), number DESC"
        source = SqlSource(shuffled, timestamp_field="at", created_timestamp_column=created)
        view = replace(laid.view, source=source)
        history = History(view, engine.pin(source))
        for known in (None, BY_COLUMN):
            plan = PointInTimePlan((join_of(history),), known_by_column=known == BY_COLUMN)
            found = joined(engine, plan, labels_of(view.keys, drawn), [c.name for c in CASE_FEATURES])
            assert found == expected(oracle.join(drawn, rows, None, known))
        newest = [tuple(row.values())[:-4] for batch in engine.newest(history, ALL_TIME) for row in batch.to_pylist()]
    assert newest == [(*r.key, *r.values) for r in oracle.newest(rows, ALL_TIME)]
