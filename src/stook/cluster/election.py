"""One leader among candidates, by the lock: who is elected holds it, and its token is the term.

It is a file of its own because a leader is asked for by others, which a lock's holder is not. Supervisors campaign, and
whoever needs the leader asks. It must never promise that there is one leader at a time: the term, checked where a leader
writes, is what an old leader fails at.
"""

from __future__ import annotations

from typing import Final

from stook.cluster.lock import Grant, Holder, Lock
from stook.core.ports.coordination import CALL_S, Coordination

FOLDER: Final = "/elections"


class Election:
    """One office by name, below `/elections`."""

    def __init__(self, coordination: Coordination, name: str) -> None:
        self._lock = Lock(coordination, name, folder=FOLDER)

    def campaign(self, candidate: bytes, *, wait_s: float) -> Grant:
        """Waits at most `wait_s` seconds to be elected; `candidate` tells others who leads, such as an address.

        The grant's token is the term: larger for each later leader. Each campaign is a new one. Raises Busy when
        another leads still, SessionLost, EngineUnavailable, OutcomeUnknown.
        """
        return self._lock.acquire(wait_s=wait_s, note=candidate)

    def leader(self, *, within_s: float = CALL_S) -> Holder | None:
        """The leader as of now, with its term, or None."""
        return self._lock.holder(within_s=within_s)
