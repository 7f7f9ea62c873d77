"""What goes in: loads, incremental upserts and pushes, beside bare LMDB and Feast; and reads while a load runs.

It is a file of its own because writing has other limits than reading: what is durable must be synced. `run.py` calls
it. The raw side writes the same distinct bytes, prepared beforehand, in commits of as many rows, each synced.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import stook
from measuring import Figure, Plan, call_times, interleaved, percentile, sampled
from peers.environments import FEAST_PYTHON, Child, feast_surroundings, redis_server
from project import CLOCK, make, users
from reads import RAW, stored_rows

CHUNK_ROWS = 100_000
FEAST_ROWS = 5_000
LOAD_ROUNDS = 3
COPIES = 4
HERE = Path(__file__).resolve().parent


def make_copies(root: Path, rows: int) -> None:
    """A project of equal views of ten and of fifty doubles, each kind over one file, so that each load is a first one."""
    root.mkdir()
    (root / "stook.toml").write_text('[project]\nname = "bench"\n')
    lines = [
        "from stook import Entity, FeatureView, Field, FileSource, Float64, Int64",
        'user = Entity("user", join_keys={"user_id": Int64})',
        "def view(name, columns):",
        '    return FeatureView(name, entities=[user], source=FileSource(f"of{columns}.parquet"),',
        '                       schema=[Field(f"f{i}", Float64) for i in range(columns)])',
        *(f'v{columns}_{n} = view("v{columns}_{n}", {columns})' for columns in (10, 50) for n in range(COPIES)),
    ]
    (root / "features.py").write_text("\n".join(lines))
    for columns in (10, 50):
        pq.write_table(users(rows, "f", columns), root / f"of{columns}.parquet")


def measure(plan: Plan) -> list[Figure]:
    """Full loads of ten and of fifty columns, into empty views and in the place of an older load, and upserts."""
    rows = 50_000 if plan.quick else 300_000
    root = plan.folder / "loads"
    make_copies(root, rows)
    figures = []
    with stook.open(root, clock=CLOCK) as p:
        p.apply()
        for columns in (50, 10):
            views = [f"v{columns}_{n}" for n in range(COPIES)]
            turn = iter(views)
            p.materialize(None, CLOCK, [next(turn)])  # warms
            stored = stored_rows(p, views[:1])[views[0]]
            cases = {
                "stook": lambda turn=turn: p.materialize(None, CLOCK, [next(turn)]),
                RAW: raw_load(plan.folder, stored),
            }
            figures.append(_rates(f"materialize {rows:,} x {columns} doubles, Parquet to online", rows, cases))
            if plan.peers and columns == 50:
                figures[-1].samples.update(feast_rates(plan, root / "of50.parquet"))
            figures[-1].aim = ">= 0.3x raw; >= 120x Feast on SQLite" if columns == 50 else ""
            cases["stook"] = lambda views=views: p.materialize(None, CLOCK, views[:1], replace=True)
            figures.append(
                _rates(f"materialize {rows:,} x {columns} doubles again, beside the load before", rows, cases)
            )
    figures += [upserts(plan, columns, rows // 5) for columns in (10, 50)]
    return figures


def _rates(what: str, rows: int, cases: dict[str, Callable[[], Any]]) -> Figure:
    taken = interleaved(cases, LOAD_ROUNDS, warm=False)
    rates = {name: [rows / one for one in values] for name, values in taken.items()}
    return Figure(what, rates, "rows/s", (RAW,))


def raw_load(folder: Path, stored: list[tuple[bytes, bytes]], chunk_rows: int = CHUNK_ROWS) -> Callable[[], None]:
    """Loads the rows into a new LMDB, a synced commit a chunk."""

    def load() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as new, lmdb.open(new, map_size=1 << 38) as env:
            for first in range(0, len(stored), chunk_rows):
                with env.begin(write=True) as txn:
                    txn.cursor().putmulti(stored[first : first + chunk_rows], append=True)

    return load


def upserts(plan: Plan, columns: int, rows: int) -> Figure:
    """Incremental runs, each over a new file with newer rows of so many entities."""
    root = plan.folder / f"upserts-{columns}"
    root.mkdir()
    (root / "stook.toml").write_text('[project]\nname = "bench"\n')
    (root / "data").mkdir()
    fields = "\n".join(f'    Field("f{i}", Float64),' for i in range(columns))
    (root / "features.py").write_text(
        "from stook import Entity, FeatureView, Field, FileSource, Float64, Int64\n"
        'user = Entity("user", join_keys={"user_id": Int64})\n'
        f'v = FeatureView("v", entities=[user], source=FileSource("data/*.parquet"), schema=[\n{fields}\n])\n'
    )
    pq.write_table(users(rows, "f", columns, days=(0, 1)), root / "data" / "00.parquet")
    rates: dict[str, list[float]] = {"stook": [], RAW: []}
    with stook.open(root, clock=CLOCK) as p, lmdb.open(str(plan.folder / f"raw-{columns}"), map_size=1 << 38) as env:
        p.apply()
        p.materialize_incremental("2024-01-03")
        for turn in range(min(plan.rounds, 3) + 1):
            days = (turn * 2 + 3, turn * 2 + 4)
            pq.write_table(users(rows, "f", columns, days=days), root / "data" / f"{turn + 1:02}.parquet")
            end = f"2024-01-{turn * 2 + 6:02}"
            (once,) = interleaved({"stook": lambda end=end: p.materialize_incremental(end)}, 1, warm=False)["stook"]
            stored = stored_rows(p, ["v"])["v"]

            def put(stored: list[tuple[bytes, bytes]] = stored) -> None:
                for first in range(0, len(stored), CHUNK_ROWS):
                    with env.begin(write=True) as txn:
                        txn.cursor().putmulti(stored[first : first + CHUNK_ROWS])

            (raw,) = interleaved({RAW: put}, 1, warm=False)[RAW]
            if turn:
                rates["stook"].append(rows / once)
                rates[RAW].append(rows / raw)
    what = f"materialize incrementally, {rows:,} newer rows x {columns} doubles"
    return Figure(what, rates, "rows/s", (RAW,))


def feast_rates(plan: Plan, whole: Path) -> dict[str, list[float]]:
    """Feast's materialize of the first rows of the same file into SQLite and Redis; its rate hardly depends on how many."""
    names = [f"f{i}" for i in range(50)]
    file = plan.folder / "feast-load.parquet"
    pq.write_table(pq.read_table(whole).slice(0, FEAST_ROWS), file)
    child = Child(FEAST_PYTHON, HERE / "peers" / "time_feast.py", feast_surroundings())
    rates: dict[str, list[float]] = {}
    try:
        with redis_server(plan.folder) as port:
            for online in ("sqlite", "redis"):
                child.ask(
                    "open", name=online, folder=str(plan.folder / f"feast-load-{online}"), online=online, offline="duckdb",
                    file=str(file), features=names, ttl_days=400, port=port,
                )  # fmt: skip
                title = {"sqlite": "Feast on SQLite", "redis": "Feast on Redis"}[online]
                taken = [child.ask("materialize", name=online) for _ in range(min(plan.rounds, 3))]
                rates[title] = [FEAST_ROWS / one for one in taken]
    finally:
        child.close()
    return rates


