"""What tests of several folders share: servers that take seconds to start, started once a run by the first test that asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.postgresql_servers import Server, running
from tests.zookeeper_servers import Ensemble, ensemble


@pytest.fixture(scope="session")
def shared_ensemble() -> Iterator[Ensemble]:
    """Three ZooKeeper servers, for all tests that do them no harm."""
    with ensemble(3) as servers:
        yield servers


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """A PostgreSQL server; take a schema of your own in it, and never stop it."""
    with running() as server:
        yield server
