"""The stores that recipes are tried on, and how a session on each ends from outside.

It is a file of its own because the tests of all recipes share it. It must never start a server but the shared one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient
from tests.zookeeper_servers import WAIT_S, Ensemble

from stook.core.ports.coordination import Coordination
from stook.core.settings import parse_url
from stook.testing.contracts import Opening


@dataclass
class Store:
    """A coordination store, empty at first; every client is closed with it."""

    opening: Opening
    end: Callable[[Any], None]
    clients: list[Coordination] = field(default_factory=list)

    def client(self) -> Coordination:
        self.clients.append(self.opening.open())
        return self.clients[-1]

    def expire(self, client: Coordination) -> None:
        """Ends the client's session as the store does that heard nothing of it."""
        self.end(client)

    def close(self) -> None:
        for client in self.clients:
            client.close()


def memory(root: Path) -> Store:
    return Store(
        Opening("stook.backends.memory.coordination:open_coordination", "memory:", root), lambda client: client.expire()
    )


def sqlite(root: Path) -> Store:
    def end(client: Any) -> None:
        with closing(sqlite3.connect(root / "c.db")) as connection, connection:
            connection.execute("UPDATE sessions SET until_ms = 0 WHERE number = ?", (client.session().number,))

    factory = "stook.backends.sqlite.coordination:open_coordination"
    return Store(Opening(factory, "sqlite:///c.db?session_s=1", root), end)


def zookeeper(root: Path, servers: Ensemble) -> Store:
    opening = Opening(
        "stook.backends.zookeeper.coordination:open_coordination", servers.url(f"/cluster/{root.name}"), root
    )

    def end(client: Any) -> None:
        hosts = parse_url(opening.url, root, "the test").address.partition("/")[0]
        second = KazooClient(hosts, client_id=client._owner.client.client_id, timeout=client.session().timeout_s)
        second.start(WAIT_S)
        second.stop()
        second.close()

    return Store(opening, end)
