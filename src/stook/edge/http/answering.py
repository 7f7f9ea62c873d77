"""What a worker process answers with: its platform behind the HTTP server, until told to end.

It is a file of its own because it loads the engines, which `worker` must not before it watches its server.
`worker` calls it. It must never keep a request waiting that was sent before the door was shut.

Told to end (SIGTERM), it shuts the door to new connections, answers what comes over the existing ones with
`Connection: close` for a moment, then lets the server beneath finish what is in flight.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import Final

import msgspec
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server

from stook.app import Platform, open_platform
from stook.edge.http.door import Door
from stook.edge.http.listening import drop_who_reads_nothing, shut_door
from stook.edge.http.openapi import openapi
from stook.edge.http.orders import WorkerOrder
from stook.edge.http.routes import make_app
from stook.edge.http.upkeep import Upkeep

DRAIN_S: Final = 0.5
LISTEN_POLL_S: Final = 0.005
BACKLOG: Final = 1_024
CONNECTIONS_MAX: Final = 1_024  # of one worker; more wait to be accepted
REQUEST_WAIT_S: Final = 30  # for a connection's next request to come, to the end of its headers


def answer(order: WorkerOrder, when_ready: Callable[[], None]) -> None:
    """Serves until SIGTERM. Raises what keeps the project from being opened and its registry from being read."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with open_platform(order.folder, order.clock) as platform:
        platform.list("feature-view")
        with Upkeep(platform, on=order.upkeep):
            asyncio.run(_serve(platform, order, when_ready))


async def _serve(platform: Platform, order: WorkerOrder, when_ready: Callable[[], None]) -> None:
    door = Door(platform, order.token, msgspec.json.encode(openapi()))
    server = Server(
        make_app(door),
        address=order.host,
        port=order.port,
        interface=Interfaces.ASGINL,
        websockets=False,
        backlog=BACKLOG,
        backpressure=CONNECTIONS_MAX,
        http=HTTPModes.http1,  # where HTTP/2 is offered too, a connection that says nothing is kept forever
        http1_settings=HTTP1Settings(header_read_timeout=REQUEST_WAIT_S * 1_000),
        log_level=LogLevels.error,
    )
    loop = asyncio.get_running_loop()

    def drain() -> None:
        if not door.draining:
            door.draining = True
            shut_door(order.port)
            loop.call_later(DRAIN_S, server.stop)

    loop.add_signal_handler(signal.SIGTERM, drain)
    serving = asyncio.create_task(server.serve())
    while not serving.done() and not drop_who_reads_nothing(order.port):  # noqa: ASYNC110  the server beneath has no such event
        await asyncio.sleep(LISTEN_POLL_S)
    if not serving.done():
        when_ready()
    await serving
    await loop.run_in_executor(None, door.close)
