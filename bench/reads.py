"""Online reads in process, beside the same keys read from bare LMDB, from Redis and by Feast; and growth.

It is a file of its own because the read path is what users wait for. `run.py` calls it. Every read asks for other random
entities; ours are timed until `.to_dict()` (up to 10 entities) or `.to_arrow()` has returned, statuses and event times
included; the raw ones until the value bytes are copied out.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pyarrow.parquet as pq

import stook
from measuring import Figure, Plan, median_call, sampled
from peers.environments import Child
from project import CLOCK, WIDE_VIEWS, make, users

SHAPES = [(n, f, v) for v in (1, 5) for f in (10, 50, 250) for n in (1, 10, 100, 1_000)]
QUICK_SHAPES = [(1, 50, 1), (100, 50, 1), (1_000, 50, 1)]
CALLS = {1: 2_000, 10: 1_000, 100: 300, 1_000: 60}
DICT_ENTITIES_MAX = 10
RAW, REDIS = "raw LMDB", "Redis MGET"
AIMS = {
    (1, 50, 1): "<= 40 us; >= 20x Feast on SQLite",
    (100, 50, 1): "<= 2.5x raw; >= 80x Feast on SQLite; faster than MGET",
    (1_000, 50, 1): "<= 2.5x raw; >= 80x Feast on SQLite; faster than MGET",
}


def views_of(features: int, views: int) -> list[str]:
    """The views that a service of the project reads."""
    if views == 1:
        return ["fifty" if features == 50 else "wide"]
    return [f"{ {10: 'two', 50: 'ten', 250: 'fifty'}[features] }{n}" for n in range(5)]


@contextmanager
def raw_store(folder: Path, rows: dict[str, list[tuple[bytes, bytes]]]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Bare LMDB with these rows, a database a view, under the options that suit random reads."""
    shutil.rmtree(folder, ignore_errors=True)
    with lmdb.open(str(folder), map_size=1 << 38, max_dbs=32, readahead=False, max_spare_txns=8, sync=False) as env:
        databases = {name: env.open_db(name.encode()) for name in rows}
        for name, items in rows.items():
            with env.begin(write=True, db=databases[name]) as txn:
                txn.cursor().putmulti(items, append=True)
        yield env, databases


def raw_read(env: Any, databases: Sequence[Any]) -> Callable[[list[bytes]], Any]:
    """Reads keys from each database in one transaction."""

    def read(keys: list[bytes]) -> list[list[bytes]]:
        with env.begin() as txn:
            get = txn.get
            return [[get(key, None, database) for key in keys] for database in databases]

    return read


def key_bytes(ids: Sequence[int]) -> list[bytes]:
    """Keys as the online room spells one Int64: order-preserving."""
    return [((1 << 63) + number).to_bytes(8, "big") for number in ids]


def stored_rows(p: Any, views: Sequence[str]) -> dict[str, list[tuple[bytes, bytes]]]:
    """Each view's distinct keys and packed values, as they lie in the store."""
    wiring = p._parts.wiring  # noqa: SLF001 - the very bytes, to be stored again without us
    uids = {record.name: record.spec["uid"] for record in p.list("feature-view")}
    return {name: list(wiring.online.scan(uids[name])) for name in views}


def measure(plan: Plan) -> list[Figure]:
    """Reads of every shape."""
    root = plan.folder / "reads"
    entities = 20_000 if plan.quick else 100_000
    make(root, entities=entities, rows=1_000)
    shapes = QUICK_SHAPES if plan.quick else SHAPES
    wanted = sorted({name for _, f, v in shapes for name in views_of(f, v)}) if plan.quick else list(WIDE_VIEWS)
    with stook.open(root, clock=CLOCK) as p:
        p.apply()
        p.materialize(None, CLOCK, wanted)
        rows = stored_rows(p, wanted)
        with (
            raw_store(plan.folder / "reads-raw", rows) as raw,
            feast(plan, root, entities) as ask,
            redis(plan, rows["fifty"]) as mget,
        ):
            return [_shape(plan, p, raw, (ask, mget), entities, shape) for shape in shapes]


