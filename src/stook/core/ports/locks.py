"""The door to mutual exclusion on one machine.

It is a port because two processes must not fold one log or load one view at the same time, and a killed holder
must not block the next. Ingest and the server hold locks. It must never be trusted for correctness of data: every
protected write is harmless when repeated or interleaved; a lock only saves work.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Locks(Protocol):
    """Named locks, exclusive between threads and processes, released when their holder dies."""

    def hold(self, name: str, *, wait_s: float) -> AbstractContextManager[None]:
        """Holds the lock inside a `with` block; waits at most `wait_s` seconds for it. Not re-entrant.

        Raises Busy when somebody else still holds it then.
        """
        ...
