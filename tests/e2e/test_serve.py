"""`stook serve` as its callers meet it: real processes on a free port, over a real project.

The clock is frozen, so that ages are exact and the remote answers can be compared with the embedded ones.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal as PyDecimal
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.servers import WAIT_S, Running, await_true, serving

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
    Int64,
    Map,
    PushSource,
    String,
    Struct,
    Timestamp,
    UInt64,
    Vector,
)
from stook.client import Remote
from stook.core.errors import (
    Busy,
    EngineUnavailable,
    InvalidArgument,
    InvalidSettings,
    SchemaMismatch,
    TooLarge,
    Unauthorized,
    UnknownFeature,
    UnknownObject,
)
from stook.edge.http.server import serve

pytestmark = pytest.mark.server

NOW = "2024-05-01T12:00:00Z"
T = datetime(2024, 5, 1, 6, tzinfo=UTC)
ARROW = "application/vnd.apache.arrow.stream"

driver = Entity("driver", join_keys={"driver_id": Int64})
tag = Entity("tag", join_keys={"tag": Bytes, "day": Date})
stats = FeatureView(
    "stats",
    entities=[driver],
    ttl=timedelta(hours=8),
    schema=[Field("rate", Float64), Field("trips", Int64), Field("city", String)],
    source=FileSource("data/stats.parquet", created_timestamp_column="created"),
)
types = FeatureView(
    "types",
    entities=[driver],
    source=PushSource("typed"),
    schema=[
        Field("flag", Bool),
        Field("big", UInt64),
        Field("single", Float32),
        Field("blob", Bytes),
        Field("money", Decimal(20, 4)),
        Field("day", Date),
        Field("at", Timestamp),
        Field("list", Array(Float64)),
        Field("vector", Vector(Float32, 2)),
        Field("place", Struct({"lat": Float64, "name": String})),
        Field("counts", Map(String, Int64)),
    ],
)
tagged = FeatureView("tagged", entities=[tag], schema=[Field("score", Int64)], source=PushSource("tags"))
ranking = FeatureService("ranking", features=[stats, types[["big", "list"]]])
DEFINITIONS = [driver, tag, stats, types, tagged, ranking]
TYPED = {
    "driver_id": [1],
    "flag": [True],
    "big": [2**64 - 1],
    "single": ["Infinity"],
    "blob": ["AP8="],
    "money": ["12.5000"],
    "day": ["2024-05-01"],
    "at": ["2024-05-01T00:00:00.000001Z"],
    "list": [[1.5, None, "NaN"]],
    "vector": [[0.5, 1]],
    "place": [{"lat": "-Infinity", "name": None}],
    "counts": [[["a", 2**62], ["b", None]]],
    "event_timestamp": ["2024-05-01T11:00:00Z"],
}


def make_project(root: Path, *, serve_lines: str = "", deploy: bool = False) -> Path:
    (root / "data").mkdir(parents=True)
    (root / "stook.toml").write_text(f'[project]\nname = "demo"\n\n[serve]\n{serve_lines}')
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
        if deploy:
            run = p.train("late", fit, data=training(), label="late", allow_pickle=True)
            p.deploy("late", p.release("late", run, features=ranking))
            vectors = pa.array([[1.0, 2.0]] * 2, pa.list_(pa.float64(), 2))
            data = pa.table({"how": ["well", "well"], "v": vectors, "y": [0, 1]})
            run = p.train("odd", lambda data, params, run: misbehave, data=data, label="y", allow_pickle=True)
            p.deploy("odd", p.release("odd", run))
    return root


def training() -> pa.Table:
    rng = np.random.default_rng(1)
    trips = rng.integers(0, 300, 200)
    return pa.table({"trips": trips, "speed": rng.normal(size=200), "late": (trips > 150).astype(np.int64)})


def fit(data: pa.Table, params: dict[str, Any], run: Any) -> Any:
    """A model that loads in no time; the models room has tests with real libraries."""
    del data, params, run

    def threshold(table: pa.Table) -> Any:
        return (table.column("trips").to_numpy() > 150).astype(int)

    return threshold


class Unshowable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def misbehave(table: pa.Table) -> Any:
    """A model that does as it is told: its inputs back, null for a negative one, or an end of many kinds."""
    ends = {
        "exit": SystemExit(3), "interrupt": KeyboardInterrupt(), "close": GeneratorExit(),
        "surrogate": ValueError("\ud800"), "unshowable": Unshowable(),
    }  # fmt: skip
    how = table["how"][0].as_py()
    if how in ends:
        raise ends[how]
    vectors = table["v"].to_pylist()
    return set(range(table.num_rows)) if how == "set" else pa.array(
        [v if v[0] >= 0 else None for v in vectors], pa.list_(pa.float64(), 2)
    )  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(
        tmp_path_factory.mktemp("serve") / "demo", serve_lines="body_limit_mib = 1\nallow_pickle = true\n", deploy=True
    )


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Running]:
    with serving(root, workers=2, clock=NOW) as running:
        yield running


@pytest.fixture(scope="module")
def web(server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=WAIT_S) as client:
        pushed = client.post("/push", json={"push_source_name": "typed", "df": TYPED})
        assert pushed.status_code == 200, pushed.text
        yield client


@pytest.fixture(scope="module", params=[True, False], ids=["arrow", "json"])
def remote(request: pytest.FixtureRequest, web: httpx.Client, server: Running) -> Iterator[Any]:
    """What `stook.open(URL)` hands out, with Arrow installed and without."""
    with Remote(server.url, arrow=request.param) as p:
        yield p


@pytest.fixture(scope="module")
def embedded(root: Path) -> Iterator[Any]:
    with stook.open(root, clock=NOW) as p:
        yield p


def online(web: httpx.Client, **body: Any) -> Any:
    answer = web.post("/get-online-features", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def error_of(answer: httpx.Response, status: int) -> dict[str, str]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error: dict[str, str] = answer.json()["error"]
    assert set(error) == {"code", "message", "hint"}
    assert error["code"] and error["message"] and error["hint"]
    assert "Traceback" not in answer.text
    return error


# --- answers -------------------------------------------------------------------------------------------------------


def test_features_in_feasts_json_plus_ages(web: httpx.Client) -> None:
    answer = online(web, features=["stats:trips", "stats:rate"], entities={"driver_id": [2, 3, 9999, None]})
    assert answer["metadata"] == {"feature_names": ["driver_id", "trips", "rate"]}
    keys, trips, rate = answer["results"]
    assert keys["values"] == [2, 3, 9999, None]
    assert trips["values"] == [2, 3, None, None]
    assert trips["statuses"] == ["PRESENT", "PRESENT", "NOT_FOUND", "NOT_FOUND"]
    assert trips["event_timestamps"] == ["2024-05-01T06:00:00Z", "2024-05-01T06:00:00Z", None, None]
    assert trips["ages"] == [21600.0, 21600.0, None, None]
    assert rate["values"] == [2 / 7, None, None, None]
    assert rate["statuses"] == ["PRESENT", "NULL_VALUE", "NOT_FOUND", "NOT_FOUND"]


def test_full_names_services_projections_and_rows(web: httpx.Client) -> None:
    full = online(web, feature_service="ranking", entities={"driver_id": [1]}, full_feature_names=True)
    names = ["driver_id", "stats__rate", "stats__trips", "stats__city", "types__big", "types__list"]
    assert full["metadata"]["feature_names"] == names
    projected = {"view": "stats", "features": ["trips"], "name": "home", "join_key_map": {"driver_id": "home_id"}}
    answer = online(web, features=["stats:trips", projected], entity_rows=[{"driver_id": 1, "home_id": 2}])
    assert [r["values"] for r in answer["results"]] == [[1], [2], [1], [2]]
    assert answer["metadata"]["feature_names"] == ["driver_id", "home_id", "stats__trips", "home__trips"]


def test_many_rows_answer_as_few_do(web: httpx.Client) -> None:
    ids = [*range(300), 7, 7, -1]
    many = online(web, features=["stats:rate", "stats:city"], entities={"driver_id": ids})["results"]
    for row in (0, 3, 299, 301, 302):
        few = online(web, features=["stats:rate", "stats:city"], entities={"driver_id": [ids[row]]})["results"]
        for many_column, few_column in zip(many, few, strict=True):
            assert {name: cells[row : row + 1] for name, cells in many_column.items()} == few_column


@pytest.mark.case(51)
def test_every_type_goes_in_by_push_and_out_again_in_the_same_words(web: httpx.Client) -> None:
    names = [n for n in TYPED if n not in ("driver_id", "event_timestamp")]
    answer = online(web, features=[f"types:{n}" for n in names], entities={"driver_id": [1]})
    values = {n: r["values"] for n, r in zip(answer["metadata"]["feature_names"], answer["results"], strict=True)}
    assert values == {n: TYPED[n] for n in ["driver_id", *names]}


def test_64_bit_integers_as_text_where_asked(web: httpx.Client) -> None:
    answer = online(web, features=["types:big", "types:counts"], entities={"driver_id": ["1"]}, int64="string")
    values = [r["values"] for r in answer["results"]]
    assert values == [["1"], [str(2**64 - 1)], [[["a", str(2**62)], ["b", None]]]]


def test_keys_of_bytes_and_dates(web: httpx.Client) -> None:
    df = {"tag": ["AP8="], "day": ["2024-05-01"], "score": [5]}
    assert web.post("/push", json={"view": "tagged", "df": df}).json()["rows"] == 1
    answer = online(web, features=["tagged:score"], entities={"tag": ["AP8=", "AA=="], "day": ["2024-05-01"] * 2})
    assert dict(zip(answer["metadata"]["feature_names"], (r["values"] for r in answer["results"]), strict=True)) == {
        "day": ["2024-05-01"] * 2,
        "tag": ["AP8=", "AA=="],
        "score": [5, None],
    }


def test_the_answer_as_an_arrow_stream(web: httpx.Client) -> None:
    body = {"features": ["stats:trips"], "entities": {"driver_id": [1, 9999]}}
    answer = web.post("/get-online-features", json=body, headers={"Accept": ARROW})
    assert answer.headers["content-type"] == ARROW
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table.to_pydict() == {
        "driver_id": [1, 9999],
        "trips": [1, None],
        "trips__status": ["PRESENT", "NOT_FOUND"],
        "trips__event_timestamp": [T, None],
    }
    assert table.schema.field("trips").type == pa.int64()


def test_a_push_is_visible_to_every_worker_at_once(web: httpx.Client, server: Running) -> None:
    for trips in range(1, 6):
        df = {"driver_id": [500], "trips": [trips], "event_timestamp": [f"2024-05-01T11:00:0{trips}Z"]}
        assert web.post("/push", json={"view": "stats", "df": df, "to": "both"}).json()["views"] == ["stats"]
        seen = set()
        for _ in range(6):  # each on a connection of its own, so that both workers are asked
            answer = httpx.post(
                f"{server.url}/get-online-features",
                json={"features": ["stats:trips"], "entities": {"driver_id": [500]}},
            )
            seen.add(answer.json()["results"][1]["values"][0])
        assert seen == {trips}


def test_feasts_push_and_materialize_fields_are_understood(web: httpx.Client) -> None:
    df = {"driver_id": [1], "flag": [False], "event_timestamp": ["2024-05-01T01:00:00Z"]}
    body = {"push_source_name": "typed", "df": df, "to": "online_and_offline", "allow_registry_cache": True}
    assert web.post("/push", json=body).status_code == 200
    body = {"start_ts": "2024-05-01", "end_ts": NOW, "feature_views": ["stats"]}
    (done,) = web.post("/materialize", json=body).json()["views"]
    assert (done["view"], done["end"]) == ("stats", NOW)
    again = web.post("/materialize-incremental", json={"end": NOW}).json()["views"]
    assert {view["view"] for view in again} == {"stats", "tagged", "types"}


def test_health_shows_the_frozen_clock(web: httpx.Client) -> None:
    assert web.get("/health").json() == {"status": "ok", "project": "demo", "clock": "frozen", "now": NOW}
    assert web.get("/ready").json() == {"status": "ready", "feature_views": 3}


def test_the_document_lists_every_path(web: httpx.Client) -> None:
    paths = web.get("/openapi.json").json()["paths"]
    assert {"/get-online-features", "/push", "/predict/{deployment}", "/metrics", "/openapi.json"} <= set(paths)


def test_metrics_are_those_of_all_workers(server: Running, web: httpx.Client) -> None:
    def total() -> float:
        found = re.search(r'stook_online_values_total\{status="PRESENT"\} (\S+)', web.get("/metrics").text)
        return float(found[1]) if found else 0.0

    before, asked = total(), 20
    for _ in range(asked):
        body = {"features": ["stats:trips", "stats:city"], "entities": {"driver_id": [1]}}
        assert httpx.post(f"{server.url}/get-online-features", json=body).status_code == 200
    assert total() - before == asked * 2
    text = web.get("/metrics").text
    assert 'stook_http_requests_total{endpoint="/get-online-features",status="200"}' in text
    web.get("/no/such/path/1")
    web.get("/objects/entity/ghost")
    text = web.get("/metrics").text
    assert "/no/such/path" not in text and "ghost" not in text  # labels stay bounded


# --- models --------------------------------------------------------------------------------------------------------


def test_a_prediction_names_release_features_statuses_and_ages(web: httpx.Client, embedded: Any) -> None:
    body = {"entities": {"driver_id": [1, 299]}, "request": {"speed": [0.1, 0.2]}}
    answer = web.post("/predict/late", json=body)
    assert answer.status_code == 200, answer.text
    expected = embedded.predict("late", entities={"driver_id": [1, 299]}, request={"speed": [0.1, 0.2]})
    said = answer.json()
    assert said["predictions"] == expected.predictions == [0, 1]
    assert said["release"] == expected.release
    assert said["features"]["trips"] == [1, 299]
    assert said["statuses"]["trips"] == ["PRESENT", "PRESENT"]
    assert said["ages"]["trips"] == expected.ages["trips"]


def test_the_open_inference_protocol(web: httpx.Client) -> None:
    assert web.get("/v2").json()["name"] == "stook"
    assert web.get("/v2/health/live").json() == {"live": True}
    assert web.get("/v2/health/ready").json() == {"ready": True}
    metadata = web.get("/v2/models/late").json()
    assert [tensor["name"] for tensor in metadata["inputs"]] == ["trips", "speed"]
    assert web.get("/v2/models/late/ready").json()["ready"] is True
    tensors = [
        {"name": "trips", "datatype": "INT64", "shape": [2], "data": [1, 299]},
        {"name": "speed", "datatype": "FP64", "shape": [2], "data": [0.0, 0.0]},
    ]
    answer = web.post("/v2/models/late/infer", json={"id": "a", "inputs": tensors})
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"][0]["data"] == [0, 1]
    error_of(web.post("/v2/models/late/infer", json={"inputs": []}), 400)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("exit", "SystemExit: 3"),
        ("interrupt", "KeyboardInterrupt"),
        ("close", "GeneratorExit"),
        ("surrogate", "ValueError: \\ud800"),
        ("unshowable", "its text cannot be shown"),
        ("set", "answered a set"),
    ],
)
def test_however_a_model_ends_the_server_says_so(web: httpx.Client, how: str, says: str) -> None:
    error = error_of(web.post("/predict/odd", json={"request": {"how": how, "v": [[1, 2]]}}), 422)
    assert says in error["message"]


def test_vectors_over_the_open_inference_protocol(web: httpx.Client) -> None:
    how = {"name": "how", "datatype": "BYTES", "shape": [3], "data": ["well"] * 3}
    v = {"name": "v", "datatype": "FP64", "shape": [3, 2], "data": [1, 2, -1, 0, 5, 6]}
    answer = web.post("/v2/models/odd/infer", json={"inputs": [how, v]})
    assert answer.status_code == 200, answer.text
    found = answer.json()["outputs"][0]
    assert (found["shape"], found["data"]) == ([3, 2], [1, 2, None, None, 5, 6])
    whole = {"name": "all", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}
    assert "rows, 3" in error_of(web.post("/v2/models/odd/infer", json={"inputs": [whole]}), 400)["hint"]


# --- mistakes ------------------------------------------------------------------------------------------------------

ASK = {"features": ["stats:trips"], "entities": {"driver_id": [1]}}
WRONG: list[tuple[str, Any, int, str]] = [
    ("/get-online-features", {**ASK, "features": ["stats:trip"]}, 404, "did you mean 'trips'"),
    ("/get-online-features", {**ASK, "features": ["stat:trips"]}, 404, "did you mean 'stats'"),
    ("/get-online-features", {**ASK, "features": ["trips"]}, 400, ""),
    ("/get-online-features", {**ASK, "features": []}, 400, ""),
    ("/get-online-features", {**ASK, "features": "stats:trips"}, 400, "features"),
    ("/get-online-features", {**ASK, "feature_service": "ranking"}, 400, "not both"),
    (
        "/get-online-features",
        {"feature_service": "rank", "entities": {"driver_id": [1]}},
        404,
        "did you mean 'ranking'",
    ),
    ("/get-online-features", {"entities": {"driver_id": [1]}}, 400, "features or feature_service"),
    ("/get-online-features", {"features": ["stats:trips"]}, 400, "driver_id"),
    ("/get-online-features", {**ASK, "entities": {"driver": [1]}}, 422, "driver_id"),
    ("/get-online-features", {**ASK, "entities": {"driver_id": ["1"]}}, 422, "int64"),
    ("/get-online-features", {**ASK, "entities": {"driver_id": [1.5]}}, 422, "int64"),
    ("/get-online-features", {**ASK, "entities": {"driver_id": [True]}}, 422, "int64"),
    ("/get-online-features", {**ASK, "entities": {"driver_id": [9007199254740993.0]}}, 422, "as integers"),
    ("/get-online-features", {**ASK, "entities": {"driver_id": [2**63]}}, 422, "int64"),
    ("/get-online-features", {**ASK, "entities": {"driver_id": [{"a": 1}]}}, 422, "int64"),
    ("/get-online-features", {**ASK, "entities": {"driver_id": 1}}, 400, "entities"),
    ("/get-online-features", {**ASK, "entities": {"driver_id": [1], "more": [1]}}, 422, "more"),
    ("/get-online-features", {**ASK, "entity_rows": [{"driver_id": 1}]}, 400, "one of them"),
    ("/get-online-features", {**ASK, "entities": {"driver_id": [1] * 10_001}}, 413, "10000"),
    ("/get-online-features", {**ASK, "int64": "text"}, 400, "int64"),
    ("/get-online-features", {**ASK, "fullfeaturenames": True}, 400, "fullfeaturenames"),
    ("/push", {"view": "stat", "df": {"driver_id": [1]}}, 404, "did you mean"),
    ("/push", {"df": {"driver_id": [1]}}, 400, "view"),
    ("/push", {"view": "stats", "push_source_name": "typed", "df": {"driver_id": [1]}}, 400, "not both"),
    ("/push", {"view": "stats", "df": {"trips": [1]}}, 422, "driver_id"),
    ("/push", {"view": "stats", "df": {"driver_id": [1], "trip": [1]}}, 422, "did you mean 'trips'"),
    ("/push", {"view": "stats", "df": {"driver_id": [1], "trips": ["many"]}}, 422, "trips"),
    ("/push", {"view": "stats", "df": {"driver_id": [1], "trips": [1.5]}}, 422, "trips"),
    ("/push", {"view": "stats", "df": {"driver_id": [9007199254740993.0], "trips": [1]}}, 422, "int64"),
    ("/push", {"view": "stats", "df": {"driver_id": [1, 2], "trips": [1]}}, 422, ""),
    ("/push", {"view": "stats", "df": {"driver_id": [None], "trips": [1]}}, 422, "null"),
    ("/push", {"view": "stats", "df": {"driver_id": [1], "event_timestamp": ["soon"]}}, 422, "event_timestamp"),
    ("/push", {"view": "stats", "df": {"driver_id": [1]}, "to": "everywhere"}, 400, "everywhere"),
    ("/push", {"push_source_name": "typed", "df": {"driver_id": [1], "blob": ["?"]}}, 422, "base64"),
    ("/materialize", {"start": "2024-05-02", "end": "2024-05-01"}, 400, ""),
    ("/materialize", {"start": "2024-05-01"}, 400, "end"),
    ("/materialize", {"start": "yesterday", "end": NOW}, 400, "yesterday"),
    ("/materialize", {"end": NOW, "views": ["stat"]}, 404, "did you mean 'stats'"),
    ("/materialize", {"end": NOW, "views": "stats"}, 400, "views"),
    ("/materialize-incremental", {"end": 5}, 400, "end"),
    ("/predict/lat", {}, 404, "did you mean 'late'"),
    ("/predict/late", {}, 400, "driver_id"),
    ("/predict/late", {"entities": {"driver_id": [1]}}, 400, "speed"),
    ("/predict/late", {"entities": {"driver_id": [1]}, "request": {"speed": ["fast"]}}, 422, "speed"),
    ("/predict/late", {"entities": {"driver_id": [1]}, "inputs": {}}, 400, "inputs"),
]


@pytest.mark.parametrize(("path", "body", "status", "says"), WRONG, ids=lambda v: str(v)[:60])
@pytest.mark.case(52)
def test_a_mistake_gets_one_clear_answer(web: httpx.Client, path: str, body: Any, status: int, says: str) -> None:
    answer = web.post(path, json=body)
    error = error_of(answer, status)
    assert says in error["message"] + error["hint"]


@pytest.mark.parametrize(
    "path", ["/get-online-features", "/push", "/materialize", "/predict/late", "/v2/models/late/infer"]
)
@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b'{"a": NaN}'], ids=str)
def test_a_body_that_is_not_the_json_wanted(web: httpx.Client, path: str, body: bytes) -> None:
    assert error_of(web.post(path, content=body), 400)["code"] == "invalid_argument"


def test_a_body_too_deep(web: httpx.Client) -> None:
    deep = b'{"features": ["stats:trips"], "entities": {"driver_id": ' + b"[" * 20_000 + b"]" * 20_000 + b"}}"
    assert "deeper" in error_of(web.post("/get-online-features", content=deep), 413)["message"]


def test_a_body_too_large_with_and_without_a_length(web: httpx.Client) -> None:
    big = b" " * (3 << 20)
    assert "1 MiB" in error_of(web.post("/push", content=big), 413)["message"]
    assert "1 MiB" in error_of(web.post("/push", content=iter([big[: 1 << 20]] * 3)), 413)["message"]
    assert "1 MiB" in error_of(web.post("/push", content=iter([b"x" * 65_536] * 100)), 413)["message"]


def test_an_arrow_body_that_is_none(web: httpx.Client) -> None:
    answer = web.post("/push?view=stats", content=b"not arrow", headers={"Content-Type": ARROW})
    assert "Arrow stream" in error_of(answer, 422)["message"]


def test_paths_and_methods_that_are_not(web: httpx.Client) -> None:
    assert error_of(web.get("/nothing"), 404)["code"] == "not_found"
    assert error_of(web.get("/objects/thing"), 404)["code"] == "unknown_object"
    assert error_of(web.get("/objects/feature-view/stat"), 404)["hint"] == "did you mean 'stats'?"
    wrong = web.get("/push")
    assert error_of(wrong, 405)["code"] == "method_not_allowed"
    assert wrong.headers["allow"] == "POST"


def test_mistakes_leave_the_server_well(web: httpx.Client) -> None:
    with socket.create_connection((web.base_url.host, web.base_url.port or 0)) as rude:
        rude.sendall(b"POST /push HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
    with socket.create_connection((web.base_url.host, web.base_url.port or 0)) as rude:
        rude.sendall(b"nonsense\r\n\r\n")
        rude.recv(100)
    assert online(web, **ASK)["results"][1]["values"] == [1]


# --- the remote platform -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [[1], [1, 3, 9999, None], list(range(100))], ids=len)
@pytest.mark.parametrize("features", ["ranking", ["stats:rate", "stats:trips"], types, [stats[["city"]]]], ids=str)
@pytest.mark.case(51, 55)
def test_remote_answers_what_embedded_answers(remote: Any, embedded: Any, features: Any, ids: list[Any]) -> None:
    there = remote.get_online_features(features, entities={"driver_id": ids})
    here = embedded.get_online_features(features, entities={"driver_id": ids})
    assert_same(there, here)


def spelled(result: Any) -> str:
    """Values so that NaN equals itself and 1 is not 1.0; UTC has two names in Python."""
    return repr(result.to_dict()).replace("zoneinfo.ZoneInfo(key='UTC')", "datetime.timezone.utc")


def assert_same(there: Any, here: Any) -> None:
    assert type(there) is type(here)
    assert spelled(there) == spelled(here)
    assert there.statuses == here.statuses
    assert there.event_timestamps == here.event_timestamps
    assert there.ages == here.ages
    assert there.feature_names == here.feature_names
    mine, theirs = there.to_arrow(), here.to_arrow()
    assert mine.schema.equals(theirs.schema)
    assert len(there) == len(here)


def test_remote_prepares_and_takes_rows(remote: Any, embedded: Any) -> None:
    read = remote.prepare(ranking, full_feature_names=True)
    here = embedded.prepare(ranking, full_feature_names=True)
    assert_same(read(entity_rows=[{"driver_id": 1}]), here(entity_rows=[{"driver_id": 1}]))
    keys = {"tag": [b"\x00\xff"], "day": [date(2024, 5, 1)]}
    assert_same(
        remote.get_online_features(["tagged:score"], entities=keys),
        embedded.get_online_features(["tagged:score"], entities=keys),
    )


@pytest.mark.parametrize(
    "ids",
    [
        pd.Series([1, None], dtype="Int64"),
        pd.Series([1, None], dtype="UInt64"),
        pd.Series([1.0, None]),
        pd.Series([1, None], dtype=object),
        [PyDecimal(1), None],
    ],
    ids=lambda v: str(getattr(v, "dtype", "list")),
)
def test_remote_takes_the_key_columns_that_embedded_takes(remote: Any, embedded: Any, ids: Any) -> None:
    there = remote.get_online_features(["stats:trips"], entities={"driver_id": ids})
    assert_same(there, embedded.get_online_features(["stats:trips"], entities={"driver_id": ids}))
    assert there.to_dict()["trips"] == [1, None]


def test_remote_pushes_exactly(remote: Any, embedded: Any) -> None:
    at = datetime(2024, 5, 1, 11, 30, 0, 1, tzinfo=UTC)
    rows = [{"driver_id": 600, "money": PyDecimal("0.0001"), "blob": b"\xff", "at": at, "event_timestamp": at}]
    done = remote.push("typed", rows)
    assert (done.rows, done.views) == (1, ("types",))
    found = embedded.get_online_features(["types:money", "types:blob", "types:at"], entities={"driver_id": [600]})
    assert found.to_dict() == {"driver_id": [600], "money": [PyDecimal("0.0001")], "blob": [b"\xff"], "at": [at]}


def test_remote_materializes(remote: Any) -> None:
    heard: list[tuple[str, int, int]] = []
    (done,) = remote.materialize("2024-05-01", NOW, ["stats"], progress=lambda *said: heard.append(said))
    assert (done.view, done.start_us) == ("stats", 1_714_521_600_000_000)
    assert done.rows >= 300  # and what other tests pushed
    assert heard == [("stats", done.rows, done.rows)]
    assert [run.view for run in remote.materialize_incremental(NOW, ["stats"])] == ["stats"]


def test_remote_gets_and_lists(remote: Any, embedded: Any) -> None:
    assert remote.list("feature-view") == embedded.list("feature-view")
    assert remote.get("feature-service", "ranking") == embedded.get("feature-service", "ranking")


def test_remote_predicts(remote: Any, embedded: Any) -> None:
    ask = {"entities": {"driver_id": [1, 299, 9999]}, "request": {"speed": 0.5}}
    here, there = embedded.predict("late", **ask), remote.predict("late", **ask)
    assert (there.predictions, there.release) == (here.predictions, here.release)
    assert spelled(there) == spelled(here)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda p: p.get_online_features(["stats:trip"], entities={"driver_id": [1]}), UnknownFeature),
        (lambda p: p.get_online_features("rank", entities={"driver_id": [1]}), UnknownFeature),
        (lambda p: p.get_online_features(["stats:trips"], entities={"driver_id": ["1"]}), SchemaMismatch),
        (lambda p: p.get_online_features(["stats:trips"], [{"driver": 1}]), SchemaMismatch),
        (lambda p: p.get_online_features(["stats:trips"]), InvalidArgument),
        (lambda p: p.get_online_features(["stats:trips"], entities={"driver_id": [1] * 10_001}), TooLarge),
        (lambda p: p.push("stat", [{"driver_id": 1}]), UnknownObject),
        (lambda p: p.push("stats", [{"driver_id": "x"}]), SchemaMismatch),
        (lambda p: p.push("stats", [{"driver_id": 1}], to="nowhere"), InvalidArgument),
        (lambda p: p.materialize("2024-05-02", "2024-05-01"), InvalidArgument),
        (lambda p: p.get("feature-view", "stat"), UnknownObject),
        (lambda p: p.list("thing"), UnknownObject),
        (lambda p: p.predict("lat"), UnknownObject),
    ],
)
def test_remote_errors_are_the_embedded_ones(
    remote: Any, embedded: Any, call: Callable[[Any], Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind) as here:
        call(embedded)
    with pytest.raises(kind) as there:
        call(remote)
    if kind is SchemaMismatch and not remote._arrow:  # JSON has no types to speak of: its reader names the row too
        assert there.value.code == here.value.code
        assert "driver_id" in str(there.value)
    else:
        assert str(there.value) == str(here.value)


# --- processes -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose server wants a token, with the clock running."""
    return make_project(tmp_path_factory.mktemp("small") / "demo", serve_lines='token = "s3cret"\n')


