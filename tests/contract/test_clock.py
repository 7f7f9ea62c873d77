"""Every clock passes the clock's contract."""

from __future__ import annotations

from stook.testing.contracts.clock import ClockContract


class TestSystemClock(ClockContract):
    __test__ = True
    factory, url = "stook.backends.local.clock:open_clock", "system:"


class TestFrozenClock(ClockContract):
    __test__ = True
    factory, url = "stook.backends.memory.clock:open_clock", "frozen://2013-10-15T12:00:00Z"
