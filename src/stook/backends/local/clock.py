"""The machine's clock.

It is a file of its own because one backend is one class behind one factory. The app opens it by entry point and
hands it to every room that needs "now". It must never be asked the time behind a caller's back.
"""

from __future__ import annotations

import time
from pathlib import Path

from stook.core.settings import EngineUrl


class SystemClock:
    """`Clock` on the operating system's."""

    @property
    def frozen(self) -> bool:
        return False

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.monotonic()


def open_clock(url: EngineUrl, root: Path) -> SystemClock:
    """The machine's clock; neither the URL nor the project matters."""
    del url, root
    return SystemClock()
