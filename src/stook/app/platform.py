"""The embedded platform: one project, wired.

It is a file of its own because it is what users hold. `stook.open` makes it; faces call its verbs. It must never
contain one: they live with their families.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from stook.app.declaring import Declaring
from stook.app.modelling import Modelling
from stook.app.moving import Moving
from stook.app.parts import Parts
from stook.app.reading import Reading
from stook.app.wiring import Wiring
from stook.core.errors import TryAgain
from stook.core.ports.clock import Clock
from stook.core.ports.coordination import Coordination
from stook.core.settings import Settings, load_settings


class Platform(Declaring, Moving, Reading, Modelling):
    """A project's features and models, embedded in this process. Thread-safe; open one per process.

    Use it as a context manager, or `close()` it.
    """

    def __init__(self, settings: Settings, clock: object = None) -> None:
        self._parts = Parts(Wiring(settings, clock))
        self._prepared = {}
        self._prepared_lock = threading.Lock()

    @property
    def settings(self) -> Settings:
        """The project's settings."""
        return self._parts.wiring.settings

    @property
    def clock(self) -> Clock:
        """The platform's clock; frozen in replays."""
        return self._parts.wiring.clock

    @property
    def coordination(self) -> Coordination:
        """The coordination store, with a session that lasts until `close`: what `stook.cluster` builds on.

        Raises EngineUnavailable where it does not answer.
        """
        return self._parts.wiring.coordination

    def recover(self) -> int:
        """Applies pushes that a killed process had logged but not yet applied, and finishes its deletes; returns the
        log position reached.

        `stook.open` calls it.
        """
        position = self._parts.pushes.catch_up()
        with suppress(TryAgain):  # nobody can see what is left to delete, so it may wait for the next opening
            self._parts.bury_orphans()
        return position

    def fold(self) -> int:
        """Moves logged pushes into history tables now, rather than when enough has gathered; returns the position through
        which none are left in the log. A view that cannot be folded is named by a warning, and stops no other."""
        return self._parts.pushes.fold()

    def close(self) -> None:
        """Closes all engines. Idempotent."""
        self._prepared.clear()
        self._parts.close()
        self._parts.wiring.close()

    def __enter__(self) -> Platform:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_platform(folder: str | Path, clock: object = None) -> Platform:
    """Opens the project in a folder with `stook.toml`, and finishes what a killed process left undone.

    Raises NotAProject, InvalidSettings, CorruptStore, NewerStore, EngineUnavailable.
    """
    platform = Platform(load_settings(folder), clock)
    platform.recover()
    return platform
