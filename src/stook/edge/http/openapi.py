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
    failed = {"description": "The call failed.", "content": {JSON: {"schema": named[str(ErrorAnswer)]}}}
    operation: dict[str, Any] = {
        "operationId": getattr(endpoint.handler, "__name__", endpoint.path),
        "summary": summary,
        "responses": {"200": {"description": "Done.", "content": content}, "4XX": failed, "5XX": failed},
        "security": [{"token": []}] if endpoint.token else [],
    }
    parameters = _PARAMETER.findall(endpoint.path)
    if parameters:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in parameters
        ]
    if endpoint.body is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": named[str(endpoint.body)]}}}
    return operation
