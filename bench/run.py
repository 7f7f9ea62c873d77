"""The speed that the README quotes, measured on this machine through the public interface.

`make bench` runs it: each figure is the median of several interleaved rounds, each beside its limit in the same run
(the raw store, a hand-written query), and the table is written into docs/benchmarks.md with hardware and versions.
It is no test: figures depend on the machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import duckdb
import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import stook

HERE = Path(__file__).resolve().parent
REPORT = HERE.parent / "docs" / "benchmarks.md"
README = HERE.parent / "README.md"
MARKS = ("<!-- figures:begin -->", "<!-- figures:end -->")
IN_README = ("import stook", "stook --help", "materialize", "prepared read, 1 x 50 over 1 view", "prepared read, 1000 x 50 over 1 view", "point-in-time", "push of one")  # fmt: skip
DAY_US = 86_400_000_000
START_US = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1e6)
CLOCK = "2024-06-01T00:00:00Z"
ROUNDS = 5

FEATURES = """
from datetime import timedelta
from stook import Entity, FeatureService, FeatureView, Field, FileSource, Float64, Int64, PushSource
user = Entity("user", join_keys={"user_id": Int64})
ten = FeatureView("ten", entities=[user], source=FileSource("ten.parquet"), ttl=timedelta(days=400),
                  schema=[Field(f"t{i}", Float64) for i in range(10)])
fifty = FeatureView("fifty", entities=[user], source=FileSource("fifty.parquet"), ttl=timedelta(days=400),
                    schema=[Field(f"f{i}", Float64) for i in range(50)])
fives = [FeatureView(f"five{n}", entities=[user], source=FileSource("fifty.parquet"), ttl=timedelta(days=400),
                     schema=[Field(f"f{i}", Float64) for i in range(n * 10, n * 10 + 10)]) for n in range(5)]
five0, five1, five2, five3, five4 = fives
history = FeatureView("history", entities=[user], source=FileSource("history.parquet"), ttl=timedelta(days=30),
                      schema=[Field(f"h{i}", Float64) for i in range(10)])
pushed = FeatureView("pushed", entities=[user], source=PushSource("clicks"), schema=[Field("clicks", Int64)])
one_view = FeatureService("one_view", [fifty])
five_views = FeatureService("five_views", fives)
"""

# The same tie, ttl and order rules as ours: equal event times are decided by the later row of the file.
BY_HAND = """
WITH f AS (SELECT user_id, (epoch_us(event_timestamp)::HUGEINT << 64) + file_row_number AS packed,
                  epoch_us(event_timestamp) AS event_us, {features} FROM read_parquet('{path}', file_row_number = true))
SELECT {kept} FROM labels l ASOF LEFT JOIN f
  ON l.user_id = f.user_id AND (l.label_us::HUGEINT << 64) + 18446744073709551615 >= f.packed
ORDER BY l.row
"""


def table(rows: int, entities: np.ndarray[Any, Any], prefix: str, features: int, days: int) -> pa.Table:
    """Random doubles for entities at times within `days`."""
    random = np.random.default_rng(rows + features)
    times = START_US + random.integers(0, days * DAY_US, rows)
    columns: dict[str, Any] = {
        "user_id": entities,
        "event_timestamp": pa.array(times).cast(pa.timestamp("us", tz="UTC")),
    }
    columns |= {f"{prefix}{i}": random.normal(size=rows) for i in range(features)}
    return pa.table(columns)


def make_project(root: Path, scale: int) -> None:
    """Three sources: many entities of ten doubles, fewer of fifty, and a long history."""
    (root / "stook.toml").write_text('[project]\nname = "bench"\n')
    (root / "features.py").write_text(FEATURES)
    random = np.random.default_rng(7)
    pq.write_table(table(scale, np.arange(scale), "t", 10, 100), root / "ten.parquet")
    pq.write_table(table(scale // 10, np.arange(scale // 10), "f", 50, 100), root / "fifty.parquet")
    pq.write_table(table(scale, random.integers(0, scale // 100, scale), "h", 10, 100), root / "history.parquet")


def interleaved(cases: dict[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds of each case, taken in turn so that the machine's moods fall on all alike."""
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for case in cases.values():
        case()
    for _ in range(rounds):
        for name, case in cases.items():
            started = time.perf_counter()
            case()
            taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in taken.items()}


