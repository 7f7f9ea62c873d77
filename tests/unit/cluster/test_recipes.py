"""Members, settings pushed to all, queues and numbers, on every store."""

from __future__ import annotations

import threading
import time

import pytest

from stook.cluster.configuration import ABSENT, DOCUMENT_BYTES_MAX, Configuration, Document
from stook.cluster.membership import Membership
from stook.cluster.naming import Numbers, claim_name
from stook.cluster.queue import Queue
from stook.core.errors import Busy, Conflict, FenceLost, InvalidArgument, OutcomeUnknown, TooLarge
from stook.core.ports.coordination import State
from stook.testing.contracts import PATIENCE_S, in_threads
from stook.testing.contracts.coordination import await_true

from . import stores


def test_members_come_change_and_go(store: stores.Store) -> None:
    first, second = store.client(), store.client()
    seen = Membership(second, "workers")
    assert seen.members() == {}
    one, two = Membership(first, "workers"), Membership(first, "workers")
    one.register("a", b"1", wait_s=1)
    one.register("a", b"1", wait_s=1)
    two.register("b", wait_s=1)
    assert seen.members() == {"a": b"1", "b": b""}
    one.register("a", b"2", wait_s=1)
    assert seen.wait({"a": b"1", "b": b""}, timeout_s=PATIENCE_S) == {"a": b"2", "b": b""}
    two.leave()
    two.leave()
    assert seen.wait({"a": b"2", "b": b""}, timeout_s=PATIENCE_S) == {"a": b"2"}
    assert seen.wait({"a": b"2"}, timeout_s=0.05) == {"a": b"2"}
    store.expire(first)
    assert seen.wait({"a": b"2"}, timeout_s=PATIENCE_S) == {}


def test_a_member_is_registered_again_after_a_lost_session(store: stores.Store) -> None:
    first, second = store.client(), store.client()
    member, seen = Membership(first, "workers"), Membership(second, "workers")
    assert not member.keep()
    member.register("a", b"1", wait_s=1)
    assert not member.keep()
    store.expire(first)
    await_true(lambda: first.session().state is State.LOST, "the session is lost")
    assert member.keep(wait_s=PATIENCE_S)
    assert seen.members() == {"a": b"1"}
    assert not member.keep()


def test_a_name_that_another_session_holds_is_waited_for(store: stores.Store) -> None:
    first, second = store.client(), store.client()
    Membership(first, "workers").register("a", b"old", wait_s=1)
    successor = Membership(second, "workers")
    with pytest.raises(Busy, match="'a'"):
        successor.register("a", b"new", wait_s=0.05)

    def work(number: int) -> None:
        if number:
            successor.register("a", b"new", wait_s=PATIENCE_S)
        else:
            store.expire(first)

    in_threads(2, work)
    assert successor.members() == {"a": b"new"}


def test_a_document_reaches_who_waits_within_a_second(store: stores.Store) -> None:
    writer, reader = Configuration(store.client(), "limits"), Configuration(store.client(), "limits")
    assert reader.read() is None
    assert reader.wait(ABSENT, timeout_s=0.05) is None
    waited: list[tuple[float, Document | None]] = []
    published: list[float] = []
    waiting = threading.Event()

    def work(number: int) -> None:
        if number:
            waiting.set()
            found = reader.wait(ABSENT, timeout_s=PATIENCE_S)
            waited.append((time.monotonic(), found))
        else:
            waiting.wait(PATIENCE_S)
            published.append(time.monotonic())
            writer.publish({"rows": 1})

    in_threads(2, work)
    at_s, found = waited[0]
    assert found is not None
    assert found.content == {"rows": 1}
    assert at_s - published[0] < 1.0
    again = writer.publish({"rows": 2}, expected=found.revision)
    assert again.revision > found.revision
    with pytest.raises(Conflict):
        writer.publish({"rows": 3}, expected=found.revision)
    with pytest.raises(Conflict):
        writer.publish({"rows": 3}, expected=ABSENT)
    assert reader.wait(found.revision, timeout_s=PATIENCE_S) == again


