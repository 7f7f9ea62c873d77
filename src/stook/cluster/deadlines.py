"""A point in time until which something is tried, and what is tried until then: folders, and a connection.

It is a file of its own because every recipe waits, and all must wait alike. All recipes call it. It must never wait
without an end, nor use a clock that can be set.
"""

from __future__ import annotations

import threading
import time
from typing import Final

from stook.core.errors import Conflict, EngineUnavailable, OutcomeUnknown
from stook.core.ports.coordination import CALL_S, Coordination, Session, State, parent_of

CALL_S_MIN: Final = 1.0  # what a call gets at least: no time to wait for others is still time to ask
PAUSE_S: Final = 0.25  # between two looks at a connection that does not come back by itself


class Deadline:
    """`wait_s` seconds from now."""

    def __init__(self, wait_s: float) -> None:
        self.at_s = time.monotonic() + max(wait_s, 0.0)

    def left_s(self) -> float:
        """Seconds left; 0 when it has passed."""
        return max(self.at_s - time.monotonic(), 0.0)

    def passed(self) -> bool:
        """Whether no time is left."""
        return time.monotonic() >= self.at_s

    def call_s(self) -> float:
        """How long the next call may take."""
        return min(max(self.left_s(), CALL_S_MIN), CALL_S)

    def wait(self, flag: threading.Event) -> bool:
        """Waits for the flag, and clears it; False when the time has passed before."""
        came = flag.wait(self.left_s())
        flag.clear()
        return came

    def pause(self) -> None:
        """Waits a little, for what no flag tells."""
        time.sleep(min(PAUSE_S, self.left_s()))


def live_session(coordination: Coordination, deadline: Deadline) -> Session:
    """The session, a new one where it was lost; waits for a connection. Raises EngineUnavailable when none came."""
    flag = threading.Event()
    while True:
        session = coordination.session(watch=flag)
        if session.state is State.LOST:
            session = coordination.renew(within_s=max(deadline.left_s(), 1.0))
        if session.state is State.OK:
            return session
        if deadline.passed():
            raise EngineUnavailable("the coordination store does not answer", hint="repeat when it does")
        flag.wait(min(PAUSE_S, deadline.left_s()))


def ensure_folder(coordination: Coordination, path: str, deadline: Deadline) -> None:
    """Creates the node and those above it, where they are not there. Raises EngineUnavailable, OutcomeUnknown."""
    if coordination.exists(path, within_s=deadline.call_s()) is not None:
        return
    if path != "/":
        ensure_folder(coordination, parent_of(path), deadline)
    try:
        coordination.create(path, within_s=deadline.call_s())
    except Conflict:
        return  # somebody else did
    except OutcomeUnknown:
        live_session(coordination, deadline)
        coordination.sync(within_s=deadline.call_s())
        if coordination.exists(path, within_s=deadline.call_s()) is None:
            raise
