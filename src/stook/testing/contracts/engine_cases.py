"""What the engine contract writes and asks: sources, histories, labels, and values that careless paths change.

It is a file of its own because the contract, the property tests and a new engine's own tests all need to lay out a
small history in a line or two. Only tests call it. It must never hold a rule of what an answer should be.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal as PyDecimal
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from stook.core import dtypes
from stook.core.arrow import to_arrow
from stook.core.definitions import FileSource, PushSource, SqlSource
from stook.core.dtypes import Array, Decimal, DType, Map, Struct, Vector
from stook.core.plans import (
    KNOWN_US,
    LABEL_US,
    ROW,
    History,
    PointInTimePlan,
    SourceSnapshot,
    TableSnapshot,
    ViewJoin,
    Window,
)
from stook.core.ports.engine import Engine
from stook.core.rows import ARRIVAL, DELETED, EVENT_US, KNOWLEDGE_US
from stook.core.specs import Column, Schema, ViewSpec
from stook.testing.oracles.pointintime import HistoryRow, Label
from stook.testing.strategies import Case

ALL_TIME: Final = Window(start_us=None, end_us=10**15, known_by_us=10**15)
ORDER_FIELDS: Final = (
    Column(EVENT_US, dtypes.Int64),
    Column(KNOWLEDGE_US, dtypes.Int64),
    Column(ARRIVAL, dtypes.Int64),
    Column(DELETED, dtypes.Bool),
)
CASE_FEATURES: Final = (Column("number", dtypes.Int64), Column("word", dtypes.String))

# each type with values that a careless path would change
EXACT_VALUES: Final[tuple[tuple[DType, list[Any]], ...]] = (
    (dtypes.Bool, [True, False, None]),
    (dtypes.Int8, [-128, 127, None]),
    (dtypes.Int16, [-(2**15), 2**15 - 1, None]),
    (dtypes.Int32, [-(2**31), 2**31 - 1, None]),
    (dtypes.Int64, [-(2**63), 2**63 - 1, 2**53 + 1, None]),
    (dtypes.UInt8, [0, 255, None]),
    (dtypes.UInt16, [0, 2**16 - 1, None]),
    (dtypes.UInt32, [0, 2**32 - 1, None]),
    (dtypes.UInt64, [0, 2**64 - 1, 2**53 + 1, None]),
    (dtypes.Float32, [0.10000000149011612, float("inf"), -0.0, None]),
    (dtypes.Float64, [0.1, float("-inf"), 5e-324, -0.0, None]),
    (dtypes.String, ["", "é", "e\u0301", "a\x00b", "😀" * 50, None]),
    (dtypes.Bytes, [b"", b"\x00\xff", None]),
    (dtypes.Date, [date(1, 1, 1), date(9999, 12, 31), None]),
    (dtypes.Time, [time(0), time(23, 59, 59, 999999), None]),
    (dtypes.Timestamp, [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, UTC), None]),
    (Decimal(38, 10), [PyDecimal("9999999999999999999999999999.0123456789"), PyDecimal("-0.0000000001"), None]),
    (Decimal(5, 0), [PyDecimal(99999), None]),
    (Array(dtypes.Int64), [[1, None, 2**53 + 1], [], None]),
    (Array(Array(dtypes.String)), [[["a", None], [], None], [], None]),
    (Vector(dtypes.Float32, 3), [[1.0, -0.0, 0.10000000149011612], [4.0, 5.0, 6.0], None]),
    (
        Struct({"a": dtypes.Int32, "at": dtypes.Timestamp}),
        [{"a": 1, "at": datetime(2020, 1, 1, tzinfo=UTC)}, {"a": None, "at": None}, None],
    ),
    (Map(dtypes.String, dtypes.Int64), [[("b", 1), ("a", None)], [], None]),
)  # fmt: skip

# how a table of ours may hold a logical type that Delta does not know
PHYSICAL: Final[tuple[tuple[DType, pa.DataType, list[Any], list[Any]], ...]] = (
    (dtypes.UInt8, pa.int16(), [0, 255, None], [0, 255, None]),
    (dtypes.UInt32, pa.int64(), [0, 2**32 - 1, None], [0, 2**32 - 1, None]),
    (
        dtypes.UInt64,
        pa.decimal128(20, 0),
        [PyDecimal(2**64 - 1), PyDecimal(0), None],
        [2**64 - 1, 0, None],
    ),
    (dtypes.Time, pa.int64(), [0, 86_399_999_999, None], [time(0), time(23, 59, 59, 999999), None]),
    (Vector(dtypes.Float32, 2), pa.list_(pa.float32()), [[1.0, 2.0], None, [3.0, 4.0]], [[1.0, 2.0], None, [3.0, 4.0]]),
    (Array(dtypes.UInt64), pa.list_(pa.decimal128(20, 0)), [[PyDecimal(2**64 - 1)], [], None], [[2**64 - 1], [], None]),
    (Array(dtypes.Time), pa.list_(pa.int64()), [[1, None], [], None], [[time(0, 0, 0, 1), None], [], None]),
    (
        Struct({"t": dtypes.Time, "n": dtypes.UInt8}),
        pa.struct([("t", pa.int64()), ("n", pa.int16())]),
        [{"t": 1, "n": 255}, {"t": None, "n": None}, None],
        [{"t": time(0, 0, 0, 1), "n": 255}, {"t": None, "n": None}, None],
    ),
    (
        Map(dtypes.String, dtypes.Time),
        pa.map_(pa.string(), pa.int64()),
        [[("a", 1)], [], None],
        [[("a", time(0, 0, 0, 1))], [], None],
    ),
    (dtypes.Timestamp, pa.timestamp("us"), [0, 1, None], [datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, 0, 0, 0, 1, UTC), None]),
)  # fmt: skip


def view_of(
    keys: Sequence[Column],
    features: Sequence[Column],
    source: FileSource | SqlSource | PushSource,
    *,
    name: str = "stats",
) -> ViewSpec:
    """A view as the registry would resolve it."""
    ordered = tuple(sorted(keys, key=lambda c: c.name))
    return ViewSpec(name, "uid", (), ordered, (Schema(1, tuple(features)),), source, None)


def join_of(history: History, *, ttl_us: int | None = None, prefix: str = "", rename: str = "") -> ViewJoin:
    """A join of every feature, its keys found under their own names (or `rename` put before)."""
    view = history.view
    keys = tuple((c.name, rename + c.name) for c in view.keys)
    return ViewJoin(history, keys, tuple((c.name, prefix + c.name) for c in view.features), ttl_us)


def labels_of(keys: Sequence[Column], labels: Sequence[Label]) -> pa.Table:
    """A label table, with each label's own limit of knowledge."""
    columns: dict[str, pa.Array] = {
        ROW: pa.array(range(len(labels)), pa.int64()),
        LABEL_US: pa.array([label.label_us for label in labels], pa.int64()),
        KNOWN_US: pa.array([label.known_us for label in labels], pa.int64()),
    }
    for i, column in enumerate(keys):
        columns[column.name] = pa.array([label.key[i] for label in labels], to_arrow(column.dtype))
    return pa.table(columns)


