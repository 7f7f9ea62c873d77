"""What tests of several folders share: servers that are started once a run, by the first test that asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.postgresql_servers import Server, running


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """A PostgreSQL server of this run; take a schema of your own in it, and never stop it."""
    with running() as server:
        yield server
