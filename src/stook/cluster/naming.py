"""Unique numbers and names for all processes.

It is a file of its own because it is one recipe. Jobs and workers ask it for what must never be given twice. It must never
give one twice; it may leave some out.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from stook.cluster.deadlines import Deadline, ensure_folder, live_session
from stook.core.errors import Conflict, OutcomeUnknown, TooLarge
from stook.core.ports.coordination import CALL_S, SEQUENCE_MAX, Coordination, check_path

NUMBERS: Final = "/numbers"
NAMES: Final = "/names"
MARGIN: Final = 1_000_000
ATTEMPTS_MAX: Final = 5


class Numbers:
    """One series by name, below `/numbers`: 1, 2, 3 ..., with gaps where an answer was lost.

    A number is how often the series' node was set, which the store counts itself: one write, nothing to read before.
    """

    def __init__(self, coordination: Coordination, series: str) -> None:
        self._coordination = coordination
        self._path = check_path(f"{NUMBERS}/{series}")

    def next(self, *, within_s: float = CALL_S) -> int:
        """A number larger than all that were given before. Raises TooLarge when 32 bits are spent, OutcomeUnknown,
        SessionLost, EngineUnavailable."""
        deadline = Deadline(within_s)
        ensure_folder(self._coordination, self._path, deadline)
        for _ in range(ATTEMPTS_MAX - 1):
            with suppress(OutcomeUnknown):  # the number is left out
                return self._set(deadline)
            live_session(self._coordination, deadline)
        return self._set(deadline)

    def _set(self, deadline: Deadline) -> int:
        number = self._coordination.set(self._path, b"", within_s=deadline.call_s()).data_version
        if not 0 < number <= SEQUENCE_MAX - MARGIN:
            raise TooLarge(f"series {self._path!r} is spent at {number}", hint="begin another series")
        return number


def claim_name(coordination: Coordination, name: str, owner: bytes, *, within_s: float = CALL_S) -> int:
    """Takes a name, below `/names`, for good; `owner` says whose it is. Returns a number that is larger for later names.

    Idempotent for one owner. Raises Conflict when it is somebody else's, OutcomeUnknown.
    """
    deadline = Deadline(within_s)
    path = check_path(f"{NAMES}/{name}")
    ensure_folder(coordination, path.rpartition("/")[0], deadline)
    try:
        return coordination.create(path, owner, within_s=deadline.call_s()).stat.czxid
    except (Conflict, OutcomeUnknown):
        live_session(coordination, deadline)
        coordination.sync(within_s=deadline.call_s())
        if coordination.exists(path, within_s=deadline.call_s()) is not None:
            present = coordination.get(path, within_s=deadline.call_s())
            if present.data == owner:
                return present.stat.czxid
        raise
