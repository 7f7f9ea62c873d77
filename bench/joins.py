"""Point-in-time joins beside a query written by hand with the same rules, a naive ASOF, Polars and Feast, with memory.

It is a file of its own because each contender runs in a process of its own, so that its peak of memory is its own:
`run.py` calls `measure`, which starts this file again as `python joins.py CONTENDER FOLDER`. The query by hand decides ties
by file position in one packed order key, applies the ttl and restores the order of the labels; the naive one leaves ties
to the engine, and has neither ttl nor order of ties.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

import stook
from measuring import Figure, Plan

HERE = Path(__file__).resolve().parent
FEATURES = 10
TTL_US = 30 * 86_400 * 1_000_000
START_US, SPAN_US = 1_600_000_000_000_000, 31_536_000_000_000
CLOCK = "2022-01-01T00:00:00Z"
MEMORY_MIB = 2_048
HAND, NAIVE, POLARS, FEAST = "by hand", "naive ASOF", "Polars join_asof", "Feast on DuckDB"
# labels, rows, keys, whether Feast is asked (its time grows with labels x history)
SHAPES = {
    "10 k keys x 100": (50_000, 1_000_000, 10_000, True),
    "1 k keys x 1,000": (20_000, 1_000_000, 1_000, True),
    "100 k keys x 100": (1_000_000, 10_000_000, 100_000, False),
}
NAMES = [f"f{j}" for j in range(FEATURES)]


def generate(folder: Path, labels: int, rows: int, keys: int) -> None:
    """History of uniform keys and times in no order, with a created column, and labels in no order."""
    folder.mkdir(parents=True)
    features = ", ".join(f"hash(i * {j + 3}) / 1.8e19 AS f{j}" for j in range(FEATURES))
    at = f"{START_US} + (hash(i * 7 + 1) % {SPAN_US})::BIGINT"
    label = f"{START_US} + (hash(i * 17 + 1) % {SPAN_US})::BIGINT"
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        db.execute(
            f"""COPY (SELECT (hash(i) % {keys})::BIGINT AS user_id, make_timestamptz({at}) AS event_timestamp,
                make_timestamptz({at} + (hash(i * 11) % 100000000000)::BIGINT) AS created, {features}
            FROM range({rows}) AS t(i)) TO '{folder}/history.parquet'"""
        )
        db.execute(
            f"""COPY (SELECT (hash(i * 13 + 5) % {keys})::BIGINT AS user_id, make_timestamptz({label}) AS event_timestamp
            FROM range({labels}) AS t(i)) TO '{folder}/labels.parquet'"""
        )
    fields = ", ".join(f'Field("f{j}", Float64)' for j in range(FEATURES))
    (folder / "stook.toml").write_text(f'[project]\nname = "joins"\n[limits]\nmemory_mib = {MEMORY_MIB}\n')
    (folder / "features.py").write_text(
        "from datetime import timedelta\n"
        "from stook import Entity, FeatureView, Field, FileSource, Float64, Int64\n"
        'user = Entity("user", join_keys={"user_id": Int64})\n'
        f'history = FeatureView("history", entities=[user], source=FileSource("history.parquet"), schema=[{fields}],\n'
        "                      ttl=timedelta(days=30))\n"
        'known = FeatureView("known", entities=[user], ttl=timedelta(days=30), schema=['
        f'{fields}],\n    source=FileSource("history.parquet", created_timestamp_column="created"))\n'
    )


def naive(folder: Path) -> str:
    """Ties are the engine's to decide."""
    features = ", ".join(f"h.{name}" for name in NAMES)
    return f"""SELECT l.*, {features} FROM labels AS l
        ASOF LEFT JOIN (SELECT *, epoch_us(event_timestamp) AS e FROM read_parquet('{folder}/history.parquet')) AS h
        ON l.user_id = h.user_id AND epoch_us(l.event_timestamp) >= h.e"""


def by_hand(folder: Path) -> str:
    """What a careful author would write: one order key of event time and position."""
    features = ", ".join(
        f"CASE WHEN epoch_us(l.event_timestamp) - h.e <= {TTL_US} THEN h.{name} END AS {name}" for name in NAMES
    )
    return f"""SELECT l.user_id, l.event_timestamp, {features} FROM labels AS l
        ASOF LEFT JOIN (
            SELECT *, epoch_us(event_timestamp) AS e, (epoch_us(event_timestamp)::HUGEINT << 64) | file_row_number AS o
            FROM read_parquet('{folder}/history.parquet', file_row_number = true)
        ) AS h
        ON l.user_id = h.user_id AND ((epoch_us(l.event_timestamp)::HUGEINT << 64) | 9223372036854775807) >= h.o
        ORDER BY l.row"""


def with_duckdb(folder: Path, labels: pa.Table, query: str) -> Callable[[], pa.Table]:
    """Runs a query over the labels, numbered, with the memory that ours has."""
    db = duckdb.connect(config={"memory_limit": f"{MEMORY_MIB}MiB", "temp_directory": str(folder / "tmp")})
    db.execute("SET TimeZone = 'UTC'")
    numbered = labels.append_column("row", pa.array(range(len(labels)), pa.int64()))
    db.register("labels", numbered)
    return lambda: db.sql(query).to_arrow_table()


