"""What the LMDB store does with its files, its processes and a full disk, beyond the port's contract."""

from __future__ import annotations

import errno
import os
import resource
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import lmdb
import pytest

from stook.backends.lmdb import records
from stook.backends.lmdb.failures import explain
from stook.backends.lmdb.keyvalue import LmdbKeyValue, open_keyvalue
from stook.core.errors import (
    CorruptStore,
    DiskFull,
    EngineUnavailable,
    InvalidArgument,
    InvalidSettings,
    NewerStore,
    StookError,
    TryAgain,
)
from stook.core.settings import parse_url
from stook.testing.contracts import child, in_threads
from stook.testing.contracts.keyvalue import S, load_live
from stook.testing.contracts.keyvalue_model import value

MAP_BYTES = 1 << 36
ROWS = [(b"%06d" % n, value(n, payload=b"x" * 300)) for n in range(20_000)]


def opened(path: Path, map_bytes: int = MAP_BYTES) -> LmdbKeyValue:
    return LmdbKeyValue(path, map_bytes=map_bytes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "online"


@pytest.fixture
def store(path: Path) -> Iterator[LmdbKeyValue]:
    store = opened(path)
    yield store
    store.close()


class TestOpening:
    @pytest.mark.parametrize("size", ["0", "-1", "x", "", "1.5", "65537", "٣"])
    def test_a_wrong_map_size_refuses_to_start(self, tmp_path: Path, size: str) -> None:
        url = parse_url(f"lmdb:///online?map_gib={size}", tmp_path, "engines.online")
        with pytest.raises(InvalidSettings, match="map_gib"):
            open_keyvalue(url, tmp_path)
        assert not (tmp_path / "online").exists()

    def test_a_url_without_a_path_refuses_to_start(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidSettings, match="without a path"):
            open_keyvalue(parse_url("lmdb:", tmp_path, "engines.online"), tmp_path)

    def test_the_map_is_sparse(self, tmp_path: Path) -> None:
        url = parse_url("lmdb:///online?map_gib=4096", tmp_path, "engines.online")
        store = open_keyvalue(url, tmp_path)
        store.put_newest([(S, ROWS[:10])])
        store.close()
        assert (tmp_path / "online" / "data.mdb").stat().st_size < 1 << 20

    def test_stores_of_a_process_share_the_environment(self, path: Path, store: LmdbKeyValue) -> None:
        # LMDB forbids opening a path twice in a process, under whatever name.
        (path.parent / "link").symlink_to(path)
        other = opened(path.parent / "link")
        other.put_newest([(S, ROWS[:1])])
        store.close()
        with pytest.raises(InvalidArgument, match="closed"):
            store.position("stream")
        assert list(other.scan(S)) == ROWS[:1]
        other.close()
        lmdb.open(str(path)).close()  # the last one closed it

    def test_another_map_size_in_one_process_is_refused(self, path: Path, store: LmdbKeyValue) -> None:
        with pytest.raises(InvalidSettings, match="map_gib"):
            opened(path, MAP_BYTES * 2)


class TestDamage:
    def test_a_file_that_is_not_lmdb(self, path: Path) -> None:
        path.mkdir()
        (path / "data.mdb").write_bytes(b"hello" * 10_000)
        with pytest.raises(CorruptStore, match=str(path)):
            opened(path)
        assert (path / "data.mdb").read_bytes() == b"hello" * 10_000

    def test_another_programs_store_is_left_alone(self, path: Path) -> None:
        for name in (b"theirs", b"meta"):  # the second as a plain key, where we keep a database
            with lmdb.open(str(path), map_size=MAP_BYTES) as env, env.begin(write=True) as txn:
                txn.put(name, b"1")
            with pytest.raises(CorruptStore, match="not one of stook's"):
                opened(path)
        with lmdb.open(str(path), map_size=MAP_BYTES) as env, env.begin() as txn:
            assert list(txn.cursor()) == [(b"meta", b"1"), (b"theirs", b"1")]

    def test_a_newer_layout(self, path: Path) -> None:
        opened(path).close()
        with lmdb.open(str(path), map_size=MAP_BYTES, max_dbs=3) as env, env.begin(write=True) as txn:
            txn.put(records.LAYOUT_KEY, b"2", db=env.open_db(b"meta", txn=txn))
        with pytest.raises(NewerStore, match="layout 2"):
            opened(path)

    @pytest.mark.parametrize("left", [0.02, 0.3, 0.7, 0.95])
    def test_a_file_cut_short_is_reported_and_does_not_kill(self, path: Path, left: float) -> None:
        # Hard case: LMDB maps the file, so reading behind its end is SIGBUS.
        store = opened(path)
        load_live(store, S, ROWS)
        store.close()
        size = (path / "data.mdb").stat().st_size
        os.truncate(path / "data.mdb", int(size * left))
        with child(_read_all, path) as reader:
            assert reader.receive() == "CorruptStore"
            reader.join()

    def test_a_record_that_does_not_decode(self, path: Path, store: LmdbKeyValue) -> None:
        with store._write() as (handles, txn):
            txn.put(records.SPACE + S.encode(), b"short", db=handles.meta)
        for call in (lambda: store.get_many([(S, [b"a"])]), lambda: store.generations(S), lambda: list(store.scan(S))):
            with pytest.raises(CorruptStore, match=str(path)):
                call()

    def test_a_path_that_is_a_file(self, path: Path) -> None:
        path.write_bytes(b"")
        with pytest.raises(EngineUnavailable, match=str(path)):
            opened(path)


class TestFullDisk:
    def test_a_full_map_harms_nothing_stored(self, path: Path) -> None:
        store = opened(path, 1 << 20)
        store.put_newest([(S, ROWS[:100])], position=("stream", 1))
        generation = store.begin_load(S, token="t", now_us=0).generation
        store.load(S, generation, ROWS[:100])
        with pytest.raises(DiskFull, match="map size"):
            store.put_newest([(S, ROWS)], position=("stream", 2))
        with pytest.raises(DiskFull, match="map size"):
            store.load(S, generation, ROWS)
        assert list(store.scan(S)) == ROWS[:100]
        assert store.position("stream") == 1
        assert store.begin_load(S, token="t", now_us=0) == (generation, 100, ROWS[99][0])
        store.clear(S)  # room again, as after dropping a generation
        store.put_newest([("other", ROWS[:500])])
        store.close()

    @pytest.mark.parametrize(
        ("code", "expected"),
        [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EIO, EngineUnavailable)],
    )
    def test_errors_of_the_system(self, path: Path, code: int, expected: type[StookError]) -> None:
        error = explain(_failure(code), path)
        assert type(error) is expected
        assert str(path) in str(error)

    def test_a_short_write_on_a_full_disk(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # LMDB says EIO where the disk took a part of what it wrote.
        path.mkdir()
        monkeypatch.setattr("stook.backends.lmdb.failures.FULL_BELOW_BYTES", 1 << 62)
        assert type(explain(_failure(errno.EIO), path)) is DiskFull

    def test_a_write_cut_short_harms_nothing_stored(self, path: Path, store: LmdbKeyValue) -> None:
        # The nearest to a full disk without a disk of one's own: the system lets the file grow no further.
        store.put_newest([(S, ROWS[:10])], position=("stream", 1))
        with child(_put_with_limit, path) as writer:
            assert issubclass(writer.receive(), TryAgain)
            assert writer.receive() == ROWS[:10]
            writer.join()
        assert (list(store.scan(S)), store.position("stream")) == (ROWS[:10], 1)
        store.put_newest([(S, ROWS)])
        assert list(store.scan(S)) == ROWS


class TestSweeping:
    def test_what_a_killed_drop_left_goes_with_the_next_load(self, path: Path, store: LmdbKeyValue) -> None:
        first = load_live(store, S, ROWS)
        second = load_live(store, S, ROWS[:5], expected=first)
        with store._write() as (handles, txn):  # the first transaction of a drop
            records.delete_generation(txn, handles.meta, records.read_space(txn, handles.meta, S).number, first)
        assert _stored_rows(store) == len(ROWS) + 5
        assert [generation.number for generation in store.generations(S)] == [second]
        store.begin_load("other", token="t", now_us=0)
        assert _stored_rows(store) == 5
        assert list(store.scan(S)) == ROWS[:5]

    @pytest.mark.kill
    def test_a_killed_clear_is_done_or_not_begun(self, path: Path, store: LmdbKeyValue) -> None:
        load_live(store, "kept", ROWS[:5])
        for _ in range(2):
            load_live(store, S, ROWS)
            store.put_newest([(S, [(key, value(1)) for key, _ in ROWS])])
            with child(_clear, path) as clearing:
                assert clearing.receive() == "clearing"
                clearing.kill()
            assert len(list(store.scan(S))) in (0, len(ROWS))
            store.clear(S)
            assert _stored_rows(store) == 5


class TestProcesses:
    def test_a_forked_child_and_its_parent_go_on(self, path: Path, store: LmdbKeyValue) -> None:
        store.put_newest([(S, ROWS[:1])])
        for n in range(1, 4):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    seen = list(store.scan(S))
                    store.put_newest([(S, ROWS[n : n + 1])])
                    code = 0 if seen == ROWS[:n] else 2
                finally:
                    os._exit(code)
            assert os.waitpid(pid, 0)[1] == 0
            assert list(store.scan(S)) == ROWS[: n + 1]
        store.put_newest([(S, ROWS[:100])])
        assert list(store.scan(S)) == ROWS[:100]

    def test_forks_under_busy_threads(self, path: Path, store: LmdbKeyValue) -> None:
        # Hard case: LMDB's reader slots and locks must not be carried into a child.
        load_live(store, S, ROWS[:500])
        keys, expected, done = [key for key, _ in ROWS[:500]], [row for _, row in ROWS[:500]], threading.Event()

        def work(number: int) -> None:
            n = 0
            while not done.is_set():
                if number == 0:
                    n += 1
                    store.put_newest([("other", [(b"%06d" % n, value(1))])], position=("stream", n))
                assert store.get_many([(S, keys)]) == [expected]
            assert store.position("stream") >= n

        def fork_often() -> None:
            try:
                for _ in range(20):
                    pid = os.fork()
                    if pid == 0:
                        code = 1
                        try:
                            code = 0 if store.get_many([(S, keys)]) == [expected] else 2
                        finally:
                            os._exit(code)
                    assert os.waitpid(pid, 0)[1] == 0
            finally:
                done.set()

        in_threads(4, lambda number: fork_often() if number == 3 else work(number))

    def test_a_fork_ends_a_scan_with_an_error(self, store: LmdbKeyValue) -> None:
        store.put_newest([(S, ROWS[:10])])
        scanning = store.scan(S)
        next(scanning)
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        with pytest.raises(EngineUnavailable):
            list(scanning)

    @pytest.mark.kill
    def test_a_killed_readers_slot_is_given_back(self, path: Path, store: LmdbKeyValue) -> None:
        # Else every page since its snapshot would be kept for ever.
        store.put_newest([(S, ROWS[:10])])
        for by_opening in (False, True):
            with child(_scan_for_ever, path) as reader:
                pid = reader.receive()
                assert str(pid) in store._shared.open().env.readers()
                reader.kill()
            assert str(pid) in store._shared.open().env.readers()
            if by_opening:
                with child(_read_all, path) as opener:
                    opener.receive()
            else:
                store.begin_load(S, token="t", now_us=0)
            assert str(pid) not in store._shared.open().env.readers()


def test_an_upsert_that_lost_to_the_live_generation_counts_after_a_rollback(store: LmdbKeyValue) -> None:
    first = load_live(store, S, [(b"a", value(1))])
    second = load_live(store, S, [(b"a", value(9))], expected=first)
    assert store.put_newest([(S, [(b"a", value(5))])]) == 0
    assert store.get_many([(S, [b"a"])]) == [[value(9)]]
    store.activate(S, first, expected=second)
    assert store.get_many([(S, [b"a"])]) == [[value(5)]]


def _stored_rows(store: LmdbKeyValue) -> int:
    with store._read() as (handles, txn):
        return txn.stat(handles.rows)["entries"] + txn.stat(handles.overlay)["entries"]


def _failure(code: int) -> lmdb.Error:
    error = lmdb.Error("mdb_txn_commit")
    error.code = code  # as the driver does
    return error


def _put_with_limit(pipe: Connection, path: Path) -> None:
    store = opened(path)
    limit = (path / "data.mdb").stat().st_size + 100_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        store.put_newest([(S, ROWS)], position=("stream", 2))
    except StookError as error:
        pipe.send(type(error))
    pipe.send(list(store.scan(S)))
    store.close()


def _read_all(pipe: Connection, path: Path) -> None:
    try:
        store = opened(path)
        store.get_many([(S, [key for key, _ in ROWS])])
        pipe.send(f"{len(list(store.scan(S)))} rows")
    except StookError as error:
        pipe.send(type(error).__name__)


def _clear(pipe: Connection, path: Path) -> None:
    store = opened(path)
    pipe.send("clearing")
    store.clear(S)


def _scan_for_ever(pipe: Connection, path: Path) -> None:
    scanning = opened(path).scan(S)
    next(scanning)
    pipe.send(os.getpid())
    pipe.recv()
