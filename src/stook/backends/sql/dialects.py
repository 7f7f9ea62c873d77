"""What differs by database: how it is connected, how long it waits, and how one process migrates alone.

It is a file of its own so that everything else of this room holds for any dialect. The factories choose one; the
database calls it. It must never know a table.

Of PostgreSQL's waits none is without an end: the server bounds locks, statements and idle transactions, TCP bounds a
silent network, and `BoundedConnection` bounds a server that neither answers nor hangs up (a frozen one, or a COMMIT that
waits for a standby: `statement_timeout` does not bound that).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import psycopg
import psycopg.errors
from psycopg.abc import PQGen
from psycopg.errors import Diagnostic
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import OperationalError

from stook.backends.sql.place import Place
from stook.core.errors import InvalidSettings

T = TypeVar("T")

ANSWER_LATE_S: Final = 5  # how much later than the server's own limit an answer may come
MIGRATION_S: Final = 300  # for one statement of a migration
MIGRATION_WAIT_S: Final = 60  # for the migration of another process
KEEPALIVE_S: Final = 10
SILENCE_MS: Final = 20_000  # sent bytes unacknowledged for longer: the connection is dead
IDLE_IN_TRANSACTION_S: Final = 30  # a stopped process gives the counter up
POOL_WAIT_S: Final = 10
SQLITE_BUSY_S: Final = 10.0


class Dialect(Protocol):
    """One database's ways."""

    def engine(self, place: Place) -> Engine:
        """Connections to the place, made when needed; nothing is connected yet."""
        ...

    def commit(self, connection: Connection) -> str:
        """Commits; returns what makes the server doubt that the commit is as safe as it should be, or nothing."""
        ...

    def check_primary(self, connection: Connection) -> None:
        """Raises SQLAlchemy's OperationalError where the last answer said that the server takes no writes any more."""
        ...

    def alone(self, connection: Connection, place: Place) -> Any:
        """A context in which no other process migrates the same schema; the connection serves nothing else behind."""
        ...

    def check(self, connection: Connection, place: Place) -> None:
        """Raises InvalidSettings where the database cannot keep what it is given."""
        ...


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that waits for an answer no longer than `answer_wait_s`, and keeps the server's warning."""

    answer_wait_s: float = 20.0
    process: int = 0
    warned: str = ""

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        try:
            return super().wait(gen, interval, self.answer_wait_s if timeout is None else timeout)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()  # its answer may still come, and would be taken for that to the next statement
            raise

    def __del__(self, warn: object = None, /) -> None:
        # The pool lets go of those that were in use when it was given up. A child leaves its parent's alone.
        del warn
        if self.process == os.getpid():
            self.close()

    def keep_warning(self, notice: Diagnostic) -> None:
        """Keeps the last warning; notices below that are nothing."""
        if notice.severity_nonlocalized == "WARNING":
            self.warned = " ".join(filter(None, (notice.message_primary, notice.message_detail)))


class Postgresql:
    """PostgreSQL through psycopg."""

    def engine(self, place: Place) -> Engine:
        return create_engine(
            "postgresql+psycopg://",
            creator=lambda: _connect(place),
            isolation_level="READ COMMITTED",
            pool_size=place.waits.connections_max,
            max_overflow=0,
            pool_timeout=POOL_WAIT_S,
            pool_use_lifo=True,  # what is idle stays idle, and the server may end it
            use_native_hstore=False,
            hide_parameters=True,
        )

    def commit(self, connection: Connection) -> str:
        driver = _driver(connection)
        driver.warned = ""
        connection.commit()
        return driver.warned

    def check_primary(self, connection: Connection) -> None:
        # The server reports both by itself, from PostgreSQL 14 on, so that this costs no question.
        said = _driver(connection).info.parameter_status
        if "on" in (said("in_hot_standby"), said("default_transaction_read_only")):
            cause = psycopg.errors.ReadOnlySqlTransaction("the server became a standby, or read-only")
            raise OperationalError("", None, cause)

    @contextmanager
    def alone(self, connection: Connection, place: Place) -> Iterator[None]:
        _driver(connection).answer_wait_s = MIGRATION_S + ANSWER_LATE_S
        connection.exec_driver_sql(f"SET lock_timeout = '{MIGRATION_WAIT_S}s'")
        connection.exec_driver_sql(f"SET statement_timeout = '{MIGRATION_S}s'")
        connection.exec_driver_sql(f"SELECT pg_advisory_lock({_lock_number(place)})")
        connection.commit()
        try:
            yield
        finally:
            if not connection.invalidated:
                connection.detach()  # closed behind this, not pooled: the lock and the limits end with the session

    def check(self, connection: Connection, place: Place) -> None:
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
        if encoding != "UTF8":
            raise InvalidSettings(
                f"{place}: the database's encoding is {encoding}, which cannot keep every name",
                hint="make it anew: createdb --template=template0 --encoding=UTF8 NAME",
            )


class Sqlite:
    """SQLite through the standard library: what shows that the rest of the room holds for a second dialect."""

    def engine(self, place: Place) -> Engine:
        path = Path(place.database)

        def connect() -> sqlite3.Connection:
            with _file_lock(path):  # two processes that switch a new file to WAL fail at once, without waiting
                made = sqlite3.connect(path, timeout=SQLITE_BUSY_S, check_same_thread=False)
                made.execute("PRAGMA journal_mode=WAL")
                made.execute("PRAGMA synchronous=FULL")
            return made

        return create_engine(
            f"sqlite:///{path}", creator=connect, pool_size=place.waits.connections_max, hide_parameters=True
        )

    def commit(self, connection: Connection) -> str:
        connection.commit()
        return ""

    def check_primary(self, connection: Connection) -> None:
        """A file has no second one."""

    @contextmanager
    def alone(self, connection: Connection, place: Place) -> Iterator[None]:
        connection.rollback()
        with _file_lock(Path(place.database + "-migration")):
            yield

    def check(self, connection: Connection, place: Place) -> None:
        """It keeps any text."""


def _connect(place: Place) -> BoundedConnection:
    waits = place.waits
    limits = {
        "statement_timeout": f"{waits.statement_timeout_s}s",
        "lock_timeout": f"{waits.lock_wait_s}s",
        "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_S}s",
    }
    given: dict[str, Any] = {**place.driver_options}
    if place.user:
        given["user"] = place.user
    if place.password:
        given["password"] = place.password
    made = BoundedConnection.connect(
        host=",".join(host for host, _ in place.hosts),
        port=",".join(port for _, port in place.hosts),
        dbname=place.database,
        connect_timeout=waits.connect_timeout_s,
        target_session_attrs=place.session,
        client_encoding="utf8",
        keepalives_idle=KEEPALIVE_S,
        keepalives_interval=KEEPALIVE_S // 2,
        keepalives_count=3,
        tcp_user_timeout=SILENCE_MS,
        gssencmode="disable",
        options=" ".join(f"-c {name}={value}" for name, value in limits.items()),
        **given,
        autocommit=True,
    )
    made.process = os.getpid()
    made.answer_wait_s = waits.statement_timeout_s + ANSWER_LATE_S
    made.add_notice_handler(made.keep_warning)
    # A server may be set to acknowledge before anything is on its disk; records may not.
    made.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
    made.autocommit = False
    return made


def _driver(connection: Connection) -> BoundedConnection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, BoundedConnection)
    return driver


def _lock_number(place: Place) -> int:
    digest = hashlib.sha256(f"stook migrates {place.schema}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    with Path(f"{path}-lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
