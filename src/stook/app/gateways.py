"""Gateways as members of a group, and the loop that keeps a balancer as they are.

It is a file of its own because both ends of one agreement stand here: what a gateway says of itself, and what a balancer
makes of it. The server joins with it, `stook cluster balancer` runs the loop. It must never keep a gateway from answering
because coordination does not, nor take gateways away because they cannot be seen.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Final

from stook.app.wiring import load_backend, load_coordination
from stook.cluster.balance import decide
from stook.cluster.membership import Membership
from stook.core.errors import CallerError, InvalidArgument, StookError, TryAgain
from stook.core.ports.balancer import Balancer, Gateway, check_gateway
from stook.core.ports.coordination import Coordination, State
from stook.core.settings import Settings, load_settings, parse_url

GROUP: Final = "gateways"
KEEP_PAUSE_S: Final = 1.0
REGISTER_WAIT_S: Final = 2.0
LEAVE_WAIT_S: Final = 2.0
DRAIN_SEEN_S: Final = 1.5  # until every balancer has seen that a gateway takes no more calls
WATCH_S: Final = 0.5  # after which a balancer looks at its servers though no gateway changed
Say = Callable[[str], None]


class _Once:
    """Says a thing once, until something else is to be said."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._said = ""

    def __call__(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._say(text)


class Joined:
    """One gateway's standing in the group, kept by a thread: registered when coordination answers, again when a session
    was lost, draining before it stops."""

    def __init__(self, settings: Settings, gateway: Gateway, say: Say) -> None:
        self._settings = settings
        self._gateway = gateway
        self._note = _Once(say)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._membership: Membership | None = None
        self._coordination: Coordination | None = None
        self._thread = threading.Thread(target=self._keep, name="stook-join", daemon=True)

    def start(self) -> None:
        """Begins to stand in the group."""
        self._thread.start()

    def leave(self) -> None:
        """Says that it takes no more calls, waits until balancers have seen that, and leaves. Call it before stopping to
        answer; it takes DRAIN_SEEN_S, and a few LEAVE_WAIT_S more where coordination does not answer."""
        self._stopping.set()
        if not self._lock.acquire(timeout=LEAVE_WAIT_S):
            self._note("left without saying so: coordination does not answer")
            return
        try:
            if self._membership is None or self._coordination is None:
                return
            data = _dump(replace(self._gateway, draining=True))
            self._membership.register(self._gateway.name, data, wait_s=LEAVE_WAIT_S)
            time.sleep(DRAIN_SEEN_S)
            self._membership.leave(within_s=LEAVE_WAIT_S)
        except StookError as error:
            self._note(f"left without saying so: {error}")
        finally:
            self._lock.release()

    def close(self) -> None:
        """Ends the session, and with it the standing; one that cannot be ended in time ends by itself. Idempotent."""
        self._stopping.set()
        if not self._lock.acquire(timeout=LEAVE_WAIT_S):
            return
        try:
            if self._coordination is not None:
                self._coordination.close()
                self._coordination = self._membership = None
        finally:
            self._lock.release()

    def __enter__(self) -> Joined:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _keep(self) -> None:
        while not self._stopping.is_set():
            with self._lock:
                if not self._stopping.is_set():
                    self._stand()
            self._stopping.wait(KEEP_PAUSE_S)

    def _stand(self) -> None:
        try:
            if self._coordination is None:
                self._coordination = load_coordination(self._settings)
            if self._membership is None:
                membership = Membership(self._coordination, GROUP)
                membership.register(self._gateway.name, _dump(self._gateway), wait_s=REGISTER_WAIT_S)
                self._membership = membership
                self._note(f"joined the gateways as {self._gateway.name}")
            elif self._membership.keep(wait_s=REGISTER_WAIT_S):
                self._note(f"joined the gateways again as {self._gateway.name}")
        except StookError as error:
            self._note(f"not among the gateways now, and trying again: {error}")


def join(folder: str | Path, gateway: Gateway, say: Say) -> Joined:
    """A gateway's standing in the group of the project's coordination engine, not begun yet. Raises InvalidSettings."""
    return Joined(load_settings(folder), gateway, say)


def gateway_at(name: str, address: str) -> Gateway:
    """A gateway under a name at HOST:PORT; a host's name is resolved here, once. Raises InvalidArgument.

    >>> gateway_at("g1", "[::1]:6566").host
    '::1'
    """
    host, _, port = address.rpartition(":")
    try:
        found = (
            socket.getaddrinfo(host.strip("[]") or None, int(port), type=socket.SOCK_STREAM)[0][4][0] if host else ""
        )
        return check_gateway(Gateway(name, str(found), int(port)))
    except (ValueError, OSError, InvalidArgument):
        raise InvalidArgument(
            f"{name!r} at {address!r} is no gateway that a balancer could reach",
            hint="a name of letters, digits, ., - and _; where it listens on all addresses, say which: --advertise HOST:PORT",
        ) from None


def keep_balanced(folder: str | Path, engine: str, going: Callable[[], bool], say: Say) -> None:
    """Keeps the balancer named by a URL as the gateways are, until told not to go on.

    Its file is written at once and with each change; what runs is changed step by step, from what is. While coordination
    or the balancer do not answer nothing is changed. Raises InvalidSettings, and what keeps the file from being written.
    """
    settings = load_settings(folder)
    url = parse_url(engine, settings.root, "the balancer")
    balancer: Balancer = load_backend("balancer", url, settings.root, "the balancer")
    watching = _Watching(settings, say)
    leaving: dict[str, float] = {}
    begun = False
    try:
        while going():
            gateways = watching.look()
            if gateways or not begun:
                begun = True
                balancer.write(gateways or [])
            try:
                decision = decide(gateways, balancer.servers(), leaving, now_s=time.monotonic())
            except TryAgain as error:
                watching.note(str(error))
                continue
            leaving = dict(decision.leaving)
            for act in decision.acts:
                try:
                    balancer.act(act)
                    say(f"{act.step.value} {act.gateway.name}")
                except TryAgain as error:  # the others do not wait for it; it is decided again
                    watching.note(str(error))
    finally:
        watching.close()


class _Watching:
    """The gateways as they are seen; None while they cannot be."""

    def __init__(self, settings: Settings, say: Say) -> None:
        self._settings = settings
        self.note = _Once(say)
        self._coordination: Coordination | None = None
        self._known: dict[str, bytes] = {}

    def look(self) -> list[Gateway] | None:
        """Returns when something changed, and after WATCH_S at the latest."""
        started = time.monotonic()
        try:
            if self._coordination is None:
                self._coordination = load_coordination(self._settings)
            if self._coordination.session().state is State.LOST:
                self._coordination.renew()
            self._known = Membership(self._coordination, GROUP).wait(self._known, timeout_s=WATCH_S)
        except StookError as error:
            self.note(f"the gateways cannot be seen: {error}")
            time.sleep(max(WATCH_S - (time.monotonic() - started), 0))
            return None
        found = [_load(name, data) for name, data in self._known.items()]
        if None in found:
            self.note(
                f"{found.count(None)} members say nothing of themselves that can be understood; they take no calls"
            )
        return [gateway for gateway in found if gateway is not None]

    def close(self) -> None:
        if self._coordination is not None:
            self._coordination.close()


def _dump(gateway: Gateway) -> bytes:
    return json.dumps(asdict(gateway), sort_keys=True).encode()


def _load(name: str, data: bytes) -> Gateway | None:
    """What a member says of itself; None for one that says nothing we understand, which then takes no calls."""
    with suppress(ValueError, TypeError, KeyError, CallerError):
        said = json.loads(data)
        known = {key: said[key] for key in ("host", "port", "weight", "draining", "calls_max") if key in said}
        return check_gateway(Gateway(name, **known))
    return None
