"""Records on PostgreSQL whose server is killed, cut off, frozen or replaced: nothing lost, doubled or guessed."""

from __future__ import annotations

import os
import random
import re
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import pytest
from tests.postgresql_servers import PASSWORD, USER, Server, running
from tests.servers import await_true

from stook.backends.sql import database as database_module
from stook.backends.sql import dialects, tables
from stook.backends.sql.records import SqlRecords, open_records
from stook.core.errors import EngineUnavailable
from stook.core.ports.records import ABSENT, Put
from stook.core.settings import parse_url

KILLS = int(os.environ.get("STOOK_TEST_KILLS", "10"))
SEED = int(os.environ.get("STOOK_TEST_SEED", str(random.SystemRandom().randrange(1 << 30))))
WRITERS = 4
CUTS = 10
COMMIT = re.compile(rb"COMMIT(?!TED)")  # BEGIN names its isolation level


def opened(url: str) -> SqlRecords:
    return open_records(parse_url(url, Path("/nowhere"), "engines.records"), Path("/nowhere"))


class Writers:
    """Threads that each make records of their own, one a commit, and note what was acknowledged and when."""

    def __init__(self, records: SqlRecords) -> None:
        self.records, self.done = records, threading.Event()
        self.acknowledged: list[tuple[float, str, int]] = []
        self.seen: list[int] = []
        self.failed: list[BaseException] = []
        self._threads = [threading.Thread(target=self._write, args=(n,)) for n in range(WRITERS)]
        self._threads.append(threading.Thread(target=self._poll))

    @contextmanager
    def writing(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self.done.set()
            for thread in self._threads:
                thread.join(60)
        assert not self.failed
        assert not any(thread.is_alive() for thread in self._threads)

    def await_more(self, count: int) -> None:
        goal = len(self.acknowledged) + count
        await_true(lambda: self.failed or len(self.acknowledged) >= goal, f"{count} more commits", within_s=60)
        assert not self.failed

    def judge(self) -> None:
        """Each commit happened once, as acknowledged, and nothing else did."""
        there = {record.name: record.revision for record in self.records.list("k")}
        assert there == {name: revision for _, name, revision in self.acknowledged}
        assert self.records.revision() == len(self.acknowledged)
        assert self.seen == sorted(self.seen)

    def pause_s(self) -> float:
        times = sorted(at for at, _, _ in self.acknowledged)
        return max(b - a for a, b in pairwise(times))

    def _write(self, number: int) -> None:
        n = 0
        try:
            while not self.done.is_set():
                revision = self.records.commit([Put("k", f"{number}-{n}", {"n": n}, ABSENT)])
                self.acknowledged.append((time.monotonic(), f"{number}-{n}", revision))
                n += 1
        except BaseException as error:
            self.failed.append(error)
            raise

    def _poll(self) -> None:
        while not self.done.is_set():
            with suppress(EngineUnavailable):
                self.seen.append(self.records.revision())


class Proxy:
    """A door before a server. Where `cut` is set, the next COMMIT is handed to it, and both connections close behind it.

    `cut(client, server, message)` may forward the message, wait for the answer, or do neither. After `shut`, nobody gets in.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.cut: Callable[[socket.socket, socket.socket, bytes], None] | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def url(self, options: str) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/stook?{options}"

    def shut(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                self._threads.append(threading.Thread(target=self._serve, args=(client, server), daemon=True))
                self._threads[-1].start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, suppress(OSError):
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    if not (part := ready.recv(1 << 16)):
                        return
                    if ready is client and COMMIT.search(part) and (cut := self.cut) is not None:
                        self.cut = None
                        cut(client, server, part)
                        return
                    (server if ready is client else client).sendall(part)


def answer_lost(client: socket.socket, server: socket.socket, message: bytes) -> None:
    """The server commits; its answer is not passed on."""
    server.sendall(message)
    assert server.recv(1)


def never_arrived(client: socket.socket, server: socket.socket, message: bytes) -> None:
    """The server never hears of COMMIT."""


def arrives_late(client: socket.socket, server: socket.socket, message: bytes) -> None:
    """The client is gone and looks already when COMMIT arrives: without a lock it would see nothing, and repeat."""
    client.shutdown(socket.SHUT_RDWR)
    client.close()
    time.sleep(0.3)  # what is tested is a span of time: that of a message under way
    server.sendall(message)
    assert server.recv(1)


@pytest.fixture
def schema() -> str:
    return f"s{uuid4().hex}"


@pytest.fixture
def proxy(postgresql_server: Server) -> Iterator[Proxy]:
    made = Proxy(postgresql_server.port)
    yield made
    made.shut()


@pytest.mark.parametrize("cut", [answer_lost, never_arrived, arrives_late])
def test_a_commit_whose_answer_is_lost_happens_once(
    proxy: Proxy, postgresql_server: Server, schema: str, cut: Callable[..., None]
) -> None:
    records, direct = opened(proxy.url(f"schema={schema}")), opened(postgresql_server.url(f"schema={schema}"))
    for n in range(1, CUTS + 1):
        proxy.cut = cut
        assert records.commit([Put("k", "same", {"n": n}), Put("k", f"{n}", {}, ABSENT)]) == n
        assert proxy.cut is None
        assert direct.revision() == n
        assert [record.spec for record in direct.list("k")][-1] == {"n": n}
    records.close()
    direct.close()


@pytest.mark.parametrize("cut", [answer_lost, never_arrived])
def test_an_outcome_that_nobody_can_tell_is_said_to_be_unknown(
    proxy: Proxy, postgresql_server: Server, schema: str, cut: Callable[..., None]
) -> None:
    records = opened(proxy.url(f"schema={schema}&failover_wait_s=1&read_wait_s=0"))

    def cut_for_ever(client: socket.socket, server: socket.socket, message: bytes) -> None:
        proxy.shut()
        cut(client, server, message)

    proxy.cut = cut_for_ever
    with pytest.raises(EngineUnavailable, match=r"outcome of the commit is unknown.*only by compare-and-set"):
        records.commit([Put("k", "a", {})])
    with pytest.raises(EngineUnavailable) as caught:
        records.commit([Put("k", "a", {})])
    assert "unknown" not in str(caught.value)  # nothing was sent
    records.close()
    direct = opened(postgresql_server.url(f"schema={schema}"))
    assert direct.revision() == (cut is answer_lost)
    direct.close()


def test_a_token_that_was_forgotten_is_an_unknown_outcome(
    proxy: Proxy, postgresql_server: Server, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "COMMITS_KEPT", 3)
    monkeypatch.setattr(tables, "COMMITS_KEPT", 3)
    monkeypatch.setattr(database_module, "FORGET_EVERY_COMMITS", 1)
    records, direct = opened(proxy.url(f"schema={schema}")), opened(postgresql_server.url(f"schema={schema}"))

    def others_commit(client: socket.socket, server: socket.socket, message: bytes) -> None:
        answer_lost(client, server, message)
        for n in range(others):
            direct.commit([Put("k", "other", {"n": n})])

    for others in (2, 3):
        proxy.cut = others_commit
        if others == 2:
            assert records.commit([Put("k", "a", {})]) == 1
        else:
            with pytest.raises(EngineUnavailable, match=r"outcome of the commit is unknown.*3 commits were made"):
                records.commit([Put("k", "a", {})])
    records.close()
    direct.close()


@pytest.mark.kill
def test_a_server_killed_in_the_middle_of_commits_loses_and_doubles_nothing() -> None:
    print(f"STOOK_TEST_SEED={SEED}")
    choose = random.Random(SEED)
    with running() as server:
        writers = Writers(opened(server.url("failover_wait_s=60&read_wait_s=60")))
        with writers.writing():
            for _ in range(KILLS):
                writers.await_more(choose.randrange(1, 40))
                server.kill()
                server.start()
            writers.await_more(10)
        writers.judge()
        writers.records.close()


@pytest.mark.kill
def test_an_orderly_restart_is_waited_for() -> None:
    with running() as server:
        writers = Writers(opened(server.url()))
        with writers.writing():
            for how in (signal.SIGINT, signal.SIGQUIT):
                writers.await_more(20)
                server.stop(how)
                server.start()
            writers.await_more(20)
        writers.judge()
        writers.records.close()


def make_synchronous(primary: Server) -> None:
    with primary.admin() as admin:
        admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        admin.execute("SELECT pg_reload_conf()")
        state = "SELECT sync_state FROM pg_stat_replication"
        await_true(lambda: admin.execute(state).fetchall() == [("sync",)], "a synchronous standby")


def test_a_primary_that_became_read_only_is_left_for_the_new_one() -> None:
    """A switchover that breaks no connection: what is in the pool still answers, and takes no writes for ever."""
    with running() as former, running(made=False) as standby:
        records, reader = (opened(former.url(others=f",127.0.0.1:{standby.port}")) for _ in range(2))
        records.commit([Put("k", "before", {})])
        former.copy_to(standby, "standby")
        standby.start()
        make_synchronous(former)
        records.commit([Put("k", "between", {})])
        assert reader.revision() == 2
        with former.admin() as admin:
            admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            admin.execute("SELECT pg_reload_conf()")
            await_true(lambda: admin.execute("SHOW default_transaction_read_only").fetchone() == ("on",), "read-only")
            standby.promote()
            assert records.commit([Put("k", "behind", {})]) == 3
            assert admin.execute("SELECT revision FROM stook.stook_store").fetchone() == (2,)
        assert reader.revision() == 3
        assert [record.name for record in records.list()] == ["before", "behind", "between"]
        records.close()
        reader.close()


@pytest.mark.kill
def test_a_promoted_standby_has_all_that_was_acknowledged() -> None:
    with running() as primary, running(made=False) as standby:
        records = opened(primary.url(others=f",127.0.0.1:{standby.port}"))
        primary.copy_to(standby, "standby")
        standby.start()
        make_synchronous(primary)
        writers = Writers(records)
        with writers.writing():
            writers.await_more(200)
            primary.kill()
            standby.promote()
            writers.await_more(200)
        writers.judge()
        records.close()
        print(f"pause at promotion: {writers.pause_s():.2f} s")


def test_a_standby_alone_is_no_place_to_open(postgresql_server: Server) -> None:
    with running(made=False) as standby:
        postgresql_server.copy_to(standby, "alone")
        standby.start()
        with pytest.raises(EngineUnavailable, match="read-only"):
            opened(standby.url("read_wait_s=1"))


@pytest.fixture
def waiting_server() -> Iterator[Server]:
    """A primary whose standby is away, so that every COMMIT waits; schema `stook` is made."""
    with running() as server:
        opened(server.url()).close()
        with server.admin() as admin:
            admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'away'")
            admin.execute("SELECT pg_reload_conf()")
            await_true(lambda: admin.execute("SHOW synchronous_standby_names").fetchone() == ("away",), "settings")
        yield server


WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'stook'"


def test_a_wait_for_the_standby_that_is_cancelled_is_no_acknowledgement(waiting_server: Server) -> None:
    records = opened(waiting_server.url())

    def cancel() -> None:
        with waiting_server.admin() as admin:
            await_true(lambda: admin.execute(WAITING).fetchone(), "a commit that waits")
            admin.execute(WAITING.replace("SELECT pid", "SELECT pg_cancel_backend(pid)"))

    cancelling = threading.Thread(target=cancel)
    cancelling.start()
    with pytest.raises(EngineUnavailable, match="outcome is unknown should the server fail now"):
        records.commit([Put("k", "a", {})])
    cancelling.join()
    assert records.revision() == 1
    records.close()


@pytest.mark.parametrize("standby_returns", [False, True])
def test_a_wait_for_the_standby_that_is_ended_with_its_connection_is_no_acknowledgement(
    waiting_server: Server, standby_returns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit is found afterwards, but is on one machine only: it counts when the standby has it."""
    monkeypatch.setattr(dialects, "ANSWER_LATE_S", 0)
    wait = 60 if standby_returns else 2
    records = opened(waiting_server.url(f"statement_timeout_s=1&failover_wait_s={wait}"))

    def terminate() -> None:
        with waiting_server.admin() as admin:
            for _ in range(2):
                await_true(lambda: admin.execute(WAITING).fetchone(), "a commit that waits")
                admin.execute(WAITING.replace("SELECT pid", "SELECT pg_terminate_backend(pid)"))
                await_true(lambda: not admin.execute(WAITING).fetchone() or not standby_returns, "its end")
            if standby_returns:
                admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
                admin.execute("SELECT pg_reload_conf()")

    terminating = threading.Thread(target=terminate)
    terminating.start()
    if standby_returns:
        assert records.commit([Put("k", "a", {}, ABSENT)]) == 1
    else:
        with pytest.raises(EngineUnavailable, match="outcome of the commit is unknown"):
            records.commit([Put("k", "a", {}, ABSENT)])
    terminating.join()
    assert records.revision() == 1
    records.close()


def test_a_commit_waits_for_an_absent_standby_but_not_for_ever(
    waiting_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialects, "ANSWER_LATE_S", 0)
    records = opened(waiting_server.url("statement_timeout_s=1&lock_wait_s=1&failover_wait_s=2"))
    before = time.monotonic()
    with pytest.raises(EngineUnavailable, match="outcome of the commit is unknown"):
        records.commit([Put("k", "a", {})])
    assert time.monotonic() - before < 10
    assert records.revision() == 0
    with waiting_server.admin() as admin:
        admin.execute("SET synchronous_commit = local")
        admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
        admin.execute("SELECT pg_reload_conf()")
    await_true(lambda: records.revision() == 1, "the commit that was under way")
    records.close()


def test_a_frozen_server_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialects, "ANSWER_LATE_S", 0)
    with running() as server:
        options = "statement_timeout_s=1&connect_timeout_s=2&read_wait_s=1"
        records, hasty = (opened(server.url(f"{options}&failover_wait_s={wait}")) for wait in (60, 0))
        records.commit([Put("k", "a", {})])
        hasty.revision()
        server.signal_all(signal.SIGSTOP)
        try:
            before = time.monotonic()
            for call in (hasty.revision, lambda: hasty.commit([Put("k", "b", {})])):
                with pytest.raises(EngineUnavailable):
                    call()
            assert time.monotonic() - before < 15
        finally:
            thawed = threading.Timer(1.0, server.signal_all, [signal.SIGCONT])
            thawed.start()
        assert records.commit([Put("k", "c", {})]) == 2
        thawed.join()
        assert [record.name for record in records.list()] == ["a", "c"]
        records.close()
        hasty.close()
