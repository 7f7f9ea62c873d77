"""Coordination by a ZooKeeper ensemble.

It is a file of its own because one backend is one class behind one factory. The app opens it by entry point for
`zookeeper://host:2181,host:2181/chroot?session_s=10`. It must never send a write twice, nor call an outcome known that
is not.

A lost session's client is not used again: `renew` makes another, with threads of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from operator import methodcaller
from pathlib import Path
from typing import Any, Final

from kazoo import exceptions as kazoo
from kazoo.handlers.threading import KazooTimeoutError

from stook.backends.zookeeper.client import NotSent
from stook.backends.zookeeper.owner import Owner
from stook.backends.zookeeper.words import ROLLED_BACK, UNANSWERED, Words
from stook.core.errors import (
    Conflict,
    InvalidArgument,
    InvalidSettings,
    SessionLost,
    StookError,
)
from stook.core.ports.coordination import (
    ANY,
    CALL_S,
    Create,
    Delete,
    Flag,
    Node,
    Operation,
    Result,
    Session,
    Set,
    Stat,
    State,
    check_children,
    check_operations,
    check_path,
)
from stook.core.settings import EngineUrl

SESSION_S: Final = 10.0
SESSION_S_MIN: Final = 0.5
SESSION_S_MAX: Final = 3_600.0
CHROOT_BYTES_MAX: Final = 256  # a request has room for no more beside each path
_OWN: Final = "zookeeper"  # the ensemble's own node below its root

Ask = Callable[[Any], Any]


class ZookeeperCoordination:
    """`Coordination` on ZooKeeper; see the port for what each method promises."""

    def __init__(self, hosts: str, chroot: str, session_s: float) -> None:
        self._hosts, self._chroot, self._session_s = hosts, chroot, session_s
        self._words = Words(hosts, chroot)
        self._mutex = threading.Lock()  # of beginning and ending sessions
        self._closed = False
        self._owner = self._begin(CALL_S)

    def session(self, *, watch: Flag | None = None) -> Session:
        owner = self._owner
        return Session(owner.number, owner.state(watch), owner.timeout_s)

    def renew(self, *, within_s: float = CALL_S) -> Session:
        with self._mutex:
            if self._closed:
                raise SessionLost("the coordination store was closed", hint="open the project again")
            if self._owner.state() is State.LOST:
                self._owner.lose()  # its thread ends it; nothing waits for that
                self._owner = self._begin(within_s)
            return self.session()

    def create(
        self,
        path: str,
        data: bytes = b"",
        *,
        ephemeral: bool = False,
        sequential: bool = False,
        within_s: float = CALL_S,
    ) -> Node:
        check_operations([Create(path, data, ephemeral, sequential)])
        made, stat = self._call(
            lambda client: client.create_async(
                self._words.full(path), data, ephemeral=ephemeral, sequence=sequential, include_data=True
            ),
            within_s,
            (f"node {path!r}", True),
        )
        return Node(self._words.short(made), data, self._words.stat(path, stat))

    def get(self, path: str, *, watch: Flag | None = None, within_s: float = CALL_S) -> Node:
        check_path(path)
        data, stat = self._read("node", path, watch, within_s)
        return Node(path, data or b"", self._words.stat(path, stat))

    def exists(self, path: str, *, watch: Flag | None = None, within_s: float = CALL_S) -> Stat | None:
        check_path(path)
        stat = self._read("exists", path, watch, within_s)
        return None if stat is None else self._words.stat(path, stat)

    def children(self, path: str, *, watch: Flag | None = None, within_s: float = CALL_S) -> list[str]:
        deadline_s = time.monotonic() + within_s
        stat = self.exists(path, within_s=within_s)
        if stat is not None:  # asked first: the answer itself has no limit
            check_children(path, stat.children)
        names = self._read("children", path, watch, deadline_s - time.monotonic())
        return sorted(name for name in names if self._words.full(path) != "/" or name != _OWN)

    def set(self, path: str, data: bytes, *, expected: int = ANY, within_s: float = CALL_S) -> Stat:
        check_operations([Set(path, data, expected)])
        stat = self._call(
            lambda client: client.set_async(self._words.full(path), data, expected), within_s, (f"node {path!r}", True)
        )
        return self._words.stat(path, stat)

    def delete(self, path: str, *, expected: int = ANY, within_s: float = CALL_S) -> None:
        check_operations([Delete(path, expected)])
        self._call(
            lambda client: client.delete_async(self._words.full(path), expected), within_s, (f"node {path!r}", True)
        )

    def multi(self, operations: Sequence[Operation], *, within_s: float = CALL_S) -> list[Result]:
        check_operations(operations)
        if not operations:
            return []
        where = f"node {operations[0].path!r} and {len(operations) - 1} more"
        answers = self._call(lambda client: self._words.transaction(client, operations), within_s, (where, True))
        for index, (operation, answer) in enumerate(zip(operations, answers, strict=True)):
            if isinstance(answer, kazoo.ZookeeperError) and not isinstance(answer, ROLLED_BACK):
                place = f"operation {index} of {len(operations)}: " if len(operations) > 1 else ""
                raise self._words.translated(answer, (f"{place}node {operation.path!r}", True))
        return [self._words.result(operation, answer) for operation, answer in zip(operations, answers, strict=True)]

    def sync(self, *, within_s: float = CALL_S) -> None:
        self._call(lambda client: client.sync_async(self._words.full("/")), within_s, ("the ensemble", False))

    def close(self) -> None:
        with self._mutex:
            self._closed = True
            self._owner.end()

    def _begin(self, within_s: float) -> Owner:
        deadline_s = time.monotonic() + within_s
        owner = Owner(self._hosts, self._session_s, within_s)
        parts = self._chroot.split("/")[1:]
        try:
            for depth in range(len(parts)):
                path = "/" + "/".join(parts[: depth + 1])
                with suppress(Conflict):
                    self._ask(owner, methodcaller("create_async", path), deadline_s, (path, False))
        except StookError:
            owner.lose()
            raise
        return owner

    def _read(self, kind: str, path: str, flag: Flag | None, within_s: float) -> Any:
        owner = self._owner
        # kazoo keeps watches on data and on existence together, as the server does.
        watched = "children" if kind == "children" else "node"
        watcher = None if flag is None else owner.watcher(watched, path, flag)

        def ask(client: Any) -> Any:
            call = {"node": client.get_async, "exists": client.exists_async, "children": client.get_children_async}
            return call[kind](self._words.full(path), watcher)

        try:
            return self._ask(owner, ask, time.monotonic() + within_s, (f"node {path!r}", False))
        except StookError:
            if watcher is not None:
                owner.unwatch(watched, path)
            raise

    def _call(self, ask: Ask, within_s: float, what: tuple[str, bool]) -> Any:
        return self._ask(self._owner, ask, time.monotonic() + within_s, what)

    def _ask(self, owner: Owner, ask: Ask, deadline_s: float, what: tuple[str, bool]) -> Any:
        """Sends one request and waits for its answer; `what` is its object, and whether it writes."""
        state = owner.state()
        if state is State.LOST:
            owner.lose()
            raise self._lost(owner)
        if state is State.SUSPENDED:
            raise self._words.translated(NotSent(), what)
        try:
            return ask(owner.client).get(timeout=max(deadline_s - time.monotonic(), 0.0))
        except (kazoo.KazooException, KazooTimeoutError) as error:
            if isinstance(error, kazoo.SessionExpiredError):
                raise self._lost(owner) from error
            if owner.state() is State.LOST and not (what[1] and isinstance(error, UNANSWERED)):
                raise self._lost(owner) from error
            raise self._words.translated(error, what) from error

    def _lost(self, owner: Owner) -> SessionLost:
        return SessionLost(
            f"session {owner.number} with ZooKeeper is over" + (": it was closed" if self._closed else ""),
            hint="begin a new one with renew(), and make ephemeral nodes again",
        )


def open_coordination(url: EngineUrl, root: Path) -> ZookeeperCoordination:
    """A session with the ensemble that `url` names, below its chroot, which is created at need.

    `?session_s=10` asks for a timeout; the ensemble grants between 2 and 20 of its ticks. Raises InvalidSettings for a
    wrong URL, EngineUnavailable when no majority answers within 10 s.
    """
    del root  # the URL names servers, not files
    hosts, slash, path = url.address.partition("/")
    example = "zookeeper://host1:2181,host2:2181,host3:2181/stook?session_s=10"
    if not hosts or any(not host.strip() for host in hosts.split(",")):
        raise InvalidSettings(
            f"engines.coordination is {url.text!r}: it names no servers", hint=f"write it as {example}"
        )
    chroot = slash + path.rstrip("/") if path else ""
    if chroot:
        try:
            check_path(chroot)
        except InvalidArgument as error:
            raise InvalidSettings(f"engines.coordination: {error.message}", hint=f"write it as {example}") from None
    text = url.option("session_s", str(SESSION_S))
    try:
        session_s = float(text)
    except ValueError:
        session_s = 0.0
    if not SESSION_S_MIN <= session_s <= SESSION_S_MAX:
        raise InvalidSettings(
            f"engines.coordination: session_s is {text!r}", hint=f"{SESSION_S_MIN} to {SESSION_S_MAX:g} seconds"
        )
    if len(chroot.encode()) > CHROOT_BYTES_MAX:
        raise InvalidSettings("engines.coordination: the chroot is too long", hint=f"{CHROOT_BYTES_MAX} bytes at most")
    return ZookeeperCoordination(hosts, chroot, session_s)
