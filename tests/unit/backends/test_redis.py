"""What the Redis store does with its server, its keys and its memory, beyond the port's contract."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import redis_servers
from tests.redis_servers import RedisServer, await_true, new_prefix, redis_server, shared_server

from stook.app.wiring import load_backend
from stook.backends.redis import index, loading, reading
from stook.backends.redis.address import Address, parse_address
from stook.backends.redis.keyvalue import RedisKeyValue, open_cluster, open_keyvalue
from stook.backends.redis.layout import Names, pack_keys, slot_of, unpack_keys
from stook.backends.redis.node import check_info
from stook.core.errors import (
    CorruptStore,
    DiskFull,
    EngineUnavailable,
    InvalidArgument,
    InvalidSettings,
    NewerStore,
    NotSupported,
    StookError,
    TooLarge,
)
from stook.core.ports.keyvalue import KeyValue
from stook.core.rows import newer
from stook.core.settings import parse_url
from stook.testing.contracts.keyvalue import S, load_live
from stook.testing.contracts.keyvalue_model import value

DAY_MS = 86_400_000
KEYS = st.binary(max_size=20) | st.text("{}~.ab", max_size=6).map(str.encode)


def opened(server: RedisServer, prefix: str | None = None, **options: object) -> Any:
    query = "&".join(f"{name}={text}" for name, text in {"prefix": prefix or new_prefix(), **options}.items())
    return open_keyvalue(parse_url(f"redis://{server.place}?{query}", Path("/"), "engines.online"), Path("/"))


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def store() -> Iterator[RedisKeyValue]:
    store = opened(shared_server())
    yield store
    store.close()


class TestAddress:
    def test_all_of_it(self) -> None:
        text = "redis+cluster://me:p%40ss@one:7001,[::1]:7002,three?prefix=a.b&timeout_ms=50&replicas=2&evict=allowed"
        found = parse_address(parse_url(text, Path("/"), "x"), cluster=True)
        places = (("one", 7001), ("::1", 7002), ("three", 6379))
        assert found == Address(places, True, 0, "me", "p@ss", "a.b", 0.05, 2, True)

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("redis:", "no server"),
            ("redis:///path", "no server"),
            ("redis://a:1,b:2", "several servers"),
            ("redis://a:x", "a:x"),
            ("redis://a:0", "a:0"),
            ("redis://a:70000", "a:70000"),
            ("redis://a/x", "database"),
            ("redis://a/-1", "database"),
            ("redis://a?timeout_ms=9", "timeout_ms"),
            ("redis://a?timeout_ms=60001", "timeout_ms"),
            ("redis://a?replicas=11", "replicas"),
            ("redis://a?prefix=", "prefix"),
            ("redis://a?prefix={x}", "prefix"),
            ("redis://a?evict=yes", "evict"),
            ("redis://a?timeout=1", "timeout_ms"),
        ],
    )
    def test_what_is_wrong_is_named_and_no_password_is(self, text: str, named: str) -> None:
        text = text.replace("//", "//me:secret@", 1) if "//a" in text else text
        with pytest.raises(InvalidSettings, match=named.replace("{", "").partition("}")[0]) as caught:
            parse_address(parse_url(text, Path("/"), "engines.online"), cluster=False)
        assert "secret" not in str(caught.value)

    def test_the_hint_for_a_missing_driver_names_an_extra_that_exists(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(_: object) -> None:
            raise ImportError("No module named 'redis'")

        monkeypatch.setattr("importlib.metadata.EntryPoint.load", missing)
        for scheme in ("redis", "redis+cluster"):
            url = parse_url(f"{scheme}://a:1", Path("/"), "engines.online")
            with pytest.raises(NotSupported, match=r"pip install 'stook\[redis\]'"):
                load_backend("online", url, Path("/"), "engines.online")


class TestServersThatAreRefused:
    @pytest.mark.parametrize(
        ("info", "error", "words"),
        [
            ({"redis_version": "6.0.16"}, NotSupported, "6.0.16"),
            ({"redis_version": "5.0"}, NotSupported, "6.2 or newer"),
            ({"redis_version": "7.0.1", "redis_mode": "cluster"}, InvalidSettings, r"redis\+cluster://h:1"),
            ({"redis_version": "7.0.1", "maxmemory_policy": "allkeys-lru"}, InvalidSettings, "allkeys-lru"),
        ],
    )
    def test_by_what_they_say(self, info: dict[str, str], error: type[StookError], words: str) -> None:
        with pytest.raises(error, match=words):
            check_info(info, "h:1", Address((("h", 1),), False))

    def test_those_that_are_taken(self) -> None:
        check_info({"redis_version": "6.2.0", "maxmemory_policy": "noeviction"}, "h:1", Address((("h", 1),), False))
        evicting = {"redis_version": "10.0", "maxmemory_policy": "allkeys-lru"}
        check_info(evicting, "h:1", Address((("h", 1),), False, may_evict=True))

    def test_one_that_evicts(self) -> None:
        with redis_server("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as server:
            with pytest.raises(InvalidSettings, match=r"throws keys away.*evict=allowed"):
                opened(server)
            opened(server, evict="allowed").close()

    def test_one_without_memory_refuses_writes_and_reads_go_on(self) -> None:
        with redis_server("--maxmemory", "4mb") as server:
            store = opened(server)
            store.put_newest([(S, [(b"a", value(1))])])
            with pytest.raises(DiskFull, match="no memory left"):
                for n in range(100):
                    store.put_newest([(S, [(b"%d" % n, value(1, payload=b"x" * 100_000))])])
            assert store.get_many([(S, [b"a"])]) == [[value(1)]]

    def test_one_that_is_no_cluster(self) -> None:
        url = parse_url(f"redis+cluster://{shared_server().place}", Path("/"), "engines.online")
        with pytest.raises(InvalidSettings, match=f"redis://{shared_server().place}"):
            open_cluster(url, Path("/"))

    def test_one_that_wants_another_password(self) -> None:
        with redis_server() as server:
            server.client().config_set("requirepass", "right")
            with pytest.raises(InvalidSettings, match="check user and password"):
                opened(server)
            url = parse_url(f"redis://:right@{server.place}/1", Path("/"), "engines.online")
            store = open_keyvalue(url, Path("/"))
            store.put_newest([(S, [(b"a", value(1))])])
            assert server.client(password="right", db=1).dbsize() > 0
            store.close()

    def test_one_that_is_not_there(self) -> None:
        with pytest.raises(EngineUnavailable, match=r"redis://127.0.0.1:1/0"):
            open_keyvalue(parse_url("redis://127.0.0.1:1", Path("/"), "engines.online"), Path("/"))

    def test_a_layout_of_later(self) -> None:
        client = shared_server().client()
        for found, error in [(b"2", NewerStore), (b"theirs", CorruptStore)]:
            prefix = new_prefix()
            client.set(f"{prefix}:layout", found)
            with pytest.raises(error):
                opened(shared_server(), prefix)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server whose locale does not order bytes as numbers."""
    folder = tmp_path_factory.mktemp("locale")
    made = shutil.which("localedef") and subprocess.run(
        ["localedef", "-i", "en_US", "-f", "UTF-8", str(folder / "en_US.UTF-8")], capture_output=True, check=False
    )
    if not made or made.returncode:
        pytest.skip("no locale can be made: apt-get install locales")
    with redis_server(LC_ALL="en_US.UTF-8", LOCPATH=str(folder)) as server:
        yield server


