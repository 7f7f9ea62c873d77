"""Replayable streams in one SQLite file: the embedded log of pushed rows.

It is a file of its own because one backend is one class behind one factory. The app opens it by entry point for
`local:///...`; ingest uses it as `Log`. It must never look into a payload.

Appends of several threads that wait together share one transaction, hence one fsync: the first to get the writer
commits for all (group commit). Reads go through a connection of their own and never wait for an append.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from typing import Final

from stook.backends.sqlite.database import Database, database_path
from stook.core.errors import Conflict, DiskFull, TooLarge
from stook.core.ports.log import PAYLOAD_BYTES_MAX, Entry
from stook.core.settings import EngineUrl

LAYOUT: Final = 1
FILE_NAME: Final = "log.db"
_SCHEMA: Final = (
    "CREATE TABLE streams (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, base INTEGER NOT NULL,"
    " last INTEGER NOT NULL)",
    "CREATE TABLE entries (stream INTEGER NOT NULL, position INTEGER NOT NULL, payload BLOB NOT NULL,"
    " PRIMARY KEY (stream, position))",
)


class _Append:
    """One thread's append, waiting; `last` is its last position once it is durable."""

    __slots__ = ("last", "payloads", "stream")

    def __init__(self, stream: str, payloads: Sequence[bytes]) -> None:
        self.stream = stream
        self.payloads = payloads
        self.last: int | None = None


class SqliteLog:
    """`Log` on SQLite; see the port for what each method promises."""

    def __init__(self, path: Path) -> None:
        self._writer = Database(path, store="log", layout=LAYOUT, schema=_SCHEMA)
        self._reader = Database(path, store="log", layout=LAYOUT, schema=_SCHEMA)
        self._turn = threading.Lock()
        self._waiting: deque[_Append] = deque()

    def append(self, stream: str, payloads: Sequence[bytes]) -> int:
        if not payloads:
            return self.end(stream)
        for payload in payloads:
            if len(payload) > PAYLOAD_BYTES_MAX:
                raise TooLarge(
                    f"a payload for stream {stream!r} has {len(payload)} bytes",
                    hint=f"at most {PAYLOAD_BYTES_MAX}: push fewer rows at a time",
                )
        mine = _Append(stream, payloads)
        self._waiting.append(mine)
        with self._turn:
            # Whoever had the turn before may have committed this one too; where that failed, it is open still.
            if mine.last is None:
                self._commit_with_others(mine)
        assert mine.last is not None
        return mine.last

    def read(self, stream: str, *, after: int, limit: int, bytes_max: int = PAYLOAD_BYTES_MAX) -> list[Entry]:
        entries: list[Entry] = []
        with self._reader.transaction(write=False) as connection:
            found = connection.execute("SELECT id, base FROM streams WHERE name = ?", (stream,)).fetchone()
            if found is None or limit <= 0:
                return entries
            number, base = found
            if after < base:
                raise Conflict(
                    f"stream {stream!r} was truncated through {base}, so that nothing after {after} can be read",
                    hint=f"read what it was folded into, then go on after {base}",
                )
            rows = connection.execute(
                "SELECT position, payload FROM entries WHERE stream = ? AND position > ? ORDER BY position LIMIT ?",
                (number, after, limit),
            )
            size = 0
            for position, payload in rows:
                size += len(payload)
                if entries and size > bytes_max:
                    break
                entries.append(Entry(position, payload))
        return entries

    def end(self, stream: str) -> int:
        return self._mark("last", stream)

    def base(self, stream: str) -> int:
        return self._mark("base", stream)

    def truncate(self, stream: str, *, through: int) -> None:
        with self._writer.transaction(write=True) as connection:
            found = connection.execute(
                "UPDATE streams SET base = min(?, last) WHERE name = ? AND base < min(?, last) RETURNING id, base",
                (through, stream, through),
            ).fetchone()
            if found is not None:
                connection.execute("DELETE FROM entries WHERE stream = ? AND position <= ?", found)

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    def _mark(self, column: str, stream: str) -> int:
        found = self._reader.row(f"SELECT {column} FROM streams WHERE name = ?", (stream,))
        return found[0] if found is not None and isinstance(found[0], int) else 0

    def _commit_with_others(self, mine: _Append) -> None:
        # Bounded by the number of threads: each waits for its one append. Nothing stays behind that could fail here
        # and be committed by somebody else later.
        group = [mine]
        while self._waiting:
            other = self._waiting.popleft()
            if other is not mine:
                group.append(other)
        try:
            self._commit(group)
        except DiskFull:
            if len(group) == 1:
                raise
            self._commit([mine])  # the others will find theirs open: a large one must not fail the small ones

    def _commit(self, group: list[_Append]) -> None:
        with self._writer.transaction(write=True) as connection:
            lasts = [_insert(connection, append) for append in group]
        for append, last in zip(group, lasts, strict=True):
            append.last = last


def open_log(url: EngineUrl, root: Path) -> SqliteLog:
    """The log in the folder that `url` names, created at need.

    Raises CorruptStore, NewerStore, EngineUnavailable, DiskFull; InvalidSettings when the URL names no folder.
    """
    del root  # the URL's path is absolute already
    return SqliteLog(database_path(url, "local:///.stook/log") / FILE_NAME)


def _insert(connection: sqlite3.Connection, append: _Append) -> int:
    number, last = connection.execute(
        "INSERT INTO streams (name, base, last) VALUES (?, 0, ?)"
        " ON CONFLICT (name) DO UPDATE SET last = last + excluded.last RETURNING id, last",
        (append.stream, len(append.payloads)),
    ).fetchone()
    first = last - len(append.payloads) + 1
    rows = zip(repeat(number), range(first, last + 1), append.payloads, strict=False)
    connection.executemany("INSERT INTO entries (stream, position, payload) VALUES (?, ?, ?)", rows)
    return last
