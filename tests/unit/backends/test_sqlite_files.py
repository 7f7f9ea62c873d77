"""A SQLite file that is foreign, newer, damaged, locked, full or forked: what stook says, and what it spares."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stook.backends.sqlite import database as database_module
from stook.backends.sqlite.database import Database
from stook.backends.sqlite.log import SqliteLog, open_log
from stook.backends.sqlite.records import SqliteRecords, open_records
from stook.core.errors import CorruptStore, DiskFull, EngineUnavailable, InvalidSettings, NewerStore
from stook.core.ports.records import Put
from stook.core.settings import parse_url


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def write_records(path: Path, count: int = 1) -> None:
    records = SqliteRecords(path)
    records.commit([Put("view", f"view{n}", {"text": "x" * 1000}) for n in range(count)])
    records.close()


def test_a_commit_is_on_the_disk_when_it_returns(path: Path) -> None:
    opened = Database(path, store="any", layout=1, schema=())
    assert opened.row("PRAGMA journal_mode") == ("wal",)
    assert opened.row("PRAGMA synchronous") == (2,)
    opened.close()


def test_a_newer_layout_is_refused_and_left_alone(path: Path) -> None:
    write_records(path)
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE meta SET value = 99 WHERE name = 'layout'")
    raw.close()
    before = path.read_bytes()
    with pytest.raises(NewerStore, match=r"store\.db .*layout 99.*pip install -U stook"):
        SqliteRecords(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"hello, world\n" * 1000, b"SQLite format 3\0" + b"\xff" * 5000, b"xy"])
def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(CorruptStore, match=r"store\.db .*move it away"):
        SqliteRecords(path)
    assert path.read_bytes() == content


def test_somebody_elses_database_is_refused_and_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE meta (name TEXT, value TEXT)")
    raw.close()
    before = path.read_bytes()
    with pytest.raises(CorruptStore, match="not stook's records"):
        SqliteRecords(path)
    assert path.read_bytes() == before


def test_a_log_is_not_taken_for_records(path: Path) -> None:
    SqliteLog(path).close()
    with pytest.raises(CorruptStore, match="not stook's records"):
        SqliteRecords(path)


def test_a_damaged_page_is_found_when_read(path: Path) -> None:
    write_records(path, 500)
    with path.open("r+b") as file:
        for page in range(4, 100, 2):
            file.seek(page * 4096)
            file.write(b"\xa5" * 4096)
    records = SqliteRecords(path)
    with pytest.raises(CorruptStore, match=r"store\.db"):
        records.list()
    records.close()


def test_a_spec_that_is_not_json_is_damage(path: Path) -> None:
    write_records(path)
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE records SET spec = '{\"x\": '")
    raw.close()
    records = SqliteRecords(path)
    with pytest.raises(CorruptStore, match=r"store\.db.*view0"):
        records.get("view", "view0")
    records.close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineUnavailable, match=r"file/deep cannot be made.*writable"):
        SqliteRecords(tmp_path / "file" / "deep" / "records.db")


def test_a_folder_where_the_file_should_be(path: Path) -> None:
    path.mkdir()
    with pytest.raises(EngineUnavailable, match=r"store\.db cannot be opened"):
        SqliteRecords(path)


@pytest.mark.parametrize(("opener", "text"), [(open_records, "sqlite:"), (open_log, "local:")])
def test_a_url_without_a_file(tmp_path: Path, opener: type, text: str) -> None:
    with pytest.raises(InvalidSettings, match=r"write it as \w+:///"):
        opener(parse_url(text, tmp_path, "test"), tmp_path)


def test_a_write_lock_held_too_long(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "BUSY_S", 0.05)
    records = SqliteRecords(path)
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("BEGIN IMMEDIATE")
    with pytest.raises(EngineUnavailable, match=r"store\.db was locked"):
        records.commit([Put("view", "a", {})])
    assert records.list() == []  # readers do not wait
    raw.execute("ROLLBACK")
    raw.close()
    assert records.commit([Put("view", "a", {})]) == 1
    records.close()


def test_use_after_close_is_said(path: Path) -> None:
    records = SqliteRecords(path)
    records.close()
    with pytest.raises(EngineUnavailable, match="was closed"):
        records.revision()


def limit_pages(database: Database, extra: int) -> None:
    """As a disk with room for `extra` pages more; lasts until the connection is renewed, as after an error."""
    with database.transaction(write=False) as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + extra}")


def test_a_full_disk_harms_nothing_and_passes(path: Path) -> None:
    write_records(path, 3)
    records = SqliteRecords(path)
    before = records.list()
    limit_pages(records._database, 2)
    with pytest.raises(DiskFull, match=r"store\.db is full; nothing was written"):
        records.commit([Put("view", "view0", {}), Put("view", "big", {"x": "y" * 100_000})])
    assert records.list() == before
    assert records.commit([Put("view", "big", {"x": "y" * 100_000})]) == 2
    records.close()


def wait_for(log: SqliteLog, count: int) -> None:
    while len(log._waiting) < count:
        pass


def start_appends(log: SqliteLog, payloads: list[bytes], results: dict[int, object]) -> list[threading.Thread]:
    """One thread each, all of them waiting for the writer in this order."""

    def work(number: int) -> None:
        try:
            results[number] = log.append("s", [payloads[number]])
        except DiskFull as error:
            results[number] = error

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(payloads))]
    for count, thread in enumerate(threads, 1):
        thread.start()
        wait_for(log, count)
    return threads


def test_appends_that_wait_together_are_one_commit(path: Path) -> None:
    log = SqliteLog(path)
    statements: list[str] = []
    with log._writer.transaction(write=False) as connection:
        connection.set_trace_callback(statements.append)
    results: dict[int, object] = {}
    with log._turn:
        threads = start_appends(log, [b"a", b"b", b"c", b"d"], results)
    for thread in threads:
        thread.join()
    assert statements.count("COMMIT") == 2  # one is the trace's own
    assert sorted(entry.payload for entry in log.read("s", after=0, limit=9)) == [b"a", b"b", b"c", b"d"]
    assert {log.read("s", after=results[n] - 1, limit=1)[0].payload: n for n in range(4)} == {
        b"a": 0,
        b"b": 1,
        b"c": 2,
        b"d": 3,
    }
    log.close()


def test_an_append_that_fails_does_not_take_its_group_along(path: Path) -> None:
    # The group fails as a whole on the full disk; then each tries alone, and only the large one still fails.
    log = SqliteLog(path)
    log.append("s", [b"first"])
    results: dict[int, object] = {}
    renewed = log._writer._connect

    def small() -> sqlite3.Connection:
        connection = renewed()
        connection.execute("PRAGMA max_page_count = 40")
        return connection

    log._writer._connect = small  # type: ignore[method-assign]
    log._writer._disconnect()
    with log._turn:
        threads = start_appends(log, [b"a", b"x" * 500_000, b"b"], results)
    for thread in threads:
        thread.join()
    assert isinstance(results[1], DiskFull)
    assert {results[0], results[2]} == {2, 3}
    assert [len(entry.payload) for entry in log.read("s", after=0, limit=9)] == [5, 1, 1]
    assert not log._waiting
    log.close()


FORK = """
import os, sys
from pathlib import Path
from stook.backends.sqlite.records import SqliteRecords
from stook.core.ports.records import Put
path = Path(sys.argv[1])
records = SqliteRecords(path)
records.commit([Put("view", "before", {})])
to_child, to_parent = os.pipe(), os.pipe()
if os.fork() == 0:
    records.commit([Put("view", "child", {})])
    os.write(to_parent[1], b"x")
    os.read(to_child[0], 1)
    records.commit([Put("view", "child, later", {})])
    os._exit(0)
os.read(to_parent[0], 1)
records.commit([Put("view", "parent", {})])
records.close()
again = SqliteRecords(path)
again.commit([Put("view", "parent, again", {})])
again.close()
os.write(to_child[1], b"x")
assert os.wait()[1] == 0
"""


def test_a_fork_shares_no_connection_and_loses_no_lock(path: Path) -> None:
    # The hard case: the parent closes its last connection, believes to be alone, and deletes the child's journal.
    subprocess.run([sys.executable, "-c", FORK, str(path)], check=True, timeout=60)
    records = SqliteRecords(path)
    assert [record.name for record in records.list()] == ["before", "child", "child, later", "parent", "parent, again"]
    assert records.revision() == 5
    records.close()
    with sqlite3.connect(path) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    raw.close()