def rows_table(
    keys: Sequence[Column], features: Sequence[Column], rows: Sequence[HistoryRow], *, ours: bool, created: bool = False
) -> pa.Table:
    """History rows as a table: with the four order columns when `ours`, else with `at` and perhaps `created`."""
    columns: dict[str, pa.Array] = {}
    for i, column in enumerate(keys):
        columns[column.name] = pa.array([row.key[i] for row in rows], to_arrow(column.dtype))
    for i, column in enumerate(features):
        columns[column.name] = pa.array([row.values[i] for row in rows], to_arrow(column.dtype))
    event = pa.array([row.event_us for row in rows], pa.int64())
    knowledge = pa.array([row.knowledge_us for row in rows], pa.int64())
    if ours:
        columns |= {
            EVENT_US: event,
            KNOWLEDGE_US: knowledge,
            ARRIVAL: pa.array([row.arrival for row in rows], pa.int64()),
            DELETED: pa.array([row.deleted for row in rows], pa.bool_()),
        }
    else:
        columns["at"] = event.cast(pa.timestamp("us", "UTC"))
        if created:
            columns["created"] = knowledge.cast(pa.timestamp("us", "UTC"))
    return pa.table(columns)


def lay_out(case: Case, folder: Path, engine: Engine) -> History:
    """A drawn case as files: its source files, files of our table, and a tail."""
    keys = tuple(Column(f"k{i}", dtype) for i, dtype in enumerate(case.keys))
    source = FileSource(
        str(folder / "f*.parquet"),
        timestamp_field="at",
        created_timestamp_column="created" if case.created else None,
    )
    view = view_of(keys, CASE_FEATURES, source)
    blank = SourceSnapshot("parquet", "at", None)
    for i, rows in enumerate(case.files):
        table = rows_table(keys, CASE_FEATURES, rows, ours=False, created=case.created)
        pq.write_table(table, folder / f"f{i}.parquet", row_group_size=3)
    pinned = engine.pin(source) if case.files else blank
    spread = SourceSnapshot(
        pinned.kind,
        pinned.timestamp_field,
        pinned.created_timestamp_column,
        tuple(type(f)(f.path, f.size_bytes, f.mtime_ns, 2 * i) for i, f in enumerate(pinned.files)),
    )
    paths = []
    for i, rows in enumerate(case.pushed):
        paths.append(str(folder / f"pushed{i}.parquet"))
        pq.write_table(rows_table(keys, CASE_FEATURES, rows, ours=True), paths[-1])
    pushed = TableSnapshot("pushed", 1, tuple(paths), (*keys, *CASE_FEATURES, *ORDER_FIELDS)) if paths else None
    return History(view, spread, pushed, rows_table(keys, CASE_FEATURES, case.tail, ours=True))


