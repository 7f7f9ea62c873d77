"""Bodies within every limit, of every shape that costs more than it weighs: no fault, and bounded memory and time.

Each shape fills a body of BODY_MIB. A body may cost a worker PEAK_FACTOR times its size while it is answered; when all
are answered the worker may have grown by GROWN_MIB_MAX, which is what its allocators keep.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pyarrow as pa
import pytest

from . import served

pytestmark = pytest.mark.server

BODY_MIB = 4
BODY_BYTES = (BODY_MIB << 20) - 256
GROWN_MIB_MAX = 400
PEAK_FACTOR = 60
ANSWER_WAIT_S = 30.0
DEPTH = 31


def filled(piece: bytes, before: bytes = b"", after: bytes = b"", *, first: bytes = b"") -> bytes:
    """As many pieces as make a body of BODY_BYTES."""
    count = (BODY_BYTES - len(before) - len(after) - len(first)) // len(piece)
    return before + first + piece * count + after


def keys(template: bytes) -> bytes:
    """Different keys, as many as fit: the template has one %d."""
    found, size, number = [], 0, 0
    while size < BODY_BYTES - 1_000:
        found.append(template % number)
        size += len(found[-1]) + 1
        number += 1
    return b",".join(found)


def nested(inner: bytes) -> bytes:
    return b"[" * (DEPTH - 4) + inner + b"]" * (DEPTH - 4)


COLUMNS: dict[str, bytes] = {
    "empty objects": filled(b"{},", b"[", b"{}]"),
    "empty lists": filled(b"[],", b"[", b"[]]"),
    "small objects": filled(b'{"a":0},', b"[", b"{}]"),
    "nulls": filled(b"null,", b"[", b"null]"),
    "small numbers": filled(b"0,", b"[", b"0]"),
    "floats": filled(b"0.1,", b"[", b"0.1]"),
    "deep lists": filled(nested(b"") + b",", b"[", b"0]"),
    "escapes": filled(b"\\u0000", b'["', b'"]'),
    "quotes": filled(b'\\"', b'["', b'"]'),
    "wide text": filled("é".encode(), '["\U0001f600'.encode(), b'"]'),
    "empty texts": filled(b'"",', b"[", b'""]'),
    "a huge integer": filled(b"9", b"[", b"]"),
    "a huge fraction": filled(b"1", b"[0.", b"]"),
    "a huge exponent": filled(b"9", b"[1e", b"]"),
    "huge integers": filled(b"9" * 5_000 + b",", b"[", b"0]"),
    "integers beyond 64 bits": filled(b"99999999999999999999,", b"[", b"0]"),
    "numbers beyond doubles": filled(b"1e999,", b"[", b"0]"),
    "huge integers in text": filled(b'"' + b"9" * 5_000 + b'",', b"[", b"0]"),
    "a huge integer in text": filled(b"9", b'["', b'"]'),
    "decimals of huge exponent": filled(b'"1E+999999999",', b"[", b'"1"]'),
    "pairs": filled(b'[["a",0]],', b"[", b"null]"),
}
OBJECTS: dict[str, bytes] = {
    "many keys": b"{" + keys(b'"%d":0') + b"}",
    "many empty keys": filled(b'"":[],', b"{", b'"":[]}'),
    "the same key": filled(b'"driver_id":[1],', b"{", b'"driver_id":[1]}'),
    "many columns": b"{" + keys(b'"c%d":[1]') + b"}",
    "a long key": filled(b"k", b'{"', b'":[1]}'),
    "one driver and many keys": b'{"driver_id":[1],' + keys(b'"%d":0') + b"}",
}
PUSHED = ("driver_id", "big", "text", "blob", "money", "list", "counts", "place", "at", "tod")
WRAPPED: dict[str, tuple[str, bytes]] = {
    **{f"pushed as {name}": ("/push", b'{"view":"types","df":{"%b":%%b}}' % name.encode()) for name in PUSHED},
    "pushed beside a key": ("/push", b'{"view":"types","df":{"driver_id":[1],"grid":[%b]}}'),
    "asked for": ("/get-online-features", b'{"features":["stats:trips"],"entities":{"driver_id":%b}}'),
    "asked for in text": (
        "/get-online-features",
        b'{"features":["stats:trips"],"entities":{"driver_id":%b},"int64":"string"}',
    ),
    "asked for as bytes": ("/get-online-features", b'{"features":["tagged:score"],"entities":{"tag":%b,"day":[null]}}'),
    "as rows": ("/get-online-features", b'{"features":["stats:trips"],"entity_rows":%b}'),
    "as features": ("/get-online-features", b'{"features":%b,"entities":{"driver_id":[1]}}'),
    "predicted for": ("/predict/late", b'{"entities":{"driver_id":%b},"request":{"speed":1}}'),
    "as an input": ("/predict/late", b'{"entities":{"driver_id":[1]},"request":{"speed":%b}}'),
    "as a vector input": ("/predict/every", b'{"request":{"vector":%b}}'),
    "as a decimal input": ("/predict/every", b'{"request":{"money":%b}}'),
    "as data": (
        "/v2/models/pair/infer",
        b'{"inputs":[{"name":"trips","datatype":"INT64","shape":[1],"data":%b},{"name":"speed","datatype":"FP64","shape":[1],"data":[1]}]}',
    ),
    "as a shape": ("/v2/models/pair/infer", b'{"inputs":[{"name":"trips","datatype":"INT64","shape":%b,"data":[]}]}'),
    "as tensors": ("/v2/models/pair/infer", b'{"inputs":%b}'),
    "as views": ("/materialize", b'{"end":"2024-05-01","views":%b}'),
}
OBJECT_WRAPPED: dict[str, tuple[str, bytes]] = {
    "pushed": ("/push", b'{"view":"types","df":%b}'),
    "asked for": ("/get-online-features", b'{"features":["stats:trips"],"entities":%b}'),
    "as a row": ("/get-online-features", b'{"features":["stats:trips"],"entity_rows":[%b]}'),
    "projected": (
        "/get-online-features",
        b'{"features":[{"view":"stats","join_key_map":%b}],"entities":{"driver_id":[1]}}',
    ),
    "as inputs": ("/predict/late", b'{"entities":{"driver_id":[1]},"request":%b}'),
    "as a tensor": ("/v2/models/late/infer", b'{"inputs":[%b]}'),
    "whole": ("/push", b"%b"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[served.Running]:
    lines = f"body_limit_mib = {BODY_MIB}\njson_depth_max = {DEPTH}\n"
    root = served.make_project(tmp_path_factory.mktemp("memory") / "demo", serve_lines=lines)
    with served.serving(root, workers=1) as running:
        before = running.rss_mib()
        yield running
        after = running.rss_mib()
        assert set(after) == set(before), running.log()
        assert all(after[pid] - before[pid] < GROWN_MIB_MAX for pid in before), (before, after)
        served.check_log(running.log())


@pytest.fixture(scope="module")
def web(server: served.Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=ANSWER_WAIT_S) as client:
        yield client


def peak_mib(server: served.Running) -> int:
    """The most memory that the worker ever had at once, in MiB."""
    (worker,) = server.workers()
    return served.status_mib(worker, "VmHWM")


def try_all(server: served.Running, web: httpx.Client, bodies: dict[str, tuple[str, bytes]], **options: Any) -> None:
    """Asserts good answers within time, and that no body cost more than its share."""
    seen = {}
    for name, (path, body) in bodies.items():
        assert len(body) < BODY_MIB << 20, (name, len(body))
        before, started = server.rss_mib(), time.monotonic()
        answer = web.post(path, content=body, **options)
        seen[name] = round(time.monotonic() - started, 1)
        served.check_answer(answer)
        assert answer.status_code != 413 or b"body is over" not in answer.content, name
        grown = peak_mib(server) - max(before.values())
        assert grown < PEAK_FACTOR * BODY_MIB, (name, grown)
    print(sorted(seen.items(), key=lambda item: -item[1])[:5])


@pytest.mark.parametrize("place", WRAPPED)
def test_columns_that_cost_more_than_they_weigh(server: served.Running, web: httpx.Client, place: str) -> None:
    path, around = WRAPPED[place]
    try_all(server, web, {name: (path, around % shape) for name, shape in COLUMNS.items()})


@pytest.mark.parametrize("place", OBJECT_WRAPPED)
def test_objects_that_cost_more_than_they_weigh(server: served.Running, web: httpx.Client, place: str) -> None:
    path, around = OBJECT_WRAPPED[place]
    try_all(server, web, {name: (path, around % shape) for name, shape in OBJECTS.items()})


def bloated(table: pa.Table, batches: int = 1) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for _ in range(batches):
            writer.write_table(table)
    return bytes(sink.getvalue())


def arrow_shapes() -> dict[str, bytes]:
    ones = pa.nulls(1 << 20, pa.int64()).fill_null(1)
    long = pa.array(["x" * (8 << 20)])
    referred = pa.DictionaryArray.from_arrays(pa.nulls(1 << 18, pa.int32()).fill_null(0), pa.array(["y" * 100_000]))
    plain = served.arrow_bytes(pa.table({"driver_id": pa.array([1, 2, 3], pa.int64())}))
    squeezed = served.arrow_bytes(pa.table({"driver_id": ones}), "zstd")
    lying = squeezed.replace((8 << 20).to_bytes(8, "little"), (1 << 46).to_bytes(8, "little"))
    assert lying != squeezed
    return {
        "a million ones": bloated(pa.table({"driver_id": ones})),
        "many batches": bloated(pa.table({"driver_id": ones}), 40),
        "a long text": bloated(pa.table({"driver_id": [1], "city": long})),
        "a dictionary of one long text": served.arrow_bytes(pa.table({"driver_id": pa.nulls(1 << 18, pa.int64()).fill_null(1), "city": referred}), "zstd"),
        "a million columns of nothing": served.arrow_bytes(pa.table({f"c{i}": pa.array([], pa.int8()) for i in range(10_000)})),
        "a buffer that says it is huge": lying,
        "a message that says it is huge": plain[:4] + (2**31 - 1).to_bytes(4, "little") + plain[8:],
        "rows beyond reason": plain.replace((3).to_bytes(8, "little"), (1 << 40).to_bytes(8, "little")),
        "fewer rows than none": plain.replace((3).to_bytes(8, "little"), (-1).to_bytes(8, "little", signed=True)),
    }  # fmt: skip


def test_arrow_bodies_that_unpack_to_more(server: served.Running, web: httpx.Client) -> None:
    bodies = {name: ("/push?view=stats", body) for name, body in arrow_shapes().items()}
    try_all(server, web, bodies, headers={"content-type": served.ARROW})


def test_the_answer_to_a_question_as_large_as_may_be(server: served.Running, web: httpx.Client) -> None:
    """The most rows of all features, as JSON and as Arrow."""
    features = [f"types:{name}" for name in served.FIELDS] * 20
    body = json.dumps({"features": features[:20], "entities": {"driver_id": [1] * 10_000}}).encode()
    try_all(server, web, {"json": ("/get-online-features", body)})
    try_all(server, web, {"arrow": ("/get-online-features", body)}, headers={"accept": served.ARROW})
