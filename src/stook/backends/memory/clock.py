"""A clock that stands still until it is told the time.

It is a file of its own because replays and parity proofs freeze a real platform's clock, and tests move time by
hand. `stook.open(..., clock=...)`, `stook serve --clock` and tests make one. It must never look at wall time.
"""

from __future__ import annotations

import time
from pathlib import Path

from stook.core.errors import InvalidSettings
from stook.core.instants import to_us
from stook.core.settings import EngineUrl


class FrozenClock:
    """`Clock` whose wall time moves by `set` and `advance` only; its monotonic time is the machine's.

    >>> clock = FrozenClock(1_000_000)
    >>> clock.advance(500)
    >>> clock.frozen, clock.now_us()
    (True, 1000500)
    """

    def __init__(self, now_us: int) -> None:
        self._now_us = now_us

    @property
    def frozen(self) -> bool:
        return True

    def now_us(self) -> int:
        return self._now_us

    def monotonic_s(self) -> float:
        return time.monotonic()

    def set(self, now_us: int) -> None:
        """Makes it `now_us`, microseconds since the epoch, UTC; earlier times are allowed."""
        self._now_us = now_us

    def advance(self, us: int) -> None:
        """Moves wall time by `us` microseconds. Not atomic: one thread at a time."""
        self._now_us += us


def open_clock(url: EngineUrl, root: Path) -> FrozenClock:
    """A clock frozen at the URL's address, e.g. `frozen://2013-10-15T12:00:00Z`.

    Raises InvalidSettings when it names no time.
    """
    del root
    if not url.address:
        raise InvalidSettings(
            f"engine URL {url.text!r} names no time", hint="write it as frozen://2013-10-15T12:00:00Z"
        )
    return FrozenClock(to_us(url.address, "clock"))