def measure_pushes(plan: Plan) -> list[Figure]:
    """Pushes of one row and of many: durable and visible online and in history once they return."""
    root = plan.folder / "pushes"
    make(root, entities=10, rows=10)
    figures = []
    with stook.open(root, clock=CLOCK) as p, lmdb.open(str(plan.folder / "raw-push"), map_size=1 << 34) as env:
        p.apply()
        turn = iter(range(10**9))

        def commit(_: Any) -> None:
            with env.begin(write=True) as txn:
                txn.put(next(turn).to_bytes(8, "big"), b"x" * 408)

        single = lambda _: p.push("pushed", {"user_id": [next(turn)], "clicks": [1]})  # noqa: E731
        calls = 60 if plan.quick else 200
        cases = {"stook": median_of(single, calls), "one synced LMDB commit": median_of(commit, calls)}
        figures.append(Figure("push of one row", sampled(cases, plan.rounds), "s", ("one synced LMDB commit",)))
        for rows in (1_000, 10_000):
            ids = np.arange(rows)
            batch = pa.table(
                {"user_id": ids} | {f"f{i}": np.random.default_rng(i).normal(size=rows) for i in range(50)}
            )
            taken = interleaved({"stook": lambda batch=batch: p.push("pushed50", batch)}, plan.rounds * 2)
            rates = {"stook": [rows / one for one in taken["stook"]]}
            figures.append(Figure(f"push of {rows:,} rows x 50 doubles", rates, "rows/s"))
    return figures


def median_of(call: Callable[[Any], Any], calls: int) -> Callable[[], float]:
    """A case that says its median seconds."""
    return lambda: percentile(call_times(call, [None], calls), 0.5)


LOADER = """
import json, sys, time, stook
root, clock = sys.argv[1], sys.argv[2]
with stook.open(root, clock=clock) as p:
    print("ready", flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        (done,) = p.materialize(None, clock, ["ten"], replace=True)
        print(json.dumps([done.rows, time.perf_counter() - started]), flush=True)
"""


def measure_under_load(plan: Plan) -> list[Figure]:
    """A reader's p99 in one process while another loads a million rows, beside the same reader left alone."""
    scale = 200_000 if plan.quick else 2_000_000
    root = plan.folder / "under-load"
    make(root, entities=10_000, rows=scale)
    with stook.open(root, clock=CLOCK) as p:
        p.apply()
        p.materialize(None, CLOCK, ["ten", "fifty"])
    quiet: list[float] = []
    loaded: list[float] = []
    rates: list[float] = []
    with stook.open(root, clock=CLOCK) as p:
        read = p.prepare("s50x1")
        ids = [np.random.default_rng(n).integers(0, 10_000, 1).tolist() for n in range(512)]
        call = lambda one: read({"user_id": one}).to_dict()  # noqa: E731
        loader = subprocess.Popen(
            [sys.executable, "-c", LOADER, str(root), CLOCK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert loader.stdin is not None
        assert loader.stdout is not None
        assert loader.stdout.readline() == "ready\n"
        for _ in range(min(plan.rounds, 3)):
            quiet.append(percentile(call_times(call, ids, 50_000), 0.99))
            loader.stdin.write("go\n")
            loader.stdin.flush()
            spent: list[float] = []
            while not _said(loader):
                spent += call_times(call, ids, 2_000)
            rows, seconds = json.loads(loader.stdout.readline())
            loaded.append(percentile(spent, 0.99))
            rates.append(rows / seconds)
        loader.stdin.close()
        loader.wait(60)
    return [
        Figure("p99 of a read of 1 x 50 while another process loads", {"stook": loaded, "left alone": quiet}, "s", ("left alone",), "<= 1.5x"),
        Figure("rows loaded meanwhile, 10 doubles", {"stook": rates}, "rows/s", aim=">= 100,000 rows/s"),
    ]  # fmt: skip


def _said(process: subprocess.Popen[str]) -> bool:
    import select

    assert process.stdout is not None
    return bool(select.select([process.stdout], [], [], 0)[0])