def _shape(
    plan: Plan,
    p: Any,
    raw: tuple[Any, dict[str, Any]],
    others: tuple[Any, Any],
    entities: int,
    shape: tuple[int, int, int],
) -> Figure:
    count, features, views = shape
    random = np.random.default_rng(count)
    calls = CALLS[count] // (4 if plan.quick else 1)
    ids = [random.integers(0, entities, count).tolist() for _ in range(256)]
    keys = [key_bytes(one) for one in ids]
    read = p.prepare(f"s{features}x{views}")
    form = "to_dict" if count <= DICT_ENTITIES_MAX else "to_arrow"
    bare = raw_read(raw[0], [raw[1][name] for name in views_of(features, views)])
    cases = {
        "stook": median_call(lambda one: getattr(read({"user_id": one}), form)(), ids, calls),
        RAW: median_call(bare, keys, calls),
    }
    ask, mget = others
    if mget is not None and (features, views) == (50, 1):
        cases[REDIS] = median_call(mget, keys, max(calls // 2, 10))
    if ask is not None and (features, views) == (50, 1) and count != 10:
        asked = [[number % ask.entities for number in one] for one in ids[: {1: 60, 100: 8, 1_000: 3}[count]]]
        cases["Feast on SQLite"] = lambda: ask("sqlite", asked)
        cases["Feast on Redis"] = lambda: ask("redis", asked)
    what = f"read {count:,} x {features} over {views} view{'s' if views > 1 else ''}, {form}"
    return Figure(what, sampled(cases, plan.rounds), "s", (RAW,), AIMS.get(shape, ""))


@contextmanager
def redis(plan: Plan, items: list[tuple[bytes, bytes]]) -> Iterator[Callable[[list[bytes]], Any] | None]:
    """MGET of the same bytes over loopback with redis-py, or None without peers."""
    if not plan.peers:
        yield None
        return
    import redis as driver

    from peers.environments import redis_server

    with redis_server(plan.folder) as port, driver.Redis(port=port) as client:
        for first in range(0, len(items), 10_000):
            client.mset(dict(items[first : first + 10_000]))
        yield client.mget


class FeastReads:
    """Feast with one view of fifty doubles, in SQLite and in Redis."""

    entities = 10_000

    def __init__(self, child: Child) -> None:
        self._child = child

    def __call__(self, name: str, ids: list[list[int]]) -> float:
        return float(self._child.ask("read", name=name, ids=ids))


@contextmanager
def feast(plan: Plan, root: Path, entities: int) -> Iterator[FeastReads | None]:
    """Feast, loaded with the first of the same users; None without peers."""
    if not plan.peers:
        yield None
        return
    from peers.environments import FEAST_PYTHON, feast_surroundings, redis_server

    names = [f"f{i}" for i in range(50)]
    few = pq.read_table(root / "wide.parquet", columns=["user_id", "event_timestamp", *names])
    pq.write_table(few.slice(0, min(FeastReads.entities, entities)), plan.folder / "feast.parquet")
    child = Child(FEAST_PYTHON, Path(__file__).parent / "peers" / "time_feast.py", feast_surroundings())
    try:
        with redis_server(plan.folder) as port:
            for online in ("sqlite", "redis"):
                child.ask(
                    "open", name=online, folder=str(plan.folder / f"feast-{online}"), online=online, offline="duckdb",
                    file=str(plan.folder / "feast.parquet"), features=names, ttl_days=400, port=port,
                )  # fmt: skip
                child.ask("materialize", name=online)
            yield FeastReads(child)
    finally:
        child.close()


def measure_growth(plan: Plan) -> list[Figure]:
    """The same read as entities grow, beside raw; and the store's size beside its packed bytes."""
    figures = []
    for entities in (10_000, 100_000) if plan.quick else (10_000, 100_000, 1_000_000, 10_000_000):
        root = plan.folder / f"grown-{entities}"
        make(root, entities=10, rows=entities)
        random = np.random.default_rng(11)
        with stook.open(root, clock=CLOCK) as p:
            p.apply()
            p.materialize(None, CLOCK, ["ten"])
            rows = stored_rows(p, ["ten"])
            packed = sum(len(key) + len(value) for key, value in rows["ten"])
            on_disk = _on_disk(f"on disk, {entities:,} entities of 10 doubles", root, packed, "<= 1.3x")
            with raw_store(plan.folder / "grown-raw", rows) as (env, databases):
                del rows
                read, bare = p.prepare(["ten:" + f"t{i}" for i in range(10)]), raw_read(env, [databases["ten"]])
                ids = [random.integers(0, entities, 100).tolist() for _ in range(2_000)]
                keys = [key_bytes(one) for one in ids]
                cases = {
                    "stook": median_call(lambda one, read=read: read({"user_id": one}).to_arrow(), ids, 1_000),
                    RAW: median_call(bare, keys, 1_000),
                }
                taken = sampled(cases, plan.rounds)
        own = [ours - raw for ours, raw in zip(taken["stook"], taken[RAW], strict=True)]
        what = f"read 100 x 10 among {entities:,} entities"
        figures.append(Figure(what, taken, "s", (RAW,)))
        figures.append(
            Figure(
                f"stook's own share of it, {entities:,} entities",
                {"stook": own},
                "s",
                aim="grows <= 1.5x",
            )
        )
        figures.append(on_disk)
        shutil.rmtree(root)
    return figures


def _on_disk(what: str, root: Path, packed: int, aim: str) -> Figure:
    """What a project's online store takes on disk, beside its packed bytes."""
    size = (root / ".stook" / "online" / "data.mdb").stat().st_blocks * 512
    return Figure(what, {"stook": [size / 1e6], "packed bytes": [packed / 1e6]}, "MB", ("packed bytes",), aim)


def measure_disk(plan: Plan) -> list[Figure]:
    """What rows of different widths take on disk, one generation, beside their packed bytes."""
    figures = []
    entities = 10_000 if plan.quick else 50_000
    root = plan.folder / "disk"
    make(root, entities=entities, rows=10)
    for view, features, aim in (("ten0", 10, "<= 1.3x"), ("fifty", 50, "<= 1.3x"), ("wide", 250, "<= 2.1x")):
        with stook.open(root, clock=CLOCK) as p:
            p.apply()
            p.materialize(None, CLOCK, [view])
            packed = sum(len(key) + len(value) for key, value in stored_rows(p, [view])[view])
        figures.append(_on_disk(f"on disk, {entities:,} rows of {features} doubles", root, packed, aim))
        shutil.rmtree(root / ".stook")
    return figures


ONE_VIEW = """
from stook import Entity, FeatureView, Field, FileSource, Float64, Int64
user = Entity("user", join_keys={"user_id": Int64})
fifty = FeatureView("fifty", entities=[user], source=FileSource("wide.parquet"),
                    schema=[Field(f"f{i}", Float64) for i in range(50)])
"""


def measure_million(plan: Plan) -> list[Figure]:
    """Rows of fifty doubles among a million entities: the store no longer fits the processor's caches."""
    if plan.quick:
        return []
    root, entities = plan.folder / "million", 1_000_000
    root.mkdir()
    (root / "stook.toml").write_text('[project]\nname = "bench"\n')
    (root / "features.py").write_text(ONE_VIEW)
    pq.write_table(users(entities, "f", 50), root / "wide.parquet")
    figures = []
    with stook.open(root, clock=CLOCK) as p:
        p.apply()
        p.materialize(None, CLOCK, ["fifty"])
        rows = stored_rows(p, ["fifty"])
        with raw_store(plan.folder / "million-raw", rows) as (env, databases), redis(plan, rows["fifty"]) as mget:
            del rows
            read, bare = p.prepare(["fifty:" + f"f{i}" for i in range(50)]), raw_read(env, [databases["fifty"]])
            for count, form in ((1, "to_dict"), (100, "to_arrow"), (1_000, "to_arrow")):
                random = np.random.default_rng(count)
                ids = [random.integers(0, entities, count).tolist() for _ in range(1_000)]
                keys = [key_bytes(one) for one in ids]
                cases = {
                    "stook": median_call(
                        lambda one, form=form: getattr(read({"user_id": one}), form)(), ids, CALLS[count]
                    ),
                    RAW: median_call(bare, keys, CALLS[count]),
                }
                if mget is not None:
                    cases[REDIS] = median_call(mget, keys, CALLS[count])
                aim = "<= 2.5x raw; faster than MGET" if count > 1 else ""
                what = f"read {count:,} x 50 among 1,000,000 entities, {form}"
                figures.append(Figure(what, sampled(cases, plan.rounds), "s", (RAW,), aim))
    return figures
