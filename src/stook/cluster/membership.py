"""Who is there: members of a group, each with a little data, gone when their process is.

It is a file of its own because it is one recipe. Servers and supervisors register; whoever spreads work lists and watches.
It must never take silence for death: a member that is not listed may still run, for as long as its timeout, and what it
writes is stopped by a fence, not by this list.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final

from stook.cluster.deadlines import Deadline, ensure_folder, live_session
from stook.cluster.registration import Make, Stay, Update, WaitForEnd, step
from stook.core.errors import Busy, Conflict, EngineUnavailable, OutcomeUnknown, TooLarge, UnknownObject
from stook.core.ports.coordination import CALL_S, Coordination, Node, check_path

FOLDER: Final = "/members"
DATA_BYTES_MAX: Final = 64 * 1024


class Membership:
    """One group by name, below `/members`. One object may register one member, and list all."""

    def __init__(self, coordination: Coordination, group: str) -> None:
        self._coordination = coordination
        self._folder = check_path(f"{FOLDER}/{group}")
        self._mine: tuple[str, bytes] | None = None

    def register(self, member: str, data: bytes = b"", *, wait_s: float) -> None:
        """Stands in the group under this name, with this data, for as long as the session; call `keep` from then on.

        A name that another session holds is waited for, at most `wait_s` seconds: after a crash the old session of the
        same member still has to end. Idempotent; with other data it is changed. Raises Busy, SessionLost, TooLarge,
        EngineUnavailable, OutcomeUnknown.
        """
        if len(data) > DATA_BYTES_MAX:
            raise TooLarge(f"the data of member {member!r} has {len(data)} bytes", hint=f"at most {DATA_BYTES_MAX}")
        path = check_path(f"{self._folder}/{member}")
        deadline = Deadline(wait_s)
        flag = threading.Event()
        self._mine = (member, data)
        while True:
            session = live_session(self._coordination, deadline)
            try:
                ensure_folder(self._coordination, self._folder, deadline)
                match step(self._read(path, deadline), session.number, data):
                    case Stay():
                        return
                    case Make():
                        self._coordination.create(path, data, ephemeral=True, within_s=deadline.call_s())
                    case Update(expected):
                        self._coordination.set(path, data, expected=expected, within_s=deadline.call_s())
                    case WaitForEnd(owner):
                        if deadline.passed():
                            raise Busy(
                                f"member {member!r} is registered by session {owner}", hint="use another name, or wait"
                            )
                        if self._coordination.exists(path, watch=flag, within_s=deadline.call_s()) is not None:
                            deadline.wait(flag)
            except (Conflict, UnknownObject):  # it changed in between: look again
                if deadline.passed():
                    raise
            except (EngineUnavailable, OutcomeUnknown):
                if deadline.passed():
                    raise
                deadline.pause()

    def keep(self, *, wait_s: float = CALL_S) -> bool:
        """Registers again where the session was lost; True when it had to. To be called now and then by whoever owns
        the member's main loop. Raises as `register`."""
        if self._mine is None:
            return False
        member, data = self._mine
        session = self._coordination.session()
        stat = None
        if live_session(self._coordination, Deadline(wait_s)).number == session.number:
            stat = self._coordination.exists(f"{self._folder}/{member}")
        if stat is not None and stat.ephemeral_owner == session.number:
            return False
        self.register(member, data, wait_s=wait_s)
        return True

    def leave(self, *, within_s: float = CALL_S) -> None:
        """Leaves the group. Idempotent."""
        mine, self._mine = self._mine, None
        if mine is None:
            return
        path = f"{self._folder}/{mine[0]}"
        try:
            node = self._coordination.get(path, within_s=within_s)
            if node.stat.ephemeral_owner == self._coordination.session().number:
                self._coordination.delete(path, within_s=within_s)
        except UnknownObject:
            return

    def members(self, *, within_s: float = CALL_S) -> dict[str, bytes]:
        """All members by name, with their data. Raises EngineUnavailable, SessionLost."""
        self._coordination.sync(within_s=within_s)
        return self._members(Deadline(within_s), None)

    def wait(self, known: Mapping[str, bytes], *, timeout_s: float) -> dict[str, bytes]:
        """The members as soon as they are no longer those known, or as they are after `timeout_s` seconds."""
        deadline = Deadline(timeout_s)
        flag = threading.Event()
        while True:
            try:
                found = self._members(deadline, flag)
            except EngineUnavailable:
                if deadline.passed():
                    raise
                deadline.pause()
                continue
            if found != dict(known) or deadline.passed():
                return found
            deadline.wait(flag)

    def _members(self, deadline: Deadline, flag: threading.Event | None) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        if self._coordination.exists(self._folder, watch=flag, within_s=deadline.call_s()) is None:
            return found
        for name in self._coordination.children(self._folder, watch=flag, within_s=deadline.call_s()):
            try:
                node = self._coordination.get(f"{self._folder}/{name}", watch=flag, within_s=deadline.call_s())
            except UnknownObject:
                continue  # it left just now
            found[name] = node.data
        return found

    def _read(self, path: str, deadline: Deadline) -> Node | None:
        self._coordination.sync(within_s=deadline.call_s())
        try:
            return self._coordination.get(path, within_s=deadline.call_s())
        except UnknownObject:
            return None
