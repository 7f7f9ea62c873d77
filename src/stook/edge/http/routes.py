"""The route table, and the ASGI application made of it.

It is a file of its own because routing, counting and the OpenAPI document must agree on one table. The worker
makes the application; `openapi` reads the table. It must never answer anything but our own JSON, nor
tell an error's details where the caller can do nothing about them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stook.core.errors import StookError
from stook.edge import wire
from stook.edge.http import handlers, messages, metrics
from stook.edge.http.body import check_token
from stook.edge.http.door import Door
from stook.edge.http.handlers import json_response

Handler = Callable[[Door, Request], Awaitable[Response]]
OTHER: Final = "other"
NAMED: Final = ((b"server", b"stook"),)  # else the server beneath names itself
CLOSING: Final = (*NAMED, (b"connection", b"close"))
_log: Final = logging.getLogger("stook.http")


@dataclass(frozen=True)
class Endpoint:
    """One row of the table. `body` and `answer` are message types (None: no body; an answer in another format).

    `arrow`: the answer comes as an Arrow stream when asked for. `arrow_body`: the body may be one; then `query` names
    what a JSON body would hold beside it. `token` False: answers without one.
    """

    method: str
    path: str
    handler: Handler
    body: type | None = None
    answer: type | None = None
    arrow: bool = False
    arrow_body: bool = False
    query: tuple[str, ...] = ()
    token: bool = True


ENDPOINTS: Final = (
    Endpoint(
        "POST", "/get-online-features", handlers.get_online_features, messages.OnlineRequest, messages.OnlineAnswer, arrow=True
    ),
    Endpoint(
        "POST", "/push", handlers.push, messages.PushRequest, messages.PushAnswer, arrow_body=True,
        query=("view", "push_source_name", "to"),
    ),
    Endpoint("POST", "/materialize", handlers.materialize, messages.MaterializeRequest, messages.MaterializeAnswer),
    Endpoint(
        "POST", "/materialize-incremental", handlers.materialize_incremental,
        messages.IncrementalRequest, messages.MaterializeAnswer,
    ),
    Endpoint("POST", "/predict/{deployment}", handlers.predict, messages.PredictRequest, messages.PredictAnswer, arrow=True),
    Endpoint("GET", "/objects/{kind}", handlers.list_objects, None, messages.ObjectsAnswer),
    Endpoint("GET", "/objects/{kind}/{name}", handlers.get_object, None, messages.ObjectAnswer),
    Endpoint("GET", "/health", handlers.health, None, messages.HealthAnswer, token=False),
    Endpoint("GET", "/ready", handlers.ready, None, messages.ReadyAnswer),
    Endpoint("GET", "/metrics", handlers.show_metrics),
    Endpoint("GET", "/openapi.json", handlers.show_openapi, None, dict[str, Any]),
    Endpoint("GET", "/v2", handlers.v2_server, None, messages.InferServer),
    Endpoint("GET", "/v2/health/live", handlers.v2_live, None, messages.InferLive),
    Endpoint("GET", "/v2/health/ready", handlers.v2_ready, None, messages.InferReady),
    Endpoint("GET", "/v2/models/{deployment}", handlers.v2_model, None, messages.InferModel),
    Endpoint("GET", "/v2/models/{deployment}/ready", handlers.v2_model_ready, None, messages.InferModelReady),
    Endpoint("POST", "/v2/models/{deployment}/infer", handlers.v2_infer, messages.InferRequest, messages.InferAnswer),
)  # fmt: skip


def make_app(door: Door) -> ASGIApp:
    """The ASGI application over one door."""
    starlette = Starlette(
        routes=[Route(e.path, _counted(e, door), methods=[e.method]) for e in ENDPOINTS],
        exception_handlers={HTTPException: _not_routed, Exception: _unforeseen},
    )
    starlette.router.redirect_slashes = False

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *(CLOSING if door.draining else NAMED)]
            await send(message)

        await starlette(scope, receive, closing)

    return app


def error_response(error: StookError) -> Response:
    """An error as JSON with the right status. What is not the caller's doing goes to the log in full."""
    status = wire.status_of(error)
    if status == wire.INTERNAL:
        _log.error("%s: %s", error.code, error)
    response = json_response(wire.body_of(error), status)
    response.headers.update(wire.headers_of(error))
    return response


def _counted(endpoint: Endpoint, door: Door) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        started = time.perf_counter()
        status = wire.INTERNAL
        try:
            if endpoint.token:
                check_token(request, door.token)
            response = await endpoint.handler(door, request)
            status = response.status_code
        except StookError as error:
            response = error_response(error)
            status = response.status_code
        except ClientDisconnect:
            status = 400
            response = Response(status_code=status)  # nobody is there to read it
        finally:
            metrics.count_request(endpoint.path, status, time.perf_counter() - started)
        return response

    return answer


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    metrics.count_request(OTHER, status, 0.0)
    paths = ", ".join(e.path for e in ENDPOINTS[:5])
    if status == 405:
        message, hint = f"{request.url.path} does not answer {request.method}", "GET /openapi.json lists the methods"
    else:
        message, hint = f"there is no {request.url.path}", f"GET /openapi.json lists what there is: {paths}, ..."
    response = json_response(wire.error_json(wire.HTTP_CODES.get(status, "invalid_call"), message, hint), status)
    response.headers.update(error.headers or {})
    return response


async def _unforeseen(_: Request, __: Exception) -> Response:
    """Starlette raises the exception again afterwards, so that the server logs it."""
    body = wire.error_json("fault", "the server failed", "the server's log says more; report it")
    return json_response(body, wire.INTERNAL)
