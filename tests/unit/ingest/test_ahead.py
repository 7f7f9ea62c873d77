"""One item ahead: the same items and errors in the same order, and nothing left behind."""

from __future__ import annotations

import threading
from collections.abc import Generator

import pytest

from stook.ingest.ahead import ahead


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("stook-ahead")]


def test_the_next_item_is_made_while_this_one_is_used_and_no_further() -> None:
    made: list[int] = []
    begun = [threading.Event() for _ in range(5)]

    def items() -> Generator[int, None, None]:
        for number in range(5):
            made.append(number)
            begun[number].set()
            yield number

    taken = ahead(items())
    assert next(taken) == 0
    assert begun[1].wait(10)
    assert made == [0, 1]
    assert next(taken) == 1
    assert begun[2].wait(10)
    assert made == [0, 1, 2]
    assert list(taken) == [2, 3, 4]
    assert threads() == []


def test_an_error_comes_in_its_turn() -> None:
    def items() -> Generator[int, None, None]:
        yield 1
        raise ValueError("two")

    taken = ahead(items())
    assert next(taken) == 1
    with pytest.raises(ValueError, match="two"):
        next(taken)
    assert threads() == []


def test_a_caller_that_stops_closes_what_made_the_items() -> None:
    closed: list[str] = []

    def items() -> Generator[int, None, None]:
        try:
            while True:
                yield 1
        finally:
            closed.append(threading.current_thread().name)

    taken = ahead(items())
    next(taken)
    taken.close()  # type: ignore[attr-defined]  # a generator's
    assert len(closed) == 1
    assert threads() == []
