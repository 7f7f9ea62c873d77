"""Nodes and sessions as rows: what each operation of coordination does to them, inside one transaction.

It is a file of its own because these rules are all that must be equal to ZooKeeper's, and are read beside its manual.
Coordination of this room calls it with an open transaction. It must never begin or end one, nor look at a clock.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from stook.core.errors import Conflict, InvalidArgument, TooLarge, UnknownObject
from stook.core.ports.coordination import (
    ANY,
    SEQUENCE_DIGITS,
    SEQUENCE_MAX,
    Check,
    Create,
    Delete,
    Node,
    Operation,
    Result,
    Set,
    Stat,
    check_children,
    parent_of,
)

# A file starts in an epoch of its own (the high 32 bits: seconds since 2020), so that numbers still grow, and tokens
# stay comparable, after the file was lost and made anew.
SCHEMA: Final = (
    "CREATE TABLE nodes (path TEXT NOT NULL UNIQUE, parent TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL,"
    " czxid INTEGER NOT NULL, mzxid INTEGER NOT NULL, pzxid INTEGER NOT NULL, ctime_us INTEGER NOT NULL,"
    " mtime_us INTEGER NOT NULL, data_version INTEGER NOT NULL, creations INTEGER NOT NULL,"
    " children INTEGER NOT NULL, owner INTEGER NOT NULL)",
    "CREATE INDEX nodes_by_parent ON nodes (parent, name)",
    "CREATE INDEX nodes_by_owner ON nodes (owner) WHERE owner != 0",
    "CREATE TABLE sessions (number INTEGER PRIMARY KEY, until_ms INTEGER NOT NULL, timeout_ms INTEGER NOT NULL,"
    " boot TEXT NOT NULL, process INTEGER NOT NULL)",
    "INSERT INTO nodes VALUES ('/', '', '', x'', 0, 0, 0, 0, 0, 0, 0, 0, 0)",
    "INSERT INTO meta VALUES ('zxid', max(1, CAST(strftime('%s', 'now') AS INTEGER) - 1577836800) << 32)",
)
_STAT: Final = (
    "czxid, mzxid, pzxid, ctime_us, mtime_us, data_version, 2 * creations - children, owner, length(data), children"
)
# Of a clock that began anew, a lease may end later than it can have been given: it is over too.
_LAPSED: Final = "until_ms < :now OR until_ms > :now + timeout_ms OR boot != :boot"


def read_stat(connection: sqlite3.Connection, path: str) -> Stat | None:
    """What is known of the node, or None."""
    found = connection.execute(f"SELECT {_STAT} FROM nodes WHERE path = ?", (path,)).fetchone()
    return None if found is None else Stat(*found)


def read_node(connection: sqlite3.Connection, path: str) -> Node:
    """The node. Raises UnknownObject."""
    found = connection.execute(f"SELECT data, {_STAT} FROM nodes WHERE path = ?", (path,)).fetchone()
    if found is None:
        raise _unknown(path)
    return Node(path, found[0], Stat(*found[1:]))


def read_children(connection: sqlite3.Connection, path: str) -> tuple[Stat, list[str]]:
    """The names of the node's children, sorted. Raises UnknownObject, TooLarge."""
    stat = read_stat(connection, path)
    if stat is None:
        raise _unknown(path)
    check_children(path, stat.children)
    rows = connection.execute("SELECT name FROM nodes WHERE parent = ? ORDER BY name", (path,))
    return stat, [name for (name,) in rows]


def next_zxid(connection: sqlite3.Connection) -> int:
    """The number of the change that this transaction makes."""
    connection.execute("UPDATE meta SET value = value + 1 WHERE name = 'zxid'")
    return int(connection.execute("SELECT value FROM meta WHERE name = 'zxid'").fetchone()[0])


def lapsed(connection: sqlite3.Connection, now_ms: int, boot: str) -> list[int]:
    """The sessions whose lease is over."""
    rows = connection.execute(f"SELECT number FROM sessions WHERE {_LAPSED}", {"now": now_ms, "boot": boot})
    return [number for (number,) in rows]


def end_session(connection: sqlite3.Connection, number: int) -> None:
    """Ends a session: its ephemeral nodes go, as one change. Harmless where it is over."""
    owned = connection.execute("SELECT path FROM nodes WHERE owner = ?", (number,)).fetchall()
    if owned:
        zxid = next_zxid(connection)
        for (path,) in owned:
            _remove(connection, path, zxid)
    connection.execute("DELETE FROM sessions WHERE number = ?", (number,))


def apply(connection: sqlite3.Connection, operation: Operation, change: tuple[int, int, int]) -> Result:
    """Applies one operation; `change` is its zxid, the time in microseconds, and the session. Raises as the port."""
    zxid, now_us, _ = change
    if isinstance(operation, Create):
        return _create(connection, operation, change)
    stat = read_stat(connection, operation.path)
    if stat is None:
        raise _unknown(operation.path)
    if operation.expected not in (ANY, stat.data_version):
        raise Conflict(
            f"node {operation.path!r} is at data version {stat.data_version}, expected {operation.expected}",
            hint="read it again, then repeat",
        )
    if isinstance(operation, Set):
        connection.execute(
            "UPDATE nodes SET data = ?, mzxid = ?, mtime_us = ?, data_version = data_version + 1 WHERE path = ?",
            (operation.data, zxid, now_us, operation.path),
        )
        return read_stat(connection, operation.path)
    if isinstance(operation, Delete):
        if stat.children:
            raise Conflict(f"node {operation.path!r} has children", hint="delete them first")
        _remove(connection, operation.path, zxid)
    else:
        assert isinstance(operation, Check)
    return None


def _create(connection: sqlite3.Connection, operation: Create, change: tuple[int, int, int]) -> str:
    zxid, now_us, session = change
    parent = parent_of(operation.path)
    found = connection.execute("SELECT creations, owner FROM nodes WHERE path = ?", (parent,)).fetchone()
    if found is None:
        raise _unknown(parent)
    creations, owner = found
    if owner:
        raise InvalidArgument(f"node {parent!r} is ephemeral and can have no children", hint="name another parent")
    path = operation.path
    if operation.sequential:
        if creations > SEQUENCE_MAX:
            raise TooLarge(f"the counter of node {parent!r} is spent", hint="use another parent")
        path += f"{creations:0{SEQUENCE_DIGITS}}"
    if read_stat(connection, path) is not None:
        raise Conflict(f"node {path!r} exists", hint="read it, or use another name")
    name = path.rpartition("/")[2]
    owner = session if operation.ephemeral else 0
    connection.execute(
        "INSERT INTO nodes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, ?)",
        (path, parent, name, operation.data, zxid, zxid, zxid, now_us, now_us, owner),
    )
    connection.execute(
        "UPDATE nodes SET children = children + 1, creations = creations + 1, pzxid = ? WHERE path = ?", (zxid, parent)
    )
    return path


def _remove(connection: sqlite3.Connection, path: str, zxid: int) -> None:
    connection.execute("DELETE FROM nodes WHERE path = ?", (path,))
    connection.execute("UPDATE nodes SET children = children - 1, pzxid = ? WHERE path = ?", (zxid, parent_of(path)))


def _unknown(path: str) -> UnknownObject:
    return UnknownObject(f"there is no node {path!r}", hint="create it first")
