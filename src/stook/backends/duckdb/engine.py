"""The `Engine` port on DuckDB.

It is the room's face: the app opens it by URL, offline and ingest run plans on it. It ties the pure parts (pins,
SQL, streams) to a connection, one cursor per call, so that threads may share it. It must never decide which rows
count: that is written in `compile`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from stook.backends.duckdb import compile as sql
from stook.backends.duckdb import describe as shapes
from stook.backends.duckdb.failures import translated
from stook.backends.duckdb.pin import pin_files
from stook.backends.duckdb.scan import parts_of
from stook.backends.duckdb.stream import last_of_runs, regroup, spread
from stook.core.arrow import conform, to_arrow
from stook.core.definitions import FileSource, SqlSource
from stook.core.errors import EngineUnavailable, InvalidSettings, first_line
from stook.core.plans import (
    KNOWN_US,
    LABEL_US,
    ROW,
    Counts,
    History,
    PointInTimePlan,
    SourceSnapshot,
    ViewJoin,
    Window,
)
from stook.core.rows import ARRIVAL, DELETED, EVENT_US, KNOWLEDGE_US
from stook.core.settings import EngineUrl
from stook.core.specs import Column

TEMP_FOLDER: Final = ".stook/tmp"
MEMORY_MIB: Final = "2048"
FETCH_ROWS: Final = 100_000  # rows of one batch that DuckDB hands over
_REREAD_TWICE: Final = ("csv", "sql")  # kinds that are dear to read again: kept for the length of a join
_ORDER_TYPES: Final = {
    EVENT_US: pa.int64(),
    KNOWLEDGE_US: pa.int64(),
    ARRIVAL: pa.int64(),
    DELETED: pa.bool_(),
}


def open_engine(url: EngineUrl, root: Path) -> DuckEngine:
    """The engine of a project at `root`: sources' relative paths start there, and it spills to `.stook/tmp` there.

    Options of the URL: `memory_mib` (2048) before it spills, `threads` (0: one per core). Raises InvalidSettings,
    EngineUnavailable.
    """
    memory_mib = _whole(url, "memory_mib", MEMORY_MIB, least=64)
    threads = _whole(url, "threads", "0", least=0) or len(os.sched_getaffinity(0))
    temp = root / TEMP_FOLDER
    config = {
        "memory_limit": f"{memory_mib}MiB",
        "threads": str(threads),
        "temp_directory": str(temp),
        "file_search_path": str(root),  # for paths that a query computes; written ones are made absolute
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "python_enable_replacements": "false",
    }
    try:
        temp.mkdir(parents=True, exist_ok=True)
        connection = duckdb.connect(":memory:", config=config)
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        # a prefetched row group is one allocation, which fails where it exceeds the memory limit
        connection.execute("SET GLOBAL disable_parquet_prefetching = true")
    except (OSError, duckdb.Error) as error:
        why = first_line(error)
        raise EngineUnavailable(f"DuckDB cannot be opened: {why}", hint=f"can {temp} be written?") from None
    return DuckEngine(connection, root)


def _whole(url: EngineUrl, name: str, default: str, *, least: int) -> int:
    text = url.option(name, default)
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise InvalidSettings(f"{url.text}: {name} is {text!r}", hint=f"a whole number of at least {least}")
    return int(text)


class DuckEngine:
    """Runs plans on DuckDB. Calls may come from several threads; each has a cursor of its own."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, root: Path) -> None:
        self._connection: duckdb.DuckDBPyConnection | None = connection
        self._root = root
        self._lock = threading.Lock()

    def describe(self, source: FileSource | SqlSource) -> tuple[Column, ...]:
        with self._cursor() as cursor:
            return shapes.describe(cursor, source, self._root)

    def pin(
        self, source: FileSource | SqlSource, *, previous: SourceSnapshot | None = None, digests: bool = False
    ) -> SourceSnapshot:
        if isinstance(source, FileSource):
            return pin_files(source, self._root, previous=previous, digests=digests)
        self.describe(source)
        return SourceSnapshot("sql", source.timestamp_field, source.created_timestamp_column, query=source.query)

    def point_in_time(self, plan: PointInTimePlan, labels: pa.Table) -> pa.Table:
        columns: dict[str, pa.ChunkedArray] = {}
        for join in plan.joins:
            with self._cursor() as cursor:
                columns.update(self._join(cursor, plan, join, labels))
        return pa.table(columns)

    def newest(
        self, history: History, window: Window, *, after: Sequence[object] | None = None, batch_rows: int = 100_000
    ) -> Iterator[pa.RecordBatch]:
        view = history.view
        with self._cursor() as cursor, translated(_what(history)):
            self._show(cursor, history, view.features)
            if after is not None:
                resume = {
                    f"key{i}": pa.array([v], to_arrow(k.dtype)) for i, (k, v) in enumerate(_pairs(view.keys, after))
                }
                cursor.register(sql.RESUME, pa.table(resume or {"none": [0]}))
            text = sql.newest_sql(
                len(view.keys), len(view.features), window, ranked=_is_ranked(history), resume=after is not None
            )
            rows = cursor.sql(text).to_arrow_reader(min(batch_rows, FETCH_ROWS))
            runs = last_of_runs(rows, sql.names("key", len(view.keys)))
            for batch in regroup(runs, batch_rows):
                yield _named(batch, history)

    def counts(self, history: History, window: Window) -> Counts:
        with self._cursor() as cursor, translated(_what(history)):
            self._show(cursor, history, ())
            text = sql.counts_sql(len(history.view.keys), window, ranked=_is_ranked(history))
            (found,) = cursor.sql(text).fetchall()
            rows, keys, created, rounded = found
            return Counts(rows, min(rows, keys), created, rounded)

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to the same database, with views and tables of its own."""
        with self._lock:
            if self._connection is None:
                raise EngineUnavailable("the DuckDB engine is closed", hint="open the project again")
            cursor = self._connection.cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    def _show(
        self, cursor: duckdb.DuckDBPyConnection, history: History, features: Sequence[Column], *, keep: bool = False
    ) -> None:
        """Makes the normal form of a history visible to the cursor; `keep` reads it once, into a temporary table."""
        parts = parts_of(cursor, history, self._root)
        text = sql.history_sql(history.view, history.source, parts, features)
        cursor.execute(f"CREATE TEMP {'TABLE' if keep else 'VIEW'} {sql.HISTORY} AS {text}")

    def _join(
        self, cursor: duckdb.DuckDBPyConnection, plan: PointInTimePlan, join: ViewJoin, labels: pa.Table
    ) -> dict[str, pa.ChunkedArray]:
        """One view's outputs by name."""
        history = join.history
        by_name = {c.name: c for c in history.view.features}
        features = [by_name[feature] for feature, _ in join.outputs]
        with translated(_what(history)):
            keep = history.source is not None and history.source.kind in _REREAD_TWICE
            self._show(cursor, history, features, keep=keep)
            cursor.register(sql.LABELS, _labels(join, labels, by_column=plan.known_by_column))
            candidates, tied_on = _candidates(plan, join, labels)
            outputs = sql.names("feature", len(features))
            text = sql.fetch_sql(
                candidates, tied_on, outputs, known_by_us=plan.known_by_us, unique_arrival=not _is_ranked(history)
            )
            reader = cursor.sql(text).to_arrow_reader(FETCH_ROWS)
            schema = pa.schema([reader.schema.field(n) for n in outputs])
            found = spread(reader, "row_id", labels.num_rows, schema)
        where = f"feature view {history.view.name!r}: column "
        return {
            output: conform(found.column(i), feature.dtype, where + repr(feature.name))
            for i, (feature, (_, output)) in enumerate(zip(features, join.outputs, strict=True))
        }


