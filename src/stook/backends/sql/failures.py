"""What the database's errors mean: whether repeating may help, and what they are in our words.

It is a file of its own because it is pure and must be complete: an error that is not recognized is still one of ours.
The database of this room calls it. It must never connect, wait or retry.

SQLSTATEs are PostgreSQL's (https://www.postgresql.org/docs/current/errcodes-appendix.html). While connecting, libpq
passes on the server's text only; what is recognized there is English, and in another language it is EngineUnavailable.
"""

from __future__ import annotations

import re
from typing import Final

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from stook.backends.sql.place import Place
from stook.core.errors import CorruptStore, DiskFull, EngineUnavailable, InvalidSettings, StookError, first_line

READ_ONLY: Final = "25006"
PASSING: Final = frozenset({
    READ_ONLY,  # a former primary, or one about to be
    "40001",  # serialization failure
    "40P01",  # deadlock
    "53300",  # too many connections
    "57P01",  # shut down by an administrator
    "57P02",  # another process of the server crashed
    "57P03",  # starting up
    "57P05",  # idle for too long
    "25P03",  # idle in a transaction for too long
})  # fmt: skip
_LOCKED: Final = "55P03"
_CANCELLED: Final = "57014"
_FULL: Final = "53100"
_DAMAGED: Final = ("XX001", "XX002")
_FORBIDDEN: Final = ("28", "3D", "42501", "3F")
_WRONG: Final = re.compile(
    r'authentication failed|no password supplied|no pg_hba\.conf entry|(role|database) ".*" does not exist'
    r"|permission denied for database|is not permitted to log in|not currently accepting connections"
    r"|does not support SSL|certificate|sslmode|channel binding|passfile",
    re.IGNORECASE,
)


def sqlstate(error: SQLAlchemyError) -> str:
    """The code of the server's answer; empty where no server answered."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""


def passes(error: SQLAlchemyError) -> bool:
    """Whether the same statement may succeed in a moment, on this server or on another."""
    if not isinstance(error, DBAPIError):
        return False
    code = sqlstate(error)
    if code:
        return code in PASSING or code.startswith("08")
    if error.connection_invalidated:
        return True
    return isinstance(error, OperationalError) and not _WRONG.search(str(error.orig))


def translate(error: SQLAlchemyError, place: Place) -> StookError:
    """The error in our words, without the password; nothing was written."""
    code = sqlstate(error)
    said = _said(error, place)
    if code == _FULL:
        return DiskFull(f"{place}: the server's disk is full: {said}", hint="free some space there, then repeat")
    if code == _LOCKED:
        return EngineUnavailable(
            f"{place} was locked by another process for more than its time: {said}",
            hint="see who holds it in pg_stat_activity; `lock_wait_s` sets how long to wait",
        )
    if code == _CANCELLED:
        return EngineUnavailable(
            f"{place}: a statement was cancelled: {said}", hint="`statement_timeout_s` sets how long one may take"
        )
    if code == READ_ONLY:
        return EngineUnavailable(f"{place} takes no writes: {said}", hint="see which host is the primary, then repeat")
    if code in _DAMAGED:
        return CorruptStore(f"{place} is damaged: {said}", hint="restore it from a backup")
    if code.startswith(_FORBIDDEN) or (not code and isinstance(error, DBAPIError) and _WRONG.search(str(error.orig))):
        return InvalidSettings(
            f"{place} refuses engines.records: {said}",
            hint="mend user, password, database, rights or TLS options of the URL in stook.toml",
        )
    if isinstance(error, PoolTimeout):
        return EngineUnavailable(
            f"{place}: all connections of this process are in use", hint="raise `connections_max` in the URL"
        )
    unreached = isinstance(error, OperationalError | InterfaceError) or code[:2] in {"08", "53", "57", "58", "40"}
    if unreached or getattr(error, "connection_invalidated", False):
        return EngineUnavailable(
            f"{place} does not answer: {said}", hint="see that a server takes writes there, then repeat"
        )
    return CorruptStore(
        f"{place} is not as stook left it: {said} {code}".rstrip(), hint="restore it, or name another schema"
    )


def unknown_outcome(error: SQLAlchemyError, place: Place) -> EngineUnavailable:
    """The error of a commit that was sent and of which nobody could say whether it happened."""
    return EngineUnavailable(
        f"{place}: the outcome of the commit is unknown: the connection broke after it was sent, and nobody could say"
        f" within {place.waits.failover_wait_s} s whether it happened: {_said(error, place)}",
        hint="read again first; repeating the call is safe only by compare-and-set (an expected revision)",
    )


def half_safe(doubt: str, revision: int, place: Place) -> EngineUnavailable:
    """The error of a commit that happened, while the server gave up waiting for its standby."""
    return EngineUnavailable(
        f"{place}: the commit is revision {revision}, but its outcome is unknown should the server fail now: {doubt}",
        hint="read again once the standby is back; repeating the call is safe only by compare-and-set",
    )


def _said(error: SQLAlchemyError, place: Place) -> str:
    cause = getattr(error, "orig", None) or error
    hosts = [line[2:] for line in str(cause).splitlines() if line.startswith("- host: ")]  # psycopg's, of several hosts
    told = RuntimeError("; ".join(hosts)) if hosts else cause
    return place.without_password(first_line(told))
