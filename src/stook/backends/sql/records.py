"""Records in a SQL database: the registry's store for more than one machine.

It is a file of its own because one backend is one class behind one factory. The app opens it by entry point for
`postgresql://...`; the registry and others use it as `Records`. It must never look into a spec.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row

from stook.backends.sql.database import Database
from stook.backends.sql.dialects import Postgresql, Sqlite
from stook.backends.sql.place import Place, parse_place, parse_waits
from stook.backends.sql.tables import KEYS_AT_ONCE_MAX, KIND_CHARACTERS_MAX, NAME_CHARACTERS_MAX
from stook.core.errors import Conflict, CorruptStore, InvalidArgument, InvalidSettings
from stook.core.ports.records import ABSENT, ANY, Change, Put, Record, RecordsAbility, dump_spec
from stook.core.settings import EngineUrl

Key = tuple[str, str]


class SqlRecords:
    """`Records` in a SQL database; see the port for what each method promises."""

    abilities: frozenset[RecordsAbility] = frozenset()

    def __init__(self, database: Database) -> None:
        self._database = database
        self._statements = database.statements

    def get(self, kind: str, name: str) -> Record | None:
        if _unkeepable(kind, name):
            return None
        found = self._database.rows(self._statements.one(kind, name))
        return self._record(found[0]) if found else None

    def list(self, kind: str | None = None) -> list[Record]:
        if kind is not None and _unkeepable(kind, ""):
            return []
        found = self._database.rows(self._statements.every if kind is None else self._statements.of_kind(kind))
        return sorted((self._record(row) for row in found), key=lambda record: (record.kind, record.name))

    def commit(self, changes: Sequence[Change], *, expected_revision: int = ANY) -> int:
        specs = [dump_spec(change) if isinstance(change, Put) else "" for change in changes]
        for change in changes:
            if why := _unkeepable(change.kind, change.name):
                raise InvalidArgument(f"{change.kind!r} {change.name[:100]!r} cannot be a record's name", hint=why)
        if not changes:
            present = self.revision()
            _check_store(present, expected_revision)
            return present

        def work(connection: Connection, revision: int) -> None:
            _check_store(revision - 1, expected_revision)
            effects = Effects(self._present(connection, changes), revision)
            for change, spec in zip(changes, specs, strict=True):
                effects.apply(change, spec)
            self._write(connection, effects)

        return self._database.commit(work)

    def revision(self) -> int:
        found = self._database.rows(self._statements.revision)
        if not found:
            raise CorruptStore(f"{self._database.place} has lost its counter", hint="restore it from a backup")
        return int(found[0][0])

    def close(self) -> None:
        self._database.close()

    def _present(self, connection: Connection, changes: Sequence[Change]) -> dict[Key, tuple[int, int]]:
        keys = sorted({(change.kind, change.name) for change in changes})
        found: dict[Key, tuple[int, int]] = {}
        for start in range(0, len(keys), KEYS_AT_ONCE_MAX):
            wanted = self._statements.present(keys[start : start + KEYS_AT_ONCE_MAX])
            found |= {(kind, name): (revision, created) for kind, name, revision, created in connection.execute(wanted)}
        return found

    def _write(self, connection: Connection, effects: Effects) -> None:
        inserted, replaced, removed = effects.rows()
        for statement, rows in (
            (self._statements.remove, removed),
            (self._statements.replace, replaced),
            (self._statements.insert, inserted),
        ):
            if rows:
                connection.execute(statement, rows)

    def _record(self, row: Row[Any]) -> Record:
        kind, name, spec, revision, created = tuple[Any, ...](row)
        try:
            parsed = json.loads(spec)
        except ValueError as error:
            raise CorruptStore(
                f"{self._database.place}: the spec of {kind} {name!r} does not read back: {error}",
                hint="restore the database from a backup",
            ) from error
        return Record(kind, name, parsed, revision, created)


@dataclass
class Effects:
    """What a commit's changes come to, given (revision, created) of the keys that are there; touches no database."""

    before: Mapping[Key, tuple[int, int]]
    revision: int
    _after: dict[Key, tuple[str, int] | None] = field(default_factory=dict)  # spec and created; None: deleted

    def apply(self, change: Change, spec: str) -> None:
        """Takes one change after those before it. Raises Conflict when its record is not as expected."""
        key = (change.kind, change.name)
        present, created = self._now(key)
        if change.expected not in (ANY, present):
            stands = "does not exist" if present == ABSENT else f"is at revision {present}"
            wanted = "not to exist" if change.expected == ABSENT else f"at revision {change.expected}"
            raise Conflict(
                f"{change.kind} {change.name!r} {stands}, expected {wanted}", hint="read it again, then repeat"
            )
        self._after[key] = (spec, created) if isinstance(change, Put) else None

    def rows(self) -> tuple[Sequence[dict[str, Any]], Sequence[dict[str, Any]], Sequence[dict[str, Any]]]:
        """The parameters of inserting, replacing and removing."""
        inserted, replaced, removed = [], [], []
        for (kind, name), after in sorted(self._after.items(), key=lambda item: item[0]):
            known = {"of_kind": kind, "of_name": name}
            if after is None:
                removed.append(known)
                continue
            spec, created = after
            values = {"spec": spec, "revision": self.revision, "created": created}
            if (kind, name) in self.before:
                replaced.append({**known, **values})
            else:
                inserted.append({"kind": kind, "name": name, **values})
        return inserted, replaced, [row for row in removed if (row["of_kind"], row["of_name"]) in self.before]

    def _now(self, key: Key) -> tuple[int, int]:
        if key not in self._after:
            return self.before.get(key, (ABSENT, self.revision))
        after = self._after[key]
        return (ABSENT, self.revision) if after is None else (self.revision, after[1])


def open_records(url: EngineUrl, root: Path) -> SqlRecords:
    """The records in the PostgreSQL database that `url` names; schema and tables are made at need.

    Raises InvalidSettings, EngineUnavailable, NewerStore, CorruptStore, DiskFull.
    """
    del root  # nothing of it is on this machine
    return SqlRecords(Database(parse_place(url), Postgresql()))


def open_on_sqlite(url: EngineUrl, root: Path) -> SqlRecords:
    """The same code on SQLite: no entry point names it, the contract runs on it to keep the statements portable."""
    del root
    if url.path is None:
        raise InvalidSettings(f"engine URL {url.text!r} names no file", hint="write it as sqlite:///records.db")
    url.path.parent.mkdir(parents=True, exist_ok=True)
    waits = parse_waits(dict(url.options), "engines.records")
    return SqlRecords(Database(Place((), str(url.path), "", None, waits=waits), Sqlite()))


def _unkeepable(*texts: str) -> str:
    """Why these cannot be a record's kind and name here; nothing where they can."""
    for text, most in zip(texts, (KIND_CHARACTERS_MAX, NAME_CHARACTERS_MAX), strict=True):
        if "\0" in text or not _is_unicode(text):
            return "a SQL database keeps no NUL character and no half of a surrogate pair in text"
        if len(text) > most:
            return f"at most {most} characters"
    return ""


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_store(present: int, expected: int) -> None:
    if expected not in (ANY, present):
        raise Conflict(
            f"the registry is at revision {present}, not {expected}: somebody changed it",
            hint="read it again, then repeat",
        )
