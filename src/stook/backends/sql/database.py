"""One database, kept reachable: reads repeated, commits repeated where that is safe and resolved where it is not.

It is a file of its own because lost connections, failover and lost answers are the same trouble for whatever is
stored. The records of this room call it. It must never repeat a commit that may have happened.

A commit whose COMMIT was sent and not answered is resolved like this: the next attempt locks the counter first, which
waits until the server has ended the former transaction one way or the other, and then looks for the call's token. If it
is there, the commit happened; if not, it never will. So nothing is guessed, and nothing is applied twice. A commit that is
found may not have reached a synchronous standby, since its wait may have been ended with its connection: another commit,
which changes nothing, waits in its place.
"""

from __future__ import annotations

import os
import secrets
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Executable, Row
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from stook.backends.sql.dialects import Dialect
from stook.backends.sql.failures import READ_ONLY, half_safe, passes, sqlstate, translate, unknown_outcome
from stook.backends.sql.layout import bring_up_to_date
from stook.backends.sql.place import Place
from stook.backends.sql.tables import COMMITS_KEPT, FORGET_EVERY_COMMITS, TOKEN_CHARACTERS, statements
from stook.core.errors import CorruptStore, EngineUnavailable

Work = Callable[[Connection, int], None]

PAUSE_FIRST_S: Final = 0.05
PAUSE_MAX_S: Final = 1.0
DOUBT_S: Final = 2.0  # behind a read that found no server: others look once only, so that they do not queue up


class Database:
    """One place through a pool of connections. Safe from threads, and across `fork`: a child makes its own."""

    def __init__(self, place: Place, dialect: Dialect) -> None:
        """Connects, and makes or migrates the tables.

        Raises InvalidSettings, EngineUnavailable, NewerStore, CorruptStore, DiskFull.
        """
        self.place, self.statements = place, statements(place.schema)
        self._dialect, self._closed, self._doubtful_until_s = dialect, False, 0.0
        self._engine = dialect.engine(place)
        # One statement is one state and needs no transaction: a read is one round trip, not three.
        self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        _OPEN.add(self)
        with ExitStack() as stack:
            stack.callback(self.close)  # where this fails, nobody else could
            self._repeated(lambda: bring_up_to_date(self._engine, dialect, place))
            stack.pop_all()

    def rows(self, statement: Executable) -> Sequence[Row[Any]]:
        """All rows of one reading statement, from one state. Raises EngineUnavailable, CorruptStore."""
        found: list[Sequence[Row[Any]]] = []

        def read() -> None:
            with self._reading.connect() as connection:
                found.append(connection.execute(statement).all())
                self._dialect.check_primary(connection)  # else a former one could be read for ever

        self._repeated(read)
        return found[-1]

    def commit(self, work: Work) -> int:
        """Takes the next revision, lets `work` write what becomes of it, and commits; returns the revision.

        `work` may be called several times, each in a transaction of its own that starts from the newest state. Raises
        what `work` raises, EngineUnavailable (which says so when the outcome is unknown), DiskFull, CorruptStore.
        """
        token = secrets.token_hex(TOKEN_CHARACTERS // 2)
        patience = _Patience(self.place.waits.failover_wait_s)
        sent: int | None = None  # the revision that the first attempt would have made of which no answer came
        while True:
            attempt = _Attempt(token, sent)
            try:
                return self._attempt(attempt, work)
            except SQLAlchemyError as error:
                sent = attempt.sent
                self._leave_if_read_only(error)
                if (sent is not None or passes(error)) and patience.once_more():
                    continue
                raise (translate(error, self.place) if sent is None else unknown_outcome(error, self.place)) from error

    def close(self) -> None:
        """Closes all connections. Idempotent; the object is unusable afterwards."""
        self._closed = True
        self._engine.dispose()
        _OPEN.discard(self)

    def forget_connections(self) -> None:
        """Leaves the connections to the process that this one was forked from."""
        _INHERITED.append(self._engine.pool)
        self._engine.dispose(close=False)

    def _attempt(self, attempt: _Attempt, work: Work) -> int:
        self._check_open()
        with self._engine.connect() as connection:  # rolls back at the end what was not committed
            revision = connection.execute(self.statements.advance).scalar_one_or_none()
            if revision is None:
                raise CorruptStore(f"{self.place} has lost its counter", hint="restore it from a backup")
            if attempt.sent is not None:
                made = connection.execute(self.statements.made_by(attempt.token)).scalar_one_or_none()
                if made is not None:
                    return self._confirmed(connection, attempt.token, int(made))
                others = revision - 1 - attempt.sent
                if others >= COMMITS_KEPT:  # its token would be forgotten by now
                    raise unknown_outcome(SQLAlchemyError(f"{others} commits were made since"), self.place)
            work(connection, revision)
            connection.execute(self.statements.remember, {"revision": revision, "token": attempt.token})
            if revision % FORGET_EVERY_COMMITS == 0:
                connection.execute(self.statements.forget(revision))
            doubt = self._commit(connection, attempt, revision)
        return self._acknowledged(doubt, int(revision))

    def _confirmed(self, connection: Connection, token: str, made: int) -> int:
        connection.rollback()  # what was begun is a commit too many
        connection.execute(self.statements.touch(token))
        return self._acknowledged(self._dialect.commit(connection), made)

    def _acknowledged(self, doubt: str, revision: int) -> int:
        if doubt:
            raise half_safe(doubt, revision, self.place)
        return revision

    def _commit(self, connection: Connection, attempt: _Attempt, revision: int) -> str:
        before, attempt.sent = attempt.sent, revision if attempt.sent is None else attempt.sent
        try:
            return self._dialect.commit(connection)
        except DBAPIError as error:
            if not error.connection_invalidated:  # the server answered, and so undid it
                attempt.sent = before
            raise

    def _repeated(self, action: Callable[[], None]) -> None:
        doubtful = time.monotonic() < self._doubtful_until_s
        patience = _Patience(0 if doubtful else self.place.waits.read_wait_s)
        while True:
            self._check_open()
            try:
                return action()
            except SQLAlchemyError as error:
                self._leave_if_read_only(error)
                if not passes(error):
                    raise translate(error, self.place) from error
                if not patience.once_more():
                    self._doubtful_until_s = time.monotonic() + DOUBT_S
                    raise translate(error, self.place) from error

    def _leave_if_read_only(self, error: SQLAlchemyError) -> None:
        if sqlstate(error) == READ_ONLY:
            self._engine.dispose()  # the other connections are to the same server

    def _check_open(self) -> None:
        if self._closed:
            raise EngineUnavailable(f"{self.place} was closed", hint="open the project again")


@dataclass
class _Attempt:
    token: str
    sent: int | None


class _Patience:
    def __init__(self, wait_s: float) -> None:
        self._until_s = time.monotonic() + wait_s
        self._pause_s = 0.0  # the first time at once: the connection may just have been an old one

    def once_more(self) -> bool:
        if time.monotonic() + self._pause_s >= self._until_s:
            return False
        time.sleep(self._pause_s)
        self._pause_s = min(max(2 * self._pause_s, PAUSE_FIRST_S), PAUSE_MAX_S)
        return True


_OPEN: Final[weakref.WeakSet[Database]] = weakref.WeakSet()
_INHERITED: Final[list[object]] = []  # kept, since what is collected says goodbye to the server for both processes


def _after_fork() -> None:
    for database in list(_OPEN):
        database.forget_connections()


os.register_at_fork(after_in_child=_after_fork)
