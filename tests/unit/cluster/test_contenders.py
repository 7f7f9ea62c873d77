"""The pure decisions of the cluster room: whose turn, who is registered, which token."""

from __future__ import annotations

import random

import pytest

from stook.cluster.contenders import Attempt, Enter, Hold, Seen, Wait, Withdraw, in_order, step
from stook.cluster.fencing import Fence
from stook.cluster.fencing import step as fence_step
from stook.cluster.registration import Make, Stay, Update, WaitForEnd
from stook.cluster.registration import step as registration_step
from stook.core.errors import FenceLost, TooLarge
from stook.core.ports.coordination import Node, Stat, State

MINE = Attempt("b", session=7, deadline_s=10.0)


def seen(*names: str, session: int = 7, state: State = State.OK) -> Seen:
    return Seen(names, session, state)


def test_an_attempt_enters_waits_and_holds() -> None:
    assert step(MINE, seen("lock-a-0000000001"), 0.0) == Enter()
    assert step(MINE, seen("lock-b-0000000002", "lock-a-0000000001"), 0.0) == Wait("lock-a-0000000001")
    three = seen("lock-c-0000000003", "lock-b-0000000004", "lock-a-0000000001")
    assert step(MINE, three, 0.0) == Wait("lock-c-0000000003")
    assert step(MINE, seen("lock-b-0000000002", "lock-c-0000000003"), 0.0) == Hold("lock-b-0000000002")


def test_an_attempt_gives_up() -> None:
    ours = seen("lock-b-0000000002", "lock-a-0000000001")
    assert step(MINE, ours, 10.0) == Withdraw("time")
    assert step(MINE, seen("lock-a-0000000001"), 10.0) == Withdraw("time")
    assert step(MINE, seen(), 10.0) == Enter()
    assert step(MINE, seen("lock-b-0000000002"), 99.0) == Hold("lock-b-0000000002")  # it came in time after all
    assert step(MINE, seen("lock-b-0000000002", state=State.LOST), 0.0) == Withdraw("session")
    assert step(MINE, seen("lock-b-0000000002", session=8), 0.0) == Withdraw("session")
    entered = Attempt("b", 7, 10.0, entered=True)
    assert step(entered, seen("lock-a-0000000001"), 0.0) == Withdraw("deleted")


def test_the_unique_part_is_compared_whole() -> None:
    assert step(MINE, seen("lock-bb-0000000001"), 0.0) == Enter()


@pytest.mark.case(12)
@pytest.mark.parametrize("number", ["-2147483648", "2147483647", "2147000000"])
def test_a_counter_near_its_end_is_refused(number: str) -> None:
    with pytest.raises(TooLarge, match="counter"):
        step(MINE, seen("lock-b-0000000002", f"lock-a-{number}"), 0.0)


def test_order_is_by_sequence_whatever_the_listing() -> None:
    names = [f"lock-{random.Random(n).getrandbits(64):x}-{n:010}" for n in range(50)]
    shuffled = random.Random(0).sample(names, len(names))
    assert in_order([*shuffled, "other", "task-x-1"]) == names


def test_a_fence_lets_equal_and_later_tokens_through() -> None:
    assert fence_step(Fence(), "x", 1).expected == 0
    assert fence_step(Fence(5, 3), "x", 5).expected == 3
    with pytest.raises(FenceLost, match="token 6"):
        fence_step(Fence(6, 3), "x", 5)


def test_registration() -> None:
    node = Node("/members/g/a", b"x", Stat(1, 1, 1, 0, 0, 4, 0, 7, 1, 0))
    assert registration_step(None, 7, b"x") == Make()
    assert registration_step(node, 7, b"x") == Stay()
    assert registration_step(node, 7, b"y") == Update(4)
    assert registration_step(node, 8, b"x") == WaitForEnd(7)
