"""Engines by URL: finds each port's backend by entry point and opens it when first needed.

It is a file of its own because it is the only code that loads backends, and because what a project does not use
must not be loaded. The platform owns one `Wiring`. It must never name a backend.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final, cast

from stook.core.errors import InvalidSettings, NotSupported, did_you_mean
from stook.core.instants import to_us
from stook.core.ports.blobs import Blobs
from stook.core.ports.clock import Clock
from stook.core.ports.coordination import Coordination
from stook.core.ports.engine import Engine
from stook.core.ports.keyvalue import KeyValue
from stook.core.ports.locks import Locks
from stook.core.ports.log import Log
from stook.core.ports.records import Records
from stook.core.ports.tables import Tables
from stook.core.settings import EngineUrl, Settings, load_settings, parse_url

GROUP: Final = "stook.backends"


def load_backend(port: str, url: EngineUrl, root: Path, where: str) -> Any:
    """Opens the backend registered as `port.scheme`.

    Raises InvalidSettings when no backend has that scheme, NotSupported with the install command when its driver
    is missing, and whatever the backend raises when it cannot open.
    """
    found = entry_points(group=GROUP)
    name = f"{port}.{url.scheme}"
    if name not in found.names:
        schemes = [n.partition(".")[2] for n in found.names if n.startswith(f"{port}.")]
        raise InvalidSettings(f"{where}: no engine for {url.scheme!r}", hint=did_you_mean(url.scheme, schemes))
    try:
        factory = cast("Callable[[EngineUrl, Path], Any]", found[name].load())
    except ImportError as error:
        raise NotSupported(
            f"{where}: the driver for {url.scheme!r} is not installed: {error}",
            hint=f"pip install 'stook[{url.scheme.partition('+')[0]}]'",  # an extra's name holds no plus
        ) from None
    return factory(url, root)


def load_coordination(settings: Settings) -> Coordination:
    """Begins a session with a project's coordination store; whoever calls closes it. Raises as `load_backend`."""
    url = settings.engines.coordination
    return cast("Coordination", load_backend("coordination", url, settings.root, "engines.coordination"))


@contextmanager
def open_coordination(folder: str | Path) -> Iterator[Coordination]:
    """A project's coordination store alone, closed behind the block: it must be reached also where the rest does not
    open. Raises NotAProject, InvalidSettings, NotSupported, EngineUnavailable."""
    opened = load_coordination(load_settings(folder))
    try:
        yield opened
    finally:
        opened.close()


class FrozenClock:
    """A clock that stands still at one instant, for replays and parity; durations still run."""

    frozen = True

    def __init__(self, now_us: int, running: Clock) -> None:
        self._now_us = now_us
        self._running = running

    def now_us(self) -> int:
        """The frozen instant, microseconds since the epoch."""
        return self._now_us

    def monotonic_s(self) -> float:
        """Seconds of the running clock."""
        return self._running.monotonic_s()


class Wiring:
    """A project's ports, each opened at first use and closed together. Thread-safe."""

    def __init__(self, settings: Settings, clock: object = None) -> None:
        self.settings = settings
        self._lock = threading.RLock()
        self._opened: dict[str, Any] = {}
        running = cast("Clock", self._open("clock", parse_url("system:", settings.root, "clock")))
        if clock is None:
            self.clock: Clock = running
        else:
            self.clock = clock if isinstance(clock, Clock) else FrozenClock(to_us(clock, "clock"), running)

    @property
    def records(self) -> Records:
        """Declarations, watermarks, releases."""
        return cast("Records", self._open("records", self.settings.engines.records))

    @property
    def online(self) -> KeyValue:
        """The online store."""
        return cast("KeyValue", self._open("online", self.settings.engines.online))

    @property
    def tables(self) -> Tables:
        """Pushed history and datasets."""
        return cast("Tables", self._open("tables", self._half(0)))

    @property
    def engine(self) -> Engine:
        """The offline engine."""
        return cast("Engine", self._open("engine", self._half(1)))

    @property
    def log(self) -> Log:
        """The push log."""
        return cast("Log", self._open("log", self.settings.engines.log))

    @property
    def coordination(self) -> Coordination:
        """Nodes, sessions and watches that all processes share; opening it begins a session."""
        return cast("Coordination", self._open("coordination", self.settings.engines.coordination))

    @property
    def blobs(self) -> Blobs:
        """Model artefacts."""
        return cast("Blobs", self._open("blobs", self.settings.engines.blobs))

    @property
    def locks(self) -> Locks:
        """Locks between this machine's processes."""
        return cast("Locks", self._open("locks", parse_url("local:", self.settings.root, "locks")))

    def _half(self, part: int) -> EngineUrl:
        """`delta+duckdb:` names two engines: what stores tables, and what reads them."""
        url = self.settings.engines.tables
        halves = url.scheme.split("+")
        if len(halves) != 2:
            raise InvalidSettings(
                f"engines.tables is {url.text!r}", hint="name store and engine, e.g. delta+duckdb:///.stook/tables"
            )
        limits = self.settings.limits
        options = {"memory_mib": str(limits.memory_mib), "threads": str(limits.threads), **dict(url.options)}
        return EngineUrl(url.text, halves[part], url.path, url.address, tuple(sorted(options.items())))

    def _open(self, port: str, url: EngineUrl) -> Any:
        if port not in self._opened:
            with self._lock:
                if port not in self._opened:
                    self._opened[port] = load_backend(port, url, self.settings.root, f"engines.{port}")
        return self._opened[port]

    def close(self) -> None:
        """Closes what was opened. Idempotent."""
        with self._lock:
            for port in ("coordination", "engine", "online", "log", "records"):
                if port in self._opened:
                    self._opened.pop(port).close()
            self._opened.clear()
