"""A cluster that loses members: what is still answered, what is told of the rest, and how long it takes to mend."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.redis_servers import NODE_TIMEOUT_MS, RedisCluster, RedisServer, await_true, new_prefix, redis_cluster

from stook.backends.redis.fleet import Exchange
from stook.backends.redis.keyvalue import RedisKeyValue, open_cluster
from stook.backends.redis.layout import slot_of
from stook.core.errors import EngineUnavailable, TryAgain
from stook.core.ports.keyvalue import UNREAD, Row
from stook.core.settings import parse_url
from stook.testing.contracts.keyvalue import S, load_live
from stook.testing.contracts.keyvalue_model import value

RECOVERY_S = NODE_TIMEOUT_MS / 1_000 + 5
TIMEOUT_MS = 400
KEYS = [b"%04d" % n for n in range(600)]
ROWS: list[Row] = [(key, value(1, payload=key)) for key in KEYS]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    """A cluster of this module's own, whose members are killed and started again."""
    with redis_cluster() as cluster:
        yield cluster


@pytest.fixture
def store(cluster: RedisCluster) -> Iterator[RedisKeyValue]:
    await_true(cluster.is_whole, "a whole cluster")
    store = opened(cluster)
    yield store
    for server in cluster.servers:
        if server.process is None or server.process.poll() is not None:
            server.start()
        server.signal(signal.SIGCONT)
    await_true(cluster.is_whole, "a whole cluster")
    store.clear(S)
    store.close()


def opened(cluster: RedisCluster, **options: object) -> Any:
    query = "&".join(f"{k}={v}" for k, v in {"prefix": new_prefix(), "timeout_ms": TIMEOUT_MS, **options}.items())
    return open_cluster(parse_url(f"{cluster.url}?{query}", Path("/"), "engines.online"), Path("/"))


def holder(cluster: RedisCluster, store: RedisKeyValue, name: bytes) -> RedisServer:
    """The master that holds a key."""
    node = store._fleet._slots[slot_of(name)]
    assert node is not None
    return next(server for server in cluster.masters() if server.port == node.place[1])


def without_the_space(cluster: RedisCluster, store: RedisKeyValue) -> RedisServer:
    """A master that does not hold what is known of the space."""
    knows = holder(cluster, store, store._names.seen(S))
    return next(server for server in cluster.masters() if server is not knows)


def keys_of(cluster: RedisCluster, store: RedisKeyValue, server: RedisServer) -> set[bytes]:
    return {key for key in KEYS if holder(cluster, store, store._names.row("", key)) is server}


def read_when_back(store: RedisKeyValue) -> list[bytes | None]:
    """Reads until every key can be asked."""
    found: list[bytes | None] = []

    def whole() -> bool:
        nonlocal found
        try:
            found = store.get_many([(S, KEYS)])[0]
        except EngineUnavailable:
            return False
        return UNREAD not in found

    await_true(whole, "a whole answer", RECOVERY_S)
    return found


@pytest.mark.kill
@pytest.mark.parametrize("upserted", [False, True], ids=["loaded", "upserted"])
def test_a_killed_master_costs_its_keys_only(cluster: RedisCluster, store: RedisKeyValue, upserted: bool) -> None:
    if upserted:
        store.put_newest([(S, ROWS)])
    else:
        load_live(store, S, ROWS)
    assert store.get_many([(S, [*KEYS, b"none"])]) == [[*(stored for _, stored in ROWS), None]]
    victim = without_the_space(cluster, store)
    gone = keys_of(cluster, store, victim)
    assert 0 < len(gone) < len(KEYS)
    victim.kill()
    started_s = time.monotonic()
    answers = dict(zip(KEYS, store.get_many([(S, KEYS)])[0], strict=True))
    assert time.monotonic() - started_s < 2 * TIMEOUT_MS / 1_000
    assert {key for key, found in answers.items() if found == UNREAD} == gone
    assert all(found == dict(ROWS)[key] for key, found in answers.items() if key not in gone)
    with pytest.raises(EngineUnavailable):
        store.get_many([(S, sorted(gone))])
    with pytest.raises(EngineUnavailable):
        store.put_newest([(S, [(min(gone), value(2))])])
    found = read_when_back(store)
    lost = [row for row, stored in zip(ROWS, found, strict=True) if stored is None]
    store.put_newest([(S, lost)])  # what asynchronous replication had not carried over is written again
    assert store.get_many([(S, KEYS)]) == [[stored for _, stored in ROWS]]


