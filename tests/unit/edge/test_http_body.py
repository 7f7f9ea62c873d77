"""What is wrong with a request before its meaning: depth, JSON, shape."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest
from starlette.requests import Request

from stook.core.errors import Busy, InvalidArgument, NotSupported, TooLarge, TooSlow
from stook.edge.http import body as bodies
from stook.edge.http.body import Bodies, check_depth, decode
from stook.edge.http.messages import MaterializeRequest, OnlineRequest, PushRequest
from stook.edge.http.openapi import openapi
from stook.edge.http.routes import ENDPOINTS, Endpoint


@pytest.mark.parametrize("depth", [1, 31, 32])
def test_depth_within_the_limit_passes(depth: int) -> None:
    check_depth(b"[" * depth + b"]" * depth, 32)


@pytest.mark.parametrize("body", [b"[" * 33, b'{"a":' * 40, b"[" * 100_000, b'[{"a":"]]]]]]",' * 40])
def test_depth_over_the_limit_is_refused_also_where_the_json_is_broken(body: bytes) -> None:
    with pytest.raises(TooLarge, match="deeper than 32"):
        decode(body, dict[str, Any], depth_max=32)


def test_brackets_in_text_and_many_flat_ones_do_not_count() -> None:
    check_depth(b'{"a": "' + b"[" * 100 + b'\\"[[[["}', 4)
    check_depth(b"[" + b"[1]," * 1_000 + b"[1]]", 4)
    check_depth(b'["' + b"[" * 100, 4)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"\xff\xfe",
        b'{"df": {"a": ["\xff"]}}',
        b'{"df": {"a": ["\\ud800"]}}',
        b'{"df": {"a": [NaN]}}',
        b'{"df": {"a": [1e999]}}',
        b'{"df": {}} {}',
        b"[]",
        b'"text"',
        b"null",
        b'{"df": [1]}',
        b'{"df": {"a": 1}}',
        b'{"df": {"a": {"b": 1}}}',
        b'{"df": {}, "too": "both"}',
        b'{"df": {}, "to": 1}',
        b"{}",
    ],
)
def test_a_body_that_is_no_push_is_refused_with_its_place(body: bytes) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode(body, PushRequest, depth_max=32)
    assert caught.value.message.startswith("the body is not")
    assert caught.value.hint


@pytest.mark.parametrize(
    "body", [b'{"features": "a:b"}', b'{"features": [1]}', b'{"entities": [1]}', b'{"int64": "text"}']
)
def test_a_body_that_is_no_online_request_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidArgument):
        decode(body, OnlineRequest, depth_max=32)


def test_feasts_names_are_read() -> None:
    body = b'{"start_ts": "2013-01-01", "end_ts": "2013-02-01", "feature_views": ["a"]}'
    assert decode(body, MaterializeRequest, depth_max=32).feature_views == ["a"]


def test_the_document_describes_every_route_and_every_reference_resolves() -> None:
    document = openapi()
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(e.method, e.path) for e in ENDPOINTS}
    text = msgspec.json.encode(document).decode()
    referred = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert referred <= set(document["components"]["schemas"])
    ids = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(set(ids)) == len(ids)


def test_the_document_says_what_may_be_sent_and_what_may_go_wrong() -> None:
    paths = openapi()["paths"]
    push = paths["/push"]["post"]
    assert set(push["requestBody"]["content"]) == {"application/json", "application/vnd.apache.arrow.stream"}
    assert {p["name"] for p in push["parameters"]} == {"view", "push_source_name", "to"}
    assert {"401", "408", "413", "422", "429", "503"} <= set(push["responses"])
    assert "Retry-After" in push["responses"]["429"]["headers"]
    assert not {"401", "408", "413"} & set(paths["/health"]["get"]["responses"])


@pytest.mark.parametrize("endpoint", [e for e in ENDPOINTS if e.path.startswith("/v2")], ids=lambda e: e.path)
def test_the_inference_protocol_is_described_by_name(endpoint: Endpoint) -> None:
    assert endpoint.answer is not None and issubclass(endpoint.answer, msgspec.Struct)
    assert endpoint.method == "GET" or (endpoint.body is not None and issubclass(endpoint.body, msgspec.Struct))


# --- reading -------------------------------------------------------------------------------------------------------


def sent(*chunks: bytes, stops: bool = False, headers: dict[str, str] | None = None) -> Request:
    """A request whose body comes in these pieces; `stops`: and then nothing more, forever."""
    left = list(chunks)

    async def receive() -> dict[str, Any]:
        if not left and stops:
            await asyncio.Event().wait()
        piece = left.pop(0) if left else b""
        return {"type": "http.request", "body": piece, "more_body": bool(left) or stops}

    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive)


async def whole(held: Bodies, request: Request) -> bytes:
    async with held.read(request) as body:
        return body


def test_a_body_in_pieces_is_put_together() -> None:
    assert asyncio.run(whole(Bodies(4), sent(b"a", b"", b"bcd"))) == b"abcd"
    with pytest.raises(TooLarge):
        asyncio.run(whole(Bodies(4), sent(b"abc", b"de")))


def test_a_body_that_stops_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_WAIT_S", 0.05)
    held = Bodies(1 << 20)
    with pytest.raises(TooSlow, match="after 4 bytes"):
        asyncio.run(asyncio.wait_for(whole(held, sent(b"half", stops=True)), 5))
    assert held._held_bytes == 0


def test_bodies_held_are_bounded_together_and_let_go() -> None:
    held = Bodies(10)

    async def attempt() -> None:
        async with AsyncExitStack() as stack:
            for _ in range(bodies.HELD_FACTOR):
                await stack.enter_async_context(held.read(sent(b"x" * held.limit_bytes)))
            with pytest.raises(Busy) as caught:
                await whole(held, sent(b"x"))
            assert caught.value.retry_after_s
        assert held._held_bytes == 0
        assert await whole(held, sent(b"x")) == b"x"

    asyncio.run(attempt())


def test_a_refused_body_is_not_counted_as_held() -> None:
    held = Bodies(10)
    for request in (sent(b"x" * 8, b"x" * 8), sent(b"x" * 200), sent(b"x", headers={"content-encoding": "gzip"})):
        with pytest.raises((TooLarge, NotSupported)):
            asyncio.run(whole(held, request))
        assert held._held_bytes == 0


@pytest.mark.parametrize("encoding", ["gzip", "br, gzip", "x"])
def test_an_encoded_body_is_refused_by_name(encoding: str) -> None:
    with pytest.raises(NotSupported, match=encoding):
        asyncio.run(whole(Bodies(10), sent(b"x", headers={"content-encoding": encoding})))
    assert asyncio.run(whole(Bodies(10), sent(b"x", headers={"content-encoding": "Identity"}))) == b"x"
