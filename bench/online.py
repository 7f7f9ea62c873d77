"""How fast the online room reads and writes, beside its limit: the bare store in the same run.

`python bench/online.py [--store lmdb|dict]` prints one line a case: p50 and p99 of a prepared read of
50 double features (over 1 and 5 views) for 1, 10, 100 and 1 000 entities, the store's own share of it, and rows
encoded per second. It is no test: figures depend on the machine.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from stook.backends.lmdb.keyvalue import open_keyvalue
from stook.backends.memory.clock import FrozenClock
from stook.core import dtypes
from stook.core.definitions import PushSource
from stook.core.plans import ReadPlan, ViewRead
from stook.core.ports.keyvalue import KeyValue, Row
from stook.core.rows import ARRIVAL, DELETED, EVENT_US, KNOWLEDGE_US
from stook.core.settings import parse_url
from stook.core.specs import Column, Schema, ViewSpec
from stook.online.read import PreparedRead
from stook.online.write import encode_rows, space

KEYS = 100_000
NOW_US = 1_700_000_000_000_000


class DictStore:
    """A bare dict, to see what the room itself costs."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[bytes, bytes]] = {}

    def put_newest(self, writes: Sequence[tuple[str, Sequence[Row]]]) -> int:
        for name, rows in writes:
            self.rows.setdefault(name, {}).update(rows)
        return 0

    def get_many(self, reads: Sequence[tuple[str, Sequence[bytes]]]) -> list[list[bytes | None]]:
        return [list(map(self.rows.get(name, {}).get, keys)) for name, keys in reads]


def make_view(number: int, features: int, dtype: dtypes.DType = dtypes.Float64) -> ViewSpec:
    columns = tuple(Column(f"f{number}_{i}", dtype) for i in range(features))
    keys = (Column("driver_id", dtypes.Int64),)
    return ViewSpec(
        f"v{number}", f"u{number}-{features}", ("driver",), keys, (Schema(1, columns),), PushSource("s"), 86_400_000_000
    )


def batch(view: ViewSpec, rows: int) -> pa.Table:
    rng = np.random.default_rng(0)
    cells = {
        f.name: pa.array([f"text {i}" for i in range(rows)]) if f.dtype == dtypes.String else rng.random(rows)
        for f in view.features
    }
    return pa.table({
        "driver_id": np.arange(rows, dtype=np.int64),
        **cells,
        EVENT_US: np.full(rows, NOW_US - 1_000_000),
        KNOWLEDGE_US: np.full(rows, NOW_US - 1_000_000),
        ARRIVAL: np.arange(rows),
        DELETED: np.zeros(rows, bool),
    })  # fmt: skip


def plan_of(views: Sequence[ViewSpec]) -> ReadPlan:
    reads = tuple(
        ViewRead(v, (("driver_id", "driver_id"),), tuple((f.name, f.name) for f in v.features)) for v in views
    )
    names = tuple(name for read in reads for _, name in read.outputs)
    return ReadPlan(reads, (Column("driver_id", dtypes.Int64),), names, 1)


def percentiles(call: Callable[[list[int]], object], entities: int) -> tuple[float, float]:
    chooser = random.Random(1)
    repeats = 4_000 if entities <= 10 else 400 if entities <= 100 else 100
    requests = [[chooser.randrange(KEYS) for _ in range(entities)] for _ in range(repeats)]
    for request in requests[: repeats // 10]:
        call(request)
    spent = []
    for request in requests:
        start = time.perf_counter()
        call(request)
        spent.append((time.perf_counter() - start) * 1e6)
    return float(np.percentile(spent, 50)), float(np.percentile(spent, 99))


def bare_reads(store: KeyValue, views: Sequence[ViewSpec], ids: Sequence[int]) -> object:
    keys = [((1 << 63) + number).to_bytes(8, "big") for number in ids]
    return store.get_many([(space(view), keys) for view in views])


def bench_reads(store: KeyValue, dtype: dtypes.DType) -> None:
    for count in (1, 5):
        views = [make_view(10 * count + n, 50 // count, dtype) for n in range(count)]
        for view in views:
            rows = encode_rows(view, batch(view, KEYS)).rows
            for start in range(0, KEYS, 20_000):
                store.put_newest([(space(view), rows[start : start + 20_000])])
        read = PreparedRead(plan_of(views), store, FrozenClock(NOW_US))
        for entities, form in ((1, "to_dict"), (10, "to_dict"), (100, "to_arrow"), (1_000, "to_arrow")):
            bench_read(store, read, entities, form)


def bench_read(store: KeyValue, read: PreparedRead, entities: int, form: str) -> None:
    views = [part.view for part in read.plan.views]
    p50, p99 = percentiles(lambda ids: getattr(read({"driver_id": ids}), form)(), entities)
    bare, _ = percentiles(lambda ids: bare_reads(store, views, ids), entities)
    case = f"{entities:5d} x 50 {views[0].features[0].dtype!s:8} in {len(views)} views .{form:9}"
    print(f"read {case} p50 {p50:9.1f} us  p99 {p99:9.1f} us  get_many alone {bare:8.1f} us")


def bench_encode() -> None:
    for features, dtype in ((10, dtypes.Float64), (50, dtypes.Float64), (10, dtypes.String)):
        view = make_view(99, features, dtype)
        table = batch(view, KEYS)
        best = min(_timed(partial(encode_rows, view, table)) for _ in range(3))
        print(f"encode {KEYS} rows x {features} {dtype!s:8} {KEYS / best:12,.0f} rows/s")


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", default="lmdb", choices=("lmdb", "dict"))
    chosen = parser.parse_args().store
    bench_encode()
    if chosen == "dict":
        bench_reads(DictStore(), dtypes.Float64)  # type: ignore[arg-type]
        bench_reads(DictStore(), dtypes.String)  # type: ignore[arg-type]
        return
    folder = Path(tempfile.mkdtemp(prefix="stook-bench-"))
    store = open_keyvalue(parse_url("lmdb:///online", folder, "bench"), folder)
    bench_reads(store, dtypes.Float64)
    bench_reads(store, dtypes.String)
    store.close()
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
