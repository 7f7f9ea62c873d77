"""Writes that carry a lock's token, refused by the store of records when a later holder has written.

It is a file of its own because it is what makes a lock hold: the token is compared in the same commit that writes.
Whoever writes records under a lock of this room calls it. It must never compare in one step and write in another.

A record of kind `fence`, one for each lock, keeps the largest token that was written under. Each fenced commit puts it
at the revision that was read, so that of two commits under one lock one waits for the other, and none slips in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from stook.core.errors import Busy, Conflict, FenceLost
from stook.core.ports.records import ABSENT, ANY, Change, Put, Record, Records

KIND: Final = "fence"
ATTEMPTS_MAX: Final = 20


@dataclass(frozen=True)
class Fence:
    """The state of one lock's fence: the largest token written under (0: none yet), and its record's revision."""

    token: int = 0
    revision: int = ABSENT


def fence_of(record: Record | None) -> Fence:
    """The fence as its record says."""
    return Fence() if record is None else Fence(int(record.spec["token"]), record.revision)


def step(fence: Fence, lock: str, token: int) -> Put:
    """The change that lets a commit under `token` through, and shuts older ones out. Raises FenceLost for an older one.

    >>> step(Fence(token=5, revision=3), "fold", 8)
    Put(kind='fence', name='fold', spec={'token': 8}, expected=3)
    >>> step(Fence(token=9, revision=4), "fold", 8)
    Traceback (most recent call last):
    stook.core.errors.FenceLost: lock 'fold' was lost: token 9 has written since, this write carries 8 (begin again)
    """
    if token < fence.token:
        raise FenceLost(
            f"lock {lock!r} was lost: token {fence.token} has written since, this write carries {token}",
            hint="begin again",  # with a new grant, from what is stored now
        )
    return Put(KIND, lock, {"token": token}, fence.revision)


def commit_fenced(
    records: Records, changes: Sequence[Change], *, lock: str, token: int, expected_revision: int = ANY
) -> int:
    """Commits the changes under the lock's token, all or none; returns the store's new revision.

    Raises FenceLost, writing nothing, when a larger token has been written under; Conflict when a record is not at the
    revision that a change expects; Busy when others who hold the same token kept getting in between.
    """
    for _ in range(ATTEMPTS_MAX):
        fence = fence_of(records.get(KIND, lock))
        put = step(fence, lock, token)
        try:
            return records.commit([*changes, put], expected_revision=expected_revision)
        except Conflict:
            if fence_of(records.get(KIND, lock)) == fence:
                raise  # not about the fence
    raise Busy(f"fence {lock!r} changed {ATTEMPTS_MAX} times in between", hint="write from fewer threads at a time")


def raise_fence(records: Records, *, lock: str, token: int) -> int:
    """Shuts older tokens out now, before anything is written under this one. Returns and raises as `commit_fenced`."""
    return commit_fenced(records, (), lock=lock, token=token)
