"""What a member has to do to be registered: the decision, apart from doing it.

It is a file of its own because it is pure: what stands in the store goes in, the next move comes out. Membership calls it
after each look. It must never look at a clock or a store.
"""

from __future__ import annotations

from dataclasses import dataclass

from stook.core.ports.coordination import Node


@dataclass(frozen=True)
class Make:
    """Create the node."""


@dataclass(frozen=True)
class Update:
    """The node is ours and holds something else: set it at this data version."""

    expected: int


@dataclass(frozen=True)
class Stay:
    """All is as it should be."""


@dataclass(frozen=True)
class WaitForEnd:
    """Another session holds the name, perhaps our own one before: it must end first."""

    owner: int


Move = Make | Update | Stay | WaitForEnd


def step(node: Node | None, session: int, data: bytes) -> Move:
    """The next move of a member that wants to stand in `session` with `data`.

    >>> step(None, 7, b"x")
    Make()
    """
    if node is None:
        return Make()
    if node.stat.ephemeral_owner != session:
        return WaitForEnd(node.stat.ephemeral_owner)
    return Stay() if node.data == data else Update(node.stat.data_version)