def with_polars(folder: Path, labels: pa.Table) -> Callable[[], pa.Table]:
    """Sorts both sides, as join_asof needs, and restores the labels' order; the ttl is its tolerance."""
    import polars as pl

    frame = pl.from_arrow(labels)

    def run() -> pa.Table:
        history = pl.scan_parquet(folder / "history.parquet").select("user_id", "event_timestamp", *NAMES)
        left = frame.lazy().with_row_index("row").sort("event_timestamp", maintain_order=True)
        joined = left.join_asof(
            history.sort("event_timestamp", maintain_order=True),
            on="event_timestamp",
            by="user_id",
            tolerance="30d",
            check_sortedness=False,
        )
        return joined.sort("row").collect().to_arrow()

    return run


def contender(name: str, folder: Path) -> Callable[[], pa.Table]:
    """A join, ready to be run."""
    labels = pq.read_table(folder / "labels.parquet")
    if name == HAND:
        return with_duckdb(folder, labels, by_hand(folder))
    if name == NAIVE:
        return with_duckdb(folder, labels, naive(folder))
    if name == POLARS:
        return with_polars(folder, labels)
    p = stook.open(folder, clock=CLOCK)
    p.apply()
    view = "history" if name == "stook" else "known"
    known = {"as_known_at": "known_at"} if name == "stook, known by a column" else {}
    if known:
        hour = pa.array([3_600_000_000] * len(labels), pa.duration("us"))
        labels = labels.append_column("known_at", pa.compute.subtract(labels.column("event_timestamp"), hour))
    return lambda: p.get_historical_features(labels, [f"{view}:{f}" for f in NAMES], **known).to_arrow()


def peak_mib() -> float:
    """The most memory that this process has had resident; what `getrusage` says comes down from whoever started it."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def run_one(name: str, folder: Path) -> None:
    """Runs a join on warm files; prints seconds, peak memory in MiB, rows, and the sum of a column to compare by."""
    call = contender(name, folder)
    started = time.perf_counter()
    table = call()
    seconds = time.perf_counter() - started
    peak = peak_mib()
    found = table.column("f3")
    check = [len(found) - found.null_count, round(pa.compute.sum(found).as_py() or 0, 3)]
    print(json.dumps([seconds, peak, check]))


def asked(name: str, folder: Path) -> list[Any]:
    """The same from a process of its own."""
    command = [sys.executable, __file__, name, str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    answer: list[Any] = json.loads(done.stdout)
    return answer


def ask_feast(folder: Path) -> list[Any]:
    """Feast's own process: its DuckDB store."""
    from peers.environments import FEAST_PYTHON, Child, feast_surroundings

    child = Child(FEAST_PYTHON, HERE / "peers" / "time_feast.py", feast_surroundings())
    try:
        child.ask(
            "open", name="join", folder=str(folder / "feast"), online="sqlite", offline="duckdb",
            file=str(folder / "history.parquet"), features=NAMES, ttl_days=30,
        )  # fmt: skip
        answer: list[Any] = child.ask("join", name="join", labels=str(folder / "labels.parquet"))
    finally:
        child.close()
    return answer


def measure(plan: Plan) -> list[Figure]:
    """Every shape."""
    shapes = dict(list(SHAPES.items())[:1]) if plan.quick else SHAPES
    figures = []
    for shape, (labels, rows, keys, with_feast) in shapes.items():
        folder = plan.folder / f"joins-{keys}"
        generate(folder, labels, rows, keys)
        figures += _shape(plan, folder, f"{labels:,} labels x {rows:,} rows x {FEATURES}, {shape}", with_feast)
    return figures


def _shape(plan: Plan, folder: Path, what: str, with_feast: bool) -> list[Figure]:
    names = (
        ["stook", HAND]
        if plan.quick
        else ["stook", HAND, NAIVE, POLARS, "stook, created column", "stook, known by a column"]
    )
    rounds = min(plan.rounds, 3)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    memory: dict[str, list[float]] = {name: [] for name in names}
    checks: dict[str, Any] = {}
    for _ in range(rounds):
        for name in names:
            taken, peak, checks[name] = asked(name, folder)
            seconds[name].append(taken)
            memory[name].append(peak)
    assert checks["stook"] == checks[HAND], checks
    if plan.peers and with_feast:
        for _ in range(min(rounds, 2)):
            taken, peak = ask_feast(folder)
            seconds.setdefault(FEAST, []).append(taken)
            memory.setdefault(FEAST, []).append(peak)
    others = [name for name in seconds if not name.startswith("stook")]
    plain = {name: seconds[name] for name in ("stook", *others)}
    aim = ">= 0.9x by hand; >= 5x Feast on DuckDB" if with_feast else ">= 0.9x by hand"
    figures = [
        Figure(f"join {what}", plain, "s", (HAND, NAIVE), aim),
        Figure(f"peak memory of {what}", {n: memory[n] for n in plain}, "MiB", (HAND, NAIVE, POLARS, FEAST), "<= 1.2x by hand"),
    ]  # fmt: skip
    for name in names:
        if name.startswith("stook,"):
            limits = {"stook": seconds[name], "without it": seconds["stook"]}
            note = f"{what}: {name.partition(', ')[2]}"
            figures.append(Figure(f"join {note}", limits, "s", ("without it",)))
            peaks = {"stook": memory[name], "without it": memory["stook"]}
            figures.append(Figure(f"peak memory of {note}", peaks, "MiB", ("without it",)))
    return figures


if __name__ == "__main__":
    run_one(sys.argv[1], Path(sys.argv[2]))