@pytest.mark.parametrize("seed", range(5))
def test_bytes_are_compared_as_numbers_whatever_the_servers_locale(elsewhere: RedisServer, seed: int) -> None:
    # Lua's < is strcoll: in this locale "a" < "A" < "b", and a zero byte ends a text.
    random = Random(seed)
    store = opened(elsewhere)
    assert elsewhere.client().eval("return 'a' < 'B' and 1 or 0", 0) == 1, "the locale orders letters"
    expected: dict[bytes, bytes] = {}
    for _ in range(20):
        rows = [(b"%d" % random.randrange(20), _order(random) + b"payload") for _ in range(50)]
        for key, stored in rows:
            if newer(stored, expected.get(key)):
                expected[key] = stored
        store.put_newest([(S, rows)])
    assert dict(store.scan(S)) == expected
    for n in (0, 9, 10, 99, 100, 1 << 53, (1 << 53) + 1, 1 << 60):
        store.put_newest([], position=("stream", n))
        assert store.position("stream") == n
    store.put_newest([], position=("stream", (1 << 53) - 1))
    assert store.position("stream") == 1 << 60
    store.close()


def _order(random: Random) -> bytes:
    """A header that differs from the next one in few bytes, among them zeros, letters of both cases and high bytes."""
    body = bytearray(32)
    for at in random.sample(range(24), random.randrange(4)):
        body[at] = random.choice(b"\0\1aAbB\x7f\x80\xc3\xff")
    return bytes(body)


