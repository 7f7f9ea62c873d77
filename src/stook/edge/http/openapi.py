"""The OpenAPI document, made from the route table and the message types.

It is a file of its own because it only describes. The worker serves what it makes. It must never be written by
hand: an endpoint that is not in the table does not exist, and one that is cannot be missing here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from stook._version import __version__
from stook.edge.http.handlers import ARROW, JSON
from stook.edge.http.messages import ErrorAnswer
from stook.edge.http.routes import ENDPOINTS, Endpoint

_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_BINARY: Final = {ARROW: {"schema": {"type": "string", "format": "binary"}}}

_LIMITS: Final = (
    "At most `serve.body_limit_mib` MiB (16 where nothing else is said), sent without Content-Encoding; JSON nests at "
    "most `serve.json_depth_max` levels (32)."
)
_FAILURES: Final = {
    "400": ("The call is not as it must be.", ""),
    "401": ("The bearer token is missing or wrong.", "WWW-Authenticate"),
    "404": ("Something that the call names is not there.", ""),
    "408": ("The body stopped, or came too slowly.", ""),
    "413": ("The body, or what it holds, is over a limit.", ""),
    "422": ("The call is well formed, and what it holds is not of the declared names or types.", ""),
    "429": ("Too much is asked at once; repeat it.", "Retry-After"),
    "503": ("Something else changed it first, or an engine does not answer; repeat it.", "Retry-After"),
    "4XX": ("The call has to change.", ""),
    "5XX": ("The server failed.", ""),
}
_OF_BODIES: Final = ("408", "413", "422")


def openapi(endpoints: Sequence[Endpoint] = ENDPOINTS) -> dict[str, Any]:
    """The OpenAPI 3.1 document.

    >>> "/push" in openapi()["paths"]
    True
    """
    types = [t for e in endpoints for t in (e.body, e.answer) if t is not None] + [ErrorAnswer]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    named = dict(zip(map(str, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, named)
    return {
        "openapi": "3.1.0",
        "info": {"title": "stook", "version": __version__, "description": "Features and models, over HTTP."},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint, named: dict[str, Any]) -> dict[str, Any]:
    summary = (endpoint.handler.__doc__ or "").strip().partition("\n")[0]
    content: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
    if endpoint.answer is not None:
        content = {JSON: {"schema": named[str(endpoint.answer)]}}
    if endpoint.arrow:
        content |= _BINARY
    operation: dict[str, Any] = {
        "operationId": getattr(endpoint.handler, "__name__", endpoint.path),
        "summary": summary,
        "responses": {"200": {"description": "Done.", "content": content}, **_failures(endpoint, named)},
        "security": [{"token": []}] if endpoint.token else [],
    }
    text = {"type": "string"}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {**text, "minLength": 1}}
        for name in _PARAMETER.findall(endpoint.path)
    ]
    parameters += [
        {"name": name, "in": "query", "schema": text, "description": "Beside an Arrow stream; see the JSON body."}
        for name in endpoint.query
    ]
    if parameters:
        operation["parameters"] = parameters
    if endpoint.body is not None:
        bodies = {JSON: {"schema": named[str(endpoint.body)]}}
        if endpoint.arrow_body:
            bodies |= _BINARY
        operation["requestBody"] = {"required": True, "description": _LIMITS, "content": bodies}
    return operation


def _failures(endpoint: Endpoint, named: dict[str, Any]) -> dict[str, Any]:
    """What may go wrong, by status. 4XX and 5XX stand for the rest: every one of them has the same shape."""
    content = {JSON: {"schema": named[str(ErrorAnswer)]}}
    found: dict[str, Any] = {}
    for status, (text, header) in _FAILURES.items():
        if status in _OF_BODIES and endpoint.body is None:
            continue
        if status == "401" and not endpoint.token:
            continue
        found[status] = {"description": text, "content": content}
        if header:
            found[status]["headers"] = {header: {"schema": {"type": "string"}}}
    return found
