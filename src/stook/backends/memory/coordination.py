"""Coordination between the threads of one process, kept in memory.

It is a file of its own because one backend is one class behind one factory. Tests, and projects whose settings say
`coordination = "memory:"`, open it. It must never let a session end by itself: no clock runs here; a test ends one.

Openings for the same project share one tree for as long as one of them is open, each with a session of its own.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import RLock
from typing import Final

from stook.core.errors import Conflict, InvalidArgument, SessionLost, StookError, TooLarge, UnknownObject
from stook.core.ports.coordination import (
    ANY,
    CALL_S,
    SEQUENCE_DIGITS,
    SEQUENCE_MAX,
    Check,
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
    parent_of,
)
from stook.core.settings import EngineUrl

TIMEOUT_S: Final = 10.0  # told, never reached


@dataclass(frozen=True)
class _Kept:
    data: bytes
    czxid: int
    mzxid: int
    pzxid: int
    ctime_us: int
    mtime_us: int
    owner: int
    data_version: int = 0
    creations: int = 0  # children that it ever had
    children: frozenset[str] = frozenset()

    def stat(self) -> Stat:
        count = len(self.children)
        return Stat(
            czxid=self.czxid,
            mzxid=self.mzxid,
            pzxid=self.pzxid,
            ctime_us=self.ctime_us,
            mtime_us=self.mtime_us,
            data_version=self.data_version,
            children_version=2 * self.creations - count,
            ephemeral_owner=self.owner,
            data_bytes=len(self.data),
            children=count,
        )


# Flags by path and session; a flag that its owner forgot is forgotten here too.
_Watches = dict[str, dict[int, weakref.WeakSet[Flag]]]


@dataclass
class _Tree:
    """What all openings of one project share."""

    nodes: dict[str, _Kept] = field(default_factory=lambda: {"/": _Kept(b"", 0, 0, 0, 0, 0, 0)})
    zxid: int = 0
    live: set[int] = field(default_factory=set)
    on_node: _Watches = field(default_factory=dict)
    on_children: _Watches = field(default_factory=dict)
    on_session: dict[int, weakref.WeakSet[Flag]] = field(default_factory=dict)
    mutex: RLock = field(default_factory=RLock)

    def apply(self, operations: Sequence[Operation], session: int) -> list[Result]:
        zxid, now_us = self.zxid + 1, time.time_ns() // 1_000
        after = dict(self.nodes)
        results: list[Result] = []
        for index, operation in enumerate(operations):
            try:
                results.append(_apply(after, operation, (zxid, now_us, session)))
            except StookError as error:
                if len(operations) > 1:
                    error.message = f"operation {index} of {len(operations)}: {error.message}"
                raise
        before, self.nodes, self.zxid = self.nodes, after, zxid
        for operation, result in zip(operations, results, strict=True):
            path = result if isinstance(result, str) else operation.path
            self._tell(path, before.get(path), after.get(path))
            self._tell(parent_of(path), before.get(parent_of(path)), after.get(parent_of(path)))
        return results

    def end(self, session: int) -> None:
        owned = [path for path, node in self.nodes.items() if node.owner == session]
        self.apply([Delete(path) for path in owned], session)
        self.live.discard(session)
        for waiting in (self.on_node, self.on_children):
            for by_session in waiting.values():
                _set_all(by_session.pop(session, ()))
        _set_all(self.on_session.pop(session, ()))

    def _tell(self, path: str, before: _Kept | None, after: _Kept | None) -> None:
        gone = before is None or after is None or before.czxid != after.czxid
        if gone or (before and after and before.mzxid != after.mzxid):
            for flags in self.on_node.pop(path, {}).values():
                _set_all(flags)
        if gone or (before and after and before.pzxid != after.pzxid):
            for flags in self.on_children.pop(path, {}).values():
                _set_all(flags)


_trees: Final[weakref.WeakValueDictionary[str, _Tree]] = weakref.WeakValueDictionary()


class MemoryCoordination:
    """`Coordination` in a dict; see the port for what each method promises."""

    def __init__(self, tree: _Tree) -> None:
        self._tree = tree
        self._closed = False
        self._number = self._begin()

    def session(self, *, watch: Flag | None = None) -> Session:
        with self._tree.mutex:
            state = State.OK if self._number in self._tree.live else State.LOST
            if watch is not None and state is State.OK:
                self._tree.on_session.setdefault(self._number, weakref.WeakSet()).add(watch)
            return Session(self._number, state, TIMEOUT_S)

    def renew(self, *, within_s: float = CALL_S) -> Session:
        del within_s
        with self._tree.mutex:
            if self._closed:
                raise SessionLost("the coordination store was closed", hint="open the project again")
            if self._number not in self._tree.live:
                self._number = self._begin()
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
        with self._tree.mutex:
            (made,) = self.multi([Create(path, data, ephemeral, sequential)], within_s=within_s)
            return self.get(str(made))

    def get(self, path: str, *, watch: Flag | None = None, within_s: float = CALL_S) -> Node:
        del within_s
        with self._tree.mutex:
            node = self._live_node(path)
            self._watch(self._tree.on_node, path, watch)
            return Node(path, node.data, node.stat())

    def exists(self, path: str, *, watch: Flag | None = None, within_s: float = CALL_S) -> Stat | None:
        del within_s
        with self._tree.mutex:
            self._check_live(path)
            self._watch(self._tree.on_node, path, watch)
            node = self._tree.nodes.get(path)
            return None if node is None else node.stat()

    def children(self, path: str, *, watch: Flag | None = None, within_s: float = CALL_S) -> list[str]:
        del within_s
        with self._tree.mutex:
            node = self._live_node(path)
            check_children(path, len(node.children))
            self._watch(self._tree.on_children, path, watch)
            return sorted(node.children)

    def set(self, path: str, data: bytes, *, expected: int = ANY, within_s: float = CALL_S) -> Stat:
        (stat,) = self.multi([Set(path, data, expected)], within_s=within_s)
        assert isinstance(stat, Stat)
        return stat

    def delete(self, path: str, *, expected: int = ANY, within_s: float = CALL_S) -> None:
        self.multi([Delete(path, expected)], within_s=within_s)

    def multi(self, operations: Sequence[Operation], *, within_s: float = CALL_S) -> list[Result]:
        del within_s
        check_operations(operations)
        with self._tree.mutex:
            self._check_live("/")
            return self._tree.apply(operations, self._number) if operations else []

    def sync(self, *, within_s: float = CALL_S) -> None:
        del within_s
        with self._tree.mutex:
            self._check_live("/")

    def close(self) -> None:
        with self._tree.mutex:
            self._closed = True
            self.expire()

    def expire(self) -> None:
        """Ends the session as a store would that heard nothing of it: for tests."""
        with self._tree.mutex:
            if self._number in self._tree.live:
                self._tree.end(self._number)

    def _begin(self) -> int:
        with self._tree.mutex:
            self._tree.zxid += 1
            self._tree.live.add(self._tree.zxid)
            return self._tree.zxid

    def _check_live(self, path: str) -> None:
        check_path(path)
        if self._number not in self._tree.live:
            raise SessionLost(
                f"session {self._number} is over" + (": it was closed" if self._closed else ""),
                hint="begin a new one with renew(), and make ephemeral nodes again",
            )

    def _live_node(self, path: str) -> _Kept:
        self._check_live(path)
        return _found(self._tree.nodes, path)

    def _watch(self, waiting: _Watches, path: str, flag: Flag | None) -> None:
        if flag is not None:
            waiting.setdefault(path, {}).setdefault(self._number, weakref.WeakSet()).add(flag)


def open_coordination(url: EngineUrl, root: Path) -> MemoryCoordination:
    """A session on the tree of the project at `root`, which is empty where nobody else has it open."""
    tree = _trees.setdefault(f"{url.text} {root}", _Tree())
    return MemoryCoordination(tree)


def _set_all(flags: Iterable[Flag]) -> None:
    for flag in list(flags):
        flag.set()


def _found(nodes: dict[str, _Kept], path: str, expected: int = ANY) -> _Kept:
    node = nodes.get(path)
    if node is None:
        raise UnknownObject(f"there is no node {path!r}", hint="create it first")
    if expected not in (ANY, node.data_version):
        raise Conflict(
            f"node {path!r} is at data version {node.data_version}, expected {expected}",
            hint="read it again, then repeat",
        )
    return node


def _apply(nodes: dict[str, _Kept], operation: Operation, change: tuple[int, int, int]) -> Result:
    zxid, now_us, _ = change
    if isinstance(operation, Create):
        return _create(nodes, operation, change)
    node = _found(nodes, operation.path, operation.expected)
    if isinstance(operation, Check):
        return None
    if isinstance(operation, Set):
        after = replace(node, data=operation.data, mzxid=zxid, mtime_us=now_us, data_version=node.data_version + 1)
        nodes[operation.path] = after
        return after.stat()
    if node.children:
        raise Conflict(f"node {operation.path!r} has children", hint="delete them first")
    del nodes[operation.path]
    above = nodes[parent_of(operation.path)]
    name = operation.path.rpartition("/")[2]
    nodes[parent_of(operation.path)] = replace(above, pzxid=zxid, children=above.children - {name})
    return None


def _create(nodes: dict[str, _Kept], operation: Create, change: tuple[int, int, int]) -> str:
    zxid, now_us, session = change
    parent = parent_of(operation.path)
    above = _found(nodes, parent)
    if above.owner:
        raise InvalidArgument(f"node {parent!r} is ephemeral and can have no children", hint="name another parent")
    path = operation.path
    if operation.sequential:
        if above.creations > SEQUENCE_MAX:
            raise TooLarge(f"the counter of node {parent!r} is spent", hint="use another parent")
        path += f"{above.creations:0{SEQUENCE_DIGITS}}"
    if path in nodes:
        raise Conflict(f"node {path!r} exists", hint="read it, or use another name")
    owner = session if operation.ephemeral else 0
    nodes[path] = _Kept(operation.data, zxid, zxid, zxid, now_us, now_us, owner)
    children = above.children | {path.rpartition("/")[2]}
    nodes[parent] = replace(above, pzxid=zxid, children=children, creations=above.creations + 1)
    return path