class TestNames:
    @given(KEYS)
    def test_all_rows_of_an_entity_key_lie_in_one_slot(self, key: bytes) -> None:
        names = Names("p")
        assert slot_of(names.row("one", key)) == slot_of(names.row("two", key))
        assert names.rows("one", [key, b"}"]) == [names.row("one", key), names.row("one", b"}")]
        assert slot_of(names.meta("v}")) == slot_of(names.seen("v}"))

    @given(KEYS, KEYS)
    def test_two_keys_stay_two(self, one: bytes, other: bytes) -> None:
        assert (Names("p").row("u", one) == Names("p").row("u", other)) == (one == other)

    @given(st.lists(KEYS, unique=True).map(sorted))
    def test_lists_of_keys_read_back(self, keys: list[bytes]) -> None:
        assert [key for packed in pack_keys(keys) for key in unpack_keys(packed)] == keys

    def test_a_damaged_list_is_told(self) -> None:
        for damaged in (b"", b"x", pack_keys([b"a"])[0][:-1]):
            with pytest.raises(CorruptStore):
                unpack_keys(damaged)

    def test_slots_are_the_servers(self) -> None:
        client, random = redis_servers.shared_cluster().servers[0].client(), Random(1)
        for n in range(200):
            name = Names("p").row("u", random.randbytes(n % 9) + random.choice([b"", b"{", b"}", b"{}", b"}{"]))
            assert client.execute_command("CLUSTER KEYSLOT", name) == slot_of(name)


class TestReads:
    def test_many_keys_are_measured_in_the_server(self, store: RedisKeyValue) -> None:
        rows = [(b"%04d" % n, value(n, payload=b"x" * 1_000)) for n in range(reading.UNMEASURED_KEYS_MAX * 2)]
        load_live(store, S, rows)
        keys, size = [key for key, _ in rows], sum(len(stored) for _, stored in rows)
        assert store.get_many([(S, keys)], bytes_max=size) == [[stored for _, stored in rows]]
        for limit in (size - 1, 1_000, 0):
            with pytest.raises(TooLarge, match="ask for fewer"):
                store.get_many([(S, keys)], bytes_max=limit)

    def test_without_upserts_one_key_is_read_for_an_entity(self, store: RedisKeyValue) -> None:
        load_live(store, S, [(b"a", value(1))])
        store.get_many([(S, [b"a"])])
        client = shared_server().client()

        def misses_and_hits() -> int:
            stats = client.info("stats")
            return int(stats["keyspace_hits"] + stats["keyspace_misses"])

        before = misses_and_hits()
        store.get_many([(S, [b"a", b"b", b"c", b"b"])])
        assert misses_and_hits() - before == 4  # three rows and what says which generation is live
        store.put_newest([(S, [(b"a", value(1))])])
        store.get_many([(S, [b"a"])])
        before = misses_and_hits()
        store.get_many([(S, [b"a", b"b", b"c"])])
        assert misses_and_hits() - before == 7

    def test_two_projects_on_one_server_do_not_meet(self) -> None:
        one, other = opened(shared_server()), opened(shared_server())
        one.put_newest([(S, [(b"a", value(1))])], position=("stream", 5))
        assert other.get_many([(S, [b"a"])]) == [[None]]
        assert other.position("stream") == 0
        other.clear(S)
        assert one.get_many([(S, [b"a"])]) == [[value(1)]]