def percentile(call: Callable[[], Any], calls: int) -> tuple[float, float]:
    """p50 and p99 of one call, in microseconds."""
    for _ in range(50):
        call()
    taken = np.empty(calls)
    for number in range(calls):
        started = time.perf_counter_ns()
        call()
        taken[number] = time.perf_counter_ns() - started
    p50, p99 = np.percentile(taken / 1000, [50, 99])
    return float(p50), float(p99)


def measure_materialize(p: Any, root: Path, scale: int) -> list[list[str]]:
    """Full loads into new generations, beside LMDB loaded with rows of the same size and durability."""
    value = b"x" * (32 + 2 + 80)
    chunk = 100_000

    def raw() -> None:
        with tempfile.TemporaryDirectory(dir=root) as folder, lmdb.open(folder, map_size=1 << 36) as env:
            for first in range(0, scale, chunk):
                rows = [(number.to_bytes(12, "big"), value) for number in range(first, min(first + chunk, scale))]
                with env.begin(write=True) as txn:
                    txn.cursor().putmulti(rows, append=True)

    p.materialize(None, CLOCK, ["ten"])
    cases = {"ours": lambda: p.materialize(None, CLOCK, ["ten"], replace=True), "raw": raw}
    seconds = interleaved(cases, 3)
    ours, limit = scale / seconds["ours"], scale / seconds["raw"]
    text = f"{ours:,.0f} rows/s"
    return [[f"materialize {scale:,} entities, 10 doubles, Parquet to online", text, f"{limit:,.0f} rows/s raw LMDB", f"{ours / limit:.2f}x", ">= 100,000 rows/s"]]  # fmt: skip


def measure_reads(p: Any, scale: int) -> list[list[str]]:
    """Prepared reads of fifty doubles over one view and five."""
    p.materialize(None, CLOCK, ["fifty", *(f"five{n}" for n in range(5))])
    entities = scale // 10
    random = np.random.default_rng(3)
    rows = []
    targets = {(1, "one_view"): "<= 80 us", (1000, "one_view"): "<= 15 ms"}
    for service, views in (("one_view", 1), ("five_views", 5)):
        read = p.prepare(service)
        for count in (1, 10, 100, 1000):
            picks = [random.integers(0, entities, count).tolist() for _ in range(64)]
            turn = iter(range(10**9))
            if count <= 10:
                call = lambda: read({"user_id": picks[next(turn) % 64]}).to_dict()  # noqa: B023, E731
                way = "to_dict"
            else:
                call = lambda: read({"user_id": picks[next(turn) % 64]}).to_arrow()  # noqa: B023, E731
                way = "to_arrow"
            p50, p99 = percentile(call, 3_000 if count <= 10 else 300)
            what = f"prepared read, {count} x 50 over {views} view{'s' if views > 1 else ''}, {way}"
            rows.append([what, f"p50 {p50:,.0f} us", f"p99 {p99:,.0f} us", "", targets.get((count, service), "")])
    return rows


