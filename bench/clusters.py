"""A whole cluster on this machine: reads on Redis Cluster beside its own client, and what gateways behind HAProxy carry.

It is a file of its own because it needs servers that take seconds to start. `run.py` calls it. Client, balancer, gateways and
stores share the machine's cores, so what is to be seen is not how much more three gateways carry here, but that a request
costs the same however many there are.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import redis

import stook
from measuring import Figure, Plan, median_call, sampled
from project import CLOCK, make
from reads import key_bytes, stored_rows
from serving import Target, drive
from stook.app.clusters import LocalCluster

ENTITIES = 10_000
CLIENTS = 8
SECONDS = 2.0
GATEWAYS = 3
SETTLE_S_MAX = 60.0
MGET = "redis-py mget of the same bytes"
ENGINES = """[project]
name = "bench"
[engines]
records = "${STOOK_RECORDS:-sqlite:///.stook/records.db}"
online = "${STOOK_ONLINE:-lmdb:///.stook/online}"
coordination = "${STOOK_COORDINATION:-sqlite:///.stook/coordination.db}"
"""
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def measure(plan: Plan) -> list[Figure]:
    """Reads in process on Redis Cluster, then requests through one, two and three gateways."""
    root = plan.folder / "c"
    make(root, entities=ENTITIES, rows=10)
    (root / "stook.toml").write_text(ENGINES)
    (root / "cluster.toml").write_text(f'[cluster]\ngateways = {GATEWAYS}\nclock = "{CLOCK}"\n')
    with running(root) as (cluster, addresses), stook.open(root, clock=CLOCK) as p:
        p.apply()
        p.materialize(None, CLOCK, ["fifty"])
        rows = stored_rows(p, ["fifty"])["fifty"]
        return [*_reads(plan, p, rows, addresses), *_gateways(plan, cluster)]


@contextmanager
def running(root: Path) -> Iterator[tuple[LocalCluster, list[tuple[str, int]]]]:
    """The project's cluster, and its Redis servers; this process uses its engines meanwhile."""
    cluster = LocalCluster(root)
    before = dict(os.environ)
    try:
        cluster.up(lambda _: None)
        os.environ.update(cluster.environment())
        servers = os.environ["STOOK_ONLINE"].partition("://")[2].split(",")
        yield cluster, [(one.split(":")[0], int(one.split(":")[1])) for one in servers]
    finally:
        os.environ.clear()
        os.environ.update(before)
        cluster.down(lambda _: None, delete_data=True)


def _reads(plan: Plan, p: Any, rows: list[tuple[bytes, bytes]], addresses: list[tuple[str, int]]) -> list[Figure]:
    direct = redis.RedisCluster(host=addresses[0][0], port=addresses[0][1])
    for start in range(0, len(rows), 1_000):
        direct.mset_nonatomic({b"raw:" + key: value for key, value in rows[start : start + 1_000]})
    random = np.random.default_rng(7)
    read = p.prepare("s50x1")
    figures = []
    for count in (1, 100, 1_000):
        ids = [random.integers(0, ENTITIES, count).tolist() for _ in range(64)]
        keys = [[b"raw:" + key for key in key_bytes(one)] for one in ids]
        form = "to_dict" if count == 1 else "to_arrow"
        cases = {
            "stook": median_call(lambda one, form=form: getattr(read({"user_id": one}), form)(), ids, 64),
            MGET: median_call(direct.mget_nonatomic, keys, 64),
        }
        what = f"read {count:,} x 50 on Redis Cluster, {form}"
        aim = ">= 0.8x of the client" if count == 100 else ""
        figures.append(Figure(what, sampled(cases, plan.rounds), "s", (MGET,), aim))
    direct.close()
    return figures


def _gateways(plan: Plan, cluster: LocalCluster) -> list[Figure]:
    random = np.random.default_rng(5)
    names = [f"fifty:f{i}" for i in range(50)]
    port = int(cluster.endpoint.rpartition(":")[2])
    figures = []
    for count in (1, 100):
        bodies = [
            json.dumps(
                {"features": names, "entities": {"user_id": random.integers(0, ENTITIES, count).tolist()}}
            ).encode()
            for _ in range(64)
        ]
        target = Target(port, "/get-online-features", bodies)
        rates: dict[int, list[float]] = {n: [] for n in range(1, GATEWAYS + 1)}
        costs: dict[int, list[float]] = {n: [] for n in rates}
        for _ in range(plan.rounds):
            for wanted, taken in rates.items():
                gateways = only(cluster, wanted)
                drive(target, CLIENTS, SECONDS / 4)
                before = cpu_s(gateways)
                started = time.perf_counter()
                rate, latencies = drive(target, CLIENTS, SECONDS)
                assert time.perf_counter() - started >= SECONDS
                taken.append(rate)
                costs[wanted].append((cpu_s(gateways) - before) / len(latencies))
        for wanted, taken in rates.items():
            crowd = "1 gateway" if wanted == 1 else f"{wanted} gateways"
            what = f"HTTP {count} x 50 as JSON through HAProxy, {crowd}, {CLIENTS} clients"
            figures.append(Figure(what, {"stook": taken}, "requests/s"))
            figures.append(Figure(f"{what}: processor time a request", {"stook": costs[wanted]}, "s"))
    return figures


def only(cluster: LocalCluster, wanted: int) -> list[int]:
    """Lets so many gateways stand; their process numbers."""
    chosen = {f"gateway-{n}" for n in range(1, wanted + 1)}
    for node in cluster.status():
        if node.kind == "gateway" and (node.state.value == "running") != (node.name in chosen):
            if node.name in chosen:
                cluster.start(node.name, lambda _: None)
            else:
                cluster.stop(node.name, at_once=False)
    deadline = time.monotonic() + SETTLE_S_MAX
    while time.monotonic() < deadline:
        standing = {n.name: n for n in cluster.status() if n.kind == "gateway" and n.health.well}
        if set(standing) == chosen:
            time.sleep(2.0)  # the balancer has seen it, and the processor is theirs
            return [node.number for node in standing.values()]
        time.sleep(0.2)
    raise RuntimeError(f"not {wanted} gateways after {SETTLE_S_MAX} s")


def cpu_s(numbers: list[int]) -> float:
    """Processor seconds of these processes and their children."""
    total = 0
    for number in numbers:
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        for one in (str(number), *children):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS_A_SECOND
