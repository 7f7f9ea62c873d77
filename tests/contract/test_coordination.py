"""Every coordination engine passes the coordination's contract."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from tests.zookeeper_servers import WAIT_S, Ensemble

from stook.backends.memory.coordination import MemoryCoordination
from stook.backends.sqlite.coordination import SqliteCoordination
from stook.backends.zookeeper.coordination import ZookeeperCoordination
from stook.core.settings import parse_url
from stook.testing.contracts import Opening
from stook.testing.contracts.coordination import CoordinationContract, ProcessCoordinationContract


class TestMemoryCoordination(CoordinationContract):
    __test__ = True
    factory, url = "stook.backends.memory.coordination:open_coordination", "memory:"
    expire = staticmethod(lambda client, opening: MemoryCoordination.expire(client))


def end_in_the_file(client: SqliteCoordination, opening: Opening) -> None:
    """Lets the session's lease pass, as if its process had not run."""
    path = parse_url(opening.url, opening.root, "the test").path
    with sqlite3.connect(str(path)) as connection:
        connection.execute("UPDATE sessions SET until_ms = 0 WHERE number = ?", (client.session().number,))
    connection.close()


class TestSqliteCoordination(ProcessCoordinationContract):
    __test__ = True
    factory = "stook.backends.sqlite.coordination:open_coordination"
    url = "sqlite:///deep/er/coordination.db?session_s=1"
    expire = staticmethod(end_in_the_file)


class TestZookeeperCoordination(ProcessCoordinationContract):
    __test__ = True
    factory = "stook.backends.zookeeper.coordination:open_coordination"

    @pytest.fixture
    def opening(self, tmp_path: Path, shared_ensemble: Ensemble) -> Opening:
        return Opening(self.factory, shared_ensemble.url(f"/contract/{tmp_path.name}", session_s=2), tmp_path)

    @staticmethod
    def expire(client: ZookeeperCoordination, opening: Opening) -> None:
        """Closes the session from another connection, as a server does that heard nothing of it."""
        hosts = parse_url(opening.url, opening.root, "the test").address.partition("/")[0]
        second = KazooClient(hosts, client_id=client._owner.client.client_id, timeout=client.session().timeout_s)
        second.start(WAIT_S)
        second.stop()
        second.close()
