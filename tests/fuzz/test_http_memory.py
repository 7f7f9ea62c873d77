"""Bodies within every limit, of every shape that costs more than it weighs: no fault, and bounded memory and time.

Each shape fills a body of BODY_MIB. A body may cost a worker PEAK_MIB_MAX while it is answered; when all are answered
the worker may have grown by GROWN_MIB_MAX, which is what its allocators keep.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from tests.servers import rss_mib, status_mib

from . import served

pytestmark = pytest.mark.server

BODY_MIB = 2
BODY_BYTES = (BODY_MIB << 20) - 256
GROWN_MIB_MAX = 400
PEAK_MIB_MAX = 300
SEED = served.seed()
ANSWER_WAIT_S = 30.0
DEPTH = 31
ANSWER_MIB = 4


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
    lines = f"body_limit_mib = {BODY_MIB}\njson_depth_max = {DEPTH}\nanswer_limit_mib = {ANSWER_MIB}\n"
    root = served.make_project(tmp_path_factory.mktemp("memory") / "demo", serve_lines=lines)
    with served.serving(root, workers=1) as running, served.unharmed(running, GROWN_MIB_MAX):
        yield running


@pytest.fixture(scope="module")
def web(server: served.Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=ANSWER_WAIT_S) as client:
        yield client


def ask(server: served.Running, web: httpx.Client, what: str, body: bytes, **options: Any) -> httpx.Response:
    """Asserts a good answer within time, and that the body did not cost more than its share of memory."""
    assert len(body) < BODY_MIB << 20, (what, len(body))
    (worker,) = server.workers()
    Path(f"/proc/{worker}/clear_refs").write_text("5")  # forget the peak
    before, started = rss_mib(worker), time.monotonic()
    answer = web.post(content=body, **options)
    seconds, grown = time.monotonic() - started, status_mib(worker, "VmHWM") - before
    print(f"{what}: {answer.status_code}, {seconds:.2f} s, {grown} MiB")
    served.check_answer(answer)
    assert b"the body is over" not in answer.content, what
    assert grown < PEAK_MIB_MAX, (what, grown)
    return answer


def combinations() -> list[tuple[str, str, bytes]]:
    every = [(p, s, path, around, shape) for p, (path, around) in WRAPPED.items() for s, shape in COLUMNS.items()]
    every += [
        (p, s, path, around, shape) for p, (path, around) in OBJECT_WRAPPED.items() for s, shape in OBJECTS.items()
    ]
    return [(f"{s}, {p}", path, around % shape) for p, s, path, around, shape in every]


def test_bodies_that_cost_more_than_they_weigh(server: served.Running, web: httpx.Client) -> None:
    """Some of all combinations of shape and place, others each time; STOOK_TEST_FUZZ=20 tries them all."""
    print(f"STOOK_TEST_SEED={SEED}")
    every = combinations()
    count = min(len(every), int(25 * served.factor()))
    for what, path, body in random.Random(SEED).sample(every, count):
        ask(server, web, what, body, url=path)


FOUND = [
    ("many columns", "pushed", 413),
    ("many columns", "asked for", 422),
    ("many keys", "as a row", 422),
    ("small numbers", "pushed as driver_id", 413),
    ("a huge integer", "pushed as driver_id", 400),
    ("a huge integer in text", "pushed as driver_id", 422),
    ("huge integers", "as data", 400),
    ("a huge exponent", "as an input", 400),
    ("decimals of huge exponent", "pushed as money", 413),
    ("numbers beyond doubles", "pushed as list", 400),
]


@pytest.mark.parametrize(("shape", "place", "status"), FOUND)
def test_bodies_that_cost_too_much_once(
    server: served.Running, web: httpx.Client, shape: str, place: str, status: int
) -> None:
    where, shapes = (OBJECT_WRAPPED, OBJECTS) if shape in OBJECTS else (WRAPPED, COLUMNS)
    path, around = where[place]
    assert ask(server, web, f"{shape}, {place}", around % shapes[shape], url=path).status_code == status


def bloated(table: pa.Table, batches: int = 1) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for _ in range(batches):
            writer.write_table(table)
    return bytes(sink.getvalue())


def arrow_shapes() -> dict[str, tuple[bytes, int]]:
    ones = pa.nulls(50_000, pa.int64()).fill_null(1)
    million = pa.nulls(1 << 20, pa.int64()).fill_null(1)
    long = pa.array(["x" * (100 << 20)])
    referred = pa.DictionaryArray.from_arrays(pa.nulls(50_000, pa.int32()).fill_null(0), pa.array(["y" * 100_000]))
    plain = served.arrow_bytes(pa.table({"driver_id": pa.array([1, 2, 3], pa.int64())}))
    squeezed = served.arrow_bytes(pa.table({"driver_id": ones}), "zstd")
    size = (400_000).to_bytes(8, "little")
    assert squeezed.count(size) == 1
    return {
        "a million ones": (bloated(pa.table({"driver_id": million})), 413),
        "many batches": (bloated(pa.table({"driver_id": ones}), 40), 413),
        "a long text": (bloated(pa.table({"driver_id": [1], "city": long})), 413),
        "a dictionary of one long text": (bloated(pa.table({"driver_id": ones, "city": referred})), 413),
        "many columns": (bloated(pa.table({f"c{i}": pa.array([], pa.int8()) for i in range(5_000)})), 422),
        "a buffer that says it is huge": (squeezed.replace(size, (1 << 46).to_bytes(8, "little")), 413),
        "a message that says it is huge": (plain[:4] + (2**31 - 1).to_bytes(4, "little") + plain[8:], 422),
        "rows beyond reason": (plain.replace((3).to_bytes(8, "little"), (1 << 40).to_bytes(8, "little")), 413),
        "fewer rows than none": (plain.replace((3).to_bytes(8, "little"), b"\xff" * 8), 422),
    }


def test_arrow_bodies_that_unpack_to_more(server: served.Running, web: httpx.Client) -> None:
    for what, (body, status) in arrow_shapes().items():
        headers = {"content-type": served.ARROW}
        answer = ask(server, web, what, body, url="/push?view=stats", headers=headers)
        assert answer.status_code == status, (what, answer.text)


def test_the_answer_to_a_question_as_large_as_may_be(server: served.Running, web: httpx.Client) -> None:
    """The most rows of all features, as JSON and as Arrow, of a driver nobody else pushes."""
    features = [f"types:{name}" for name in served.FIELDS]
    body = json.dumps({"features": features, "entities": {"driver_id": [7] * 10_000}}).encode()
    for accept in ("application/json", served.ARROW):
        assert ask(server, web, accept, body, url="/get-online-features", headers={"accept": accept}).status_code == 200


@pytest.mark.parametrize("accept", ["application/json", served.ARROW])
def test_one_large_row_asked_for_again_and_again(server: served.Running, web: httpx.Client, accept: str) -> None:
    """A pushed row of nearly a body's size, by 10 000: this took 13 GiB. As often as the limit allows, it is answered."""
    numbers = b"0," * (BODY_BYTES // 2 - 100) + b"0"
    pushed = b'{"view":"types","df":{"driver_id":[8],"grid":[[[%b]]]}}' % numbers
    assert ask(server, web, "the row", pushed, url="/push").status_code == 200
    for rows, status in ((10_000, 413), (64, 413), (2, 200)):
        body = json.dumps({"features": ["types:grid"], "entities": {"driver_id": [8] * rows}}).encode()
        answer = ask(server, web, f"{rows} rows", body, url="/get-online-features", headers={"accept": accept})
        assert answer.status_code == status, answer.text[:500]


def test_one_row_of_more_features_than_may_be_asked_for(server: served.Running, web: httpx.Client) -> None:
    """Nothing is stored there, and every cell would be answered as absent."""
    features = [{"view": "types", "name": f"v{number}"} for number in range(200)]
    asked = {"features": features, "entities": {"driver_id": [9] * 10_000}, "full_feature_names": True}
    answer = ask(server, web, "many features", json.dumps(asked).encode(), url="/get-online-features")
    assert answer.status_code == 413 and "values, over the limit" in answer.text, answer.text[:500]


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**64, 10**30])
def test_tensors_with_numbers_too_large_are_refused_in_our_words(web: httpx.Client, number: int) -> None:
    tensors = [
        {"name": "trips", "datatype": "INT64", "shape": [1], "data": [number]},
        {"name": "speed", "datatype": "FP64", "shape": [1], "data": [1]},
    ]
    answer = web.post("/v2/models/late/infer", json={"inputs": tensors})
    served.check_answer(answer)
    assert answer.status_code == 422 and "too large" in answer.json()["error"]["message"]
