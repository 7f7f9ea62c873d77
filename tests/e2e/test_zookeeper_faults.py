"""What happens to callers when servers of a ZooKeeper ensemble are killed, stopped, or lose their majority.

Each test has an ensemble to itself for a while: the servers run again when it ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.zookeeper_servers import Ensemble, ensemble

from stook.backends.zookeeper.coordination import ZookeeperCoordination, open_coordination
from stook.cluster.lock import Lock
from stook.core.errors import Busy, Conflict, EngineUnavailable, OutcomeUnknown, SessionLost, StookError, UnknownObject
from stook.core.ports.coordination import State
from stook.core.settings import parse_url
from stook.testing.contracts.coordination import await_true

SESSION_S = 4.0
CALL_S = 3.0
SLACK_S = 2.0  # of two busy cores
WRITES = 50
pytestmark = pytest.mark.kill


@pytest.fixture(scope="module")
def servers() -> Iterator[Ensemble]:
    with ensemble(3) as started:
        yield started


@pytest.fixture(autouse=True)
def _restored(servers: Ensemble) -> Iterator[None]:
    yield
    servers.restore()


@pytest.fixture
def client(servers: Ensemble, tmp_path: Path) -> Iterator[ZookeeperCoordination]:
    opened = open_client(servers, tmp_path)
    yield opened
    opened.close()


def open_client(servers: Ensemble, tmp_path: Path, session_s: float = SESSION_S) -> ZookeeperCoordination:
    url = parse_url(servers.url(f"/{tmp_path.name}", session_s), tmp_path, "the test")
    return open_coordination(url, tmp_path)


def await_ok(client: ZookeeperCoordination) -> None:
    """Waits until the ensemble answers this client; for a moment it may still believe in a dead server."""

    def answers() -> bool:
        with suppress(EngineUnavailable, SessionLost):
            client.renew()
            client.sync()
            return True
        return False

    await_true(answers, "the ensemble answers")


def in_time(call: Callable[[], object]) -> StookError | None:
    """Makes a call that must end by its deadline; what it raised."""
    start_s = time.monotonic()
    try:
        call()
    except StookError as error:
        return error
    else:
        return None
    finally:
        assert time.monotonic() - start_s < CALL_S + SLACK_S


def test_the_leader_is_killed_amid_writes(servers: Ensemble, client: ZookeeperCoordination) -> None:
    """Every write is applied once where it was acknowledged, at most once where it is unknown, never where it was not
    sent; and there is a time after which writes go on."""
    client.create("/count", b"0")
    acknowledged, unknown, refused, after_kill = 0, 0, 0, 0
    gap_s, last_s = 0.0, time.monotonic()
    killed = threading.Event()

    def kill() -> None:
        servers.kill(leader)
        killed.set()

    leader = servers.leader()
    killer = threading.Thread(target=kill)
    deadline_s = time.monotonic() + 60
    while after_kill < WRITES:
        assert time.monotonic() < deadline_s, "writes did not go on"
        if acknowledged == WRITES and killer.ident is None:
            killer.start()
        try:
            client.set("/count", b"x", within_s=CALL_S)
        except OutcomeUnknown:
            unknown += 1
        except EngineUnavailable:
            refused += 1
            time.sleep(0.01)  # as a caller would who tries again
        except SessionLost:
            client.renew()
        else:
            acknowledged += 1
            after_kill += killed.is_set()
            gap_s, last_s = max(gap_s, time.monotonic() - last_s), time.monotonic()
    killer.join()
    client.sync()
    applied = client.get("/count").stat.data_version
    assert acknowledged <= applied <= acknowledged + unknown
    print(f"leader killed: {acknowledged} acknowledged, {unknown} unknown, {refused} refused, gap {gap_s:.2f} s")


def test_an_unknown_creation_is_there_or_not(servers: Ensemble, client: ZookeeperCoordination) -> None:
    """A write is sent to servers that do not run: the caller is told that the outcome is unknown, and reading tells."""
    client.create("/p")
    for number in servers.running():
        servers.stop(number)
    try:
        error = in_time(lambda: client.create("/p/a", within_s=1.0))
        assert isinstance(error, OutcomeUnknown)
        read_error = in_time(lambda: client.get("/p", within_s=1.0))
        assert isinstance(read_error, EngineUnavailable | SessionLost)
        assert not isinstance(read_error, OutcomeUnknown)
    finally:
        for number in servers.running():
            servers.go_on(number)
    await_ok(client)
    there = client.exists("/p/a") is not None
    again = in_time(lambda: client.create("/p/a"))
    assert isinstance(again, Conflict) if there else again is None


def test_a_lost_minority_is_not_noticed_for_long(servers: Ensemble, client: ZookeeperCoordination) -> None:
    follower = next(number for number in servers.running() if servers.mode(number) == "follower")
    before = client.session().number
    servers.kill(follower)
    await_ok(client)
    client.create("/a", b"1")
    assert client.get("/a").data == b"1"
    assert client.session().number == before
    with Lock(client, "fold").hold(wait_s=1):
        pass


def test_a_lost_majority_refuses_at_once_and_nothing_hangs(
    servers: Ensemble, client: ZookeeperCoordination, tmp_path: Path
) -> None:
    client.create("/a", b"1")
    grant = Lock(client, "fold").acquire(wait_s=1)
    lost = threading.Event()
    assert grant.seems_held(watch=lost)
    other = open_client(servers, tmp_path)
    with pytest.raises(Busy):
        Lock(other, "fold").acquire(wait_s=0)
    leader = servers.leader()
    survivors = [number for number in servers.running() if number != leader]
    start_s = time.monotonic()
    servers.kill(leader, survivors[0])
    assert lost.wait(SESSION_S + SLACK_S), "the holder was not told"
    await_true(lambda: not grant.seems_held(), "the holder knows")
    assert time.monotonic() - start_s < SESSION_S + SLACK_S
    calls: list[Callable[[], object]] = [
        lambda: client.get("/a", within_s=CALL_S),
        lambda: client.set("/a", b"2", within_s=CALL_S),
        lambda: client.create("/b", within_s=CALL_S),
        lambda: client.sync(within_s=CALL_S),
        lambda: Lock(client, "other").acquire(wait_s=0.5),
        lambda: client.renew(within_s=CALL_S) if client.session().state is State.LOST else client.sync(within_s=CALL_S),
    ]
    for call in calls:
        assert isinstance(in_time(call), EngineUnavailable | SessionLost)
    # Silence for as long as a session lasts is the end of it, though nobody can say so.
    await_true(lambda: client.session().state is State.LOST, "the session counts as lost")
    assert time.monotonic() - start_s < 2 * SESSION_S + 2 * SLACK_S
    with pytest.raises(EngineUnavailable, match="majority"):
        client.renew(within_s=0.5)
    grant.release()
    servers.restore()
    await_ok(client)
    await_ok(other)
    assert client.get("/a").data == b"1"
    assert client.exists("/b") is None
    after = Lock(other, "fold").acquire(wait_s=2 * SESSION_S + SLACK_S)
    assert after.token > grant.token
    other.close()


def test_all_killed_and_started_again_lose_nothing_acknowledged(
    servers: Ensemble, client: ZookeeperCoordination
) -> None:
    client.create("/p")
    acknowledged: list[str] = []
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            try:
                path = client.create("/p/n-", b"x", sequential=True, within_s=CALL_S).path
            except StookError:
                return
            acknowledged.append(path.rpartition("/")[2])

    writer = threading.Thread(target=write)
    writer.start()
    await_true(lambda: len(acknowledged) > 100, "writes")
    servers.kill()
    stop.set()
    writer.join(CALL_S + SLACK_S)
    assert not writer.is_alive()
    before = client.session().number
    servers.restore()
    await_ok(client)
    found = client.children("/p")
    assert set(acknowledged) <= set(found)
    assert len(found) <= len(acknowledged) + 1  # one may have been on its way
    assert client.session().number != 0
    assert client.create("/later").stat.czxid > client.get(f"/p/{found[-1]}").stat.czxid
    print(f"all killed: {len(acknowledged)} acknowledged, all found; same session: {client.session().number == before}")


def test_an_ensemble_that_lost_its_data_gets_a_new_session(tmp_path: Path) -> None:
    with ensemble(1) as servers:
        client = open_client(servers, tmp_path)
        client.create("/a", ephemeral=True)
        servers.kill()
        for file in (servers.root / "server-1" / "data").glob("version-2/*"):
            file.unlink()
        servers.start()
        servers.await_all()
        await_ok(client)
        with pytest.raises(UnknownObject):
            client.get("/a")
        client.create("/b", ephemeral=True)
        client.close()


def test_the_granted_timeout_is_told(servers: Ensemble, tmp_path: Path) -> None:
    for asked_s, granted_s in ((0.5, 1.0), (3.0, 3.0), (3_600.0, 20.0)):
        client = open_client(servers, tmp_path, asked_s)
        assert client.session().timeout_s == granted_s
        client.close()


def test_nobody_there_is_told_in_time(tmp_path: Path) -> None:
    with ensemble(1) as servers:
        client = open_client(servers, tmp_path)
        servers.kill()
        await_true(lambda: client.session().state is not State.OK, "it is noticed")
        assert isinstance(in_time(lambda: client.get("/a")), EngineUnavailable | SessionLost)
        start_s = time.monotonic()
        client.close()
        assert time.monotonic() - start_s < 2 * SESSION_S + SLACK_S


def test_five_servers_outlive_two(tmp_path: Path) -> None:
    with ensemble(5) as servers:
        client = open_client(servers, tmp_path)
        client.create("/a", b"1")
        leader = servers.leader()
        servers.kill(leader, next(number for number in servers.running() if number != leader))
        await_ok(client)
        client.set("/a", b"2")
        with Lock(client, "fold").hold(wait_s=5) as grant:
            assert grant.token > 0
        servers.kill(next(number for number in servers.running()))
        await_true(lambda: client.session().state is not State.OK, "three of five are gone")
        assert isinstance(in_time(lambda: client.set("/a", b"3", within_s=CALL_S)), StookError)
        servers.restore()
        await_ok(client)
        assert client.get("/a").data in (b"2", b"3")
        client.close()
