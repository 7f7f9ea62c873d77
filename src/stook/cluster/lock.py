"""A lock between processes and machines, which hands out a fencing token with every grant.

It is a file of its own because it is one recipe; the election is the same with another meaning. Rooms above and the app
take locks by it. It must never be trusted alone: between the look at a lock and the write that it protects a process
can be stopped for longer than its session lasts. The token, checked where the write is stored (`fencing`), is what holds.

The token is the number of the change that created the holder's node (its czxid): larger for each later holder, also across
lost sessions and restarts of the store.
"""

from __future__ import annotations

import threading
import time
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final

from stook.cluster.contenders import PREFIX, Attempt, Enter, Hold, Seen, Wait, Withdraw, in_order, step
from stook.cluster.deadlines import Deadline, ensure_folder, live_session
from stook.core.errors import Busy, EngineUnavailable, OutcomeUnknown, SessionLost, TryAgain, UnknownObject
from stook.core.ports.coordination import CALL_S, Coordination, Flag, Node, State, check_path

FOLDER: Final = "/locks"
NOTE_BYTES_MAX: Final = 1_024
ORPHANS_MAX: Final = 1_000
WITHDRAW_S: Final = 1.0  # what giving up may take beyond the wait, so that nothing stays behind

# Contenders that could not be withdrawn since the store did not answer, as (folder, unique, session): whoever next asks
# for any lock over the same client removes them, else a lock would stay held for as long as the session.
_orphans: Final[weakref.WeakKeyDictionary[Coordination, list[tuple[str, str, int]]]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Holder:
    """Who holds a lock as somebody else sees it: the token, and the note that the holder left."""

    token: int
    note: bytes


@dataclass(frozen=True)
class Grant:
    """The lock, held; there is none without a token. Every protected write must carry it to where it is checked."""

    name: str
    token: int
    session: int
    node: str
    coordination: Coordination

    def seems_held(self, watch: Flag | None = None) -> bool:
        """Whether the session goes on as far as is known here. A reason to stop, never a reason to write.

        `watch` is set when that changes.
        """
        now = self.coordination.session(watch=watch)
        return now.number == self.session and now.state is State.OK

    def release(self, *, within_s: float = CALL_S) -> None:
        """Gives the lock back; harmless where it was lost. Where the store does not answer it is given back later: by
        the next attempt at any lock over this client, or with the session."""
        _withdraw(self.coordination, self.node.rpartition("/")[0], _unique_of(self.node), self.session, within_s)


class Lock:
    """One lock by name, below `/locks`. Not re-entrant, fair: first come, first served."""

    def __init__(self, coordination: Coordination, name: str, *, folder: str = FOLDER) -> None:
        self._coordination = coordination
        self._name = name
        self._folder = check_path(f"{folder}/{name}")

    def acquire(self, *, wait_s: float, note: bytes = b"") -> Grant:
        """Waits at most `wait_s` seconds for the lock; `note` tells others who holds it.

        Raises Busy, naming the holder, when somebody else still holds it then; SessionLost when the session ended
        meanwhile; EngineUnavailable, OutcomeUnknown. Whatever it raises, no contender of it stays behind for longer than
        its session.
        """
        deadline = Deadline(wait_s)
        session = live_session(self._coordination, deadline)
        reap(self._coordination, within_s=deadline.call_s())
        ensure_folder(self._coordination, self._folder, deadline)
        attempt = Attempt(uuid.uuid4().hex, session.number, deadline.at_s)
        granted = None
        try:
            granted = self._contend(attempt, deadline, note[:NOTE_BYTES_MAX])
            return granted
        finally:
            if granted is None:
                within_s = max(deadline.call_s(), WITHDRAW_S)
                _withdraw(self._coordination, self._folder, attempt.unique, attempt.session, within_s)

    @contextmanager
    def hold(self, *, wait_s: float, note: bytes = b"") -> Iterator[Grant]:
        """Holds the lock inside a `with` block. Raises as `acquire`."""
        grant = self.acquire(wait_s=wait_s, note=note)
        try:
            yield grant
        finally:
            grant.release()

    def holder(self, *, within_s: float = CALL_S) -> Holder | None:
        """Who holds it as of now, or None; of yesterday by the time it is read."""
        self._coordination.sync(within_s=within_s)
        try:
            line = in_order(self._coordination.children(self._folder, within_s=within_s))
            if not line:
                return None
            node = self._coordination.get(f"{self._folder}/{line[0]}", within_s=within_s)
        except UnknownObject:  # no attempt ever, or given back just now
            return None
        return Holder(node.stat.czxid, node.data)

    def _contend(self, attempt: Attempt, deadline: Deadline, note: bytes) -> Grant:
        flag = threading.Event()
        while True:
            try:
                names = self._coordination.children(self._folder, within_s=deadline.call_s())
                session = self._coordination.session()
                move = step(attempt, Seen(names, session.number, session.state), time.monotonic())
                match move:
                    case Enter():
                        attempt = self._enter(attempt, deadline, note)
                    case Hold(name):
                        node = self._coordination.get(f"{self._folder}/{name}", within_s=deadline.call_s())
                        return self._granted(attempt, node)
                    case Wait(predecessor):
                        path = f"{self._folder}/{predecessor}"
                        if self._coordination.exists(path, watch=flag, within_s=deadline.call_s()) is not None:
                            deadline.wait(flag)
                    case Withdraw(why):
                        raise self._refusal(why)
            except UnknownObject:
                raise self._refusal("deleted") from None  # the folder, or our node in it
            except (EngineUnavailable, OutcomeUnknown):
                if deadline.passed():
                    raise
                deadline.pause()
                if live_session(self._coordination, deadline).number != attempt.session:
                    raise self._refusal("session") from None
                self._coordination.sync(within_s=deadline.call_s())  # else a stale list may miss our own node

    def _enter(self, attempt: Attempt, deadline: Deadline, note: bytes) -> Attempt:
        made = self._coordination.create(
            f"{self._folder}/{PREFIX}{attempt.unique}-",
            note,
            ephemeral=True,
            sequential=True,
            within_s=deadline.call_s(),
        )
        if made.stat.ephemeral_owner != attempt.session:  # another thread began a new session just before
            raise self._refusal("session")
        return replace(attempt, entered=True)

    def _granted(self, attempt: Attempt, node: Node) -> Grant:
        return Grant(self._name, node.stat.czxid, attempt.session, node.path, self._coordination)

    def _refusal(self, why: str) -> TryAgain:
        if why == "session":
            return SessionLost(f"the session ended while waiting for lock {self._name!r}", hint="try again")
        if why == "deleted":
            return Busy(f"somebody deleted this attempt at lock {self._name!r}", hint="try again")
        holder = None
        with suppress(TryAgain):
            holder = self.holder(within_s=1.0)
        who = f"by {holder.note.decode(errors='replace')!r}, token {holder.token}" if holder else "by somebody"
        return Busy(f"lock {self._name!r} is held {who}", hint="wait for it to end, then repeat")


def reap(coordination: Coordination, *, within_s: float) -> int:
    """Removes contenders that earlier attempts over this client had to leave behind; how many are left."""
    left = _orphans.pop(coordination, [])
    for folder, unique, session in left:
        _withdraw(coordination, folder, unique, session, within_s)
    return len(_orphans.get(coordination, []))


def _withdraw(coordination: Coordination, folder: str, unique: str, session: int, within_s: float) -> None:
    """Deletes the contender, found by its unique part, in case it was created unknown to us."""
    now = coordination.session()
    if now.number != session or now.state is State.LOST:
        return  # it went with its session
    try:
        coordination.sync(within_s=within_s)
        for name in coordination.children(folder, within_s=within_s):
            if name.startswith(f"{PREFIX}{unique}-"):
                with suppress(UnknownObject):
                    coordination.delete(f"{folder}/{name}", within_s=within_s)
    except UnknownObject:
        return
    except SessionLost:
        return
    except TryAgain:
        orphans = _orphans.setdefault(coordination, [])
        orphans.append((folder, unique, session))
        del orphans[:-ORPHANS_MAX]


def _unique_of(node: str) -> str:
    return node.rpartition("/")[2].split("-", 2)[1]
