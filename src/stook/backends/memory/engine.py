"""The `Engine` port in memory: Python rows and sorting, Parquet read whole.

It is a file of its own because there is one small module per port. Tests, and projects whose settings say
`tables = "memory+memory:"`, open it. It must never be faster at the price of being less plain: it is the second
opinion on every other engine.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from stook.backends.memory.files import MEND, list_files, pin_files
from stook.backends.memory.scan import Row, comparable, parquet_schema, plain_type, read_history, tuples
from stook.core import dtypes
from stook.core.arrow import from_arrow, to_arrow
from stook.core.definitions import FileSource, SqlSource
from stook.core.dtypes import DType
from stook.core.errors import EngineUnavailable, NotSupported
from stook.core.plans import KNOWN_US, LABEL_US, ROW, Counts, History, PointInTimePlan, SourceSnapshot, ViewJoin, Window
from stook.core.rows import ARRIVAL, DELETED, EVENT_US, FILE_ROWS_MAX, KNOWLEDGE_US, PUSH_ARRIVAL
from stook.core.settings import EngineUrl
from stook.core.specs import Column


def open_engine(url: EngineUrl, root: Path) -> MemoryEngine:
    """The engine of a project at `root`, where relative paths of sources start; the URL's options do not matter."""
    del url
    return MemoryEngine(root)


class MemoryEngine:
    """`Engine` over lists of rows; see the port for what each method promises. It holds nothing between calls."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._closed = False

    def describe(self, source: FileSource | SqlSource) -> tuple[Column, ...]:
        found: dict[str, DType] = {}
        for file in list_files(self._file_source(source), self._root):
            for field in parquet_schema(file.path):
                dtype = from_arrow(plain_type(field.type))
                before = found.get(field.name)
                if dtype is not None and (before is None or dtypes.widens(before, dtype)):
                    found[field.name] = dtype
        return tuple(Column(name, dtype) for name, dtype in found.items())

    def pin(
        self, source: FileSource | SqlSource, *, previous: SourceSnapshot | None = None, digests: bool = False
    ) -> SourceSnapshot:
        return pin_files(self._file_source(source), self._root, previous, digests=digests)

    def point_in_time(self, plan: PointInTimePlan, labels: pa.Table) -> pa.Table:
        self._check_open()
        columns: dict[str, pa.ChunkedArray] = {}
        for join in plan.joins:
            columns.update(_join(plan, join, labels))
        return pa.table(columns)

    def newest(
        self, history: History, window: Window, *, after: Sequence[object] | None = None, batch_rows: int = 100_000
    ) -> Iterator[pa.RecordBatch]:
        self._check_open()
        view = history.view
        rows, values = read_history(history, (*view.keys, *view.features))
        best: dict[tuple[object, ...], Row] = {}
        for row in rows:
            if _qualifies(row, window) and (row.key not in best or row.order > best[row.key].order):
                best[row.key] = row
        behind = None if after is None else _key_of(view.keys, after)
        found = [best[key] for key in sorted(best) if behind is None or key > behind]
        for start in range(0, len(found), batch_rows):
            yield _batch(len(view.keys), found[start : start + batch_rows], values)

    def counts(self, history: History, window: Window) -> Counts:
        self._check_open()
        rows, _ = read_history(history, ())
        inside = [row for row in rows if _qualifies(row, window)]
        created = [row.created_us for row in rows if row.created_us is not None]
        last = max((at for at in created if at <= window.known_by_us), default=None)
        return Counts(len(inside), len({row.key for row in inside}), last, sum(row.rounded for row in inside))

    def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise EngineUnavailable("the memory engine is closed", hint="open the project again")

    def _file_source(self, source: FileSource | SqlSource) -> FileSource:
        self._check_open()
        if isinstance(source, SqlSource):
            raise NotSupported("the memory engine runs no queries of a SqlSource", hint=MEND)
        return source


def _join(plan: PointInTimePlan, join: ViewJoin, labels: pa.Table) -> dict[str, pa.ChunkedArray]:
    """One view's outputs by name."""
    by_name = {c.name: c for c in join.history.view.features}
    rows, values = read_history(join.history, [by_name[feature] for feature, _ in join.outputs])
    of_key: dict[tuple[object, ...], list[Row]] = {}
    for row in sorted(rows, key=lambda r: r.order):
        of_key.setdefault(row.key, []).append(row)
    keys = tuples([comparable(labels.column(name)) for _, name in join.keys], labels.num_rows)
    times = labels.column(LABEL_US).to_pylist()
    limits = labels.column(KNOWN_US).to_pylist() if plan.known_by_column else [plan.known_by_us] * labels.num_rows
    places: list[int | None] = [None] * labels.num_rows
    for number, key, at, limit in zip(labels.column(ROW).to_pylist(), keys, times, limits, strict=True):
        if at is None or (plan.known_by_column and limit is None):
            continue
        winner = _newest_by(of_key.get(key, []), at, limit)
        is_fresh = winner is not None and (join.ttl_us is None or at - winner.event_us <= join.ttl_us)
        if winner is not None and is_fresh and not winner.deleted:
            places[number] = winner.at
    taken = values.take(pa.array(places, pa.int64()))
    return {output: taken.column(i) for i, (_, output) in enumerate(join.outputs)}


def _newest_by(rows: Sequence[Row], at: int, limit: int | None) -> Row | None:
    """The last of one key's rows, which stand in their order, dated at or before `at` and known by `limit`."""
    for row in reversed(rows[: bisect_right(rows, at, key=lambda r: r.event_us)]):
        if limit is None or row.knowledge_us <= limit:
            return row
    return None


def _qualifies(row: Row, window: Window) -> bool:
    if row.event_us > window.end_us or row.knowledge_us > window.known_by_us:
        return False
    if window.start_us is None or row.event_us > window.start_us:
        return True
    if row.event_us == window.start_us and not window.start_exclusive:
        return True
    if (late := window.late) is None:
        return False
    is_push = row.arrival >= PUSH_ARRIVAL
    if late.arrival_after is not None and is_push and row.arrival > late.arrival_after:
        return True
    if late.knowledge_after_us is not None and row.knowledge_us > late.knowledge_after_us:
        return True
    return not is_push and row.arrival // FILE_ROWS_MAX in late.ordinals


def _batch(keys: int, rows: Sequence[Row], values: pa.Table) -> pa.RecordBatch:
    """Rows of `newest`: their keys, features (null where deleted) and order."""
    places = pa.array([row.at for row in rows], pa.int64())
    present = pa.array([None if row.deleted else row.at for row in rows], pa.int64())
    columns = {
        name: values.column(i).take(places if i < keys else present).combine_chunks()
        for i, name in enumerate(values.column_names)
    }
    columns |= {
        EVENT_US: pa.array([row.event_us for row in rows], pa.int64()),
        KNOWLEDGE_US: pa.array([row.knowledge_us for row in rows], pa.int64()),
        ARRIVAL: pa.array([row.arrival for row in rows], pa.int64()),
        DELETED: pa.array([row.deleted for row in rows], pa.bool_()),
    }
    return pa.record_batch(columns)


def _key_of(keys: Sequence[Column], values: Sequence[object]) -> tuple[object, ...]:
    columns = [pa.chunked_array([pa.array([v], to_arrow(k.dtype))]) for k, v in zip(keys, values, strict=True)]
    return tuple(comparable(column)[0] for column in columns)
