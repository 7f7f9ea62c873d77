"""Measures the LMDB online store beside LMDB itself: `python bench/keyvalue.py [FOLDER]`.

Every line is ours, the bare driver doing the same work with the same promise of durability in the same run, and the
ratio of the two (1.00: nothing lost). Times are medians. It must never be part of the tests: machines differ.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import lmdb

from stook.backends.lmdb.keyvalue import LmdbKeyValue
from stook.core.rows import Header, pack_header

ROWS, VALUE_BYTES, CHUNK_ROWS = 1_000_000, 408, 100_000
MAP_BYTES = 1 << 40
SPACE = "view"
KEYS = [n.to_bytes(16, "big") for n in range(ROWS)]
PAYLOAD = bytes(VALUE_BYTES - 32)


def row(n: int, event_us: int) -> tuple[bytes, bytes]:
    return KEYS[n], pack_header(Header(event_us, 0, 0, 1, 0, 0)) + PAYLOAD


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def beside(name: str, unit: str, ours: list[float], bare: list[float], *, per: float = 1.0) -> None:
    """Prints both medians; `per` turns a time into the unit shown (rows for rows/s, else a factor)."""
    a, b = statistics.median(ours), statistics.median(bare)
    shown = (per / a, per / b) if unit.endswith("/s") else (a * per, b * per)
    print(f"{name:<46} ours {shown[0]:>12,.1f} {unit:<7} lmdb {shown[1]:>12,.1f} {unit:<7} x{a / b:.2f}")


def load(store: LmdbKeyValue, env: lmdb.Environment, rows: object) -> None:
    generation = store.begin_load(SPACE, token="bench", now_us=0).generation
    ours, bare = [], []
    for start in range(0, ROWS, CHUNK_ROWS):
        chunk = [row(n, 1) for n in range(start, start + CHUNK_ROWS)]

        def put(chunk: list[tuple[bytes, bytes]] = chunk) -> None:
            with env.begin(write=True, db=rows) as txn:
                txn.cursor().putmulti(chunk, append=True)

        ours.append(seconds(lambda chunk=chunk: store.load(SPACE, generation, chunk)))
        bare.append(seconds(put))
    store.activate(SPACE, generation, expected=None)
    beside(f"load, {CHUNK_ROWS} sorted rows a chunk, synced", "rows/s", ours, bare, per=CHUNK_ROWS)


def read(store: LmdbKeyValue, env: lmdb.Environment, rows: object, label: str) -> None:
    random = Random(7)
    for size in (1, 100, 1_000):
        asked = [[KEYS[random.randrange(ROWS)] for _ in range(size)] for _ in range(20_000 // size + 200)]

        def bare(keys: list[bytes]) -> list[bytes | None]:
            with env.begin(db=rows) as txn:
                get = txn.get
                return [get(key) for key in keys]

        for keys in asked:  # both warm
            assert [value is not None for value in bare(keys)] == [True] * size
            assert None not in store.get_many([(SPACE, keys)])[0]
        ours_s, bare_s = [], []
        for keys in asked:
            ours_s.append(seconds(lambda keys=keys: store.get_many([(SPACE, keys)])))
            bare_s.append(seconds(lambda keys=keys: bare(keys)))
        beside(f"get_many, {size} keys, {label}", "us", ours_s, bare_s, per=1e6)


def put(store: LmdbKeyValue, env: lmdb.Environment, pushed: object) -> None:
    random = Random(8)
    for size, rounds in ((1, 200), (1_000, 50)):
        ours_s, bare_s = [], []
        for n in range(rounds):
            batch = [row(random.randrange(ROWS), 2 + n) for _ in range(size)]

            def bare(batch: list[tuple[bytes, bytes]] = batch) -> None:
                with env.begin(write=True, db=pushed) as txn:
                    for key, value in batch:
                        txn.put(key, value)

            ours_s.append(seconds(lambda batch=batch: store.put_newest([("pushed", batch)])))
            bare_s.append(seconds(bare))
        beside(f"put_newest, {size} rows a batch, synced", "rows/s", ours_s, bare_s, per=size)


def main() -> None:
    folder = Path(tempfile.mkdtemp(dir=sys.argv[1] if len(sys.argv) > 1 else None))
    try:
        store = LmdbKeyValue(folder / "ours", map_bytes=MAP_BYTES)
        with lmdb.open(str(folder / "bare"), map_size=MAP_BYTES, max_dbs=2, max_spare_txns=8, readahead=False) as env:
            rows, pushed = env.open_db(b"rows"), env.open_db(b"pushed")
            load(store, env, rows)
            read(store, env, rows, "empty overlay")
            store.put_newest([(SPACE, [row(n, 2) for n in range(0, ROWS, 10)])])
            read(store, env, rows, "10 % overlay")
            put(store, env, pushed)
        generation = store.generations(SPACE)[0]
        print(f"drop of {generation.rows} rows: {seconds(lambda: store.clear(SPACE)):.1f} s (with the overlay's)")
        store.close()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
