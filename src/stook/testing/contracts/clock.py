"""The suite of the `Clock` port.

It is a file of its own because there is one suite per port. Backends' tests subclass it. It must never wait.
"""

# ruff: noqa: D102 - the name of a test says what it tests

from __future__ import annotations

import pytest

from stook.core.instants import MAX_US, MIN_US
from stook.core.ports.clock import Clock
from stook.testing.contracts import Contract, Opening

YEAR_2020_US = 1_577_836_800_000_000


class ClockContract(Contract):
    """Wall time counts microseconds UTC, monotonic time never goes back."""

    @pytest.fixture
    def clock(self, opening: Opening) -> Clock:
        """The clock under test."""
        return opening.open()

    def test_wall_time_is_whole_microseconds_within_the_years_a_datetime_holds(self, clock: Clock) -> None:
        now = clock.now_us()
        assert type(now) is int
        assert MIN_US <= now <= MAX_US

    def test_wall_time_counts_microseconds_since_1970(self, clock: Clock) -> None:
        # Hard case: milliseconds or nanoseconds, off by a factor of a thousand, are both plausible integers.
        assert YEAR_2020_US - 20 * 366 * 86_400_000_000 < clock.now_us() < YEAR_2020_US + 100 * 366 * 86_400_000_000

    def test_monotonic_time_never_goes_back_and_moves(self, clock: Clock) -> None:
        seen = [clock.monotonic_s() for _ in range(1000)]
        assert seen == sorted(seen)
        while clock.monotonic_s() == seen[0]:
            pass

    def test_a_frozen_clock_stands_still_and_a_running_one_does_not(self, clock: Clock) -> None:
        first, start = clock.now_us(), clock.monotonic_s()
        while clock.monotonic_s() - start < 0.002:
            pass
        assert (clock.now_us() == first) is clock.frozen
