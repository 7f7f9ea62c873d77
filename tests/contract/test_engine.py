"""The engine contract on every engine, DuckDB on one thread and on two."""

from __future__ import annotations

from stook.core.errors import NotSupported
from stook.testing.contracts.engine import EngineContract


class TestDuckEngine(EngineContract):
    __test__ = True
    factory = "stook.backends.duckdb.engine:open_engine"
    url = "duckdb:?threads=2"


class TestDuckEngineAlone(EngineContract):
    __test__ = True
    factory = "stook.backends.duckdb.engine:open_engine"
    url = "duckdb:?threads=1&memory_mib=256"


class TestMemoryEngine(EngineContract):
    __test__ = True
    factory = "stook.backends.memory.engine:open_engine"
    url = "memory:"
    known_gaps = dict.fromkeys(
        (
            "test_csv_is_read_as_declared",
            "test_csv_text_is_not_rounded",
            "test_csv_tells_nothing_from_quoted_nothing",
            "test_a_csv_line_that_begins_like_a_comment_is_a_row",
            "test_csv_is_quoted_the_same_in_every_file_and_at_every_line",
            "test_a_csv_file_is_separated_by_what_its_header_says",
            "test_a_csv_file_that_is_none_is_refused",
            "test_a_csv_file_may_be_wide_and_may_hold_a_header_alone",
            "test_csv_dates_are_never_guessed",
            "test_csv_rows_arrive_in_the_order_of_their_lines",
            "test_a_query_reads_relative_to_the_project_and_breaks_ties_by_content",
            "test_paths_in_queries_start_at_the_project_wherever_it_runs",
            "test_a_query_that_is_not_one_select_is_refused",
        ),
        NotSupported,
    )
