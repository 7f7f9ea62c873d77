"""The suites of the `Coordination` port: for any engine, and for those that serve several processes.

It is a file of its own because there is one suite per port. Backends' tests subclass a suite and say how a session is
ended from outside. It must never test a recipe: those have tests of their own, over the fake and the engines.
"""

# ruff: noqa: D102 - the name of a test says what it tests

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, ClassVar

import pytest

from stook.core.errors import Conflict, InvalidArgument, SessionLost, StookError, TooLarge, UnknownObject
from stook.core.ports.coordination import (
    CHILDREN_MAX,
    OPERATION_BYTES,
    OPERATIONS_MAX,
    REQUEST_BYTES_MAX,
    Check,
    Coordination,
    Create,
    Delete,
    Operation,
    Set,
    Stat,
    State,
)
from stook.testing.contracts import PATIENCE_S, Contract, Opening, child, in_threads

THREADS = 4
ROUNDS = 10
WRONG_PATHS: tuple[str, ...] = (
    "",
    "a",
    "/a/",
    "//a",
    "/a//b",
    "/.",
    "/a/../b",
    "/a\0b",
    "/\x1f",
    "/\ud800",
    "/" + "x" * 1_024,
)
WRONG_PATHS += ("/zookeeper", "/zookeeper/quota")
STRANGE_PATHS = ("/a b", "/Zürich → x", "/%41", "/a'\"b", "/...", "/.a", "/-", "/" + "x" * 200)


def await_flag(flag: threading.Event) -> None:
    """Waits until the watch says that something changed."""
    assert flag.wait(PATIENCE_S), "the watch said nothing"


