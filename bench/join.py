"""The point-in-time join beside a hand-written query with the same rules, and beside a naive ASOF join.

Run `python bench/join.py [--large]`. Each line is the best of three, on warm files, in the same process and with
the same threads and memory. The hand-written query decides ties by file position in one packed order key, applies
the ttl and restores the order of the labels; the naive one leaves ties to the engine and has no ttl.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stook.backends.duckdb.engine import DuckEngine, open_engine
from stook.core import dtypes
from stook.core.definitions import FileSource, SqlSource
from stook.core.plans import KNOWN_US, LABEL_US, ROW, History, PointInTimePlan, ViewJoin, Window
from stook.core.settings import parse_url
from stook.core.specs import Column, Schema, ViewSpec

FEATURES = 10
TTL_US = 30 * 86_400 * 1_000_000
START_US, SPAN_US = 1_600_000_000_000_000, 31_536_000_000_000
REPEATS = 3
MEMORY_MIB = 2048
SIZES = {"small": (50_000, 1_000_000, 10_000), "large": (1_000_000, 10_000_000, 100_000)}


def generate(folder: Path, labels: int, rows: int, keys: int) -> None:
    """History of uniform keys and times in no order, with a created column, and labels in no order."""
    features = ", ".join(f"hash(i * {j + 3}) / 1.8e19 AS f{j}" for j in range(FEATURES))
    at = f"{START_US} + (hash(i * 7 + 1) % {SPAN_US})::BIGINT"
    with duckdb.connect() as db:
        db.execute(
            f"""COPY (SELECT (hash(i) % {keys})::BIGINT AS k, make_timestamp({at}) AS ts,
                make_timestamp({at} + (hash(i * 11) % 100000000000)::BIGINT) AS created, {features}
            FROM range({rows}) AS t(i)) TO '{folder}/history.parquet'"""
        )
        db.execute(
            f"""COPY (SELECT i AS {ROW}, (hash(i * 13 + 5) % {keys})::BIGINT AS k,
                {START_US} + (hash(i * 17 + 1) % {SPAN_US})::BIGINT AS {LABEL_US}, {LABEL_US} AS {KNOWN_US}
            FROM range({labels}) AS t(i)) TO '{folder}/labels.parquet'"""
        )


def naive(folder: Path) -> str:
    """Ties are the engine's to decide."""
    features = ", ".join(f"h.f{j}" for j in range(FEATURES))
    return f"""SELECT {features} FROM labels AS l
        ASOF LEFT JOIN (SELECT *, epoch_us(ts) AS e FROM read_parquet('{folder}/history.parquet')) AS h
        ON l.k = h.k AND l.{LABEL_US} >= h.e ORDER BY l.{ROW}"""


def by_hand(folder: Path) -> str:
    """What a careful author would write: one order key of event time and position."""
    features = ", ".join(f"CASE WHEN l.{LABEL_US} - h.e <= {TTL_US} THEN h.f{j} END AS f{j}" for j in range(FEATURES))
    return f"""SELECT {features} FROM labels AS l
        ASOF LEFT JOIN (
            SELECT *, epoch_us(ts) AS e, (epoch_us(ts)::HUGEINT << 64) | file_row_number AS o
            FROM read_parquet('{folder}/history.parquet')
        ) AS h
        ON l.k = h.k AND ((l.{LABEL_US}::HUGEINT << 64) | 9223372036854775807) >= h.o ORDER BY l.{ROW}"""


def history_of(engine: DuckEngine, source: FileSource | SqlSource) -> History:
    """A view of all features over a source."""
    features = tuple(Column(f"f{j}", dtypes.Float64) for j in range(FEATURES))
    keys = (Column("k", dtypes.Int64),)
    view = ViewSpec("bench", "uid", (), keys, (Schema(1, features),), source, TTL_US)
    return History(view, engine.pin(source))


def join_of(history: History) -> ViewJoin:
    """A join of all features."""
    return ViewJoin(history, (("k", "k"),), tuple((c.name, c.name) for c in history.view.features), TTL_US)


def best(what: str, rows: int, work: Callable[[], object]) -> None:
    """Prints the best of several runs."""
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    print(f"{what:<44}{min(seconds):8.2f} s {rows / min(seconds) / 1000:10,.0f} k rows/s", flush=True)


def drain(engine: DuckEngine, history: History) -> int:
    """Reads the newest rows to the end."""
    return sum(batch.num_rows for batch in engine.newest(history, Window(None, 1 << 60, 1 << 60)))


def measure(folder: Path, labels_count: int, rows: int, keys: int) -> None:
    """One size, all contenders."""
    print(f"\n{labels_count:,} labels x {rows:,} rows x {FEATURES} features, {keys:,} keys")
    generate(folder, labels_count, rows, keys)
    labels = pq.read_table(folder / "labels.parquet")
    engine = open_engine(parse_url(f"duckdb:?memory_mib={MEMORY_MIB}", folder, "bench"), folder)
    db = duckdb.connect(config={"memory_limit": f"{MEMORY_MIB}MiB", "temp_directory": str(folder / "tmp")})
    db.execute("SET TimeZone = 'UTC'")
    db.register("labels", labels)
    path = str(folder / "history.parquet")
    plain = join_of(history_of(engine, FileSource(path, "ts")))
    created = join_of(history_of(engine, FileSource(path, "ts", created_timestamp_column="created")))
    query = join_of(history_of(engine, SqlSource(f"SELECT * FROM '{path}'", "ts")))
    plans = {
        "stook": PointInTimePlan((plain,)),
        "stook, created column": PointInTimePlan((created,)),
        "stook, known by an instant": PointInTimePlan((created,), known_by_us=START_US + SPAN_US // 2),
        "stook, known by each label's own time": PointInTimePlan((created,), known_by_column=True),
        "stook, SqlSource": PointInTimePlan((query,)),
    }
    apart = labels.set_column(
        labels.column_names.index(KNOWN_US), KNOWN_US, pc.subtract(labels.column(LABEL_US), 3_600_000_000)
    )
    best("naive ASOF, ties undefined, no ttl", labels_count, lambda: db.sql(naive(folder)).to_arrow_table())
    best("by hand, same rules", labels_count, lambda: db.sql(by_hand(folder)).to_arrow_table())
    for what, plan in plans.items():
        best(what, labels_count, lambda plan=plan: engine.point_in_time(plan, labels))  # type: ignore[misc]
    best(
        "stook, known by a column apart",
        labels_count,
        lambda: engine.point_in_time(PointInTimePlan((created,), known_by_column=True), apart),
    )
    best("newest row of each key (rows read)", rows, lambda: drain(engine, plain.history))
    engine.close()
    db.close()


def main() -> None:
    """Generates into a temporary folder and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="1 M labels x 10 M rows as well (1 GB of files)")
    large = parser.parse_args().large
    print(f"DuckDB {duckdb.__version__}, {os.cpu_count()} cores, {MEMORY_MIB} MiB; best of {REPEATS}")
    for size in ("small", "large") if large else ("small",):
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), *SIZES[size])


if __name__ == "__main__":
    main()
