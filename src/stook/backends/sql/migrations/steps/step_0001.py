"""The first layout: records, the counter with its one row, and the tokens of the last commits.

It is a file of its own because each step is. Alembic calls it on an empty store. It must never change once released:
it does not import the tables of the day, since those move on.
"""

from __future__ import annotations

from alembic import context, op
from sqlalchemy import BigInteger, Column, SmallInteger, String, Text

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the tables."""
    schema = context.config.attributes["schema"]
    op.create_table(
        "stook_records",
        Column("kind", _exact(100), primary_key=True),
        Column("name", _exact(500), primary_key=True),
        Column("spec", Text, nullable=False),
        Column("revision", BigInteger, nullable=False),
        Column("created", BigInteger, nullable=False),
        schema=schema,
    )
    store = op.create_table(
        "stook_store",
        Column("id", SmallInteger, primary_key=True, autoincrement=False),
        Column("revision", BigInteger, nullable=False),
        schema=schema,
    )
    op.create_table(
        "stook_commits",
        Column("revision", BigInteger, primary_key=True, autoincrement=False),
        Column("token", String(32), nullable=False),
        schema=schema,
    )
    op.bulk_insert(store, [{"id": 1, "revision": 0}])


def _exact(characters: int) -> String:
    return (
        String(characters)
        .with_variant(String(characters, collation="C"), "postgresql")
        .with_variant(String(characters, collation="Latin1_General_100_BIN2_UTF8"), "mssql")
    )
