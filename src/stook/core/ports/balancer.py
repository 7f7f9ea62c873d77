"""The door to a load balancer in front of gateways.

It is a port so that what decides which gateways take calls knows no balancer's language. The app's balancer verb calls it;
backends implement it. It must never decide who takes calls: it says how servers stand, and does as it is told.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

WEIGHT_MAX = 256
CALLS_MAX_DEFAULT = 128


@dataclass(frozen=True)
class Gateway:
    """A gateway as it says of itself. `calls_max`: how many calls it takes at once; more wait before it."""

    name: str
    host: str
    port: int
    weight: int = 100
    draining: bool = False
    calls_max: int = CALLS_MAX_DEFAULT


class Duty(enum.Enum):
    """What a server is there for. READY: takes calls. DRAINING: ends those it has. RESTING: takes none at all."""

    READY = "ready"
    DRAINING = "draining"
    RESTING = "resting"


@dataclass(frozen=True)
class Server:
    """A gateway as the balancer knows it. `healthy`: its last health checks were good. `calls`: those it has now."""

    name: str
    host: str
    port: int
    weight: int
    duty: Duty
    healthy: bool
    calls: int


class Step(enum.Enum):
    """One thing to do to one server."""

    ADD = "add"
    READY = "ready"
    DRAIN = "drain"
    REST = "rest"
    WEIGH = "weigh"
    REMOVE = "remove"


@dataclass(frozen=True)
class Act:
    """A step, and the gateway it is about."""

    step: Step
    gateway: Gateway


class Balancer(Protocol):
    """Servers by name, changed while it runs."""

    def servers(self) -> list[Server]:
        """All servers as they stand now. Raises EngineUnavailable when the balancer does not answer."""
        ...

    def act(self, act: Act) -> None:
        """Does one step. ADD makes a server that rests; REMOVE drops one that rests and has no calls.

        Not idempotent: look at `servers` first. Raises Conflict when the server is not as the step wants it,
        EngineUnavailable when the balancer does not answer.
        """
        ...

    def write(self, gateways: Sequence[Gateway]) -> bool:
        """Writes the balancer's own file anew, so that it begins with these when it starts; whether that changed it."""
        ...
