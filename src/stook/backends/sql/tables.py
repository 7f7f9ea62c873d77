"""The tables of the records' store, and every statement that is sent to them.

It is a file of its own so that each statement can be compiled for each dialect without a server. The records of this
room send them; the tests compile them. It must never hold what only one database understands, but for collations.

The counter is one row: whoever commits updates it first, which locks it, so that commits follow one another. The last
`COMMITS_KEPT` commits, and a few more, keep the token of the call that made them: after a lost answer it tells whether it happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Delete,
    MetaData,
    Select,
    SmallInteger,
    String,
    Table,
    Text,
    Update,
    bindparam,
    delete,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.sql.dml import Insert, ReturningUpdate

LAYOUTS: Final = ("0001",)  # every step that this stook knows, oldest first
LAYOUT_TABLE: Final = "stook_layout"
COMMITS_KEPT: Final = 1_000
FORGET_EVERY_COMMITS: Final = 100  # a round trip less for the other 99
KIND_CHARACTERS_MAX: Final = 100
NAME_CHARACTERS_MAX: Final = 500  # with the kind, at most 2,400 bytes: an index holds 2,700
TOKEN_CHARACTERS: Final = 32
KEYS_AT_ONCE_MAX: Final = 500


def exact(characters: int) -> String:
    """Text that is equal only to itself and ordered by code points, whatever the database's own collation is.

    A collation that comes with the operating system may change order with an upgrade of it, which breaks indexes.
    """
    return (
        String(characters)
        .with_variant(String(characters, collation="C"), "postgresql")
        .with_variant(String(characters, collation="Latin1_General_100_BIN2_UTF8"), "mssql")
    )


@dataclass(frozen=True)
class Statements:
    """The tables within one schema (None: the connection's own), and what is asked of them."""

    records: Table
    store: Table
    commits: Table

    @property
    def revision(self) -> Select[Any]:
        """The store's revision."""
        return select(self.store.c.revision)

    @property
    def every(self) -> Select[Any]:
        """All records, in no order: the caller sorts, so that no collation matters."""
        return select(self.records)

    def of_kind(self, kind: str) -> Select[Any]:
        """All records of a kind."""
        return self.every.where(self.records.c.kind == kind)

    def one(self, kind: str, name: str) -> Select[Any]:
        """A record."""
        return self.of_kind(kind).where(self.records.c.name == name)

    def present(self, keys: list[tuple[str, str]]) -> Select[Any]:
        """Kind, name, revision and created of those of the keys that exist."""
        by_kind: dict[str, list[str]] = {}
        for kind, name in keys:
            by_kind.setdefault(kind, []).append(name)
        columns = self.records.c
        wanted = [(columns.kind == kind) & columns.name.in_(names) for kind, names in sorted(by_kind.items())]
        return select(columns.kind, columns.name, columns.revision, columns.created).where(or_(*wanted))

    @property
    def advance(self) -> ReturningUpdate[Any]:
        """Locks the counter and takes the next revision."""
        return update(self.store).values(revision=self.store.c.revision + 1).returning(self.store.c.revision)

    @property
    def insert(self) -> Insert:
        """Records that were not there."""
        return insert(self.records)

    @property
    def replace(self) -> Update:
        """Records that were there."""
        columns = self.records.c
        return (
            update(self.records)
            .where(columns.kind == bindparam("of_kind"), columns.name == bindparam("of_name"))
            .values(spec=bindparam("spec"), revision=bindparam("revision"), created=bindparam("created"))
        )

    @property
    def remove(self) -> Delete:
        """Records that go."""
        columns = self.records.c
        return delete(self.records).where(columns.kind == bindparam("of_kind"), columns.name == bindparam("of_name"))

    @property
    def remember(self) -> Insert:
        """The token of the call that commits."""
        return insert(self.commits)

    def forget(self, revision: int) -> Delete:
        """Tokens too old to be asked for."""
        return delete(self.commits).where(self.commits.c.revision <= revision - COMMITS_KEPT)

    def touch(self, token: str) -> Update:
        """Writes a token as it is: whoever commits that waits for all that was committed before."""
        return update(self.commits).where(self.commits.c.token == token).values(token=token)

    def made_by(self, token: str) -> Select[Any]:
        """The revision that a call's commit made, if it did."""
        return select(self.commits.c.revision).where(self.commits.c.token == token)


def statements(schema: str | None) -> Statements:
    """The tables as of the newest layout; the migrations' steps make them."""
    data = MetaData(schema=schema)
    records = Table(
        "stook_records",
        data,
        Column("kind", exact(KIND_CHARACTERS_MAX), primary_key=True),
        Column("name", exact(NAME_CHARACTERS_MAX), primary_key=True),
        Column("spec", Text, nullable=False),
        Column("revision", BigInteger, nullable=False),
        Column("created", BigInteger, nullable=False),
    )
    store = Table(
        "stook_store",
        data,
        Column("id", SmallInteger, primary_key=True, autoincrement=False),
        Column("revision", BigInteger, nullable=False),
    )
    commits = Table(
        "stook_commits",
        data,
        Column("revision", BigInteger, primary_key=True, autoincrement=False),
        Column("token", String(TOKEN_CHARACTERS), nullable=False),
    )
    return Statements(records, store, commits)
