"""The platform's coordination store: opened at first use, closed with the rest, on which recipes run."""

from __future__ import annotations

from pathlib import Path

import pytest

import stook
from stook.cluster.lock import Lock
from stook.core.errors import NotSupported, SessionLost
from stook.core.ports.coordination import State


@pytest.mark.parametrize("engine", ["", '[engines]\ncoordination = "memory:"\n'], ids=["sqlite", "memory"])
def test_opened_at_first_use_and_closed_with_the_platform(tmp_path: Path, engine: str) -> None:
    (tmp_path / "stook.toml").write_text(f'[project]\nname = "first"\n{engine}')
    file = tmp_path / ".stook" / "coordination.db"
    with stook.open(tmp_path) as platform:
        assert not file.exists()
        coordination = platform.coordination
        assert coordination is platform.coordination
        assert file.exists() == (engine == "")
        with Lock(coordination, "fold").hold(wait_s=1) as grant:
            assert grant.token > 0
    assert coordination.session().state is State.LOST
    with pytest.raises(SessionLost):
        coordination.get("/")


def test_a_missing_driver_is_told_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "kazoo", None)
    for name in [name for name in sys.modules if name.startswith("stook.backends.zookeeper")]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "stook.toml").write_text(
        '[project]\nname = "first"\n[engines]\ncoordination = "zookeeper://127.0.0.1:1"\n'
    )
    with stook.open(tmp_path) as platform, pytest.raises(NotSupported, match=r"stook\[zookeeper\]"):
        platform.coordination  # noqa: B018
