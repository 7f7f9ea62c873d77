"""Records on PostgreSQL: what is refused and how, migrations at once, read-only servers, locks, weird names."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.dialects import mssql, postgresql, sqlite
from sqlalchemy.schema import CreateTable
from tests.postgresql_servers import PASSWORD, Server, running
from tests.servers import await_true

from stook.backends.sql.place import parse_place
from stook.backends.sql.records import SqlRecords, open_records
from stook.backends.sql.tables import COMMITS_KEPT, LAYOUTS, statements
from stook.core.errors import (
    Conflict,
    CorruptStore,
    EngineUnavailable,
    InvalidArgument,
    NewerStore,
)
from stook.core.ports.records import ABSENT, SPEC_BYTES_MAX, Delete, Put
from stook.core.settings import EngineUrl, parse_url
from stook.testing.contracts import PATIENCE_S, child, in_threads

ROOT = Path("/nowhere")
PROCESSES = 10


def parsed(text: str) -> EngineUrl:
    return parse_url(text, ROOT, "engines.records")


def opened(text: str) -> SqlRecords:
    return open_records(parsed(text), ROOT)


@pytest.fixture
def schema() -> str:
    return f"s{uuid4().hex}"


@pytest.fixture
def url(postgresql_server: Server, schema: str) -> str:
    return postgresql_server.url(f"schema={schema}")


@pytest.fixture
def records(url: str) -> Iterator[SqlRecords]:
    found = opened(url)
    yield found
    found.close()


# Portability


@pytest.mark.parametrize("dialect", [mssql.dialect(), sqlite.dialect(), postgresql.dialect()], ids=lambda d: d.name)
def test_every_statement_is_spelled_for_every_dialect(dialect: Any) -> None:
    asked = statements("stook")
    for table in (asked.records, asked.store, asked.commits):
        made = str(CreateTable(table).compile(dialect=dialect))
        assert "stook" in made
        if table is asked.records and dialect.name != "sqlite":
            assert ('COLLATE "C"' if dialect.name == "postgresql" else "_BIN2_UTF8") in made
    several = [
        asked.revision, asked.every, asked.of_kind("k"), asked.one("k", "n"), asked.advance, asked.insert, asked.replace,
        asked.present([("k", "n"), ("k", "m"), ("l", "n")]), asked.remove, asked.remember, asked.forget(5),
        asked.made_by("t"), asked.touch("t"),
    ]  # fmt: skip
    assert len(several) == len([name for name in vars(type(asked)) if not name.startswith("_")])
    for statement in several:
        text = str(statement.compile(dialect=dialect))
        assert "stook_" in text
    if dialect.name == "mssql":
        assert "OUTPUT inserted.revision" in str(asked.advance.compile(dialect=dialect))


# Layouts


def open_and_commit(pipe: Connection, url: str) -> None:
    pipe.recv()
    records = opened(url)
    pipe.send(records.commit([Put("view", uuid4().hex, {})]))
    records.close()


def test_ten_processes_open_an_empty_database_at_once(url: str, postgresql_server: Server, schema: str) -> None:
    children = [child(open_and_commit, url) for _ in range(PROCESSES)]
    started = [one.__enter__() for one in children]
    try:
        for one in started:
            one.send("go")
        assert sorted(one.receive() for one in started) == list(range(1, PROCESSES + 1))
        for one in started:
            one.join()
    finally:
        for one in children:
            one.__exit__(None, None, None)
    with postgresql_server.admin() as admin:
        assert admin.execute(f"SELECT * FROM {schema}.stook_layout").fetchall() == [(LAYOUTS[-1],)]


def test_the_steps_lead_to_the_layout_that_is_known() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    from stook.backends.sql.layout import STEPS

    config = Config()
    config.set_main_option("script_location", str(STEPS))
    config.set_main_option("version_locations", str(STEPS / "steps"))
    config.set_main_option("path_separator", "newline")
    steps = list(ScriptDirectory.from_config(config).walk_revisions())
    assert tuple(step.revision for step in reversed(steps)) == LAYOUTS


def test_the_steps_make_the_tables_that_are_used(records: SqlRecords, schema: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def ours(name: str | None, kind: str, _: object) -> bool:
        return name == schema if kind == "schema" else True

    with records._database._engine.connect() as connection:
        options = {"include_schemas": True, "include_name": ours, "version_table": "stook_layout"}
        context = MigrationContext.configure(connection, opts={**options, "version_table_schema": schema})
        assert compare_metadata(context, statements(schema).records.metadata) == []


def test_a_migration_that_fails_leaves_nothing_half(url: str, postgresql_server: Server, schema: str) -> None:
    tables = f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{schema}'"
    with postgresql_server.admin() as admin:
        admin.execute(f"CREATE SCHEMA {schema}")
        admin.execute(f"CREATE TABLE {schema}.stook_commits (foreign_to_us text)")
        with pytest.raises(CorruptStore, match=r"not as stook left it.*stook_commits.*42P07"):
            opened(url)
        assert admin.execute(tables).fetchall() == [("stook_commits",)]
        admin.execute(f"DROP TABLE {schema}.stook_commits")
    records = opened(url)
    assert records.commit([Put("k", "a", {})]) == 1
    records.close()


def test_a_newer_layout_is_refused_and_left_alone(
    records: SqlRecords, url: str, postgresql_server: Server, schema: str
) -> None:
    records.commit([Put("view", "a", {})])
    with postgresql_server.admin() as admin:
        admin.execute(f"UPDATE {schema}.stook_layout SET version_num = '9999'")
    with pytest.raises(NewerStore, match=r"layout 9999.*pip install -U"):
        opened(url)
    assert records.commit([Put("view", "a", {})]) == 2  # whoever had it open goes on: newer layouts expand first


def test_a_migration_waits_for_another_one_but_not_for_ever(
    url: str, postgresql_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stook.backends.sql import dialects

    monkeypatch.setattr(dialects, "MIGRATION_WAIT_S", 1)
    with postgresql_server.admin() as admin:
        admin.execute(f"SELECT pg_advisory_lock({dialects._lock_number(parse_place(parsed(url)))})")
        with pytest.raises(EngineUnavailable, match="locked by another process"):
            opened(url)
    opened(url).close()


def test_schemas_are_apart(postgresql_server: Server, schema: str) -> None:
    a, b = (opened(postgresql_server.url(f"schema={schema}{n}")) for n in "ab")
    a.commit([Put("view", "x", {})])
    assert (a.revision(), b.revision(), b.list()) == (1, 0, [])
    a.close()
    b.close()


def test_tables_that_vanished_are_told(records: SqlRecords, postgresql_server: Server, schema: str) -> None:
    with postgresql_server.admin() as admin:
        admin.execute(f"DELETE FROM {schema}.stook_store")
        with pytest.raises(CorruptStore, match="lost its counter"):
            records.revision()
        with pytest.raises(CorruptStore, match="lost its counter"):
            records.commit([Put("view", "a", {})])
        admin.execute(f"DROP SCHEMA {schema} CASCADE")
    with pytest.raises(CorruptStore, match="not as stook left it"):
        records.list()


# Names, sizes, locks


def test_any_text_is_a_name_but_what_sql_cannot_hold(records: SqlRecords) -> None:
    names = [
        "",
        " ",
        "a ",
        "a",
        "A",
        "%",
        "_",
        "'",
        '"',
        "\\",
        "ß",
        "ss",
        "é",
        "e\u0301",
        "\U0001f600",
        "\uffff",
        "x" * 500,
    ]
    names += ["\U0001f600" * 500, "%(x)s", ":y", "\n", "\x01", "\x7f"]
    records.commit([Put("k", name, {"name": name}, ABSENT) for name in names])
    assert [record.name for record in records.list("k")] == sorted(names)
    for name in names:
        found = records.get("k", name)
        assert found is not None
        assert found.spec == {"name": name}
    for name in ("a\0", "\ud800", "x" * 501):
        with pytest.raises(InvalidArgument, match="cannot be a record's name"):
            records.commit([Put("k", "fine", {}), Put("k", name, {})])
        assert records.get("k", name) is None
        assert records.list(name) == []
    assert records.revision() == 1


def test_many_changes_of_the_largest_size(records: SqlRecords) -> None:
    large = {"x": "y" * (SPEC_BYTES_MAX - 8)}
    records.commit(
        [Put("k", f"n{n}", {"n": n}) for n in range(2_000)] + [Put("k", f"large{n}", large) for n in range(2)]
    )
    records.commit([Delete("k", f"n{n}", 1) for n in range(1_000)] + [Put("k", "large0", large, 1)])
    assert len(records.list()) == 1_002
    assert records.get("k", "large0").spec == large  # type: ignore[union-attr]


def test_tokens_are_few(records: SqlRecords, postgresql_server: Server, schema: str) -> None:
    with postgresql_server.admin() as admin:
        admin.execute(f"UPDATE {schema}.stook_store SET revision = 4999")
        admin.execute(f"INSERT INTO {schema}.stook_commits SELECT g, 'old' FROM generate_series(3001, 4999) g")
        records.commit([Put("k", "a", {})])
        kept = admin.execute(f"SELECT count(*), min(revision) FROM {schema}.stook_commits").fetchone()
    assert kept == (COMMITS_KEPT, 5000 - COMMITS_KEPT + 1)


def test_a_lock_held_by_another_is_waited_for_but_not_for_ever(
    url: str, postgresql_server: Server, schema: str
) -> None:
    records = opened(f"{url}&lock_wait_s=1")
    with postgresql_server.admin() as admin:
        admin.execute("BEGIN")
        admin.execute(f"UPDATE {schema}.stook_store SET revision = revision")
        with pytest.raises(EngineUnavailable, match="locked by another process"):
            records.commit([Put("view", "a", {})])
        assert records.revision() == 0  # readers wait for nobody
        admin.execute("ROLLBACK")
    assert records.commit([Put("view", "a", {})]) == 1
    records.close()


def test_a_statement_that_takes_too_long_is_cancelled(url: str, postgresql_server: Server, schema: str) -> None:
    records = opened(f"{url}&statement_timeout_s=1")
    with postgresql_server.admin() as admin:
        admin.execute("BEGIN")
        admin.execute(f"LOCK {schema}.stook_records IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(EngineUnavailable, match="cancelled"):
            records.list()
    records.close()


def test_more_threads_than_connections(url: str) -> None:
    records = opened(f"{url}&connections_max=2")
    in_threads(8, lambda number: [records.commit([Put("k", f"{number}", {})]) for _ in range(10)])
    assert records.revision() == 80
    records.close()


def test_another_process_sees_a_commit_within_a_second(records: SqlRecords, url: str) -> None:
    with child(tell_revisions, url) as other:
        assert other.receive() == 0
        for n in range(1, 6):
            records.commit([Put("view", "a", {"n": n})])
            await_true(lambda n=n: other.receive() == n, f"revision {n}", within_s=1.0)


def tell_revisions(pipe: Connection, url: str) -> None:
    records, last = opened(url), -1
    while True:
        if (revision := records.revision()) != last:
            pipe.send(last := revision)


def test_a_fork_makes_its_own_connections(records: SqlRecords) -> None:
    import multiprocessing

    records.commit([Put("view", "a", {})])
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=lambda: theirs.send(records.commit([Put("view", "b", {})])))
    process.start()
    assert ours.poll(PATIENCE_S)
    assert ours.recv() == 2
    process.join(PATIENCE_S)
    assert process.exitcode == 0
    assert records.commit([Put("view", "c", {})]) == 3


def test_closed_is_said(records: SqlRecords) -> None:
    records.close()
    for call in (records.revision, records.list, lambda: records.commit([Put("k", "n", {})])):
        with pytest.raises(EngineUnavailable, match="was closed"):
            call()


# Servers that refuse writes, restart, or freeze


def test_a_server_that_turned_read_only_is_waited_for() -> None:
    with running() as server:
        records, hasty = (opened(server.url(f"failover_wait_s={wait}")) for wait in (30, 0))
        records.commit([Put("view", "a", {})])
        hasty.revision()
        with server.admin() as admin:
            admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            admin.execute("SELECT pg_reload_conf()")
            await_true(lambda: admin.execute("SHOW default_transaction_read_only").fetchone() == ("on",), "read-only")
            await_true(lambda: refuses(hasty), "refusal")
            begun = threading.Event()
            mended = threading.Timer(1.0, mend, [server, begun])
            mended.start()
            assert records.commit([Put("view", "b", {})]) == 2
            assert begun.is_set()
            mended.join()
        records.close()
        hasty.close()


def refuses(records: SqlRecords) -> bool:
    """Whether a server that would find a conflict refuses to be written to."""
    try:
        records.commit([Put("view", "hasty", {}, expected=99)])
    except EngineUnavailable as error:
        assert "takes no writes" in str(error)
        return True
    except Conflict:
        return False
    raise AssertionError("it was written")


def mend(server: Server, begun: threading.Event) -> None:
    begun.set()
    with server.admin() as admin:
        admin.execute("SET default_transaction_read_only = off")
        admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
        admin.execute("SELECT pg_reload_conf()")


def test_acknowledged_is_on_the_disk_even_where_the_server_is_set_not_to(
    postgresql_server: Server, schema: str
) -> None:
    with postgresql_server.admin() as admin:
        admin.execute(f"CREATE USER {schema} SUPERUSER PASSWORD 'x'")
        admin.execute(f"ALTER ROLE {schema} SET synchronous_commit = off")
    url = postgresql_server.url(f"schema={schema}").replace(f"stook:{PASSWORD}", f"{schema}:x")
    records = opened(url)
    with records._database._engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
    records.close()


def test_while_no_server_is_there_only_one_read_waits() -> None:
    with running() as server:
        records = opened(server.url("read_wait_s=1"))
        server.kill()
        spans = []
        for _ in range(4):
            before = time.monotonic()
            with pytest.raises(EngineUnavailable):
                records.revision()
            spans.append(time.monotonic() - before)
        assert spans[0] > 0.5
        assert max(spans[1:]) < 0.3
        server.start()
        assert records.revision() == 0
        records.close()
