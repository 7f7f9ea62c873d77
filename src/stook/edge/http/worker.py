"""One worker process: its own platform behind the shared port.

It is a file of its own because it runs as a program (`python -m stook.edge.http.worker`), started by `server` with
its settings on standard input. It says one line of JSON on standard output when it answers, or why it cannot.
It must never outlive the server: when standard input ends, so does it, at once.

Told to end (SIGTERM), it shuts the door to new connections, answers what comes over the existing ones with
`Connection: close` for a moment, then lets the server beneath finish what is in flight.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from typing import Final

import msgspec
from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server.embed import Server

from stook.app import Platform, open_platform
from stook.core.errors import StookError
from stook.edge.http.door import Door
from stook.edge.http.listening import listeners, shut_door
from stook.edge.http.openapi import openapi
from stook.edge.http.routes import make_app
from stook.edge.http.upkeep import Upkeep

DRAIN_S: Final = 0.5
LISTEN_POLL_S: Final = 0.005
BACKLOG: Final = 1_024
_log: Final = logging.getLogger("stook.http")


class WorkerOrder(msgspec.Struct):
    """What a worker is told. `upkeep`: it also folds pushes into history; one worker does."""

    folder: str
    host: str
    port: int
    token: str = ""
    clock: str | None = None
    upkeep: bool = False


class WorkerReport(msgspec.Struct):
    """What a worker says: it answers, or an error's code, message and hint."""

    ready: bool
    code: str = ""
    message: str = ""
    hint: str = ""


def main() -> None:
    """Serves until told to end. Exit code 1 when the project cannot be opened."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the server tells us to end
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=WorkerOrder)
    threading.Thread(target=_end_with_server, daemon=True).start()
    report = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever prints must not fill the server's pipe
    try:
        platform = open_platform(order.folder, order.clock)
    except StookError as error:
        _say(report, WorkerReport(False, error.code, error.message, error.hint))
        sys.exit(1)
    with platform, Upkeep(platform, on=order.upkeep):
        asyncio.run(_serve(platform, order, report))


def _end_with_server() -> None:
    while os.read(sys.stdin.fileno(), 1 << 16):  # not through the buffer, whose lock would hinder a normal end
        pass
    os._exit(1)  # the server is gone: nobody may answer in its name


def _say(report: int, what: WorkerReport) -> None:
    os.write(report, msgspec.json.encode(what) + b"\n")


async def _serve(platform: Platform, order: WorkerOrder, report: int) -> None:
    door = Door(platform, order.token, msgspec.json.encode(openapi()))
    server = Server(
        make_app(door),
        address=order.host,
        port=order.port,
        interface=Interfaces.ASGINL,
        websockets=False,
        backlog=BACKLOG,
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
    while not serving.done() and not _close_all(order.port):  # noqa: ASYNC110  the server beneath has no such event
        await asyncio.sleep(LISTEN_POLL_S)
    if not serving.done():
        _say(report, WorkerReport(True))
    await serving
    await loop.run_in_executor(None, door.close)


def _close_all(port: int) -> int:
    """How many sockets listen on the port."""
    found = listeners(port)
    for listener in found:
        listener.close()
    return len(found)


if __name__ == "__main__":
    main()
