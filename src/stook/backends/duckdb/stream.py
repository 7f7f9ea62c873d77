"""Sorted streams of Arrow batches: the last row of each run, and rows spread over the labels they answer.

It is a file of its own because these are the two places where rows are picked outside SQL, whole columns at a time.
The engine feeds them DuckDB's sorted answers. It must never hold more than a batch besides what it returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def last_of_runs(batches: Iterable[pa.RecordBatch], keys: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The last row of each run of rows with equal keys (none of them null), over any cut into batches."""
    held: pa.RecordBatch | None = None  # the last row seen, which the next batch may continue
    for batch in batches:
        if batch.num_rows == 0:
            continue
        if held is not None and _differ(held, batch.slice(0, 1), keys)[0].as_py():
            yield held
        inner, after = batch.slice(0, batch.num_rows - 1), batch.slice(1)
        differ = _differ(inner, after, keys)
        kept = inner if pc.all(differ, min_count=0).as_py() else inner.filter(differ)  # without a copy where it can be
        if kept.num_rows:
            yield kept
        held = batch.slice(batch.num_rows - 1)
    if held is not None:
        yield held


def _differ(before: pa.RecordBatch, after: pa.RecordBatch, keys: Sequence[str]) -> pa.Array:
    """Row by row, whether a key differs; without keys all rows are one run."""
    unequal = (pc.not_equal(before.column(k), after.column(k)) for k in keys)
    return reduce(pc.or_, unequal, pa.array(np.zeros(before.num_rows, dtype=bool)))


def regroup(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of `rows`, but for the last."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        while count + batch.num_rows >= rows:
            taken = rows - count
            yield pa.concat_batches([*waiting, batch.slice(0, taken)])
            waiting, count, batch = [], 0, batch.slice(taken)
        if batch.num_rows:
            waiting.append(batch)
            count += batch.num_rows
    if waiting:
        yield pa.concat_batches(waiting)


def spread(batches: Iterable[pa.RecordBatch], row: str, rows: int, schema: pa.Schema) -> pa.Table:
    """A table of `rows` rows: row i is the batch row whose column `row` is i, or null.

    The batches are sorted by `row`; of equal ones the last counts. `schema` is that of the columns besides `row`.
    """
    pieces: list[pa.RecordBatch] = []
    start = 0
    for batch in last_of_runs(batches, [row]):
        at = batch.column(row).to_numpy()
        stop = int(at[-1]) + 1
        picked = np.full(stop - start, -1, dtype=np.int64)
        picked[at - start] = np.arange(batch.num_rows)
        index = pa.array(picked, mask=picked < 0)
        pieces.append(pa.RecordBatch.from_arrays([batch.column(n).take(index) for n in schema.names], schema=schema))
        start = stop
    if start < rows:
        nulls = [pa.nulls(rows - start, field.type) for field in schema]
        pieces.append(pa.RecordBatch.from_arrays(nulls, schema=schema))
    return pa.Table.from_batches(pieces, schema=schema)
