"""What the tests of recipes share through pytest: each runs on every store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from . import stores


@pytest.fixture(params=["memory", "sqlite", "zookeeper"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[stores.Store]:
    if request.param == "zookeeper":
        made = stores.zookeeper(tmp_path, request.getfixturevalue("shared_ensemble"))
    else:
        made = getattr(stores, request.param)(tmp_path)
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "zookeeper"])
def shared_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[stores.Store]:
    """A store that several processes can open."""
    if request.param == "zookeeper":
        made = stores.zookeeper(tmp_path, request.getfixturevalue("shared_ensemble"))
    else:
        made = stores.sqlite(tmp_path)
    yield made
    made.close()
