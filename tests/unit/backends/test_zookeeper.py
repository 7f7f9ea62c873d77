"""What is the ZooKeeper engine's own: its URL, and what it changes of kazoo, which a new kazoo might undo."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from kazoo.exceptions import SessionExpiredError
from kazoo.protocol.states import KeeperState

from stook.backends.zookeeper.client import NotSent, OneSession
from stook.backends.zookeeper.coordination import open_coordination
from stook.core.errors import InvalidSettings
from stook.core.settings import parse_url


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("zookeeper:", "names no servers"),
        ("zookeeper:///chroot", "names no servers"),
        ("zookeeper://a:1,,b:1", "names no servers"),
        ("zookeeper://a:1/x//y", "empty part"),
        ("zookeeper://a:1/zookeeper", "engine's own"),
        ("zookeeper://a:1/" + "x" * 300, "too long"),
        ("zookeeper://a:1?session_s=0", "session_s"),
        ("zookeeper://a:1?session_s=ten", "session_s"),
    ],
)
def test_a_wrong_url_is_refused_before_anything_is_asked(tmp_path: Path, url: str, match: str) -> None:
    with pytest.raises(InvalidSettings, match=match):
        open_coordination(parse_url(url, tmp_path, "the test"), tmp_path)


@pytest.fixture
def unstarted() -> OneSession:
    return OneSession("127.0.0.1:1", 1.0, lambda state: None)


def test_without_a_connection_nothing_is_queued(unstarted: OneSession) -> None:
    """kazoo since 2.7 would send it when there is a connection again, long after its caller gave up (as Patroni saw)."""
    unstarted._state = KeeperState.CONNECTING
    for call in (
        lambda: unstarted.set_async("/a", b""),
        lambda: unstarted.get_async("/a"),
        lambda: unstarted.create_async("/a", b"", include_data=True),
        lambda: unstarted.transaction().commit_async(),
        lambda: unstarted.sync_async("/"),
    ):
        with pytest.raises(NotSent):
            call().get(block=False)
    assert not unstarted._queue


def test_what_came_while_the_connection_went_down_is_not_sent_by_the_next(unstarted: OneSession) -> None:
    waiting = unstarted.handler.async_result()
    unstarted._state = KeeperState.CONNECTING
    unstarted._queue.append((object(), waiting))
    unstarted._session_callback(KeeperState.CONNECTED)
    assert not unstarted._queue
    with pytest.raises(NotSent):
        waiting.get(block=False)


def test_an_expiry_ends_the_client_rather_than_beginning_another_session(unstarted: OneSession) -> None:
    unstarted._stopped.clear()
    unstarted._state = KeeperState.CONNECTING
    unstarted._session_callback(KeeperState.EXPIRED_SESSION)
    assert unstarted._stopped.is_set()
    with pytest.raises(SessionExpiredError):
        unstarted.get_async("/a").get(block=False)


def test_a_project_that_does_not_name_it_loads_no_kazoo(tmp_path: Path) -> None:
    (tmp_path / "stook.toml").write_text('[project]\nname = "first"\n')
    code = (
        "import sys, stook.app\n"
        f"with stook.app.open_coordination({str(tmp_path)!r}) as c: c.create('/a')\n"
        "print('kazoo' in sys.modules, 'sqlite3' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False True\n"
