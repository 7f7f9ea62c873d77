"""A real server over a real project for the tests of this folder: every type, and models that take and answer them.

It is a file of its own because all fuzzers abuse the same server. It must never be gentle: whatever is left behind
(a log line with a traceback, a worker replaced, memory kept) is what the tests look for.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal as PyDecimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
from tests import servers
from tests.servers import Running

import stook
from stook import (
    Array,
    Bool,
    Bytes,
    Date,
    Decimal,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    Float32,
    Float64,
    Int8,
    Int16,
    Int32,
    Int64,
    Map,
    PushSource,
    String,
    Struct,
    Time,
    Timestamp,
    UInt8,
    UInt64,
    Vector,
)

NOW = "2024-05-01T12:00:00Z"
T = datetime(2024, 5, 1, 6, tzinfo=UTC)
ARROW = "application/vnd.apache.arrow.stream"

driver = Entity("driver", join_keys={"driver_id": Int64})
tag = Entity("tag", join_keys={"tag": Bytes, "day": Date})
place = Entity("place", join_keys={"city": String, "at": Timestamp, "cell": UInt64, "open": Bool, "level": Int8})
stats = FeatureView(
    "stats",
    entities=[driver],
    ttl=timedelta(hours=8),
    schema=[Field("rate", Float64), Field("trips", Int64), Field("city", String)],
    source=FileSource("data/stats.parquet", created_timestamp_column="created"),
)
FIELDS = {
    "flag": Bool,
    "tiny": Int8,
    "short": Int16,
    "whole": Int32,
    "octet": UInt8,
    "big": UInt64,
    "single": Float32,
    "text": String,
    "blob": Bytes,
    "money": Decimal(20, 4),
    "day": Date,
    "tod": Time,
    "at": Timestamp,
    "list": Array(Float64),
    "texts": Array(String),
    "grid": Array(Array(Int64)),
    "vector": Vector(Float32, 2),
    "place": Struct({"lat": Float64, "name": String, "when": Timestamp, "cost": Decimal(9, 2)}),
    "counts": Map(String, Int64),
    "days": Map(Date, Array(Bytes)),
}
types = FeatureView(
    "types", entities=[driver], source=PushSource("typed"), schema=[Field(n, t) for n, t in FIELDS.items()]
)
tagged = FeatureView("tagged", entities=[tag], schema=[Field("score", Int64)], source=PushSource("tags"))
placed = FeatureView("placed", entities=[place], schema=[Field("score", Float64)], source=PushSource("tags_of_places"))
ranking = FeatureService("ranking", features=[stats, types[["big", "list"]]])
DEFINITIONS = [driver, tag, place, stats, types, tagged, placed, ranking]


def make_project(root: Path, *, serve_lines: str = "") -> Path:
    """A project with rows online, and deployments: `late` looks features up, `every` takes every type of tensor and
    answers NaN and infinities, `pair` answers vectors, `broken` raises."""
    (root / "data").mkdir(parents=True)
    (root / "stook.toml").write_text(f'[project]\nname = "demo"\n\n[serve]\nallow_pickle = true\n{serve_lines}')
    rows = 300
    table = pa.table(
        {
            "driver_id": pa.array(range(rows), pa.int64()),
            "event_timestamp": [T] * rows,
            "created": [T] * rows,
            "rate": [None if i % 7 == 3 else i / 7 for i in range(rows)],
            "trips": pa.array(range(rows), pa.int64()),
            "city": [f"città {i % 5}" for i in range(rows)],
        }
    )
    pq.write_table(table, root / "data" / "stats.parquet")
    with stook.open(root, clock=NOW) as p:
        p.apply(DEFINITIONS)
        p.materialize(None, NOW, ["stats"])
        late = pa.table({"trips": [1, 2], "speed": [0.5, 1.5], "label": [0, 1]})
        features = {"late": (late, ranking), "every": (every(), None), "pair": (late, None), "broken": (late, None)}
        for name, (data, wanted) in features.items():
            run = p.train(name, FITS[name], data=data, label="label", allow_pickle=True)
            p.deploy(name, p.release(name, run, features=wanted))
    return root


def every() -> pa.Table:
    return pa.table(
        {
            "flag": [True, False],
            "tiny": pa.array([1, 2], pa.int8()),
            "big": pa.array([1, 2], pa.uint64()),
            "single": pa.array([1, 2], pa.float32()),
            "text": ["a", "b"],
            "blob": [b"a", b"b"],
            "money": [PyDecimal("1.5"), PyDecimal("2.5")],
            "day": [date(2024, 5, 1)] * 2,
            "at": [T, T],
            "vector": pa.array([[1, 2], [3, 4]], pa.list_(pa.float32(), 2)),
            "label": [0.5, 1.5],
        }
    )


def arrow_tables() -> list[pa.Table]:
    """Right bodies of a push in Arrow's form."""
    typed = {
        "driver_id": pa.array([1, 2], pa.int64()),
        "flag": pa.array([True, None]),
        "octet": pa.array([255, 0], pa.uint8()),
        "big": pa.array([2**64 - 1, None], pa.uint64()),
        "single": pa.array([float("nan"), None], pa.float32()),
        "text": pa.array(["città", ""]),
        "blob": pa.array([b"\x00\xff", None]),
        "money": pa.array([PyDecimal("12.5000"), None], pa.decimal128(20, 4)),
        "day": pa.array([date(2024, 5, 1), None]),
        "at": pa.array([T, None], pa.timestamp("us", "UTC")),
        "list": pa.array([[1.5, None], None], pa.list_(pa.float64())),
        "vector": pa.array([[0.5, 1], None], pa.list_(pa.float32(), 2)),
        "counts": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
        "event_timestamp": pa.array([T, T], pa.timestamp("ns", "UTC")),
    }
    city = pa.array(["a", "b", "a"]).dictionary_encode()
    return [
        pa.table(typed),
        pa.table({"driver_id": pa.array([1, 2, 3], pa.int64()), "trips": pa.array([1, None, 3], pa.int32())}),
        pa.table({"driver_id": pa.array([1, 2, 3], pa.int8()), "city": city}),
    ]


