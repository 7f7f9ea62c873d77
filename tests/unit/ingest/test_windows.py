"""Watermarks and windows: what an incremental run reads, decided in pure code (cases 26 to 31)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stook.core.errors import InvalidArgument
from stook.core.plans import SourceFile, SourceSnapshot, Window
from stook.core.rows import push_arrival
from stook.ingest.windows import (
    Sight,
    Watermark,
    after_full,
    after_incremental,
    full_window,
    incremental_window,
    known_through,
)

NOW = 1_000


def snapshot(*ordinals: int) -> SourceSnapshot:
    files = tuple(SourceFile(f"/f{n}", 1, 1, n, "d") for n in ordinals)
    return SourceSnapshot("parquet", "event_timestamp", None, files)


MADE = ("uid", "definition")
MARK = Watermark(*MADE, 500, snapshot(0, 1), 450, 7)


def test_an_end_after_now_means_now() -> None:
    """Case 31: an end in the far future must not block later runs."""
    assert full_window(None, 10**15, now_us=NOW).end_us == NOW
    assert incremental_window(MARK, snapshot(0, 1), 10**15, now_us=NOW).end_us == NOW


def test_an_end_before_the_start_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="is before start"):
        full_window(20, 10, now_us=NOW)
    with pytest.raises(InvalidArgument, match="later than now"):
        full_window(NOW + 1, NOW + 2, now_us=NOW)


def test_an_incremental_run_reads_new_files_late_knowledge_and_late_pushes() -> None:
    """Case 28: a late row is loaded whatever its event time."""
    window = incremental_window(MARK, snapshot(0, 2), 800, now_us=NOW)
    assert (window.start_us, window.start_exclusive, window.end_us) == (500, True, 800)
    assert window.late is not None
    assert window.late.ordinals == {2} and window.late.knowledge_after_us == 450
    assert push_arrival(8, 0) > (window.late.arrival_after or 0) >= push_arrival(7, 0)


def test_rows_of_a_query_known_at_the_last_time_are_read_again() -> None:
    """More of them may have come since; a file's come with a file."""
    query = SourceSnapshot("sql", "event_timestamp", "created", query="SELECT 1")
    window = incremental_window(MARK, query, 800, now_us=NOW)
    assert window.late is not None and window.late.knowledge_after_us == 449
    window = incremental_window(replace(MARK, knowledge_us=None), query, 800, now_us=NOW)
    assert window.late is not None and window.late.knowledge_after_us is None


def test_a_new_file_may_bear_a_number_that_another_bore() -> None:
    """A file that sorts before all others takes their numbers, and they move on."""
    files = (SourceFile("/a", 1, 1, 0, "d"), SourceFile("/f0", 1, 1, 1, "d"), SourceFile("/f1", 1, 1, 2, "d"))
    window = incremental_window(MARK, replace(snapshot(), files=files), 800, now_us=NOW)
    assert window.late is not None and window.late.ordinals == {0, 1, 2}


def test_going_backwards_hides_nothing() -> None:
    window = incremental_window(MARK, snapshot(0, 1, 2), 100, now_us=NOW)
    assert window.end_us == MARK.end_us
    assert after_incremental(MARK, window, MADE, Sight(snapshot(0, 1, 2), None, 9)).end_us == MARK.end_us


def test_the_first_incremental_run_reads_everything() -> None:
    window = incremental_window(None, snapshot(0), 800, now_us=NOW)
    assert window.start_us is None and window.late is None


def test_a_full_run_moves_the_end_only_without_a_gap_and_never_what_was_seen() -> None:
    sight = Sight(snapshot(0, 1, 2), 900, 9)
    touching = after_full(MARK, Window(400, 800, NOW), MADE, sight, fresh=False)
    assert touching == replace(MARK, end_us=800)
    assert after_full(MARK, Window(600, 800, NOW), MADE, sight, fresh=False) is None
    assert after_full(MARK, Window(None, 300, NOW), MADE, sight, fresh=False) is None
    assert after_full(MARK, Window(400, 800, NOW), ("uid", "another"), sight, fresh=False) is None
    fresh = after_full(MARK, Window(600, 800, NOW), MADE, sight, fresh=True)
    assert fresh == Watermark(*MADE, 800, sight.snapshot, 900, 9)


