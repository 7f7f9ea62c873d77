"""The door to time.

It is a port so that tests, replays and parity proofs can hold time still. Everything that needs "now" is handed
a Clock. It must never sleep.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Clock(Protocol):
    """Wall time for data, monotonic time for durations."""

    @property
    def frozen(self) -> bool:
        """Whether wall time stands still, as in replays; faces show it."""
        ...

    def now_us(self) -> int:
        """Wall time in microseconds since the epoch, UTC. May step backwards when the machine's clock is set."""
        ...

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary start; never steps backwards, also when wall time is frozen."""
        ...
