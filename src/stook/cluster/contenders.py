"""Whose turn it is among contenders for a lock: the decision, apart from asking and waiting.

It is a file of its own because it is pure: what is listed goes in, the next move comes out. The lock calls it after each
listing. It must never look at a clock or a store.

A contender is a node `lock-UNIQUE-SEQUENCE`: the unique part finds it again when nobody knows whether it was created,
the sequence orders it. ZooKeeper's counter is a signed 32-bit number that turns negative when it is spent; such names are
refused, since their order is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from stook.core.errors import TooLarge
from stook.core.ports.coordination import SEQUENCE_MAX, State

PREFIX: Final = "lock-"
SEQUENCE_MARGIN: Final = 1_000_000  # a counter so close to its end is refused while its order is still right


@dataclass(frozen=True)
class Attempt:
    """One attempt to get the lock: its unique part, its session, until when, and whether its node is known to exist."""

    unique: str
    session: int
    deadline_s: float
    entered: bool = False


@dataclass(frozen=True)
class Seen:
    """What was listed, under which session and state."""

    names: Sequence[str]
    session: int
    state: State


@dataclass(frozen=True)
class Enter:
    """Create the node."""


@dataclass(frozen=True)
class Hold:
    """The lock is ours: read the token from this node."""

    name: str


@dataclass(frozen=True)
class Wait:
    """Wait for the end of the one node before ours."""

    predecessor: str


@dataclass(frozen=True)
class Withdraw:
    """Give up: the session is over, the node was deleted by somebody, or the time has passed."""

    why: str  # "session", "deleted" or "time"


Move = Enter | Hold | Wait | Withdraw


def step(attempt: Attempt, seen: Seen, now_s: float) -> Move:
    """The next move of an attempt. Raises TooLarge when the folder's counter is spent.

    >>> mine = Attempt("b", session=7, deadline_s=5.0, entered=True)
    >>> step(mine, Seen(["lock-a-0000000003", "lock-b-0000000004"], 7, State.OK), now_s=1.0)
    Wait(predecessor='lock-a-0000000003')
    >>> step(mine, Seen(["lock-b-0000000004", "lock-c-0000000005"], 7, State.OK), now_s=9.0)
    Hold(name='lock-b-0000000004')
    """
    if seen.state is State.LOST or seen.session != attempt.session:
        return Withdraw("session")
    line = in_order(seen.names)
    mine = [name for name in line if name.startswith(f"{PREFIX}{attempt.unique}-")]
    if mine and mine[0] == line[0]:
        return Hold(mine[0])
    if not mine and attempt.entered:
        return Withdraw("deleted")
    if line and now_s >= attempt.deadline_s:
        return Withdraw("time")
    if not mine:
        return Enter()  # a free lock is had without waiting, so also when no time is left
    return Wait(line[line.index(mine[0]) - 1])


def in_order(names: Sequence[str]) -> list[str]:
    """The contenders among the names, first come first. Raises TooLarge when the folder's counter is spent.

    >>> in_order(["lock-a-0000000010", "lock-b-0000000009", "else"])
    ['lock-b-0000000009', 'lock-a-0000000010']
    """
    return sorted((name for name in names if name.startswith(PREFIX)), key=sequence_of)


def sequence_of(name: str) -> int:
    """The number at the end of a sequential name. Raises TooLarge when it is negative or close to its end.

    >>> sequence_of("lock-a-0000000010")
    10
    """
    digits = name.split("-", 2)[2]
    if digits.startswith("-") or int(digits) > SEQUENCE_MAX - SEQUENCE_MARGIN:
        raise TooLarge(
            f"the counter behind contender {name!r} is spent",
            hint="stop all that use this lock, and delete its node with all below it: the counter begins anew",
        )
    return int(digits)
