"""The door to running programs: start, observe, stop a named group of processes that outlives whoever started it.

It is a port so that what supervises a cluster on one machine can supervise pods later. The app's cluster verbs call it;
backends implement it; `stook.testing.contracts.launcher` is the suite they pass. It must never decide what should run,
nor when to start it again: that is the caller's.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


class WorkState(enum.Enum):
    """Where a work stands. UNKNOWN: it cannot be seen, which does not mean that it is gone."""

    RUNNING = "running"
    GONE = "gone"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Work:
    """What is started: a program by its full path, with its arguments, under a name of letters, digits, `-` and `_`.

    It runs in `folder`, with nothing in its environment but `environment`, as `user` where that is not empty.
    """

    name: str
    command: tuple[str, ...]
    folder: str
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""


@dataclass(frozen=True)
class Observed:
    """A work as it was seen. `number` is its first process's, 0 where there is none."""

    name: str
    state: WorkState
    number: int = 0


class Launcher(Protocol):
    """Works by name. What was started goes on when its starter ends or is killed."""

    def start(self, work: Work) -> bool:
        """Starts a work unless one of its name runs already; answers whether it did. Its output goes to its log.

        It is recorded before the program begins, so that a starter killed in between loses none. Two starters of one
        name start it once. Raises InvalidArgument for a wrong name or no program, EngineUnavailable when it cannot be started.
        """
        ...

    def observe(self, name: str) -> Observed:
        """The work as it is now; GONE also where there never was one."""
        ...

    def works(self) -> list[Observed]:
        """All works ever started here and not forgotten, by name."""
        ...

    def stop(self, name: str, *, grace_s: float) -> None:
        """Asks the program to end (SIGTERM), and after `grace_s` seconds kills whatever of it is left, its descendants
        too. Returns when all are gone. Idempotent. Raises EngineUnavailable when something cannot be ended."""
        ...

    def kill(self, name: str) -> None:
        """Ends the work and all its descendants at once, as the loss of a machine would. Idempotent; raises as `stop`."""
        ...

    def forget(self, name: str) -> None:
        """Drops what is known of a work that is gone, its log too. Idempotent. Raises InvalidArgument while it runs."""
        ...

    def log(self, name: str, *, lines_max: int) -> list[str]:
        """The last lines that the work said; none where nothing is known of it."""
        ...