def test_what_is_no_document_is_refused(store: stores.Store) -> None:
    configuration = Configuration(store.client(), "limits")
    with pytest.raises(TooLarge):
        configuration.publish({"x": "y" * DOCUMENT_BYTES_MAX})
    with pytest.raises(InvalidArgument):
        configuration.publish({"x": float("nan")})
    assert configuration.read() is None


def test_tasks_are_taken_in_order_by_one_each(store: stores.Store) -> None:
    first, second = Queue(store.client(), "jobs"), Queue(store.client(), "jobs")
    assert first.take(wait_s=0) is None
    for number in range(3):
        first.put(str(number).encode())
    one, two = first.take(wait_s=1), second.take(wait_s=1)
    assert one is not None
    assert two is not None
    assert (one.data, two.data) == (b"0", b"1")
    first.done(one)
    second.give_back(two)
    again = first.take(wait_s=PATIENCE_S)
    assert again is not None
    assert again.data == b"1"
    assert again.token > two.token
    with pytest.raises(FenceLost):
        second.done(two)
    second.give_back(two)
    first.done(again)
    last = second.take(wait_s=PATIENCE_S)
    assert last is not None
    assert last.data == b"2"
    assert first.length() == 1
    second.done(last)
    assert first.length() == 0
    with pytest.raises(FenceLost):
        second.done(last)


@pytest.mark.case(17)
def test_a_task_is_taken_again_when_its_worker_is_lost(store: stores.Store) -> None:
    client = store.client()
    first, second = Queue(client, "jobs"), Queue(store.client(), "jobs")
    second.put(b"x")
    one = first.take(wait_s=1)
    assert one is not None
    assert second.take(wait_s=0) is None
    store.expire(client)
    two = second.take(wait_s=PATIENCE_S)
    assert two is not None
    assert two.task == one.task
    assert two.token > one.token
    await_true(lambda: client.session().state is State.LOST, "the session is lost")
    client.renew()
    with pytest.raises(FenceLost):
        first.done(one)
    second.done(two)


def test_many_workers_take_each_task_once(store: stores.Store) -> None:
    queue = Queue(store.client(), "jobs")
    for number in range(12):
        queue.put(str(number).encode())
    taken: list[bytes] = []

    def work(_: int) -> None:
        mine = Queue(store.client(), "jobs")
        while (claim := mine.take(wait_s=0)) is not None:
            taken.append(claim.data)
            mine.done(claim)

    in_threads(3, work)
    assert sorted(taken, key=int) == [str(number).encode() for number in range(12)]


@pytest.mark.case(3)
def test_a_task_whose_answer_was_lost_is_there_once(store: stores.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    client = store.client()
    queue = Queue(client, "jobs")
    create = client.create

    def lose_the_answer(path: str, *arguments: object, **options: object) -> None:
        create(path, *arguments, **options)  # type: ignore[arg-type]
        raise OutcomeUnknown("no answer")

    queue.put(b"first")
    monkeypatch.setattr(client, "create", lose_the_answer)
    name = queue.put(b"second")
    monkeypatch.undo()
    assert queue.length() == 2
    claims = [queue.take(wait_s=1), queue.take(wait_s=1)]
    assert [claim.data for claim in claims if claim] == [b"first", b"second"]
    assert claims[1] is not None
    assert claims[1].task == name


def test_numbers_are_given_once(store: stores.Store) -> None:
    given: list[int] = []

    def work(_: int) -> None:
        numbers = Numbers(store.client(), "runs")
        given.extend(numbers.next() for _ in range(5))

    in_threads(3, work)
    assert sorted(given) == list(range(1, 16))
    assert Numbers(store.client(), "other").next() == 1


def test_a_name_is_taken_once(store: stores.Store) -> None:
    first, second = store.client(), store.client()
    number = claim_name(first, "shard-1", b"one")
    assert claim_name(first, "shard-1", b"one") == number
    with pytest.raises(Conflict):
        claim_name(second, "shard-1", b"two")
    assert claim_name(second, "shard-2", b"two") > number
