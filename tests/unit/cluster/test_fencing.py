"""A write under an old token is refused by the store of records, whatever its writer believes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from stook.backends.memory.records import MemoryRecords
from stook.backends.sqlite.records import SqliteRecords
from stook.cluster.fencing import ATTEMPTS_MAX, KIND, commit_fenced, raise_fence
from stook.cluster.lock import Lock
from stook.core.errors import Busy, Conflict, FenceLost
from stook.core.ports.coordination import Coordination
from stook.core.ports.records import ABSENT, Delete, Put, Record, Records
from stook.testing.contracts import PATIENCE_S, Opening, child, in_threads

from . import stores

ROUNDS = 10


@pytest.fixture(params=["memory", "sqlite"])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Records]:
    opened: Records = MemoryRecords() if request.param == "memory" else SqliteRecords(tmp_path / "records.db")
    yield opened
    opened.close()


def put(name: str, token: int, expected: int = -1) -> Put:
    return Put("thing", name, {"by": token}, expected)


def test_older_tokens_are_shut_out_and_write_nothing(records: Records) -> None:
    commit_fenced(records, [put("a", 5)], lock="x", token=5)
    commit_fenced(records, [put("a", 5)], lock="x", token=5)
    commit_fenced(records, [put("b", 9)], lock="x", token=9)
    before = records.revision()
    with pytest.raises(FenceLost, match=r"'x'.*token 9"):
        commit_fenced(records, [put("a", 5), Delete("thing", "b")], lock="x", token=5)
    assert records.revision() == before
    commit_fenced(records, [put("a", 5)], lock="y", token=5)  # another lock's fence
    raise_fence(records, lock="y", token=6)
    with pytest.raises(FenceLost):
        raise_fence(records, lock="y", token=5)
    fence = records.get(KIND, "x")
    assert fence is not None
    assert fence.spec == {"token": 9}


def test_a_conflict_of_the_changes_own_is_told_and_does_not_move_the_fence(records: Records) -> None:
    commit_fenced(records, [put("a", 5)], lock="x", token=5)
    with pytest.raises(Conflict, match="thing 'a'"):
        commit_fenced(records, [put("a", 9, ABSENT)], lock="x", token=9)
    with pytest.raises(Conflict, match="revision"):
        commit_fenced(records, [put("a", 9)], lock="x", token=9, expected_revision=0)
    commit_fenced(records, [put("a", 5)], lock="x", token=5)


def test_threads_under_one_token_all_get_through(records: Records) -> None:
    def work(number: int) -> None:
        for index in range(ROUNDS):
            commit_fenced(records, [put(f"{number}-{index}", 5)], lock="x", token=5)

    in_threads(3, work)
    assert len(records.list("thing")) == 3 * ROUNDS


def test_a_fence_that_always_changes_in_between_ends(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    get = records.get
    asked = []

    def get_then_another_writes(kind: str, name: str) -> object:
        found = get(kind, name)
        if kind == KIND:
            asked.append(name)
            records.commit([Put(KIND, name, {"token": 5})])
        return found

    monkeypatch.setattr(records, "get", get_then_another_writes)
    with pytest.raises(Busy, match="fence 'x'"):
        commit_fenced(records, [put("a", 5)], lock="x", token=5)
    assert len(asked) == 2 * ATTEMPTS_MAX


@pytest.mark.kill
@pytest.mark.case(1, 2, 14)
def test_a_stopped_holders_write_is_refused_by_the_store(shared_store: stores.Store, tmp_path: Path) -> None:
    """The holder is stopped within a write, behind its look at the fence, for longer than its session; then it goes on."""
    client = shared_store.client()
    records = SqliteRecords(tmp_path / "records.db")
    with child(_write_and_stop, shared_store.opening, str(tmp_path / "records.db")) as holder:
        process, old = holder.receive()
        try:
            grant = Lock(client, "fold").acquire(wait_s=PATIENCE_S, note=b"the second")
            assert grant.token > old
            revision = commit_fenced(records, [put("a", grant.token)], lock="fold", token=grant.token)
        finally:
            os.kill(process, signal.SIGCONT)
        assert holder.receive() == ("FenceLost", "lost")
        holder.join()
    assert [(r.name, r.spec["by"]) for r in records.list("thing")] == [("0", old), ("1", old), ("a", grant.token)]
    assert records.revision() == revision
    assert grant.seems_held()
    commit_fenced(records, [put("a", grant.token)], lock="fold", token=grant.token)
    records.close()


def _write_and_stop(pipe: Connection, opening: Opening, path: str) -> None:
    """Writes twice, and stops itself within the third write; never asks whether it still holds the lock."""
    client: Coordination = opening.open()
    records = StoppingRecords(Path(path))
    grant = Lock(client, "fold").acquire(wait_s=PATIENCE_S, note=b"the first")
    for name in ("0", "1"):
        commit_fenced(records, [put(name, grant.token)], lock="fold", token=grant.token)
    records.stop_after_look = True
    pipe.send((os.getpid(), grant.token))
    try:
        commit_fenced(records, [put("a", grant.token)], lock="fold", token=grant.token)
    except FenceLost as error:
        pipe.send((type(error).__name__, client.session().state.value))
    records.close()
    client.close()


class StoppingRecords(SqliteRecords):
    """Records whose reader is stopped once, when it has read."""

    stop_after_look = False

    def get(self, kind: str, name: str) -> Record | None:
        found = super().get(kind, name)
        if self.stop_after_look:
            self.stop_after_look = False
            os.kill(os.getpid(), signal.SIGSTOP)
        return found
