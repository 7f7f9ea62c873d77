"""Coordination in one SQLite file, between the processes of one machine: the embedded default.

It is a file of its own because one backend is one class behind one factory. The app opens it by entry point for
`sqlite:///...`. It must never decide by the wall clock, nor let a session write whose lease has passed.

Each change is one transaction, synced; its number comes from a counter in the file. A process that is stopped in the middle of
one (which takes milliseconds) holds the file's write lock until it goes on or is killed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from stook.backends.sqlite.database import Database, database_path
from stook.backends.sqlite.lease import Lease, children_seen, data_seen
from stook.backends.sqlite.nodes import SCHEMA, apply, next_zxid, read_children, read_node, read_stat
from stook.core.errors import InvalidSettings, SessionLost, StookError
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
    check_operations,
    check_path,
)
from stook.core.settings import EngineUrl

LAYOUT: Final = 1
SESSION_S: Final = 10.0
SESSION_S_MIN: Final = 0.5
SESSION_S_MAX: Final = 3_600.0


class SqliteCoordination:
    """`Coordination` on SQLite; see the port for what each method promises."""

    def __init__(self, path: Path, session_s: float) -> None:
        self._path = path
        self._session_s = session_s
        self._database = self._open()
        self._mutex = threading.Lock()  # of beginning and ending sessions
        self._closed = False
        self._lease = self._begin(CALL_S)

    def session(self, *, watch: Flag | None = None) -> Session:
        lease = self._lease
        return Session(lease.number, lease.state(watch), self._session_s)

    def renew(self, *, within_s: float = CALL_S) -> Session:
        with self._mutex:
            if self._closed:
                raise SessionLost(f"{self._path} was closed", hint="open the project again")
            if self._lease.state() is State.LOST:
                self._lease.lose()  # its thread ends by itself; nothing waits for that
                self._lease = self._begin(within_s)
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
        node = self._write([Create(path, data, ephemeral, sequential)], within_s, read_back=True)[1]
        assert node is not None
        return node

    def get(self, path: str, *, watch: Flag | None = None, within_s: float = CALL_S) -> Node:
        lease = self._live(path)
        with self._database.transaction(write=False, within_s=within_s) as connection:
            node = read_node(connection, path)
        if watch is not None:
            lease.watch(watch, path, data_seen, node.stat)
        return node

    def exists(self, path: str, *, watch: Flag | None = None, within_s: float = CALL_S) -> Stat | None:
        lease = self._live(path)
        with self._database.transaction(write=False, within_s=within_s) as connection:
            stat = read_stat(connection, path)
        if watch is not None:
            lease.watch(watch, path, data_seen, stat)
        return stat

    def children(self, path: str, *, watch: Flag | None = None, within_s: float = CALL_S) -> list[str]:
        lease = self._live(path)
        with self._database.transaction(write=False, within_s=within_s) as connection:
            stat, names = read_children(connection, path)
        if watch is not None:
            lease.watch(watch, path, children_seen, stat)
        return names

    def set(self, path: str, data: bytes, *, expected: int = ANY, within_s: float = CALL_S) -> Stat:
        ((stat,), _) = self._write([Set(path, data, expected)], within_s)
        assert isinstance(stat, Stat)
        return stat

    def delete(self, path: str, *, expected: int = ANY, within_s: float = CALL_S) -> None:
        self._write([Delete(path, expected)], within_s)

    def multi(self, operations: Sequence[Operation], *, within_s: float = CALL_S) -> list[Result]:
        return self._write(operations, within_s)[0]

    def sync(self, *, within_s: float = CALL_S) -> None:
        del within_s  # every read sees the newest state
        self._live("/")

    def close(self) -> None:
        with self._mutex:
            self._closed = True
            self._lease.end()
            self._database.close()

    def _begin(self, within_s: float) -> Lease:
        database = self._open()
        try:
            return Lease(database, self._session_s, within_s)
        except StookError:
            database.close()
            raise

    def _open(self) -> Database:
        return Database(self._path, store="coordination", layout=LAYOUT, schema=SCHEMA)

    def _live(self, path: str) -> Lease:
        check_path(path)
        lease = self._lease
        if lease.state() is State.LOST:
            raise self._lost(lease)
        return lease

    def _lost(self, lease: Lease) -> SessionLost:
        return SessionLost(
            f"session {lease.number} of {self._path} is over" + (": it was closed" if self._closed else ""),
            hint="begin a new one with renew(), and make ephemeral nodes again",
        )

    def _write(
        self, operations: Sequence[Operation], within_s: float, *, read_back: bool = False
    ) -> tuple[list[Result], Node | None]:
        check_operations(operations)
        lease = self._live("/")
        if not operations:
            return [], None
        with self._database.transaction(write=True, within_s=within_s) as connection:
            # Whoever writes next sees what ended; also this session, however the process was stopped until now.
            if lease.ended(connection):
                lease.lose()
                raise self._lost(lease)
            change = (next_zxid(connection), time.time_ns() // 1_000, lease.number)
            results: list[Result] = []
            for index, operation in enumerate(operations):
                try:
                    results.append(apply(connection, operation, change))
                except StookError as error:
                    if len(operations) > 1:
                        error.message = f"operation {index} of {len(operations)}: {error.message}"
                    raise
            return results, read_node(connection, str(results[0])) if read_back else None


def open_coordination(url: EngineUrl, root: Path) -> SqliteCoordination:
    """The tree in the file that `url` names, created at need, and a session on it; `?session_s=10` sets its timeout.

    Raises CorruptStore, NewerStore, EngineUnavailable, DiskFull; InvalidSettings for a wrong URL.
    """
    del root  # the URL's path is absolute already
    path = database_path(url, "sqlite:///.stook/coordination.db")
    text = url.option("session_s", str(SESSION_S))
    try:
        session_s = float(text)
    except ValueError:
        session_s = 0.0
    if not SESSION_S_MIN <= session_s <= SESSION_S_MAX:
        raise InvalidSettings(
            f"engines.coordination: session_s is {text!r}", hint=f"{SESSION_S_MIN} to {SESSION_S_MAX:g} seconds"
        )
    return SqliteCoordination(path, session_s)
