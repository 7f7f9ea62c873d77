"""Records in one SQLite file: the embedded registry's store.

It is a file of its own because one backend is one class behind one factory. The app opens it by entry point for
`sqlite:///...`; the registry and others use it as `Records`. It must never look into a spec.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from stook.backends.sqlite.database import Database, database_path
from stook.core.errors import Conflict, CorruptStore
from stook.core.ports.records import ABSENT, ANY, Change, Put, Record, RecordsAbility, dump_spec
from stook.core.settings import EngineUrl

LAYOUT: Final = 1
_SCHEMA: Final = (
    "CREATE TABLE records (kind TEXT NOT NULL, name TEXT NOT NULL, spec TEXT NOT NULL,"
    " revision INTEGER NOT NULL, created INTEGER NOT NULL, PRIMARY KEY (kind, name))",
    "INSERT INTO meta VALUES ('revision', 0)",
)
_COLUMNS: Final = "kind, name, spec, revision, created"
_REVISION: Final = "SELECT value FROM meta WHERE name = 'revision'"


class SqliteRecords:
    """`Records` on SQLite; see the port for what each method promises."""

    abilities = frozenset({RecordsAbility.AT_HAND})

    def __init__(self, path: Path) -> None:
        self._database = Database(path, store="records", layout=LAYOUT, schema=_SCHEMA)

    def get(self, kind: str, name: str) -> Record | None:
        found = self._database.row(f"SELECT {_COLUMNS} FROM records WHERE kind = ? AND name = ?", (kind, name))
        return None if found is None else self._record(*found)

    def list(self, kind: str | None = None) -> list[Record]:
        where, parameters = ("", ()) if kind is None else (" WHERE kind = ?", (kind,))
        with self._database.transaction(write=False) as connection:
            statement = f"SELECT {_COLUMNS} FROM records{where} ORDER BY kind, name"
            found = connection.execute(statement, parameters).fetchall()
        return [self._record(*row) for row in found]

    def commit(self, changes: Sequence[Change], *, expected_revision: int = ANY) -> int:
        specs = [dump_spec(change) if isinstance(change, Put) else "" for change in changes]
        with self._database.transaction(write=bool(changes)) as connection:
            before = connection.execute(_REVISION).fetchone()[0]
            if expected_revision not in (ANY, before):
                raise Conflict(
                    f"the registry is at revision {before}, not {expected_revision}: somebody changed it",
                    hint="read it again, then repeat",
                )
            if not changes:
                return before
            for change, spec in zip(changes, specs, strict=True):
                _apply(connection, change, spec, before + 1)
            connection.execute("UPDATE meta SET value = ? WHERE name = 'revision'", (before + 1,))
        return before + 1

    def revision(self) -> int:
        found = self._database.row(_REVISION)
        return found[0] if found is not None and isinstance(found[0], int) else 0

    def close(self) -> None:
        self._database.close()

    def _record(self, kind: Any, name: Any, spec: Any, revision: Any, created: Any) -> Record:
        try:
            parsed = json.loads(spec)
        except ValueError as error:
            raise CorruptStore(
                f"{self._database.path}: the spec of {kind} {name!r} does not read back: {error}",
                hint="restore the file from a backup",
            ) from error
        return Record(kind, name, parsed, revision, created)


def open_records(url: EngineUrl, root: Path) -> SqliteRecords:
    """The records in the file that `url` names, created at need.

    Raises CorruptStore, NewerStore, EngineUnavailable, DiskFull; InvalidSettings when the URL names no file.
    """
    del root  # the URL's path is absolute already
    return SqliteRecords(database_path(url, "sqlite:///.stook/records.db"))


def _apply(connection: sqlite3.Connection, change: Change, spec: str, revision: int) -> None:
    key = (change.kind, change.name)
    found = connection.execute("SELECT revision FROM records WHERE kind = ? AND name = ?", key).fetchone()
    present = ABSENT if found is None else found[0]
    if change.expected not in (ANY, present):
        stands = "does not exist" if present == ABSENT else f"is at revision {present}"
        wanted = "not to exist" if change.expected == ABSENT else f"at revision {change.expected}"
        raise Conflict(f"{change.kind} {change.name!r} {stands}, expected {wanted}", hint="read it again, then repeat")
    if isinstance(change, Put):
        connection.execute(
            f"INSERT INTO records ({_COLUMNS}) VALUES (?, ?, ?, ?, ?) ON CONFLICT (kind, name)"
            " DO UPDATE SET spec = excluded.spec, revision = excluded.revision",
            (*key, spec, revision, revision),
        )
    else:
        connection.execute("DELETE FROM records WHERE kind = ? AND name = ?", key)