def _candidates(plan: PointInTimePlan, join: ViewJoin, labels: pa.Table) -> tuple[str, list[str]]:
    """The SQL of the join's candidates, and the columns that rows tied with them share."""
    keys = len(join.keys)
    tied_on = [*sql.names("key", keys), "event_us"]
    if not plan.known_by_column:
        return sql.newest_event(keys, join.ttl_us, plan.known_by_us), tied_on
    if not _has_knowledge(join.history):
        limit = "CASE WHEN known_us IS NOT NULL THEN least(label_us, known_us) END"
        return sql.newest_event(keys, join.ttl_us, None, limit=limit), tied_on
    differ = pc.any(pc.not_equal(labels.column(LABEL_US), labels.column(KNOWN_US))).as_py()
    return sql.newest_known(keys, join.ttl_us, limits_differ=bool(differ)), [*tied_on, "knowledge_us"]


def _labels(join: ViewJoin, labels: pa.Table, *, by_column: bool) -> pa.Table:
    columns = {"row_id": labels.column(ROW), "label_us": labels.column(LABEL_US)}
    if by_column:
        columns["known_us"] = labels.column(KNOWN_US)
    for i, (_, label_column) in enumerate(join.keys):
        columns[f"key{i}"] = labels.column(label_column)
    return pa.table(columns)


def _named(batch: pa.RecordBatch, history: History) -> pa.RecordBatch:
    """A batch of `newest` under the user's names, in logical types."""
    view = history.view
    columns = (*view.keys, *view.features)
    where = f"feature view {view.name!r}: column "
    arrays = [
        _one(conform(batch.column(i), column.dtype, where + repr(column.name))) for i, column in enumerate(columns)
    ]
    arrays += [batch.column(len(columns) + i).cast(t) for i, t in enumerate(_ORDER_TYPES.values())]
    return pa.RecordBatch.from_arrays(arrays, names=[*(c.name for c in columns), *_ORDER_TYPES])


def _one(values: pa.ChunkedArray) -> pa.Array:
    return values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()


def _pairs(keys: Sequence[Column], values: Sequence[object]) -> list[tuple[Column, object]]:
    return list(zip(keys, values, strict=True))


def _is_ranked(history: History) -> bool:
    """Whether arrival is a rank among ties, which two rows of one history may share."""
    return history.source is not None and history.source.kind == "sql"


def _has_knowledge(history: History) -> bool:
    """Whether a row may have become known at another time than its event's."""
    created = history.source is not None and history.source.created_timestamp_column is not None
    return created or history.pushed is not None or history.tail is not None


def _what(history: History) -> str:
    return f"the source of feature view {history.view.name!r}"