def await_true(condition: Callable[[], object], what: str) -> None:
    """Waits until the condition holds; for what no watch can tell."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"not in time: {what}"
        time.sleep(0.01)


class CoordinationContract(Contract):
    """Nodes in one order for all clients, sessions, watches.

    A subclass gives `expire`, which ends a client's session as the store does that heard nothing of it.
    """

    expire: ClassVar[Callable[[Any, Opening], None]]

    @pytest.fixture
    def client(self, opening: Opening) -> Iterator[Coordination]:
        """A session on the store under test, empty."""
        opened: Coordination = opening.open()
        yield opened
        opened.close()

    @pytest.fixture
    def other(self, client: Coordination, opening: Opening) -> Iterator[Coordination]:
        """Another session on the same store."""
        del client
        opened: Coordination = opening.open()
        yield opened
        opened.close()

    def test_empty_at_first(self, client: Coordination) -> None:
        assert client.children("/") == []
        assert client.exists("/a") is None
        with pytest.raises(UnknownObject, match="/a"):
            client.get("/a")
        with pytest.raises(UnknownObject, match="/a"):
            client.children("/a")
        session = client.session()
        assert session.state is State.OK
        assert session.number != 0
        assert session.timeout_s > 0

    @pytest.mark.parametrize("data", [b"", b"\0\xff\n", "Zürich".encode()], ids=["none", "bytes", "text"])
    def test_data_comes_back_as_it_was(self, client: Coordination, data: bytes) -> None:
        made = client.create("/a", data)
        assert made == client.get("/a")
        assert (made.path, made.data) == ("/a", data)
        stat = made.stat
        assert stat == client.exists("/a")
        assert stat.czxid == stat.mzxid > 0
        assert (stat.data_version, stat.children_version, stat.children) == (0, 0, 0)
        assert (stat.data_bytes, stat.ephemeral_owner) == (len(data), 0)
        assert abs(stat.ctime_us / 1e6 - time.time()) < PATIENCE_S
        assert stat.mtime_us == stat.ctime_us

    def test_set_counts_versions_and_keeps_the_creation(self, client: Coordination) -> None:
        made = client.create("/a", b"0").stat
        first = client.set("/a", b"1")
        second = client.set("/a", b"", expected=1)
        assert [s.data_version for s in (made, first, second)] == [0, 1, 2]
        assert made.czxid == first.czxid == second.czxid < first.mzxid < second.mzxid
        assert client.get("/a").data == b""
        assert client.get("/a").stat == second

    def test_set_and_delete_at_another_version_change_nothing(self, client: Coordination) -> None:
        client.create("/a", b"0")
        client.set("/a", b"1")
        for wrong in (0, 2):
            with pytest.raises(Conflict, match="/a"):
                client.set("/a", b"2", expected=wrong)
            with pytest.raises(Conflict, match="/a"):
                client.delete("/a", expected=wrong)
        assert client.get("/a").data == b"1"
        client.delete("/a", expected=1)
        assert client.exists("/a") is None

    def test_what_is_not_there_can_be_neither_set_nor_deleted(self, client: Coordination) -> None:
        with pytest.raises(UnknownObject):
            client.set("/a", b"")
        with pytest.raises(UnknownObject):
            client.delete("/a")
        with pytest.raises(UnknownObject):
            client.create("/a/b")

    def test_created_once(self, client: Coordination) -> None:
        client.create("/a", b"0")
        with pytest.raises(Conflict, match="/a"):
            client.create("/a", b"1")
        assert client.get("/a").data == b"0"

    def test_a_parent_counts_its_children_and_stays_while_it_has_any(self, client: Coordination) -> None:
        parent = client.create("/p").stat
        made = client.create("/p/b").stat
        client.create("/p/a")
        assert client.children("/p") == ["a", "b"]
        stat = client.get("/p").stat
        assert (stat.children, stat.children_version, stat.data_version) == (2, 2, 0)
        assert stat.mzxid == parent.mzxid
        assert stat.pzxid > made.czxid
        with pytest.raises(Conflict, match="/p"):
            client.delete("/p")
        client.delete("/p/a")
        assert (client.get("/p").stat.children, client.get("/p").stat.children_version) == (1, 3)
        assert client.get("/p").stat.pzxid > stat.pzxid
        client.delete("/p/b")
        client.delete("/p")

    def test_sequential_names_grow_also_after_deletes(self, client: Coordination) -> None:
        client.create("/p")
        made = []
        for index in range(12):
            path = client.create("/p/n-", str(index).encode(), sequential=True).path
            made.append(path)
            if index % 3 == 0:
                client.delete(path)
        assert made == sorted(set(made))
        assert all(len(path) == len("/p/n-") + 10 for path in made)
        # The counter is the parent's, whatever the prefix.
        assert client.create("/p/m-", sequential=True).path[-10:] > made[-1][-10:]

    def test_ephemeral_nodes_vanish_with_their_session(self, client: Coordination, other: Coordination) -> None:
        client.create("/p")
        gone = threading.Event()
        made = other.create("/p/e", b"x", ephemeral=True)
        assert made.stat.ephemeral_owner == other.session().number
        sequential = other.create("/p/s-", ephemeral=True, sequential=True)
        client.sync()
        assert client.exists("/p/e", watch=gone) == made.stat
        assert client.children("/p") == sorted(["e", sequential.path[3:]])
        with pytest.raises(InvalidArgument, match="ephemeral"):
            other.create("/p/e/child")
        other.close()
        await_flag(gone)
        client.sync()
        assert client.children("/p") == []

    def test_a_closed_client_says_so(self, client: Coordination, other: Coordination) -> None:
        del client
        other.close()
        other.close()
        assert other.session().state is State.LOST
        for call in (lambda: other.exists("/"), lambda: other.create("/x"), other.sync, other.renew):
            with pytest.raises(SessionLost):
                call()

    def test_all_of_a_multi_or_nothing(self, client: Coordination) -> None:
        client.create("/p", b"0")
        results = client.multi(
            [Check("/p", 0), Create("/p/a", b"1"), Create("/p/s-", sequential=True), Set("/p", b"2", 0), Delete("/p/a")]
        )
        stat = client.get("/p").stat
        assert results[0] is None
        assert results[1] == "/p/a"
        assert str(results[2]).startswith("/p/s-")
        assert isinstance(results[3], Stat)
        assert results[3].data_version == 1
        assert client.children("/p") == [str(results[2])[3:]]
        assert client.get(str(results[2])).stat.czxid == stat.mzxid == stat.pzxid
        assert client.multi([]) == []
        refused: list[tuple[list[Operation], type[StookError], str]] = [
            ([Create("/b"), Check("/p", 0)], Conflict, "/p"),
            ([Create("/b"), Create("/b")], Conflict, "/b"),
            ([Set("/p", b"3"), Delete("/none")], UnknownObject, "/none"),
            ([Set("/p", b"3"), Delete("/p")], Conflict, "/p"),
            ([Create("/b"), Create("/b/c", ephemeral=True), Create("/b/c/d")], InvalidArgument, "ephemeral"),
            ([Create("/b"), Check("/none")], UnknownObject, "/none"),
        ]
        for operations, error, match in refused:
            with pytest.raises(error, match=match):
                client.multi(operations)
        assert client.get("/p").stat == stat
        assert client.exists("/b") is None

    @pytest.mark.parametrize("path", WRONG_PATHS, ids=range(len(WRONG_PATHS)))
    def test_a_wrong_path_is_refused(self, client: Coordination, path: str) -> None:
        for call in (client.exists, client.get, client.children, client.create, client.delete):
            with pytest.raises(InvalidArgument, match="node path"):
                call(path)
        with pytest.raises(InvalidArgument, match="node path"):
            client.multi([Create("/fine"), Set(path, b"")])
        assert client.exists("/fine") is None

    @pytest.mark.parametrize("path", STRANGE_PATHS, ids=range(len(STRANGE_PATHS)))
    def test_any_other_path_is_a_path(self, client: Coordination, path: str) -> None:
        assert client.create(path).path == path
        assert client.children("/") == [path[1:]]
        client.delete(path)

    def test_the_root_stays(self, client: Coordination) -> None:
        for call in (client.delete, client.create):
            with pytest.raises(InvalidArgument):
                call("/")

    @pytest.mark.case(9)
    def test_what_is_too_large_is_refused_before_it_is_sent(self, client: Coordination) -> None:
        largest = b"x" * (REQUEST_BYTES_MAX - OPERATION_BYTES - len("/a"))
        for call in (client.create, client.set):
            with pytest.raises(TooLarge, match="/a"):
                call("/a", largest + b"x")
        with pytest.raises(TooLarge):
            client.multi([Create("/a", b"x" * 600_000), Create("/b", b"x" * 600_000)])
        with pytest.raises(TooLarge):
            client.multi([Check("/")] * (OPERATIONS_MAX + 1))
        assert client.session().state is State.OK
        client.create("/a", largest)
        assert client.get("/a").data == largest

    @pytest.mark.case(9)
    def test_too_many_children_are_not_listed(self, client: Coordination) -> None:
        client.create("/p")
        for start in range(0, CHILDREN_MAX, OPERATIONS_MAX):
            client.multi([Create(f"/p/{start + index:05}") for index in range(OPERATIONS_MAX)])
        assert len(client.children("/p")) == CHILDREN_MAX
        client.create("/p/more")
        with pytest.raises(TooLarge, match=str(CHILDREN_MAX + 1)):
            client.children("/p")
        assert client.get("/p").stat.children == CHILDREN_MAX + 1

    def test_others_see_what_was_written_behind_a_sync(self, client: Coordination, other: Coordination) -> None:
        for index in range(ROUNDS):
            data = str(index).encode()
            client.set("/a", data) if index else client.create("/a", data)
            other.sync()
            assert other.get("/a").data == data

    def test_a_watch_on_data_is_set_once(self, client: Coordination, other: Coordination) -> None:
        other.create("/a")
        client.sync()
        for change in (lambda: other.set("/a", b"1"), lambda: other.delete("/a")):
            flag = threading.Event()
            client.get("/a", watch=flag)
            assert not flag.is_set()
            change()
            await_flag(flag)
            client.sync()
        flag.clear()
        other.create("/a")
        other.set("/a", b"2")
        client.sync()
        assert not flag.is_set()

    def test_a_watch_on_what_is_not_there_is_set_when_it_comes(self, client: Coordination, other: Coordination) -> None:
        flag = threading.Event()
        assert client.exists("/a", watch=flag) is None
        other.create("/b")
        other.create("/a")
        await_flag(flag)
        client.sync()
        flag.clear()
        assert client.exists("/a", watch=flag) is not None
        other.delete("/a")
        await_flag(flag)

    def test_a_watch_on_children_is_set_by_them_only(self, client: Coordination, other: Coordination) -> None:
        other.create("/p")
        other.create("/p/a")
        client.sync()
        flag = threading.Event()
        assert client.children("/p", watch=flag) == ["a"]
        other.set("/p", b"1")
        other.set("/p/a", b"1")
        other.create("/p/a/deep")
        client.sync()
        assert not flag.is_set()
        other.create("/p/b")
        await_flag(flag)
        client.sync()
        flag.clear()
        assert client.children("/p", watch=flag) == ["a", "b"]
        other.delete("/p/b")
        await_flag(flag)

    def test_a_watch_is_never_missed_between_read_and_change(self, client: Coordination, other: Coordination) -> None:
        client.create("/a", b"0")
        done = threading.Event()

        def work(number: int) -> None:
            if number == 0:
                for index in range(1, ROUNDS + 1):
                    other.set("/a", str(index).encode())
                done.set()
                return
            while True:
                flag = threading.Event()
                if client.get("/a", watch=flag).data == str(ROUNDS).encode():
                    return
                await_flag(flag)

        in_threads(2, work)
        assert done.is_set()

    def test_compare_and_set_lets_one_win(self, client: Coordination, other: Coordination) -> None:
        client.create("/count", b"0")
        other.sync()

        def work(number: int) -> None:
            mine = (client, other)[number % 2]
            for _ in range(ROUNDS):
                while True:
                    node = mine.get("/count")
                    try:
                        mine.set("/count", str(int(node.data) + 1).encode(), expected=node.stat.data_version)
                    except Conflict:
                        continue
                    break

        in_threads(THREADS, work)
        client.sync()
        assert client.get("/count").data == str(THREADS * ROUNDS).encode()
        assert client.get("/count").stat.data_version == THREADS * ROUNDS

    @pytest.mark.case(1)
    def test_a_lost_session_is_told_and_another_begun(
        self, client: Coordination, other: Coordination, opening: Opening
    ) -> None:
        other.create("/e", ephemeral=True)
        other.create("/p", b"stays")
        flags = [threading.Event() for _ in range(3)]
        before = other.session(watch=flags[0])
        other.get("/p", watch=flags[1])
        other.children("/p", watch=flags[2])
        gone = threading.Event()
        client.sync()
        client.exists("/e", watch=gone)
        type(self).expire(other, opening)
        for flag in (*flags, gone):
            await_flag(flag)
        await_true(lambda: other.session().state is State.LOST, "the session is known to be lost")
        for call in (lambda: other.get("/p"), lambda: other.create("/f"), lambda: other.set("/p", b""), other.sync):
            with pytest.raises(SessionLost):
                call()
        after = other.renew()
        assert after.state is State.OK
        assert after.number != before.number
        assert other.renew() == after
        assert other.get("/p").data == b"stays"
        assert other.exists("/e") is None
        assert other.create("/e", ephemeral=True).stat.ephemeral_owner == after.number

    def test_zxids_grow_for_all(self, client: Coordination, other: Coordination) -> None:
        seen = [(client, other)[index % 2].create(f"/{index}").stat.czxid for index in range(ROUNDS)]
        assert seen == sorted(set(seen))


class ProcessCoordinationContract(CoordinationContract):
    """What several processes see of each other, also when some are killed or stopped."""

    def test_a_killed_process_leaves_nothing_ephemeral(self, opening: Opening, client: Coordination) -> None:
        gone = threading.Event()
        with child(_hold, opening) as holder:
            holder.receive()
            client.sync()
            assert client.exists("/held", watch=gone) is not None
            timeout_s = client.session().timeout_s
            start_s = time.monotonic()
            holder.kill()
            await_flag(gone)
            assert time.monotonic() - start_s < 2 * timeout_s + 2
        client.sync()
        assert client.exists("/held") is None
        assert client.get("/kept").data == b"1"

    @pytest.mark.case(2)
    def test_a_stopped_process_learns_that_its_session_is_over(self, opening: Opening, client: Coordination) -> None:
        gone = threading.Event()
        with child(_hold, opening) as holder:
            process, _ = holder.receive()
            client.sync()
            assert client.exists("/held", watch=gone) is not None
            os.kill(process, signal.SIGSTOP)
            try:
                await_flag(gone)
            finally:
                os.kill(process, signal.SIGCONT)
            holder.send("try")
            assert holder.receive() == ["SessionLost", "SessionLost", "lost"]
            holder.send("renew")
            assert holder.receive() != client.session().number
            client.sync()
            assert client.exists("/late") is None
            assert client.exists("/again") is not None

    def test_processes_count_together(self, opening: Opening, client: Coordination) -> None:
        client.create("/count", b"0")
        with child(_count, opening, ROUNDS) as first, child(_count, opening, ROUNDS) as second:
            first.join()
            second.join()
        client.sync()
        assert client.get("/count").data == str(2 * ROUNDS).encode()


def _hold(pipe: Connection, opening: Opening) -> None:
    client: Coordination = opening.open()
    client.create("/kept", b"1")
    client.create("/held", ephemeral=True)
    pipe.send((os.getpid(), client.session().number))
    pipe.recv()
    said = []
    calls: list[Callable[[], object]] = [
        lambda: client.create("/late", ephemeral=True),
        lambda: client.get("/kept"),
    ]
    for call in calls:
        try:
            call()
        except StookError as error:
            said.append(type(error).__name__)
    pipe.send([*said, client.session().state.value])
    pipe.recv()
    number = client.renew().number
    client.create("/again")
    pipe.send(number)


def _count(pipe: Connection, opening: Opening, rounds: int) -> None:
    del pipe
    client: Coordination = opening.open()
    client.sync()
    for _ in range(rounds):
        while True:
            node = client.get("/count")
            try:
                client.set("/count", str(int(node.data) + 1).encode(), expected=node.stat.data_version)
            except Conflict:
                client.sync()
                continue
            break
    client.close()
