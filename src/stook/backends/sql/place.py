"""An engine's URL, parsed into where the database is and how long to wait for it.

It is a file of its own because it is pure, and because a wrong option must be refused by name before anything is
connected. The factories of this room call it. It must never let a password into a message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from stook.core.errors import InvalidSettings, did_you_mean
from stook.core.settings import EngineUrl

EXAMPLE: Final = "postgresql://user:password@host1:5432,host2:5432/database?schema=stook"
PORT: Final = "5432"
HOSTS_MAX: Final = 16
SCHEMA: Final = "stook"
_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z")
_SESSIONS: Final = ("read-write", "primary")
_TLS: Final = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile", "channel_binding")


@dataclass(frozen=True)
class Waits:
    """How long this process waits, each in seconds; `BOUNDS` has the limits of each."""

    failover_wait_s: int = 60  # how long a commit looks for a server that takes writes: twice Patroni's default `ttl`
    read_wait_s: int = 5  # how long a read, or opening, looks for a server that answers
    connect_timeout_s: int = 5  # for each host of each attempt
    lock_wait_s: int = 10  # for the commits of others
    statement_timeout_s: int = 15  # for one statement; the answer is awaited for `ANSWER_LATE_S` more
    connections_max: int = 8  # open at once, by each process


BOUNDS: Final[Mapping[str, tuple[int, int]]] = {
    "failover_wait_s": (0, 600),
    "read_wait_s": (0, 60),
    "connect_timeout_s": (2, 60),
    "lock_wait_s": (1, 300),
    "statement_timeout_s": (1, 3600),
    "connections_max": (1, 64),
}


@dataclass(frozen=True)
class Place:
    """A database: its hosts in order of preference, and what to say at its door."""

    hosts: tuple[tuple[str, str], ...]
    database: str
    user: str
    schema: str | None
    password: str = field(default="", repr=False)
    session: str = "read-write"
    driver_options: Mapping[str, str] = field(default_factory=dict)
    waits: Waits = field(default_factory=Waits)

    def __str__(self) -> str:
        hosts = ",".join(f"{host}:{port}" if port else host for host, port in self.hosts)
        return f"postgresql://{hosts}/{self.database}, schema {self.schema}"

    def without_password(self, text: str) -> str:
        """The text, which is another library's, with the password blotted out."""
        return text.replace(self.password, "***") if self.password else text


def parse_place(url: EngineUrl) -> Place:
    """Where `postgresql://...` points. Raises InvalidSettings naming the option and its bounds.

    >>> from pathlib import Path
    >>> from stook.core.settings import parse_url
    >>> str(parse_place(parse_url("postgresql://me:secret@a,b:5433/shop", Path("/p"), "engines.records")))
    'postgresql://a:5432,b:5433/shop, schema stook'
    """
    where = f"engines.records ({url.scheme})"
    login, _, rest = url.address.rpartition("@")
    hosts, _, database = rest.partition("/")
    user, _, password = login.partition(":")
    if not hosts or not database or "/" in database:
        raise InvalidSettings(f"{where} names no host or no database", hint=f"write it as {EXAMPLE}")
    options = dict(url.options)
    known = ("schema", "target_session_attrs", "application_name", *BOUNDS, *_TLS)
    for name in options:
        if name not in known:
            raise InvalidSettings(f"{where} has the unknown option {name!r}", hint=did_you_mean(name, known))
    schema = options.get("schema", SCHEMA)
    if not _SCHEMA.match(schema) or schema.startswith("pg_"):
        raise InvalidSettings(
            f"{where}: schema is {schema!r}", hint="small letters, digits and _, at most 63, not beginning with pg_"
        )
    session = options.get("target_session_attrs", "read-write")
    if session not in _SESSIONS:
        raise InvalidSettings(f"{where}: target_session_attrs is {session!r}", hint=" or ".join(_SESSIONS))
    passed: dict[str, str] = {name: options[name] for name in _TLS if name in options}
    return Place(
        hosts=_hosts(hosts, where),
        database=unquote(database),
        user=unquote(user),
        schema=schema,
        password=unquote(password),
        session=session,
        driver_options={"application_name": options.get("application_name", "stook"), **passed},
        waits=parse_waits(options, where),
    )


def parse_waits(options: Mapping[str, str], where: str) -> Waits:
    """The waits among the options. Raises InvalidSettings naming the one out of bounds."""
    found = {}
    for name, (low, high) in BOUNDS.items():
        if name in options:
            text = options[name]
            if not (text.isascii() and text.isdigit()) or not low <= int(text[:9]) <= high:
                raise InvalidSettings(f"{where}: {name} is {text!r}", hint=f"a whole number, {low} to {high}")
            found[name] = int(text)
    return Waits(**found)


def _hosts(text: str, where: str) -> tuple[tuple[str, str], ...]:
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::(\d{1,5}))?", part)
        if match is None or int(match[2] or PORT) > 65_535:
            raise InvalidSettings(f"{where}: {part!r} is no host", hint="host, host:port or [address]:port, by commas")
        found.append((unquote(match[1]).strip("[]"), match[2] or PORT))
    if len(found) > HOSTS_MAX:
        raise InvalidSettings(f"{where} names {len(found)} hosts", hint=f"at most {HOSTS_MAX}")
    return tuple(found)
