"""`stook serve`: one process that holds the port, and worker processes that answer behind it.

It is a file of its own because it alone starts, watches and ends processes. The command line calls `serve`. It
must never open a platform itself: what answers are its workers.

A worker that dies is replaced; one that cannot start ends the server with its reason. SIGTERM or SIGINT ends the
workers gracefully: requests in flight are answered. A second signal, or a minute, kills what is left.
"""

from __future__ import annotations

import ipaddress
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypedDict, Unpack

import msgspec

from stook.core import errors
from stook.core.errors import Fault, InvalidSettings, StookError
from stook.core.instants import to_us
from stook.core.settings import BOUNDS, Settings, load_settings
from stook.edge.http.listening import taken_port
from stook.edge.http.orders import WorkerOrder, WorkerReport

STOP_WAIT_S: Final = 60.0
RESPAWN_PAUSE_S: Final = 0.2
FAILED_STARTS_MAX: Final = 5
METRICS_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
# glibc gives the memory of a large answer back at once, and each page of the next one then costs a fault: most of the time of
# an answer of some MiB. Up to this much is kept, in each thread that answers
MEMORY_KEPT: Final = {name: str(16 << 20) for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")}
Say = Callable[[str], None]


def say_line(text: str) -> None:
    """Writes a line to standard output at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class ServeOptions(TypedDict, total=False):
    """What may be said beside the settings; None is as left out."""

    host: str | None
    port: int | None
    workers: int | None
    clock: str | None  # an instant at which the platform's clock stands
    insecure: bool  # listen beyond this machine without a token
    join: str | None  # a name under which it stands among the project's gateways
    advertise: str | None  # HOST:PORT where balancers reach it; by default where it listens


def serve(folder: str | Path, **options: Unpack[ServeOptions]) -> None:
    """Serves a project over HTTP until SIGTERM or SIGINT; what is left out comes from `[serve]` in `stook.toml`.

    Says one line when every worker answers: `serving flights at http://127.0.0.1:6566, 2 workers`. With `join` it then
    stands among the gateways of the project's coordination engine, where balancers find it, and leaves them before it
    stops. Call it from the main thread. Raises NotAProject, InvalidSettings (also for a host beyond this machine without a
    token), Busy when the port is in use, and whatever keeps a worker from opening the project.
    """
    settings = load_settings(folder)
    asked = {name: value for name, value in options.items() if value is not None}
    said: Any = {**vars(settings.serve), "clock": None, "insecure": False, "join": None, "advertise": None, **asked}
    host, clock = said["host"], said["clock"]
    port, workers = _bounded("port", said["port"]), _bounded("workers", said["workers"])
    if clock is not None:
        to_us(clock, "clock")
    _check_exposed(host, settings, said["insecure"])
    with taken_port(host, port) as (address, number), _signals() as signals, tempfile.TemporaryDirectory() as metrics:
        order = WorkerOrder(str(settings.root), address, number, settings.serve.token, clock)
        shown = f"[{host}]" if ":" in host else host
        plural = "worker" if workers == 1 else "workers"
        greeting = f"serving {settings.name} at http://{shown}:{number}, {workers} {plural}"
        frozen = "" if clock is None else f", clock frozen at {clock}"
        with _joining(settings.root, said["join"], said["advertise"] or f"{shown}:{number}") as joined:

            def ready() -> None:
                say_line(greeting + frozen)
                joined.start()

            _Supervisor(order, workers, metrics, signals, ready, joined.leave).run()


class _Alone:
    """A server that stands in no group."""

    def start(self) -> None:
        """Nothing."""

    def leave(self) -> None:
        """Nothing."""


@contextmanager
def _joining(root: Path, name: str | None, address: str) -> Iterator[Any]:
    """The server's standing among the gateways, not begun yet."""
    if name is None:
        yield _Alone()
        return
    from stook.app.gateways import gateway_at, join  # start-up time: it loads the platform's code, a second's work

    with join(root, gateway_at(name, address), say_line) as joined:
        yield joined


def _bounded(name: str, value: int) -> int:
    low, high = BOUNDS[f"serve.{name}"]
    if not low <= value <= high:
        raise InvalidSettings(f"{name} is {value}, out of bounds", hint=f"{low} to {high}")
    return value


def _check_exposed(host: str, settings: Settings, insecure: bool) -> None:
    if settings.serve.token or insecure or host == "localhost":
        return
    with suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return
    raise InvalidSettings(
        f"serving on {host} would let anyone on the network in: there is no token",
        hint='set serve.token in stook.toml, e.g. "${STOOK_TOKEN:-}", or say --insecure',
    )


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket that becomes readable with each SIGTERM or SIGINT; the old handlers come back afterwards."""
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.setblocking(False)
        reader.setblocking(False)
        wakeup = signal.set_wakeup_fd(writer.fileno())
        before = {number: signal.signal(number, _wake) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield reader
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)


def _wake(number: int, frame: object) -> None:
    """The wakeup descriptor has told already."""


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    number: int
    ready: bool = False


@dataclass
class _Supervisor:
    """Keeps `count` workers alive until a signal, then ends them."""

    order: WorkerOrder
    count: int
    metrics: str
    signals: socket.socket
    when_ready: Callable[[], None]
    before_stop: Callable[[], None]
    workers: dict[int, _Worker] = field(default_factory=dict)
    failed_starts: int = 0

    def run(self) -> None:
        """Returns after a graceful end. Raises the error of a worker that cannot start, Fault when they keep dying."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.signals, selectors.EVENT_READ)
            try:
                for number in range(self.count):
                    self._start(number, selector)
                self._watch(selector)
                self._stop(selector)
            finally:
                self._kill()

    def _start(self, number: int, selector: selectors.BaseSelector) -> None:
        order = msgspec.structs.replace(self.order, upkeep=number == 0)
        process = subprocess.Popen(
            [sys.executable, "-m", "stook.edge.http.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**MEMORY_KEPT, **os.environ, METRICS_FOLDER: self.metrics},
        )
        worker = self.workers[number] = _Worker(process, number)
        assert process.stdin is not None and process.stdout is not None
        with suppress(BrokenPipeError):  # it died already: its output's end tells
            process.stdin.write(msgspec.json.encode(order) + b"\n")
            process.stdin.flush()
        selector.register(process.stdout, selectors.EVENT_READ, worker)

    def _watch(self, selector: selectors.BaseSelector) -> None:
        told = False
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    return
                worker: _Worker = key.data
                line = _line(worker)
                if line:
                    self._heard(worker, line)
                else:
                    self._replace(worker, selector)
            if not told and len(self.workers) == self.count and all(w.ready for w in self.workers.values()):
                told = True
                self.when_ready()

    def _heard(self, worker: _Worker, line: bytes) -> None:
        report = msgspec.json.decode(line, type=WorkerReport)
        if not report.ready:
            raise _error(report)
        worker.ready = True
        self.failed_starts = 0

    def _replace(self, worker: _Worker, selector: selectors.BaseSelector) -> None:
        code = self._forget(worker, selector)
        self.failed_starts += not worker.ready
        if self.failed_starts >= FAILED_STARTS_MAX:
            raise Fault(
                f"workers ended {FAILED_STARTS_MAX} times before they answered, the last with code {code}",
                hint="the lines above say why",
            )
        say_line(f"worker {worker.number + 1} ended with code {code}; starting another")
        time.sleep(RESPAWN_PAUSE_S)
        self._start(worker.number, selector)

    def _forget(self, worker: _Worker, selector: selectors.BaseSelector) -> int:
        assert worker.process.stdin is not None and worker.process.stdout is not None
        selector.unregister(worker.process.stdout)
        code = worker.process.wait()
        worker.process.stdin.close()
        worker.process.stdout.close()
        del self.workers[worker.number]
        return code

    def _stop(self, selector: selectors.BaseSelector) -> None:
        """Ends all workers and waits for them; a second signal or a minute ends the patience."""
        self.signals.recv(1024)
        self.before_stop()
        for worker in self.workers.values():
            worker.process.terminate()
        deadline_s = time.monotonic() + STOP_WAIT_S
        while self.workers and (left_s := deadline_s - time.monotonic()) > 0:
            for key, _ in selector.select(left_s):
                if key.data is None:
                    return
                if not _line(key.data):
                    self._forget(key.data, selector)

    def _kill(self) -> None:
        for worker in self.workers.values():
            worker.process.kill()
            worker.process.wait()


def _line(worker: _Worker) -> bytes:
    assert worker.process.stdout is not None
    return os.read(worker.process.stdout.fileno(), 1 << 16)


def _error(report: WorkerReport) -> StookError:
    kinds = [StookError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    found = next((kind for kind in kinds if kind.code == report.code), errors.StookError)
    return found(report.message, hint=report.hint)