@pytest.mark.kill
def test_reads_go_on_without_the_server_that_knows_the_space(cluster: RedisCluster, store: RedisKeyValue) -> None:
    # By what was last seen: what is found stands, and what is not found may have been written since.
    load_live(store, S, ROWS)
    store.get_many([(S, KEYS)])
    victim = holder(cluster, store, store._names.seen(S))
    gone = keys_of(cluster, store, victim)
    other = next(
        b"x%d" % n for n in range(1_000) if holder(cluster, store, store._names.row("", b"x%d" % n)) is not victim
    )
    victim.kill()
    answers = dict(zip([*KEYS, other], store.get_many([(S, [*KEYS, other])])[0], strict=True))
    assert answers.pop(other) == UNREAD
    assert {key for key, found in answers.items() if found == UNREAD} == gone
    with pytest.raises(EngineUnavailable):  # who has never seen the space knows nothing of its rows
        opened(cluster, prefix=store._fleet.address.prefix).get_many([(S, KEYS)])
    assert read_when_back(store) == [stored for _, stored in ROWS]
    assert store.get_many([(S, [other])]) == [[None]]


@pytest.mark.kill
def test_a_paused_master_is_waited_for_once(cluster: RedisCluster, store: RedisKeyValue) -> None:
    load_live(store, S, ROWS)
    store.get_many([(S, KEYS)])
    for victim in (without_the_space(cluster, store), holder(cluster, store, store._names.seen(S))):
        gone = keys_of(cluster, store, victim)
        victim.signal(signal.SIGSTOP)
        took_s = []
        for _ in range(5):
            started_s = time.monotonic()
            found = store.get_many([(S, KEYS)])[0]
            took_s.append(time.monotonic() - started_s)
            assert {key for key, stored in zip(KEYS, found, strict=True) if stored == UNREAD} == gone
        assert took_s[0] < 2 * TIMEOUT_MS / 1_000
        assert sorted(took_s)[2] < TIMEOUT_MS / 4_000, took_s  # it rests: the others are not held up by it
        victim.signal(signal.SIGCONT)
        await_true(cluster.is_whole, "a whole cluster")
        assert read_when_back(store) == [stored for _, stored in ROWS]


@pytest.mark.kill
def test_a_master_killed_under_writers_and_readers(cluster: RedisCluster, store: RedisKeyValue) -> None:
    """Nothing acknowledged is answered as older than it was, but what replication lost; that is repaired by writing again."""
    store.put_newest([(S, ROWS)])
    acknowledged: dict[bytes, int] = dict.fromkeys(KEYS, 1)
    done, failed, torn = threading.Event(), [], []

    def write() -> None:
        n = 1
        while not done.is_set():
            n += 1
            for start in range(0, len(KEYS), 100):
                keys = KEYS[start : start + 100]
                try:
                    store.put_newest([(S, [(key, value(n, payload=key)) for key in keys])])
                except TryAgain as error:
                    failed.append(error)
                else:
                    acknowledged.update(dict.fromkeys(keys, n))

    def read() -> None:
        while not done.is_set():
            try:
                found = store.get_many([(S, KEYS)])[0]
            except TryAgain:
                continue
            torn.extend(key for key, stored in zip(KEYS, found, strict=True) if stored and stored[32:] != key)

    threads = [threading.Thread(target=work) for work in (write, read, read)]
    for thread in threads:
        thread.start()
    before = dict(acknowledged)
    await_true(lambda: min(acknowledged.values()) > max(before.values()), "writes")
    without_the_space(cluster, store).kill()
    await_true(lambda: failed, "a failed write")
    read_when_back(store)
    before = dict(acknowledged)
    await_true(lambda: all(acknowledged[key] > before[key] for key in KEYS), "writes to every slot", RECOVERY_S)
    done.set()
    for thread in threads:
        thread.join(30)
    assert not torn
    found = dict(zip(KEYS, store.get_many([(S, KEYS)])[0], strict=True))
    lost = [key for key in KEYS if (found[key] or b"") < value(acknowledged[key], payload=key)]
    store.put_newest([(S, [(key, value(acknowledged[key], payload=key)) for key in lost])])
    found = dict(zip(KEYS, store.get_many([(S, KEYS)])[0], strict=True))
    assert all((found[key] or b"") >= value(acknowledged[key], payload=key) for key in KEYS)