def test_a_port_in_use_is_said_plainly(server: Running, small: Path) -> None:
    with pytest.raises(Busy, match=f"port {server.port} on 127.0.0.1 is in use") as caught:
        serve(small, port=server.port)
    assert "--port" in caught.value.hint


def test_a_server_open_to_the_network_needs_a_token(root: Path) -> None:
    with pytest.raises(InvalidSettings, match="there is no token") as caught:
        serve(root, host="0.0.0.0", port=0)
    assert "--insecure" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"port": 70_000}, InvalidSettings),
        ({"workers": 0}, InvalidSettings),
        ({"clock": "noon", "port": 0}, InvalidArgument),
        ({"host": "no.such.host.invalid", "port": 0, "insecure": True}, InvalidArgument),
        ({"host": "192.0.2.1", "port": 0, "insecure": True}, InvalidArgument),
    ],
    ids=str,
)
def test_options_out_of_bounds_are_refused(root: Path, options: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        serve(root, **options)


def test_a_project_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    broken = make_project(tmp_path / "demo")
    for file in (broken / ".stook").glob("records.db*"):
        file.write_bytes(b"this is no database" * 1_000)
    with pytest.raises(pytest.fail.Exception, match=r"CorruptStore.*records\.db"), serving(broken):
        pass


def pinned(running: Running, token: str = "s3cret") -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_token_kills_and_restarts(small: Path) -> None:
    """One server's life: its token, a killed worker, then a killed main process and the next server on its port."""
    with serving(small, workers=2) as running:
        assert httpx.get(f"{running.url}/health").json()["clock"] == "running"
        for headers in ({}, pinned(running, "wrong"), {"Authorization": "s3cret"}, {"Authorization": "Basic s3cret"}):
            for path in ("/ready", "/metrics", "/openapi.json", "/v2/health/live"):
                answer = httpx.get(running.url + path, headers=headers)
                assert error_of(answer, 401)["code"] == "unauthorized"
                assert answer.headers["www-authenticate"] == "Bearer"
        assert httpx.get(f"{running.url}/ready", headers=pinned(running)).status_code == 200
        with pytest.raises(Unauthorized), stook.open(running.url) as p:
            p.list("entity")
        with stook.open(running.url, token="s3cret") as p:
            assert len(p.list("feature-view")) == 3

        first, second = running.workers()
        os.kill(first, signal.SIGKILL)
        await_true(lambda: len(running.workers()) == 2 and first not in running.workers(), "another worker")
        assert second in running.workers()
        assert httpx.get(f"{running.url}/ready", headers=pinned(running)).status_code == 200

        orphans = running.workers()
        os.kill(running.process.pid, signal.SIGKILL)
        killed = time.monotonic()
        running.process.wait(WAIT_S)
        await_true(lambda: not any(alive(pid) for pid in orphans), "workers end with their server", within_s=1.5)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{running.url}/health", timeout=1)
        assert time.monotonic() - killed < 1.5
        port = running.port
    with serving(small, port=port) as again:
        assert again.port == port
        assert httpx.get(f"{again.url}/ready", headers=pinned(again)).status_code == 200


def alive(pid: int) -> bool:
    """Whether it still runs; a zombie nobody has waited for does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def load(port: int, tally: Counter[str], ended: threading.Event, one_each: bool) -> None:
    """Asks until the server refuses connections; counts every request that was sent by how it ended."""
    body = json.dumps(ASK).encode()
    headers = {"Authorization": "Bearer s3cret"}
    connection: http.client.HTTPConnection | None = None
    while not ended.is_set():
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
            try:
                connection.connect()
            except ConnectionRefusedError:
                return
        try:
            connection.request("POST", "/get-online-features", body, headers)
            response = connection.getresponse()
            content = response.read()
            whole = response.status == 200 and json.loads(content)["results"][0]["values"] == [1]
            tally["answered" if whole else f"{response.status} {content[:80]!r}"] += 1
            if one_each or response.will_close:
                connection.close()
                connection = None
        except (OSError, http.client.HTTPException) as error:
            tally[repr(error)] += 1
            connection.close()
            connection = None


def test_a_graceful_stop_loses_no_request(small: Path) -> None:
    """Hard cases: a kept connection that is idle just when the server stops, and one made just then."""
    with serving(small, workers=2) as running:
        tally: Counter[str] = Counter()
        ended = threading.Event()
        threads = [
            threading.Thread(target=load, args=(running.port, tally, ended, number % 2 == 0)) for number in range(8)
        ]
        for thread in threads:
            thread.start()
        await_true(lambda: tally["answered"] > 300, "load")
        running.process.terminate()
        for thread in threads:
            thread.join(WAIT_S)
        assert not any(thread.is_alive() for thread in threads)
        ended.set()
        assert running.process.wait(WAIT_S) == 0
        assert set(tally) == {"answered"}, tally
        with pytest.raises(EngineUnavailable), stook.open(running.url) as p:
            p.list("entity")


def test_a_slow_request_is_answered_after_the_stop(small: Path) -> None:
    """A materialization that was sent when SIGTERM comes is finished and answered."""
    with serving(small) as running:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=WAIT_S)
        body = json.dumps({"end": "2024-05-01T12:00:00Z", "replace": True})
        connection.request("POST", "/materialize", body, pinned(running))
        running.process.terminate()
        response = connection.getresponse()
        assert (response.status, response.headers["connection"]) == (200, "close")
        assert {view["view"] for view in json.loads(response.read())["views"]} == {"stats", "tagged", "types"}
        connection.close()
        assert running.process.wait(WAIT_S) == 0


# --- what a hostile client found ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "column",
    [{"m": [[["a", 1.0], ["a", 2.0]]]}, {"v": [[1e39, 0, 0]]}, {"t": ["12:00:00+05:00"]}, {"id": ["1_001"]}],
)
def test_what_would_be_stored_wrong_is_refused_before_it_is_logged(tmp_path: Path, column: dict[str, Any]) -> None:
    (tmp_path / "stook.toml").write_text('[project]\nname = "hostile"\n')
    entity = stook.Entity("d", join_keys={"id": stook.Int64})
    fields = {"m": stook.Map(stook.String, stook.Float64), "v": stook.Vector(stook.Float32, 3), "t": stook.Time}
    schema = [stook.Field(name, dtype) for name, dtype in fields.items()]
    with stook.open(tmp_path) as p:
        p.apply([stook.FeatureView("v", entities=[entity], source=stook.PushSource("s"), schema=schema)])
    with serving(tmp_path) as running, httpx.Client(base_url=running.url, timeout=WAIT_S) as client:
        answer = client.post("/push", json={"view": "v", "df": {"id": [1], **column}})
        assert error_of(answer, 422)["code"] == "schema_mismatch"
        good = client.post("/push", json={"view": "v", "df": {"id": ["1"], "v": [[0.1, 0, 0]], "m": [[["a", 1]]]}})
        assert good.status_code == 200, good.text
        assert client.post("/materialize-incremental", json={"end": "2030-01-01T00:00:00Z"}).status_code == 200


def test_a_malformed_or_bloated_arrow_body_is_refused(web: httpx.Client) -> None:
    import pyarrow as pa

    table = pa.table({"driver_id": pa.nulls(200_000, pa.int64()).fill_null(1)})
    headers = {"content-type": "application/vnd.apache.arrow.stream"}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for _ in range(20):
            writer.write_table(table)
    bloated = web.post("/push", params={"view": "stats"}, content=sink.getvalue().to_pybytes(), headers=headers)
    assert error_of(bloated, 413)["code"] == "too_large"
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, pa.schema([pa.field("abcdef", pa.int64())])):
        pass
    mangled = sink.getvalue().to_pybytes().replace(b"abcdef", b"\xff\xfe\xfd\xfc\xfb\xfa")
    error_of(web.post("/push", params={"view": "stats"}, content=mangled, headers=headers), 422)


def test_long_text_costs_no_memory_a_character() -> None:
    import resource

    from stook.core.errors import TooLarge
    from stook.edge.http.body import check_depth

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TooLarge):
        check_depth(b"[" * 40 + b"]" * 40 + b'"' + b"x" * (8 << 20) + b'"', 32)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10
