"""What a `redis:` URL says: where the servers are, and what is asked of them.

It is a file of its own because everything a user can get wrong in the URL is found here, before a server is asked.
`keyvalue` calls it. It must never open a connection, nor let a password into a message.

The options, behind `?` and joined by `&`:

- `prefix`: what every key begins with (default `stook`); each project on a server needs one of its own.
- `timeout_ms`: how long a read, or each step of a write, may take (10 to 60 000, default 1 000).
- `replicas`: how many replicas must confirm each write before it counts (0 to 10, default 0).
- `evict`: `allowed` accepts a server that may throw rows away when its memory is full.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from stook.core.errors import InvalidSettings, did_you_mean
from stook.core.settings import EngineUrl

PORT_DEFAULT: Final = 6379
TIMEOUT_MS_DEFAULT: Final = 1_000
TIMEOUT_MS_BOUNDS: Final = (10, 60_000)
REPLICAS_BOUNDS: Final = (0, 10)
DATABASE_MAX: Final = 1_023
OPTIONS: Final = ("prefix", "timeout_ms", "replicas", "evict")
PREFIX_DEFAULT: Final = "stook"
_PREFIX: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")  # no braces: the part of a key in braces decides its slot
_EXAMPLES: Final = {True: "redis+cluster://host1:7001,host2:7002", False: "redis://host:6379/0"}

Place = tuple[str, int]


@dataclass(frozen=True)
class Address:
    """Where Redis is and how it is spoken to. A cluster's `places` are where its members are asked for first."""

    places: tuple[Place, ...]
    cluster: bool
    database: int = 0
    username: str | None = None
    password: str | None = None
    prefix: str = PREFIX_DEFAULT
    timeout_s: float = TIMEOUT_MS_DEFAULT / 1_000
    replicas: int = 0
    may_evict: bool = False

    @property
    def shown(self) -> str:
        """The servers as messages name them, without credentials."""
        places = ",".join(f"{host}:{port}" for host, port in self.places)
        return f"redis+cluster://{places}" if self.cluster else f"redis://{places}/{self.database}"


def parse_address(url: EngineUrl, *, cluster: bool) -> Address:
    """The address in an engine URL. Raises InvalidSettings naming what is wrong, never the password.

    >>> from pathlib import Path
    >>> from stook.core.settings import parse_url
    >>> parse_address(parse_url("redis://:secret@db:7/2", Path("/"), "online"), cluster=False).shown
    'redis://db:7/2'
    """
    credentials, _, servers = url.address.rpartition("@")
    servers, _, database = servers.partition("/")
    places = tuple(_place(text, cluster) for text in servers.split(",") if text)
    if not places or (len(places) > 1 and not cluster):
        why = "names several servers" if places else "names no server"
        raise InvalidSettings(f"engines.online {why}", hint=f"write {_EXAMPLES[cluster]}")
    username, _, password = credentials.partition(":")
    known = dict(url.options)
    for name in known:
        if name not in OPTIONS:
            raise InvalidSettings(f"engines.online: unknown option {name!r}", hint=did_you_mean(name, OPTIONS))
    prefix = known.get("prefix", PREFIX_DEFAULT)
    if not _PREFIX.fullmatch(prefix):
        raise InvalidSettings(f"engines.online: prefix is {prefix!r}", hint="1 to 64 letters, digits, '.', '_' or '-'")
    evict = known.get("evict", "refused")
    if evict not in ("allowed", "refused"):
        raise InvalidSettings(f"engines.online: evict is {evict!r}", hint="evict=allowed, or leave it out")
    number = _number("database", database or "0", (0, 0 if cluster else DATABASE_MAX))
    timeout_ms = _number("timeout_ms", known.get("timeout_ms", str(TIMEOUT_MS_DEFAULT)), TIMEOUT_MS_BOUNDS)
    return Address(
        places,
        cluster,
        number,
        unquote(username) or None,
        unquote(password) or None,
        prefix,
        timeout_ms / 1_000,
        _number("replicas", known.get("replicas", "0"), REPLICAS_BOUNDS),
        evict == "allowed",
    )


def _place(text: str, cluster: bool) -> Place:
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, port = text, str(PORT_DEFAULT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise InvalidSettings(f"engines.online: {text!r} is no host:port", hint=f"write {_EXAMPLES[cluster]}")
    return host, int(port)


def _number(name: str, text: str, bounds: tuple[int, int]) -> int:
    low, high = bounds
    if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
        raise InvalidSettings(f"engines.online: {name} is {text!r}", hint=f"a whole number, {low} to {high}")
    return int(text)