def measure_join(p: Any, root: Path, scale: int) -> list[list[str]]:
    """A point-in-time join beside the same rules written by hand."""
    labels = scale // 20
    random = np.random.default_rng(5)
    times = START_US + random.integers(10 * DAY_US, 120 * DAY_US, labels)
    users = random.integers(0, scale // 100, labels)
    frame = pa.table({"user_id": users, "event_timestamp": pa.array(times).cast(pa.timestamp("us", tz="UTC"))})
    typed = pa.table({"row": np.arange(labels), "user_id": users, "label_us": times})
    names = [f"h{i}" for i in range(10)]
    kept = ", ".join(f"CASE WHEN l.label_us - f.event_us <= {30 * DAY_US} THEN f.{n} END AS {n}" for n in names)
    query = BY_HAND.format(features=", ".join(names), kept=kept, path=root / "history.parquet")
    connection = duckdb.connect(config={"threads": os.cpu_count() or 1})
    connection.register("labels", typed)

    def ours() -> pa.Table:
        return p.get_historical_features(frame, [f"history:{n}" for n in names]).to_arrow()

    def by_hand() -> pa.Table:
        return connection.sql(query).to_arrow_table()

    assert ours().select(names).equals(by_hand())
    seconds = interleaved({"ours": ours, "by hand": by_hand})
    ratio = seconds["ours"] / seconds["by hand"]
    what = f"point-in-time join, {labels:,} labels x {scale:,} rows x 10"
    return [[what, f"{seconds['ours']:.2f} s", f"{seconds['by hand']:.2f} s by hand", f"{ratio:.2f}x", "<= 1.3x"]]


def measure_push(p: Any) -> list[list[str]]:
    """One row a push, durable and visible when it returns; and a thousand rows a push."""
    turn = iter(range(10**9))
    one = percentile(lambda: p.push("pushed", {"user_id": [next(turn)], "clicks": [1]}), 300)
    batch = pa.table({"user_id": np.arange(1_000), "clicks": np.ones(1_000, dtype=np.int64)})
    many = percentile(lambda: p.push("pushed", batch), 50)
    return [
        ["push of one row", f"p50 {one[0] / 1e3:.2f} ms", f"p99 {one[1] / 1e3:.2f} ms", "", ""],
        ["push of 1,000 rows", f"p50 {many[0] / 1e3:.2f} ms", f"p99 {many[1] / 1e3:.2f} ms", "", ""],
    ]


def measure_start() -> list[list[str]]:
    """Start-up, as whole processes: median of eleven."""
    cases = {
        "import stook": ([sys.executable, "-c", "import stook"], "< 0.2 s"),
        "stook --help": ([str(Path(sys.executable).parent / "stook"), "--help"], "< 0.4 s"),
        "(python -c pass)": ([sys.executable, "-c", "pass"], ""),
    }
    runs = {
        name: lambda command=command: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for name, (command, _) in cases.items()
    }
    seconds = interleaved(runs, 11)
    return [[name, f"{seconds[name]:.3f} s", "", "", target] for name, (_, target) in cases.items()]


def machine() -> str:
    """Hardware and versions."""
    cpu = (
        re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        if Path("/proc/cpuinfo").exists()
        else None
    )
    libraries = ", ".join(f"{name} {version(name)}" for name in ("stook", "pyarrow", "duckdb", "lmdb", "numpy"))
    name = cpu.group(1) if cpu else platform.processor()
    return f"{os.cpu_count()} cores, {name}; Python {platform.python_version()}; {libraries}."


def main() -> None:
    """Measures, prints, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=int, default=1_000_000, help="rows of the largest source")
    parser.add_argument("--no-write", action="store_true", help="only print")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_project(root, options.scale)
        with stook.open(root, clock=CLOCK) as p:
            p.apply()
            rows = measure_start()
            rows += measure_materialize(p, root, options.scale)
            rows += measure_reads(p, options.scale)
            rows += measure_join(p, root, options.scale)
            rows += measure_push(p)
    table_text = as_table(rows)
    print(f"{machine()}\n\n{table_text}")
    if not options.no_write:
        write_between_marks(REPORT, f"{machine()}\n\n{table_text}")
        chosen = as_table([row for row in rows if row[0].startswith(IN_README)])
        write_between_marks(README, f"Measured on {machine()}\n\n{chosen}")


def as_table(rows: list[list[str]]) -> str:
    """Rows as Markdown."""
    head = ["| what | measured | beside it | ratio | aim |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*head, *("| " + " | ".join(row) + " |" for row in rows)])


def write_between_marks(page: Path, text: str) -> None:
    """Puts the text where the page has the two marks."""
    before, _, rest = page.read_text().partition(MARKS[0])
    page.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}")


if __name__ == "__main__":
    main()