class TestServersThatFail:
    def test_a_killed_server_comes_back_with_what_was_acknowledged(self, server: RedisServer) -> None:
        store = opened(server)
        load_live(store, S, [(b"%03d" % n, value(n)) for n in range(500)])
        store.put_newest([(S, [(b"a", value(1))])], position=("stream", 7))
        server.kill()
        for call in (lambda: store.get_many([(S, [b"a"])]), lambda: store.put_newest([(S, [(b"a", value(2))])])):
            with pytest.raises(EngineUnavailable, match=server.place):
                call()
        server.start()
        assert store.get_many([(S, [b"a", b"007"])]) == [[value(1), value(7)]]
        assert store.position("stream") == 7
        assert store.put_newest([(S, [(b"a", value(2))])]) == 1
        assert len(list(store.scan(S))) == 501
        store.close()

    def test_a_paused_server_is_not_waited_for_beyond_the_deadline(self, server: RedisServer) -> None:
        store = opened(server, timeout_ms=200)
        store.put_newest([(S, [(b"a", value(1))])])
        server.signal(signal.SIGSTOP)
        with pytest.raises(EngineUnavailable):
            store.get_many([(S, [b"a"])])
        with pytest.raises(EngineUnavailable, match="a moment ago"):  # and not waited for again at once
            store.get_many([(S, [b"a"])])
        server.signal(signal.SIGCONT)
        await_true(lambda: _answers(store), "reads")
        assert store.get_many([(S, [b"a"])]) == [[value(1)]]
        store.close()

    def test_a_server_that_forgot_the_scripts_is_taught_again(self, server: RedisServer) -> None:
        store = opened(server)
        server.client().script_flush()
        assert store.put_newest([(S, [(b"a", value(1))])], position=("stream", 1)) == 1
        assert store.position("stream") == 1

    def test_writes_that_no_replica_confirms_are_told_and_stand(self) -> None:
        prefix = new_prefix()
        with pytest.raises(EngineUnavailable, match="confirmed by 0 of 1 replicas"):
            opened(shared_server(), prefix, replicas=1, timeout_ms=50).put_newest([(S, [(b"a", value(1))])])
        # the first step of a write already says so; repeated without the demand, it ends
        store = opened(shared_server(), prefix)
        assert store.put_newest([(S, [(b"a", value(1))])]) == 1

    def test_a_closed_store_says_so(self, store: RedisKeyValue) -> None:
        store.close()
        for call in (lambda: store.position("s"), lambda: store.put_newest([(S, [(b"a", value(1))])])):
            with pytest.raises(InvalidArgument, match="closed"):
                call()


def _answers(store: KeyValue) -> bool:
    try:
        return store.get_many([(S, [b"a"])]) is not None
    except EngineUnavailable:
        return False