def test_nothing_is_left_behind(cluster: RedisCluster, store: RedisKeyValue) -> None:
    store.begin_load("other", token="t", now_us=0)
    before = cluster.size()
    rows = [(b"%05d" % n, value(1)) for n in range(9_000)]
    load_live(store, S, rows)
    store.put_newest([(S, rows)])
    assert cluster.size() > before + 18_000
    store.clear(S)
    assert cluster.size() == before


def test_a_generation_that_is_dropped_under_a_read_is_no_reason_for_not_found(
    cluster: RedisCluster, store: RedisKeyValue, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Between what says which generation is live and the rows, when a member answers late.
    first = load_live(store, S, ROWS)
    store.get_many([(S, KEYS)])
    other, round_ = opened(cluster, prefix=store._fleet.address.prefix), Exchange.round
    second = other.begin_load(S, token="t", now_us=0).generation
    other.load(S, second, ROWS)

    def late(exchange: Exchange, groups: dict[Any, list[int]]) -> None:
        """What says which generation is live is answered first; then that one is dropped; then the rows are."""
        monkeypatch.undo()
        rows = {node: [n for n in numbers if n] for node, numbers in groups.items()}
        round_(exchange, {node: [0] for node, numbers in groups.items() if 0 in numbers})
        other.activate(S, second, expected=first)
        other.drop(S, first)
        round_(exchange, {node: numbers for node, numbers in rows.items() if numbers})

    monkeypatch.setattr(Exchange, "round", late)
    assert store.get_many([(S, KEYS)]) == [[stored for _, stored in ROWS]]


def test_a_slot_that_moves_is_followed(cluster: RedisCluster, store: RedisKeyValue) -> None:
    load_live(store, S, ROWS)
    store.put_newest([(S, ROWS[:300])])
    slot = slot_of(store._names.row("", KEYS[0]))
    source = holder(cluster, store, store._names.row("", KEYS[0]))
    target = next(server for server in cluster.masters() if server is not source)
    ids = {server.port: server.client().execute_command("CLUSTER MYID").decode() for server in (source, target)}
    target.client().execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source.port])
    source.client().execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target.port])
    names = source.client().execute_command("CLUSTER GETKEYSINSLOT", slot, 1_000)
    source.client().execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *names)
    expected = [stored for _, stored in ROWS]
    assert store.get_many([(S, KEYS)]) == [expected]  # asked there, once
    assert store.put_newest([(S, [(KEYS[0], value(2, payload=KEYS[0]))])]) == 1
    expected[0] = value(2, payload=KEYS[0])
    for server in cluster.masters():
        server.client().execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target.port])
    assert store.get_many([(S, KEYS)]) == [expected]
    assert store._fleet._slots[slot].place[1] == target.port  # type: ignore[union-attr]


def test_writes_wait_for_replicas(cluster: RedisCluster, store: RedisKeyValue) -> None:
    careful = opened(cluster, replicas=1)
    assert careful.put_newest([(S, ROWS[:50])]) == 50
    victim = holder(cluster, store, store._names.row("", KEYS[0]))
    replica = next(
        server for server in cluster.servers if server.client().info("replication").get("master_port") == victim.port
    )
    replica.signal(signal.SIGSTOP)
    with pytest.raises(EngineUnavailable, match="confirmed by 0 of 1"):
        careful.put_newest([(S, ROWS[:50])])
    replica.signal(signal.SIGCONT)
    await_true(cluster.is_whole, "a whole cluster")
    assert careful.put_newest([(S, ROWS[:50])]) == 50
    careful.clear(S)
