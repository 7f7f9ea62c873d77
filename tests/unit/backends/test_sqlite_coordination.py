"""What is the SQLite coordination's own: its leases, its clock, its file, and what a fork does to it."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stook.backends.sqlite import lease as lease_module
from stook.backends.sqlite.coordination import SqliteCoordination, open_coordination
from stook.backends.sqlite.lease import POLL_S, data_seen
from stook.core.errors import CorruptStore, EngineUnavailable, InvalidSettings, SessionLost
from stook.core.ports.coordination import State
from stook.core.settings import parse_url
from stook.testing.contracts.coordination import await_flag, await_true

SESSION_S = 1.0


@pytest.fixture
def client(tmp_path: Path) -> Iterator[SqliteCoordination]:
    opened = open_client(tmp_path)
    yield opened
    opened.close()


def open_client(root: Path, session_s: float = SESSION_S) -> SqliteCoordination:
    return open_coordination(parse_url(f"sqlite:///c.db?session_s={session_s:g}", root, "the test"), root)


def write(root: Path, statement: str, *parameters: object) -> None:
    with closing(sqlite3.connect(root / "c.db")) as connection, connection:
        connection.execute(statement, parameters)


@pytest.mark.parametrize(
    "change",
    ["boot = 'another'", "until_ms = until_ms + 1000000000", "until_ms = 0"],
    ids=["another boot", "a clock that began anew", "passed"],
)
def test_sessions_of_another_boot_or_clock_are_over(tmp_path: Path, client: SqliteCoordination, change: str) -> None:
    gone = threading.Event()
    other = open_client(tmp_path)
    other.create("/e", ephemeral=True)
    client.exists("/e", watch=gone)
    write(tmp_path, f"UPDATE sessions SET {change} WHERE number = ?", other.session().number)
    await_flag(gone)
    assert client.exists("/e") is None
    await_true(lambda: other.session().state is State.LOST, "its holder knows")
    other.close()


def test_a_lease_that_passed_is_not_renewed_though_nobody_noticed(
    tmp_path: Path, client: SqliteCoordination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next write of a process that did not run is refused by the store itself, whatever it believes."""
    client.create("/e", ephemeral=True)
    later_ms = lease_module.now_ms() + int(10 * SESSION_S * 1_000)
    believed = client._lease
    believed._until_ms = later_ms + 1_000_000  # it believes in its lease
    monkeypatch.setattr(lease_module, "now_ms", lambda: later_ms)
    with pytest.raises(SessionLost):
        client.create("/late", ephemeral=True)
    monkeypatch.undo()
    assert client.session().state is State.LOST


def test_a_lease_that_passed_is_known_without_asking(client: SqliteCoordination) -> None:
    client._lease._until_ms = 0
    with pytest.raises(SessionLost):
        client.get("/")


def test_a_heartbeat_does_not_renew_what_passed(tmp_path: Path, client: SqliteCoordination) -> None:
    write(tmp_path, "UPDATE sessions SET until_ms = 0 WHERE number = ?", client.session().number)
    client._lease._beat()
    assert client.session().state is State.LOST


def test_a_watch_on_what_changed_already_is_set_at_once(tmp_path: Path, client: SqliteCoordination) -> None:
    """The change came between the read and the watch, and the thread has looked since."""
    other = open_client(tmp_path)
    seen = client.create("/a").stat
    looked, flag = threading.Event(), threading.Event()
    client.get("/a", watch=looked)
    other.set("/a", b"1")
    await_flag(looked)
    other.close()
    lease = client._lease
    await_true(lambda: lease._data_version == lease._database.row("PRAGMA data_version"), "all was looked at")
    lease.watch(flag, "/a", data_seen, seen)
    await_flag(flag)


def test_a_session_goes_on_for_as_long_as_its_process(client: SqliteCoordination) -> None:
    number = client.create("/e", ephemeral=True).stat.ephemeral_owner
    deadline_s = time.monotonic() + 3 * SESSION_S
    await_true(lambda: time.monotonic() > deadline_s, "three timeouts")
    assert client.session().number == number
    assert client.session().state is State.OK
    assert client.exists("/e") is not None


def test_a_store_that_does_not_answer_suspends_and_then_loses(tmp_path: Path, client: SqliteCoordination) -> None:
    flag = threading.Event()
    client.session(watch=flag)
    with closing(sqlite3.connect(tmp_path / "c.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")  # as a process does that was stopped within a write
        start_s = time.monotonic()
        with pytest.raises(EngineUnavailable, match="locked"):
            client.create("/a", within_s=0.1)
        assert time.monotonic() - start_s < SESSION_S
        await_flag(flag)
        await_true(lambda: client.session().state is State.LOST, "the session is lost")
        with pytest.raises(SessionLost):
            client.get("/")
        start_s = time.monotonic()
        with pytest.raises(EngineUnavailable):
            client.renew(within_s=0.1)
        assert time.monotonic() - start_s < SESSION_S
        connection.execute("ROLLBACK")
    assert client.renew().state is State.OK
    client.create("/a")


def test_a_new_file_numbers_above_the_one_that_was_lost(tmp_path: Path, client: SqliteCoordination) -> None:
    before = client.create("/a").stat.czxid
    client.close()
    for file in tmp_path.glob("c.db*"):
        file.unlink()
    created_s = time.time()
    await_true(lambda: time.time() >= created_s + 1.1, "the next second")
    after = open_client(tmp_path)
    assert after.exists("/a") is None
    assert after.create("/a").stat.czxid > before
    after.close()


def test_a_forked_child_has_no_session_until_it_begins_one(client: SqliteCoordination) -> None:
    client.create("/e", ephemeral=True)
    number = client.session().number
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert client.session().state is State.LOST
            with pytest.raises(SessionLost):
                client.get("/e")
            assert client.renew().number != number
            assert client.get("/e").stat.ephemeral_owner == number
            client.create("/child")
            client.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert client.session().number == number
    assert client.session().state is State.OK
    assert client.children("/") == ["child", "e"]


def test_watches_are_noticed_within_a_few_polls(tmp_path: Path, client: SqliteCoordination) -> None:
    other = open_client(tmp_path)
    client.create("/a")
    waited_s = []
    for index in range(10):
        flag = threading.Event()
        client.get("/a", watch=flag)
        start_s = time.monotonic()
        other.set("/a", str(index).encode())
        await_flag(flag)
        waited_s.append(time.monotonic() - start_s)
    assert sorted(waited_s)[5] < 10 * POLL_S
    other.close()


def test_a_flag_that_nobody_keeps_is_forgotten(client: SqliteCoordination) -> None:
    client.create("/a")
    for _ in range(100):
        client.get("/a", watch=threading.Event())
    assert len(client._lease._watches.by_flag) <= 1


@pytest.mark.parametrize("text", ["0", "x", "nan", "1e9", "-1"])
def test_a_wrong_timeout_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidSettings, match="session_s"):
        open_coordination(parse_url(f"sqlite:///c.db?session_s={text}", tmp_path, "the test"), tmp_path)


def test_somebody_elses_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.db").write_bytes(b"x" * 5_000)
    with pytest.raises(CorruptStore, match=r"c\.db"):
        open_client(tmp_path)


def test_closing_ends_the_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    opened = open_client(tmp_path)
    assert threading.active_count() == before + 1
    opened.close()
    await_true(lambda: threading.active_count() == before, "its thread ended")
