"""The store's layout: looked at by whoever opens it, and brought up to date by one process at a time.

It is a file of its own because it alone knows Alembic, which is loaded only where there is something to do. The
database of this room calls it. It must never change what an already released step does.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import ColumnClause, Connection, Engine, column, inspect, select, table
from sqlalchemy.schema import CreateSchema

from stook.backends.sql.dialects import Dialect
from stook.backends.sql.place import Place
from stook.backends.sql.tables import LAYOUT_TABLE, LAYOUTS
from stook.core.errors import NewerStore, NotSupported

STEPS = Path(__file__).with_name("migrations")


def bring_up_to_date(engine: Engine, dialect: Dialect, place: Place) -> None:
    """Makes or migrates the tables where they are not of the newest layout, within one transaction for all steps.

    Raises NewerStore when a newer stook migrated them, InvalidSettings, and SQLAlchemy's errors.
    """
    with engine.connect() as connection:
        if _layout(connection, place) == LAYOUTS[-1]:
            return
        dialect.check(connection, place)
        with dialect.alone(connection, place):
            if _layout(connection, place) != LAYOUTS[-1]:  # else another process was first
                _migrate(connection, place)


def _layout(connection: Connection, place: Place) -> str:
    found: str | None = None
    if inspect(connection).has_table(LAYOUT_TABLE, schema=place.schema):
        number: ColumnClause[str] = column("version_num")
        found = connection.execute(
            select(number).select_from(table(LAYOUT_TABLE, number, schema=place.schema))
        ).scalar()
    connection.rollback()
    if found and found not in LAYOUTS:
        raise NewerStore(
            f"{place} was migrated by a newer stook (layout {found}; this one knows up to {LAYOUTS[-1]})",
            hint="upgrade stook: `pip install -U 'stook[postgresql]'`",
        )
    return found or ""


def _migrate(connection: Connection, place: Place) -> None:
    try:
        from alembic import command  # for start-up time: needed once in a store's life
        from alembic.config import Config
    except ImportError as error:
        raise NotSupported(
            f"{place}: Alembic is not installed: {error}", hint="pip install 'stook[postgresql]'"
        ) from None
    if place.schema is not None and not inspect(connection).has_schema(place.schema):
        connection.execute(CreateSchema(place.schema))
        connection.commit()
    connection.rollback()  # a transaction that is not Alembic's own it would not commit
    config = Config()
    config.set_main_option("script_location", str(STEPS).replace("%", "%%"))
    config.set_main_option("version_locations", str(STEPS / "steps").replace("%", "%%"))
    config.set_main_option("path_separator", "newline")  # a folder's name may hold anything else
    config.attributes.update(connection=connection, schema=place.schema, layout_table=LAYOUT_TABLE)
    command.upgrade(config, "head")