KEY: Final = Column("driver", dtypes.Int64)
NUMBER: Final = Column("trips", dtypes.Int64)


def instants(values: Sequence[int | None]) -> pa.Array:
    """Microseconds as timestamps."""
    return pa.array(values, pa.int64()).cast(pa.timestamp("us", "UTC"))


def write(path: Path, rows: Sequence[tuple[int | None, ...]]) -> None:
    """A Parquet file of (driver, at, trips) rows, or (driver, at, trips, created)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(zip(*rows, strict=True))
    table = pa.table({
        "driver": pa.array(columns[0], pa.int64()), "at": instants(columns[1]), "trips": pa.array(columns[2], pa.int64()),
    })  # fmt: skip
    if len(columns) > 3:
        table = table.append_column("created", instants(columns[3]))
    pq.write_table(table, path)


def of_source(
    engine: Engine,
    source: FileSource | SqlSource,
    *,
    keys: Sequence[Column] = (KEY,),
    features: Sequence[Column] = (NUMBER,),
) -> History:
    """The history of a view over a source, pinned now."""
    return History(view_of(keys, features, source), engine.pin(source))


def simple(engine: Engine, root: Path, rows: Sequence[tuple[int | None, ...]]) -> History:
    """The history of a view over one file of (driver, at, trips) rows."""
    write(root / "simple.parquet", rows)
    return of_source(engine, FileSource("simple.parquet", timestamp_field="at"))


def run(
    engine: Engine, plan: PointInTimePlan, labels: Sequence[Label], *, keys: Sequence[Column] = (KEY,)
) -> list[object]:
    """The values of a plan's only output."""
    answer = engine.point_in_time(plan, labels_of(keys, labels))
    return answer.column(0).to_pylist()


def joined(
    engine: Engine, history: History, labels: Sequence[tuple[int | None, int | None]], *, ttl_us: int | None = None
) -> list[object]:
    """The values of the view's only feature for (driver, label time) pairs."""
    plan = PointInTimePlan((join_of(history, ttl_us=ttl_us),))
    return run(engine, plan, [Label((key,), at) for key, at in labels])


def newest_keys(engine: Engine, history: History, window: Window) -> list[object]:
    """The keys that a window reads."""
    return [key for batch in engine.newest(history, window) for key in batch.column(0).to_pylist()]


def same_bits(found: pa.Array, expected: pa.Array) -> bool:
    """Equal in type, nulls and values; minus zero is not zero."""
    return found.type == expected.type and repr(found.to_pylist()) == repr(expected.to_pylist())