class TestCleaningUp:
    def test_nothing_is_left_behind(self, server: RedisServer) -> None:
        store, client = opened(server), server.client()
        before = client.dbsize()
        rows = [(b"%05d" % n, value(1)) for n in range(9_000)]
        first = load_live(store, S, rows)
        second = load_live(store, S, rows[::-1], expected=first)
        store.put_newest([(S, rows[:3_000])])
        store.begin_load(S, token="unfinished", now_us=0)
        store.drop(S, first)
        assert client.dbsize() < before + 9_000 + 3_000 + 100
        store.clear(S)
        assert client.dbsize() == before + 1  # the counter of generations stays
        assert client.exists(f"{second}") == 0
        store.close()

    def test_an_interrupted_clean_up_is_carried_on_by_the_next(
        self, server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store, client = opened(server), server.client()
        begun = store.begin_load("other", token="t", now_us=0)
        before = client.dbsize()
        rows = [(b"%05d" % n, value(1)) for n in range(9_000)]
        load_live(store, S, rows)
        store.put_newest([(S, rows)])
        delete, calls = store._rows.delete, []

        def stop(uid: str, keys: list[bytes]) -> None:
            calls.append(uid)
            if len(calls) > 2:
                raise EngineUnavailable("killed here")
            delete(uid, keys)

        monkeypatch.setattr(store._rows, "delete", stop)
        with pytest.raises(EngineUnavailable):
            store.clear(S)
        assert client.dbsize() > before
        monkeypatch.undo()
        other = opened(server, store._fleet.address.prefix)
        assert other.begin_load("other", token="t", now_us=0) == begun  # of another space, by another process
        assert client.dbsize() == before
        store.close()

    def test_rows_written_behind_a_clean_up_go_too(self, server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
        store, client = opened(server), server.client()
        load_live(store, "other", [(b"a", value(1))])
        before, keep = client.dbsize(), store._rows.keep_newest
        other = opened(server, store._fleet.address.prefix)

        def late(*arguments: Any, **named: Any) -> int:
            monkeypatch.undo()
            other.clear(S)
            return int(keep(*arguments, **named))

        monkeypatch.setattr(store._rows, "keep_newest", late)
        store.put_newest([(S, [(b"a", value(1))])])
        assert client.dbsize() == before
        begun = store.begin_load(S, token="t", now_us=0)
        monkeypatch.setattr(store._rows, "keep_newest", late)
        with pytest.raises(InvalidArgument):
            store.load(S, begun.generation, [(b"a", value(1))])
        assert client.dbsize() == before


class TestInterruptedLoads:
    """A chunk whose rows were written, but not recorded: it counts once, however the load goes on."""

    ROWS = tuple((b"%05d" % n, value(1)) for n in range(12_000))

    @pytest.mark.parametrize("chunk", [1_000, 3_000, 5_000, 12_000])
    @pytest.mark.parametrize("written", [0, 2_500, 5_000])
    def test_every_row_counts_once(
        self, store: RedisKeyValue, monkeypatch: pytest.MonkeyPatch, chunk: int, written: int
    ) -> None:
        begun = store.begin_load(S, token="t", now_us=0)
        store.load(S, begun.generation, self.ROWS[:1_000])
        keep = store._rows.keep_newest

        def stop(uid: str, rows: list[Any], lifetimes: Any, **named: Any) -> int:
            keep(uid, rows[:written], lifetimes, **named)
            raise EngineUnavailable("killed here")

        monkeypatch.setattr(store._rows, "keep_newest", stop)
        with pytest.raises(EngineUnavailable):
            store.load(S, begun.generation, self.ROWS[1_000:6_000])
        monkeypatch.undo()
        again = store.begin_load(S, token="t", now_us=0)
        assert again == (begun.generation, 1_000, b"00999")
        for start in range(1_000, len(self.ROWS), chunk):
            store.load(S, begun.generation, self.ROWS[start : start + chunk])
            assert store.generations(S)[0].rows == min(start + chunk, len(self.ROWS))
        store.activate(S, begun.generation, expected=None)
        assert list(store.scan(S)) == list(self.ROWS)
        store.clear(S)
        names = Names(store._fleet.address.prefix)
        assert shared_server().client().keys(names.layout[:-7] + b":*") in (
            [names.layout, names.numbers], [names.numbers, names.layout],
        )  # fmt: skip

    def test_lists_are_of_bounded_size(self) -> None:
        assert len(pack_keys([key for key, _ in self.ROWS])) == -(-len(self.ROWS) // loading.LIST_KEYS)


class TestRowsThatEnd:
    def test_keys_of_ended_rows_leave_the_index(self, server: RedisServer) -> None:
        store, client = opened(server), server.client()
        store.put_newest([(S, [(b"ever", value(1))])])
        before = client.dbsize()
        rows = [(b"%04d" % n, value(1)) for n in range(300)]
        store.put_newest([(S, rows)], lifetimes_ms=[[100] * 300])
        uid = store._states.read(S).uid
        assert len(store._index.members(uid)) == 301
        await_true(lambda: not any(store._rows.ask("EXISTS", uid, [key for key, _ in rows])), "the rows' end")
        assert list(store.scan(S)) == [(b"ever", value(1))]
        store._sweeper.tidy_all(uid)
        assert len(store._index.members(uid)) == 301  # a writer's rows may still be on their way
        later_ms = int(1_000 * time.time()) + index.GRACE_MS + 1_000
        for number in range(index.BUCKETS):
            store._index.forget_ended(uid, number, now_ms=later_ms)
        assert store._index.members(uid) == [b"ever"]
        assert client.dbsize() == before

    def test_a_row_that_lives_longer_than_noted_stays_in_the_index(self, store: RedisKeyValue) -> None:
        # It covers a row of the live generation that lives for ever, which the index cannot know.
        load_live(store, S, [(b"a", value(1))])
        store.put_newest([(S, [(b"a", value(2)), (b"b", value(2))])], lifetimes_ms=[[1, DAY_MS]])
        uid = store._states.read(S).uid
        later_ms = int(1_000 * time.time()) + index.GRACE_MS + 1_000
        for number in range(index.BUCKETS):
            store._index.forget_ended(uid, number, now_ms=later_ms)
        assert store._index.members(uid) == [b"a", b"b"]

    def test_writers_tidy_as_they_go(self, store: RedisKeyValue, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[int] = []
        monkeypatch.setattr(store._index, "forget_ended", lambda uid, number: seen.append(number) or 0)
        for n in range(10):
            rows = [(b"%d-%d" % (n, k), value(1)) for k in range(500)]
            store.put_newest([(S, rows)], lifetimes_ms=[[DAY_MS] * 500])
        assert seen == [1, 2, 3, 4, 5]
