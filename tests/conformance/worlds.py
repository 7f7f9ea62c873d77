"""A world: one project on one set of engines, with every case's facts brought in by one way.

It is a file of its own because opening, feeding and serving a project is the dear part, done once for all cases. The
suite makes worlds and hands them to doors. It must never know what a case expects.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from tests import redis_servers
from tests.postgresql_servers import Server

import stook
from stook.edge.http.door import Door
from stook.edge.http.routes import make_app
from stook.testing.cases.case import NOW, PUSHES, Case

from . import feeds

EMBEDDED: Mapping[str, str] = {}
MEMORY: Mapping[str, str] = {
    "records": "memory:",
    "online": "memory:",
    "tables": "memory+memory:",
    "log": "memory:",
    "blobs": "memory:",
}
ON_REDIS = "redis"  # the set of engines whose online store is a cluster, made when it is first asked for


def engines_on_redis() -> Mapping[str, str]:
    """Online rows in a cluster that all worlds share, each under a prefix of its own; the rest is embedded."""
    cluster = redis_servers.shared_cluster()
    return {"online": f"{cluster.url}?timeout_ms=10000&prefix={redis_servers.new_prefix()}"}


def engines_on_postgresql(server: Server) -> Mapping[str, str]:
    """Records in a schema of their own on a server that all worlds share; the rest is embedded."""
    return {"records": server.url(f"schema=s{uuid4().hex}")}


@dataclass
class World:
    """An open platform whose clock stands at NOW; a client of a server over it, or `app` where it lives in one process."""

    root: Path
    platform: Any
    web: httpx.Client = field(default_factory=httpx.Client)
    app: Any = None
    expires: bool = False  # whether rows that are long past their ttl leave the online store

    @property
    def url(self) -> str:
        """The server's address."""
        return str(self.web.base_url).rstrip("/")


def settings(engines: Mapping[str, str], *, limits: str = "") -> str:
    """A stook.toml."""
    lines = [f'{port} = "{url}"' for port, url in engines.items()]
    limits = limits or os.environ.get("STOOK_TEST_LIMITS", "")
    return "\n".join(['[project]\nname = "cases"\n[engines]', *lines, "[limits]", limits, ""])


@contextmanager
def world(
    root: Path, engines: Mapping[str, str], feed: str, cases: Sequence[Case], *, limits: str = ""
) -> Iterator[World]:
    """A world of these cases, which the feed can carry. With engines that outlive a process, a server is started."""
    (root / "stook.toml").write_text(settings(engines, limits=limits))
    views = [view for case in cases for view in case.views]
    with ExitStack() as stack:
        platform = stack.enter_context(stook.open(root, clock=NOW))
        platform.apply([view.define(feeds.source(feed, root, view)) for view in views])
        made = World(root, platform, expires=engines.get("online", "").startswith("redis"))
        if engines is MEMORY:
            door = Door(platform)
            stack.callback(door.close)
            made.app = make_app(door)
        else:
            made.web = httpx.Client(base_url=stack.enter_context(server(root)), timeout=60)
        stack.callback(made.web.close)
        if feed in PUSHES:
            for view in views:
                feeds.push(feed, platform, made.web, view)
        else:
            platform.materialize(None, NOW)
        yield made


@contextmanager
def server(root: Path) -> Iterator[str]:
    """The URL of `stook serve` over a project, its clock at NOW; it lives in another zone and locale than this process."""
    surroundings = {"TZ": os.environ.get("STOOK_TEST_SERVER_TZ", "Asia/Tokyo"), "LC_ALL": "C"}
    command = [sys.executable, "-m", "stook", "-C", str(root), "serve", "--port", "0", "--clock", str(NOW_TEXT)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **surroundings})
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving"), line
        yield next(word.rstrip("/,") for word in line.split() if word.startswith("http"))
    finally:
        process.terminate()
        process.communicate(timeout=60)


NOW_TEXT = stook.core.instants.to_rfc3339(NOW)
