"""The suites of the `Locks` port: between threads, and between processes.

It is a file of its own because there is one suite per port. Backends' tests subclass a suite. It must never prove
exclusion by timing: who holds a lock says so, and the other is asked then.
"""

# ruff: noqa: D102 - the name of a test says what it tests

from __future__ import annotations

import time
from multiprocessing.connection import Connection

import pytest

from stook.core.errors import Busy
from stook.core.ports.locks import Locks
from stook.testing.contracts import PATIENCE_S, Contract, Opening, child, in_threads

SHORT_S = 0.05
THREADS = 8
ROUNDS = 25
STRANGE_NAMES = ("", ".", "..", "a/b", "../../etc/x", "Zürich →", "x" * 1000, "a\nb", "%41", "A")


class LocksContract(Contract):
    """Named locks exclude threads of one process."""

    @pytest.fixture
    def locks(self, opening: Opening) -> Locks:
        """The locks under test."""
        return opening.open()

    def test_a_held_lock_is_busy_and_says_which(self, locks: Locks) -> None:
        with locks.hold("fold", wait_s=0), pytest.raises(Busy, match="fold"), locks.hold("fold", wait_s=0):
            pytest.fail("held twice")

    def test_waiting_ends_in_time(self, locks: Locks) -> None:
        start = time.monotonic()
        with locks.hold("fold", wait_s=0), pytest.raises(Busy), locks.hold("fold", wait_s=SHORT_S):
            pytest.fail("held twice")
        assert SHORT_S <= time.monotonic() - start < PATIENCE_S

    def test_a_released_lock_is_free(self, locks: Locks) -> None:
        for _ in range(3):
            with locks.hold("fold", wait_s=0):
                pass

    def test_an_error_inside_releases(self, locks: Locks) -> None:
        with pytest.raises(ZeroDivisionError), locks.hold("fold", wait_s=0):
            raise ZeroDivisionError
        with locks.hold("fold", wait_s=0):
            pass

    def test_a_refused_hold_does_not_release_the_holder(self, locks: Locks) -> None:
        # Hard case: POSIX record locks vanish when any descriptor of the file is closed.
        with locks.hold("fold", wait_s=0):
            for _ in range(2):
                with pytest.raises(Busy), locks.hold("fold", wait_s=0):
                    pytest.fail("held twice")

    def test_names_do_not_touch_each_other(self, locks: Locks) -> None:
        with locks.hold("a", wait_s=0), locks.hold("b", wait_s=0), locks.hold("a.lock", wait_s=0):
            pass

    @pytest.mark.parametrize("name", STRANGE_NAMES)
    def test_any_text_is_a_name(self, locks: Locks, name: str) -> None:
        others = [other for other in STRANGE_NAMES if other != name]
        with locks.hold(name, wait_s=0):
            with pytest.raises(Busy), locks.hold(name, wait_s=0):
                pytest.fail("held twice")
            for other in others:
                with locks.hold(other, wait_s=0):
                    pass

    def test_threads_exclude_each_other_and_all_get_their_turn(self, locks: Locks) -> None:
        inside: list[int] = []

        def work(number: int) -> None:
            for _ in range(ROUNDS):
                with locks.hold("count", wait_s=PATIENCE_S):
                    inside.append(number)
                    time.sleep(0)  # invites the others in
                    assert inside == [number]
                    inside.clear()

        in_threads(THREADS, work)

    def test_a_waiting_thread_gets_the_lock_when_it_is_released(self, locks: Locks) -> None:
        with locks.hold("first", wait_s=0):
            pass

        order: list[str] = []
        holding = locks.hold("turn", wait_s=0)
        holding.__enter__()

        def work(number: int) -> None:
            if number == 0:
                with locks.hold("turn", wait_s=PATIENCE_S):
                    order.append("second")
            else:
                order.append("first")
                holding.__exit__(None, None, None)

        in_threads(2, work)
        assert order == ["first", "second"]


class ProcessLocksContract(LocksContract):
    """Named locks exclude processes too, and a killed holder leaves none behind."""

    def test_another_process_holds_it(self, opening: Opening, locks: Locks) -> None:
        with child(_hold, opening, "fold") as holder:
            assert holder.receive() == "held"
            with pytest.raises(Busy), locks.hold("fold", wait_s=0):
                pytest.fail("held twice")
            holder.send("release")
            with locks.hold("fold", wait_s=PATIENCE_S):
                pass
            holder.join()

    def test_a_killed_holder_releases(self, opening: Opening, locks: Locks) -> None:
        with child(_hold, opening, "fold") as holder:
            assert holder.receive() == "held"
            holder.kill()
            with locks.hold("fold", wait_s=0):
                pass

    def test_processes_exclude_each_other(self, opening: Opening) -> None:
        # Each adds one to a number in a file, by reading and writing it: an overlap loses a count.
        counter = opening.root / "counter"
        counter.write_text("0")
        with child(_count, opening, ROUNDS) as first, child(_count, opening, ROUNDS) as second:
            first.join()
            second.join()
        assert int(counter.read_text()) == 2 * ROUNDS


def _hold(pipe: Connection, opening: Opening, name: str) -> None:
    with opening.open().hold(name, wait_s=0):
        pipe.send("held")
        pipe.recv()


def _count(pipe: Connection, opening: Opening, rounds: int) -> None:
    del pipe
    locks, counter = opening.open(), opening.root / "counter"
    for _ in range(rounds):
        with locks.hold("count", wait_s=PATIENCE_S):
            counter.write_text(str(int(counter.read_text()) + 1))
