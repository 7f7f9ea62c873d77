"""A queue of small tasks: each is taken by one worker at a time, and again by another when the first one's session ends.

It is a file of its own because it is one recipe. Whoever hands out work puts, workers take. It must never promise exactly
once: a worker that lost its session may be at its task still, while another begins it. What a task writes must be
harmless twice, or carry the claim's token to a fence.
"""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass
from typing import Final

from stook.cluster.deadlines import Deadline, ensure_folder, live_session
from stook.core.errors import Busy, Conflict, EngineUnavailable, FenceLost, OutcomeUnknown, TooLarge, UnknownObject
from stook.core.ports.coordination import CALL_S, CHILDREN_MAX, Coordination, Delete, Node, check_path

FOLDER: Final = "/queues"
TASK_BYTES_MAX: Final = 64 * 1024
LENGTH_MAX: Final = CHILDREN_MAX
_TASK: Final = "task-"


@dataclass(frozen=True)
class Claim:
    """A task taken; `token` grows with each claim on it, also by others."""

    task: str
    data: bytes
    token: int


class Queue:
    """One queue by name, below `/queues`; first in, first taken."""

    def __init__(self, coordination: Coordination, name: str) -> None:
        self._coordination = coordination
        self._tasks = check_path(f"{FOLDER}/{name}/tasks")
        self._claims = check_path(f"{FOLDER}/{name}/claims")

    def put(self, data: bytes, *, within_s: float = CALL_S) -> str:
        """Adds a task, durably; returns its name. Raises TooLarge, Busy when the queue is full, OutcomeUnknown only
        when even reading did not tell whether it was added."""
        if len(data) > TASK_BYTES_MAX:
            raise TooLarge(f"a task has {len(data)} bytes", hint=f"at most {TASK_BYTES_MAX}: keep the data as a blob")
        deadline = Deadline(within_s)
        self._ensure(deadline)
        stat = self._coordination.exists(self._tasks, within_s=deadline.call_s())
        if stat is not None and stat.children >= LENGTH_MAX:
            raise Busy(f"queue {self._tasks!r} has {stat.children} tasks", hint="wait until workers took some")
        unique = f"{_TASK}{uuid.uuid4().hex}-"
        try:
            path = f"{self._tasks}/{unique}"
            return _name(self._coordination.create(path, data, sequential=True, within_s=deadline.call_s()).path)
        except OutcomeUnknown:
            live_session(self._coordination, deadline)
            self._coordination.sync(within_s=deadline.call_s())
            for name in self._coordination.children(self._tasks, within_s=deadline.call_s()):
                if name.startswith(unique):
                    return name
            raise

    def take(self, *, wait_s: float) -> Claim | None:
        """Claims the oldest task that nobody has, waiting at most `wait_s` seconds for one; None when there was none.

        The claim stands until `done`, `give_back`, or the end of the session. Raises SessionLost, EngineUnavailable.
        """
        deadline = Deadline(wait_s)
        live_session(self._coordination, deadline)
        self._ensure(deadline)
        flag = threading.Event()
        while True:
            try:
                claim = self._take_one(deadline, flag)
            except (EngineUnavailable, OutcomeUnknown):
                if deadline.passed():
                    raise
                deadline.pause()
                continue
            if claim is not None or deadline.passed():
                return claim
            deadline.wait(flag)

    def done(self, claim: Claim, *, within_s: float = CALL_S) -> None:
        """Removes the task. Raises FenceLost when the claim was lost: another worker may be at it, or has done it."""
        node = self._mine(claim, within_s)
        try:
            self._coordination.multi(
                [Delete(node.path, node.stat.data_version), Delete(f"{self._tasks}/{claim.task}")], within_s=within_s
            )
        except UnknownObject:
            raise _lost(claim) from None

    def give_back(self, claim: Claim, *, within_s: float = CALL_S) -> None:
        """Lets another worker take the task. Harmless where the claim was lost."""
        try:
            node = self._mine(claim, within_s)
            self._coordination.delete(node.path, within_s=within_s)
        except (FenceLost, UnknownObject):
            return

    def length(self, *, within_s: float = CALL_S) -> int:
        """How many tasks are not done, taken ones among them."""
        self._coordination.sync(within_s=within_s)
        stat = self._coordination.exists(self._tasks, within_s=within_s)
        return 0 if stat is None else stat.children

    def _ensure(self, deadline: Deadline) -> None:
        ensure_folder(self._coordination, self._tasks, deadline)
        ensure_folder(self._coordination, self._claims, deadline)

    def _take_one(self, deadline: Deadline, flag: threading.Event) -> Claim | None:
        # Claims first: a task done in between is then gone from the second list, not free in it.
        unique = uuid.uuid4().bytes
        claimed = set(self._coordination.children(self._claims, watch=flag, within_s=deadline.call_s()))
        tasks = self._coordination.children(self._tasks, watch=flag, within_s=deadline.call_s())
        for task in sorted(set(tasks) - claimed, key=lambda name: name[-10:]):
            path = f"{self._claims}/{task}"
            try:
                made = self._coordination.create(path, unique, ephemeral=True, within_s=deadline.call_s())
            except Conflict:
                continue  # somebody was faster
            except OutcomeUnknown:
                live_session(self._coordination, deadline)
                self._coordination.sync(within_s=deadline.call_s())
                if self._coordination.exists(path, within_s=deadline.call_s()) is None:
                    continue
                made = self._coordination.get(path, within_s=deadline.call_s())
                if made.data != unique:
                    continue
            try:
                data = self._coordination.get(f"{self._tasks}/{task}", within_s=deadline.call_s()).data
            except UnknownObject:  # done before it was claimed
                self._coordination.delete(path, within_s=deadline.call_s())
                continue
            return Claim(task, data, made.stat.czxid)
        return None

    def _mine(self, claim: Claim, within_s: float) -> Node:
        try:
            node = self._coordination.get(f"{self._claims}/{claim.task}", within_s=within_s)
        except UnknownObject:
            raise _lost(claim) from None
        if node.stat.czxid != claim.token:
            raise _lost(claim)
        return node


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _lost(claim: Claim) -> FenceLost:
    return FenceLost(
        f"the claim on task {claim.task!r} with token {claim.token} was lost",
        hint="leave the task to whoever has it now",
    )
