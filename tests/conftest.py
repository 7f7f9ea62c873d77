"""What tests of several folders share through pytest: servers that take seconds to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.zookeeper_servers import Ensemble, ensemble


@pytest.fixture(scope="session")
def shared_ensemble() -> Iterator[Ensemble]:
    """Three ZooKeeper servers, started once, for all tests that do them no harm."""
    with ensemble(3) as servers:
        yield servers
