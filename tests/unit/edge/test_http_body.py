"""What is wrong with a request before its meaning: depth, JSON, shape."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stook.core.errors import InvalidArgument, TooLarge
from stook.edge.http.body import check_depth, decode
from stook.edge.http.messages import MaterializeRequest, OnlineRequest, PushRequest
from stook.edge.http.openapi import openapi
from stook.edge.http.routes import ENDPOINTS


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
