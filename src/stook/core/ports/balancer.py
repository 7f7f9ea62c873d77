"""The door to a load balancer in front of gateways.

It is a port so that what decides which gateways take calls knows no balancer's language. The app's balancer verb calls it;
backends implement it. It must never decide who takes calls: it says how servers stand, and does as it is told.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from stook.core.errors import InvalidArgument

WEIGHT_MAX = 256
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
CALLS_MAX_DEFAULT = 128


@dataclass(frozen=True)
class Gateway:
    """A gateway as it says of itself. `host` is an IP address as Python spells it, so that two are compared as text.
    `calls_max`: how many calls it takes at once; more wait before it."""

    name: str
    host: str
    port: int
    weight: int = 100
    draining: bool = False
    calls_max: int = CALLS_MAX_DEFAULT


def check_gateway(gateway: Gateway) -> Gateway:
    """The gateway, where all it says of itself can be told to a balancer. Raises InvalidArgument, also for wrong types.

    >>> check_gateway(Gateway("a", "127.0.0.1", 6566)).name
    'a'
    """
    numbers = (gateway.port, gateway.weight, gateway.calls_max)
    good = isinstance(gateway.name, str) and _NAME.fullmatch(gateway.name) and isinstance(gateway.draining, bool)
    good = good and all(type(number) is int for number in numbers)
    good = good and 0 < gateway.port < 1 << 16 and 0 <= gateway.weight <= WEIGHT_MAX and 0 < gateway.calls_max < 1 << 20
    try:
        address = ipaddress.ip_address(gateway.host) if good else None
    except ValueError:
        address = None
    if address is None or str(address) != gateway.host or address.is_unspecified:
        raise InvalidArgument(
            f"{gateway} is no gateway",
            hint=f"a plain name, an IP address that can be reached, a weight to {WEIGHT_MAX}",
        )
    return gateway


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
        """Writes the balancer's own file anew, so that it begins with these when it starts; whether that changed it.

        No gateways at all never replace a file that is there: none may be seen while all answer. Raises InvalidArgument,
        EngineUnavailable.
        """
        ...
