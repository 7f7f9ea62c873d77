"""One SQLite file, kept safely: opened, checked, locked, closed around forks, its errors put into our words.

It is a file of its own because threads, processes, forks, power loss, damage and full disks are the same trouble
for every store on SQLite and must be solved once. Records and the log of this room call it. It must never know a
table of theirs beyond the statements that it is handed.

The file is in WAL mode with `synchronous=FULL`: a transaction that returned survives kill -9 and loss of power
(https://sqlite.org/pragma.html#pragma_synchronous). Its `meta` table says whose file it is and in which layout.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from stook.core.errors import CorruptStore, DiskFull, EngineUnavailable, InvalidSettings, NewerStore, StookError
from stook.core.settings import EngineUrl

T = TypeVar("T")

BUSY_S: Final = 10.0  # how long a write waits for another process's
RETRY_S: Final = 0.0005
WAL_BYTES_KEPT_MAX: Final = 64 * 1024 * 1024
FREE_BYTES_MIN: Final = 1024 * 1024  # an I/O error with less space than this is a full disk
_META: Final = "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID"


class Database:
    """One SQLite file through one connection, one transaction at a time.

    Safe from several threads (they queue), from several processes (SQLite's locks), and across `fork` (no
    connection is open while the process forks; each side opens its own).
    """

    def __init__(self, path: Path, *, store: str, layout: int, schema: Sequence[str]) -> None:
        """Opens the file, creating it (and its folder) with `schema` where there is none.

        `store` names whose file it is, `layout` the layout this stook writes. Raises CorruptStore when it is not
        such a file, NewerStore when its layout is larger, EngineUnavailable, DiskFull.
        """
        self.path = path
        self._store, self._layout, self._schema = store, layout, tuple(schema)
        self._mutex = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        make_folder(path.parent)
        with self._mutex, self._translating():
            self._connected()
        _OPEN.add(self)

    @contextmanager
    def transaction(self, *, write: bool, within_s: float | None = None) -> Iterator[sqlite3.Connection]:
        """A transaction over one state: committed, durably, when the block ends, rolled back when it raises.

        With `write` the file's write lock is held from the start. Other threads and processes are waited for at most
        `within_s` seconds (None: `BUSY_S`). Raises EngineUnavailable (also when closed), DiskFull, CorruptStore; nothing is written
        then.
        """
        within_s = BUSY_S if within_s is None else within_s
        with self._turn(within_s), self._translating():
            connection = self._connected()
            _begin(connection, write=write, within_s=within_s)
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def row(self, statement: str, parameters: Sequence[object] = ()) -> tuple[object, ...] | None:
        """The first row of one reading statement, or None; cheaper than a transaction. Raises as `transaction`."""
        with self._mutex, self._translating():
            return self._connected().execute(statement, parameters).fetchone()

    @contextmanager
    def _turn(self, within_s: float) -> Iterator[None]:
        if not self._mutex.acquire(timeout=min(max(within_s, 0.0), threading.TIMEOUT_MAX)):
            raise EngineUnavailable(
                f"{self.path} was in use by other threads for more than {within_s:g} s", hint="repeat the call"
            )
        try:
            yield
        finally:
            self._mutex.release()

    def close(self) -> None:
        """Closes the file. Idempotent; the object is unusable afterwards."""
        with self._mutex:
            self._closed = True
            self._disconnect()
        _OPEN.discard(self)

    def pause(self) -> None:
        """Waits for the running transaction, then holds off all others, with no connection open."""
        self._mutex.acquire()
        self._disconnect()

    def resume(self) -> None:
        """Ends a `pause`."""
        self._mutex.release()

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            if self._closed:
                raise EngineUnavailable(f"{self.path} was closed", hint="open the project again")
            self._connection = self._connect()
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            fresh = _table_count(connection) == 0
            if not fresh:
                self._check(connection)
            # Another process that opens the file for the first time makes this fail at once, without waiting.
            _insist(lambda: connection.execute("PRAGMA journal_mode=WAL").fetchone(), BUSY_S)
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA secure_delete=FAST")  # Debian's default writes zeros over all it deletes
            connection.execute(f"PRAGMA journal_size_limit={WAL_BYTES_KEPT_MAX}")
            if fresh:
                self._create(connection)
        except (sqlite3.Error, StookError):
            connection.close()
            raise
        return connection

    def _create(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        if _table_count(connection) == 0:  # else another process was first
            for statement in (_META, *self._schema):
                connection.execute(statement)
            connection.execute("INSERT INTO meta VALUES ('store', ?), ('layout', ?)", (self._store, self._layout))
        connection.execute("COMMIT")
        sync_folder(self.path.parent)
        self._check(connection)

    def _check(self, connection: sqlite3.Connection) -> None:
        ours = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta' AND sql = ?", (_META,)).fetchone()
        meta = dict(connection.execute("SELECT name, value FROM meta")) if ours else {}
        layout = meta.get("layout")
        if meta.get("store") != self._store or not isinstance(layout, int):
            raise CorruptStore(
                f"{self.path} is a SQLite file, but not stook's {self._store}",
                hint="name another file in stook.toml, or move this one away",
            )
        if layout > self._layout:
            raise NewerStore(
                f"{self.path} was written by a newer stook (layout {layout}; this one knows up to {self._layout})",
                hint="upgrade stook: `pip install -U stook`",
            )

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            # Whatever state the failure left the connection in, the next call starts from a fresh one.
            self._disconnect()
            raise _translate(error, self.path) from error


def database_path(url: EngineUrl, example: str) -> Path:
    """The file an engine's URL names. Raises InvalidSettings when it names none."""
    if url.path is None:
        raise InvalidSettings(f"engine URL {url.text!r} names no file", hint=f"write it as {example}")
    return url.path