def test_a_full_run_into_a_generation_without_a_watermark_speaks_for_what_it_read_alone() -> None:
    sight = Sight(snapshot(0, 1, 2), 900, 9)
    assert after_full(None, Window(600, 800, NOW), MADE, sight, fresh=False) is None
    assert after_full(None, Window(None, 800, NOW), MADE, sight, fresh=False) == Watermark(
        *MADE, 800, sight.snapshot, 900, 9
    )
    assert after_full(None, Window(600, 800, NOW), MADE, sight, fresh=True) is not None


TIMES = st.integers(0, 30)
RUNS = st.one_of(
    st.tuples(st.just("incremental"), st.none(), TIMES),
    st.tuples(st.just("full"), st.none() | TIMES, TIMES),
    st.tuples(st.just("replace"), st.none(), TIMES),
    st.tuples(st.just("activate"), st.none(), TIMES),
)


@given(
    st.lists(st.tuples(TIMES, TIMES), min_size=1, max_size=8),
    st.lists(RUNS, min_size=1, max_size=8),
)
def test_runs_of_all_kinds_and_rollbacks_leave_nothing_that_an_incremental_run_misses(
    rows: list[tuple[int, int]], runs: list[tuple[str, int | None, int]]
) -> None:
    """As below, with full runs over any window, fresh generations and switches between them in any order."""
    mark: Watermark | None = None
    generations: list[set[int]] = []
    live, overlay = -1, set[int]()
    for number, (kind, start, end) in enumerate([*runs, ("incremental", None, 30)]):
        now = 4 * (number + 1)
        files = snapshot(*(n for n, (_, arrival) in enumerate(rows) if arrival <= now))
        if kind == "activate":
            if generations:
                live, mark = end % len(generations), None
            continue
        incremental, fresh = kind == "incremental", kind == "replace" or not generations
        if incremental:
            window = incremental_window(mark, files, end, now_us=now)
        else:
            lower = None if fresh or start is None else min(start, now)
            window = full_window(lower, max(end, lower or 0), now_us=now)
        read = {f.ordinal for f in files.files if is_in(window, rows[f.ordinal][0], f.ordinal)}
        if fresh:
            generations.append(read)
            live = len(generations) - 1
        else:
            overlay |= read
        sight = Sight(files, None, 0)
        if incremental:
            mark = after_incremental(mark, window, MADE, sight)
            wanted = {f.ordinal for f in files.files if rows[f.ordinal][0] <= window.end_us}
            assert wanted <= generations[live] | overlay
        else:
            mark = after_full(mark, window, MADE, sight, fresh=fresh) or mark


def is_in(window: Window, event: int, ordinal: int) -> bool:
    """Whether a run over the window reads a row of that event time and file."""
    start = window.start_us
    begun = start is None or (event > start if window.start_exclusive else event >= start)
    return event <= window.end_us and (begun or (window.late is not None and ordinal in window.late.ordinals))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=12))
def test_no_row_is_ever_missed(rows: list[tuple[int, int]]) -> None:
    """Rows (event time, arrival step), each step one new file: after each incremental run, everything that has
    arrived with an event time through the end is loaded, checked against doing it naively."""
    mark: Watermark | None = None
    loaded: set[int] = set()
    for step in range(0, 40, 5):
        arrived = [n for n, (_, arrival) in enumerate(rows) if arrival <= step]
        files = snapshot(*arrived)
        window = incremental_window(mark, files, step, now_us=step)
        for n in arrived:
            event = rows[n][0]
            fresh = window.start_us is None or event > window.start_us
            late = window.late is not None and n in window.late.ordinals
            if event <= window.end_us and (fresh or late):
                loaded.add(n)
        mark = after_incremental(mark, window, MADE, Sight(files, None, 0))
        assert {n for n in arrived if rows[n][0] <= step} <= loaded


def test_a_push_known_later_than_now_is_late_to_the_next_run() -> None:
    """Without a created column in the source, every push known by now was looked at; none known later."""
    assert known_through(None, None, Window(None, 800, 900)) == 900
    assert known_through(snapshot(0), None, Window(None, 800, 900)) == 900
    bitemporal = replace(snapshot(0), created_timestamp_column="created")
    assert known_through(bitemporal, 700, Window(None, 800, 900)) == 700
    assert known_through(bitemporal, None, Window(None, 800, 900)) < 0


def test_watermarks_survive_storage() -> None:
    assert Watermark.from_spec(MARK.to_spec()) == MARK
