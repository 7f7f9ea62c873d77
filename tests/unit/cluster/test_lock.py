"""Locks and elections on every store: tokens, waiting, lost sessions, nothing left behind."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from stook.cluster.election import Election
from stook.cluster.lock import Grant, Lock, reap
from stook.core.errors import Busy, EngineUnavailable, OutcomeUnknown, SessionLost, TooLarge
from stook.core.ports.coordination import Delete, State
from stook.testing.contracts import PATIENCE_S, in_threads
from stook.testing.contracts.coordination import await_flag, await_true

from . import stores

SHORT_S = 0.2


def contenders(store: stores.Store, name: str, folder: str = "/locks") -> list[str]:
    client = store.client()
    client.sync()
    return client.children(f"{folder}/{name}")


def test_a_grant_carries_the_number_of_its_node(store: stores.Store) -> None:
    client = store.client()
    with Lock(client, "fold").hold(wait_s=1, note=b"me") as grant:
        stat = client.exists(grant.node)
        assert stat is not None
        assert grant.token == stat.czxid
        assert stat.ephemeral_owner == grant.session == client.session().number
        assert grant.seems_held()
        holder = Lock(store.client(), "fold").holder()
        assert holder is not None
        assert (holder.token, holder.note) == (grant.token, b"me")
    assert Lock(client, "fold").holder() is None
    assert Lock(client, "never").holder() is None


def test_tokens_grow_with_every_grant(store: stores.Store) -> None:
    tokens = []
    for _ in range(3):
        client = store.client()
        for _ in range(2):
            with Lock(client, "fold").hold(wait_s=1) as grant:
                tokens.append(grant.token)
    assert tokens == sorted(set(tokens))


def test_held_it_is_busy_names_the_holder_and_leaves_nothing(store: stores.Store) -> None:
    first, second = store.client(), store.client()
    with Lock(first, "fold").hold(wait_s=1, note=b"worker 1") as grant:
        for wait_s in (0, SHORT_S):
            start_s = time.monotonic()
            with pytest.raises(Busy, match=rf"worker 1.*token {grant.token}"):
                Lock(second, "fold").acquire(wait_s=wait_s)
            assert wait_s <= time.monotonic() - start_s < wait_s + 5
        assert len(contenders(store, "fold")) == 1
        with Lock(second, "other").hold(wait_s=0):
            pass
    assert contenders(store, "fold") == []


def test_one_at_a_time_and_all_get_their_turn(store: stores.Store) -> None:
    inside: list[int] = []
    tokens: list[int] = []

    def work(number: int) -> None:
        client = store.client()
        for _ in range(3):
            with Lock(client, "fold").hold(wait_s=PATIENCE_S) as grant:
                inside.append(number)
                time.sleep(0)  # invites the others in
                assert inside == [number]
                tokens.append(grant.token)
                inside.clear()

    in_threads(4, work)
    assert len(tokens) == 12
    assert tokens == sorted(set(tokens))


def test_who_waits_gets_it_when_the_holder_is_lost(store: stores.Store) -> None:
    first, second = store.client(), store.client()
    lost = threading.Event()
    before = Lock(first, "fold").acquire(wait_s=1)
    assert before.seems_held(watch=lost)
    granted: list[Grant] = []

    def work(number: int) -> None:
        if number:
            granted.append(Lock(second, "fold").acquire(wait_s=PATIENCE_S))
        else:
            await_true(lambda: len(contenders(store, "fold")) == 2, "the second contends")
            store.expire(first)

    in_threads(2, work)
    await_flag(lost)
    assert granted[0].token > before.token
    await_true(lambda: not before.seems_held(), "the first knows")
    before.release()  # harmless
    assert granted[0].seems_held()
    assert contenders(store, "fold") == [granted[0].node.rpartition("/")[2]]


def test_after_a_lost_session_the_same_lock_is_acquired_again(store: stores.Store) -> None:
    client = store.client()
    lock = Lock(client, "fold")
    before = lock.acquire(wait_s=1)
    store.expire(client)
    await_true(lambda: client.session().state is State.LOST, "the session is lost")
    after = lock.acquire(wait_s=PATIENCE_S)
    assert after.token > before.token
    assert after.session != before.session
    assert not before.seems_held()
    assert after.seems_held()


def test_a_session_lost_while_waiting_is_told(store: stores.Store) -> None:
    first, second = store.client(), store.client()
    with Lock(first, "fold").hold(wait_s=1):

        def work(number: int) -> None:
            if number:
                with pytest.raises(SessionLost):
                    Lock(second, "fold").acquire(wait_s=PATIENCE_S)
            else:
                await_true(lambda: len(contenders(store, "fold")) == 2, "the second contends")
                store.expire(second)

        in_threads(2, work)
        assert len(contenders(store, "fold")) == 1


@pytest.mark.parametrize("applied", [True, False])
def test_a_contender_whose_answer_was_lost_is_there_once(
    store: stores.Store, monkeypatch: pytest.MonkeyPatch, applied: bool
) -> None:
    client = store.client()
    create = client.create
    lost: list[str] = []

    def lose_the_first_answer(path: str, *arguments: object, **options: object) -> object:
        if lost or "lock-" not in path:
            return create(path, *arguments, **options)  # type: ignore[arg-type]
        lost.append(path)
        if applied:
            create(path, *arguments, **options)  # type: ignore[arg-type]
        raise OutcomeUnknown("no answer")

    monkeypatch.setattr(client, "create", lose_the_first_answer)
    with Lock(client, "fold").hold(wait_s=PATIENCE_S) as grant:
        assert contenders(store, "fold") == [grant.node.rpartition("/")[2]]
    assert lost
    assert contenders(store, "fold") == []


def test_a_contender_that_could_not_be_withdrawn_is_reaped_by_the_next_attempt(
    store: stores.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = store.client(), store.client()
    grant = Lock(first, "fold").acquire(wait_s=1)

    def refuse(*_: object, **__: object) -> None:
        raise EngineUnavailable("no connection")

    with monkeypatch.context() as patch:
        patch.setattr(second, "delete", refuse)
        with pytest.raises(Busy):
            Lock(second, "fold").acquire(wait_s=SHORT_S)
    assert len(contenders(store, "fold")) == 2
    grant.release()
    with Lock(second, "another").hold(wait_s=1):
        assert contenders(store, "fold") == []
    assert reap(second, within_s=1) == 0


def test_who_is_deleted_from_the_line_is_told(store: stores.Store) -> None:
    first, second = store.client(), store.client()
    grant = Lock(first, "fold").acquire(wait_s=1)

    def work(number: int) -> None:
        if number:
            with pytest.raises(Busy, match="deleted"):
                Lock(second, "fold").acquire(wait_s=PATIENCE_S)
        else:
            await_true(lambda: len(contenders(store, "fold")) == 2, "the second contends")
            waiting = max(contenders(store, "fold"), key=lambda name: name[-10:])
            first.multi([Delete(f"/locks/fold/{waiting}"), Delete(grant.node)])

    in_threads(2, work)
    grant.release()
    with Lock(second, "fold").hold(wait_s=1):
        pass


def test_a_leader_is_known_to_all_and_followed_by_the_next(store: stores.Store) -> None:
    first, second = store.client(), store.client()
    assert Election(second, "scheduler").leader() is None
    term = Election(first, "scheduler").campaign(b"host-1", wait_s=1)
    leader = Election(second, "scheduler").leader()
    assert leader is not None
    assert (leader.token, leader.note) == (term.token, b"host-1")
    with pytest.raises(Busy, match="host-1"):
        Election(second, "scheduler").campaign(b"host-2", wait_s=0)
    store.expire(first)
    after = Election(second, "scheduler").campaign(b"host-2", wait_s=PATIENCE_S)
    assert after.token > term.token


def test_a_spent_counter_is_refused_and_mended_by_deleting_the_folder(tmp_path: Path) -> None:
    store = stores.sqlite(tmp_path)
    client = store.client()
    with Lock(client, "fold").hold(wait_s=1) as grant:
        before = grant.token
    with closing(sqlite3.connect(tmp_path / "c.db")) as connection, connection:
        connection.execute("UPDATE nodes SET creations = 2147483000 WHERE path = '/locks/fold'")
    with pytest.raises(TooLarge, match="counter"):
        Lock(client, "fold").acquire(wait_s=1)
    assert contenders(store, "fold") == []
    client.delete("/locks/fold")
    with Lock(client, "fold").hold(wait_s=1) as grant:
        assert grant.token > before
    store.close()
