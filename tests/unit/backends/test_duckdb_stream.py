"""Runs and spreading: any cut into batches gives the same rows."""

from __future__ import annotations

from itertools import pairwise

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from stook.backends.duckdb.stream import last_of_runs, regroup, spread


def cut(table: pa.Table, cuts: list[int]) -> list[pa.RecordBatch]:
    """The table in batches cut at the positions given; some may be empty."""
    edges = [0, *sorted(c % (table.num_rows + 1) for c in cuts), table.num_rows]
    whole = table.combine_chunks().to_batches()[0] if table.num_rows else pa.RecordBatch.from_pylist([], table.schema)
    return [whole.slice(a, b - a) for a, b in pairwise(edges)]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["", "a", "b"]))), st.lists(st.integers(0, 50)))
def test_the_last_of_each_run(keys: list[tuple[int, str]], cuts: list[int]) -> None:
    ordered = sorted(keys)
    columns = {"a": [k[0] for k in ordered], "b": [k[1] for k in ordered], "v": list(range(len(ordered)))}
    table = pa.table(columns, schema=pa.schema([("a", pa.int64()), ("b", pa.string()), ("v", pa.int64())]))
    found = [row["v"] for b in last_of_runs(cut(table, cuts), ["a", "b"]) for row in b.to_pylist()]
    assert found == [i for i, k in enumerate(ordered) if i + 1 == len(ordered) or ordered[i + 1] != k]


@given(st.lists(st.integers(0, 30)), st.lists(st.integers(0, 50)))
def test_rows_spread_over_labels(rows: list[int], cuts: list[int]) -> None:
    ordered = sorted(rows)
    table = pa.table({"row": pa.array(ordered, pa.int64()), "v": pa.array(range(len(ordered)), pa.int64())})
    answer = spread(cut(table, cuts), "row", 31, pa.schema([("v", pa.int64())]))
    expected = {row: i for i, row in enumerate(ordered)}
    assert answer.column("v").to_pylist() == [expected.get(i) for i in range(31)]


@given(st.lists(st.integers(0, 5), max_size=8), st.integers(1, 4))
def test_regrouping_keeps_rows_and_bounds_batches(sizes: list[int], rows: int) -> None:
    batches = [pa.record_batch({"v": pa.array([i] * n, pa.int64())}) for i, n in enumerate(sizes)]
    found = list(regroup(batches, rows))
    assert [v for b in found for v in b.column(0).to_pylist()] == [i for i, n in enumerate(sizes) for _ in range(n)]
    assert all(b.num_rows == rows for b in found[:-1])
    assert all(0 < b.num_rows <= rows for b in found)


def test_without_keys_all_rows_are_one_run() -> None:
    batches = [pa.record_batch({"v": [1, 2]}), pa.record_batch({"v": [3]})]
    assert [b.to_pylist() for b in last_of_runs(batches, [])] == [[{"v": 3}]]