def make_folder(folder: Path) -> None:
    """Creates the folder and its parents at need, durably. Raises EngineUnavailable, DiskFull."""
    try:
        absent = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for made in absent:
            sync_folder(made.parent)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull(f"the disk is full: {folder} cannot be made", hint="free some space") from error
        raise EngineUnavailable(
            f"folder {folder} cannot be made: {error.strerror}",
            hint="make its parent writable, or name another place in stook.toml",
        ) from error


def sync_folder(folder: Path) -> None:
    """Makes the folder's entries survive loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _table_count(connection: sqlite3.Connection) -> int:
    return connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]


def _begin(connection: sqlite3.Connection, *, write: bool, within_s: float) -> None:
    if not write:
        connection.execute("BEGIN")
        return
    # SQLite itself sleeps ever longer, up to 0.1 s, between two attempts, so that one busy process starves the others.
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        _insist(lambda: connection.execute("BEGIN IMMEDIATE"), within_s)
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_S * 1000:.0f}")


def _insist(action: Callable[[], T], within_s: float) -> T:
    deadline = time.monotonic() + within_s
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                raise
        time.sleep(RETRY_S)


def _translate(error: sqlite3.Error, path: Path) -> StookError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return CorruptStore(
            f"{path} is damaged or not a SQLite file: {error}",
            hint="restore it from a backup, or move it away to start empty",
        )
    if name == "SQLITE_FULL" or (name.startswith("SQLITE_IOERR") and _is_full(path)):
        return DiskFull(f"the disk holding {path} is full; nothing was written", hint="free some space, then repeat")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return EngineUnavailable(
            f"{path} was locked by another process for too long", hint="see who has it open: `fuser`"
        )
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")):
        return EngineUnavailable(
            f"{path} cannot be opened or written: {error}", hint="make the file and its folder writable"
        )
    return EngineUnavailable(f"{path} does not answer: {error} {name}".rstrip(), hint="look at the disk, then repeat")


def _is_full(path: Path) -> bool:
    return shutil.disk_usage(path.parent).free < FREE_BYTES_MIN


# SQLite's locks do not survive a fork, but its belief to hold them does: a child that used or even reopened a
# file that was open when it was forked would run unlocked (https://sqlite.org/howtocorrupt.html, 2.6).
_OPEN: Final[weakref.WeakSet[Database]] = weakref.WeakSet()
_FORKING: Final = threading.Lock()
_paused: Final[list[Database]] = []


def _before_fork() -> None:
    _FORKING.acquire()
    for database in list(_OPEN):
        database.pause()
        _paused.append(database)


def _after_fork() -> None:
    while _paused:
        _paused.pop().resume()
    _FORKING.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