def arrow_bytes(table: pa.Table, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _threshold(data: pa.Table, params: dict[str, Any], run: Any) -> Any:
    del data, params, run

    def model(table: pa.Table) -> Any:
        return [int((trips or 0) > 150) for trips in table.column("trips").to_pylist()]

    return model


def _odd(data: pa.Table, params: dict[str, Any], run: Any) -> Any:
    del data, params, run

    def model(table: pa.Table) -> Any:
        return [[0.5, float("nan"), float("inf"), float("-inf")][row % 4] for row in range(len(table))]

    return model


def _pair(data: pa.Table, params: dict[str, Any], run: Any) -> Any:
    del data, params, run

    def model(table: pa.Table) -> Any:
        import numpy as np

        return np.zeros((len(table), 2))

    return model


def _broken(data: pa.Table, params: dict[str, Any], run: Any) -> Any:
    del data, params, run

    def model(table: pa.Table) -> Any:
        if len(table) > 2:
            raise RuntimeError(f"no more than 2 rows, not {len(table)}")
        return [0] * len(table)

    return model


FITS: dict[str, Callable[..., Any]] = {"late": _threshold, "every": _odd, "pair": _pair, "broken": _broken}


@contextmanager
def serving(root: Path, **options: Any) -> Iterator[Running]:
    """A server over the project, at the project's time."""
    with servers.serving(root, clock=NOW, **options) as running:
        yield running


@contextmanager
def unharmed(running: Running, grown_mib_max: int | None = None) -> Iterator[Running]:
    """Asserts behind the block that no worker was lost, that none kept more memory, and that the log holds no fault."""
    before = running.rss_mib()
    yield running
    after = running.rss_mib()
    assert set(after) == set(before), running.log()
    if grown_mib_max is not None:
        assert all(after[pid] - before[pid] < grown_mib_max for pid in before), (before, after)
    check_log(running.log())


# --- what every answer must be -------------------------------------------------------------------------------------

LEAKS = re.compile(
    r"Traceback|site-packages|/src/|\.py\b|\.py[\"':,]|duckdb|lmdb|msgspec|starlette|granian|pyarrow|numpy"
    r"|Arrow(Invalid|TypeError|Capacity|NotImplemented|KeyError|Exception)|object at 0x|<class '"
    r"|sqlite|deltalake|\bPyDecimal\b|\bdatetime\.datetime\b|Python (int|object|float)|py::|[A-Za-z]+Error\("
    r"|object of type|bytes object|'NoneType'|/tmp/|/proc/",
)
TRY_AGAIN = (429, 503)


def check_answer(answer: httpx.Response) -> None:
    """Asserts what holds for every answer: no fault of the server, nothing of its insides, errors in our shape."""
    text = answer.content.decode("utf-8", "replace")
    assert answer.status_code < 500 or answer.status_code == 503, text
    assert answer.status_code not in TRY_AGAIN or answer.headers["retry-after"].isdecimal(), text
    if answer.status_code < 400:
        return
    assert answer.headers["content-type"] == "application/json", (answer.status_code, answer.headers, text)
    if answer.request.method == "HEAD":
        return
    said = json.loads(text)
    assert set(said) == {"error"} and set(said["error"]) == {"code", "message", "hint"}, text
    assert all(isinstance(part, str) and part for part in said["error"].values()), text
    assert len(text) < 4_096, f"an error of {len(text)} bytes: {text[:500]}"
    said = unquote(str(answer.request.url)) + sent_text(answer.request)
    text = text.replace("pyarrow.ipc.new_stream", "")  # a mend that we name
    leaked = [found[0] for found in LEAKS.finditer(text) if found[0] not in said]
    assert not leaked, f"{leaked} leaked: {text}"


def sent_text(request: httpx.Request) -> str:
    """What the caller said itself, which an answer may repeat; empty for a body sent in pieces."""
    try:
        return request.content.decode("utf-8", "replace")
    except httpx.RequestNotRead:
        return ""


def check_log(log: str) -> None:
    """Asserts that nothing unforeseen was logged."""
    found = re.search(r"Traceback|panicked|ERROR|Exception|ended with code", log)
    assert found is None, log[-8_000:]


def seed() -> int:
    """STOOK_TEST_SEED, else a new one; printed, so that a failure shows it."""
    chosen = int(os.environ.get("STOOK_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"STOOK_TEST_SEED={chosen}")
    return chosen


def factor() -> float:
    """How much more than usual is tried: STOOK_TEST_FUZZ."""
    return float(os.environ.get("STOOK_TEST_FUZZ") or 1)
