"""Records on PostgreSQL: URLs, and what servers refuse, in our words and without the password."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import exc
from tests.postgresql_servers import DATABASE, PASSWORD, USER, Server, free_port, running

from stook.backends.sql import failures
from stook.backends.sql.place import BOUNDS, Place, parse_place
from stook.backends.sql.records import SqlRecords, open_records
from stook.core.errors import CorruptStore, DiskFull, EngineUnavailable, InvalidSettings, StookError
from stook.core.ports.records import Put
from stook.core.settings import EngineUrl, parse_url
from stook.testing.contracts import PATIENCE_S

ROOT = Path("/nowhere")


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


# URLs


def test_a_url_in_full() -> None:
    place = parse_place(
        parsed("postgresql://me:a%40b%3Fc@[::1],b:5433/shop?schema=s&failover_wait_s=7&sslmode=verify-full")
    )
    assert place.hosts == (("::1", "5432"), ("b", "5433"))
    assert (place.user, place.password, place.database, place.schema) == ("me", "a@b?c", "shop", "s")
    assert place.waits.failover_wait_s == 7
    assert place.session == "read-write"
    assert place.driver_options == {"application_name": "stook", "sslmode": "verify-full"}
    assert "a@b" not in f"{place} {place!r}"


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        ("://h", "names no host or no database"),
        ("://u:secret@/d", "names no host or no database"),
        ("://h/d/e", "names no host or no database"),
        (":///d", "names no host or no database"),
        ("://u:secret@h:x/d", "'h:x' is no host"),
        ("://h:99999/d", "'h:99999' is no host"),
        ("://a,,b/d", "'' is no host"),
        ("://" + ",".join("abcdefghijklmnopq") + "/d", "17 hosts"),
        ("://h/d?shema=x", "did you mean 'schema'"),
        ("://h/d?schema=Ab", "schema is 'Ab'"),
        ("://h/d?schema=a;drop", "schema is 'a;drop'"),
        ("://h/d?schema=pg_x", "schema is 'pg_x'"),
        ("://h/d?target_session_attrs=any", "read-write or primary"),
        *((f"://h/d?{name}={high + 1}", f"{low} to {high}") for name, (low, high) in BOUNDS.items()),
        ("://h/d?lock_wait_s=1e3", "lock_wait_s is '1e3'"),
        ("://h/d?lock_wait_s=", "lock_wait_s is ''"),
    ],
)
def test_a_wrong_url_is_refused_before_anything_is_connected(rest: str, says: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        opened(f"postgresql{rest}")
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["postgresql:me:secret@h/d", "Postgresql://me:secret@h/d", "me:secret@h/d"])
def test_what_is_no_url_at_all_is_told_without_its_password(text: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        parsed(text)
    assert "secret" not in f"{caught.value!s} {parsed('postgresql://me:secret@h/d')!r}"
    assert "@h/d" in str(caught.value)


# What a server refuses, and how it is told


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda url: url.replace(PASSWORD, "another"), InvalidSettings),
        (lambda url: url.replace("stook:", "nobody:"), InvalidSettings),
        (lambda url: url.replace("/stook?", "/absent?"), InvalidSettings),
        (lambda url: f"{url}&sslmode=require", InvalidSettings),
        (lambda url: f"{url}&sslmode=nonsense", InvalidSettings),
        (lambda url: url.replace(f":{PASSWORD}", ""), InvalidSettings),
        (lambda url: url.replace("127.0.0.1:", "127.0.0.2:") + "&read_wait_s=0", EngineUnavailable),
        (lambda url: url.replace("127.0.0.1:", "no.such.host.invalid:") + "&read_wait_s=0", EngineUnavailable),
    ],
    ids=["password", "user", "database", "tls", "sslmode", "no password", "nobody listens", "no such host"],
)
def test_the_command_line_says_what_is_wrong(url: str, change: Any, error: type[StookError], tmp_path: Path) -> None:
    wrong = change(url)
    with pytest.raises(error, match=r"/(stook|absent), schema"):
        opened(wrong)
    (tmp_path / "stook.toml").write_text(f'[project]\nname = "p"\n[engines]\nrecords = "{wrong}"\n')
    (tmp_path / "features.py").write_text("")
    command = [sys.executable, "-m", "stook", "-C", str(tmp_path), "apply"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == (2 if error is InvalidSettings else 1), done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "postgresql://" in done.stderr
    for secret in (PASSWORD, "another"):
        assert secret not in done.stdout + done.stderr


def test_tls_is_checked_to_the_name(tmp_path: Path) -> None:
    with running() as server:
        right, wrong = tmp_path / "right.crt", tmp_path / "wrong.crt"
        right.write_bytes(server.speak_tls("127.0.0.1").read_bytes())
        records = opened(server.url(f"sslmode=verify-full&sslrootcert={right}"))
        with records._database._engine.connect() as connection:
            used = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            assert connection.exec_driver_sql(used).scalar() is True
        records.close()
        wrong.write_bytes(server.speak_tls("127.0.0.9").read_bytes())
        server.stop()
        server.start()
        opened(server.url(f"sslmode=verify-ca&sslrootcert={wrong}")).close()  # right but for its name
        for mode, certificate in (("full", right), ("full", wrong), ("full", tmp_path / "absent.crt"), ("ca", right)):
            with pytest.raises(InvalidSettings, match="certificate"):
                opened(server.url(f"sslmode=verify-{mode}&sslrootcert={certificate}"))


def test_a_socket_is_a_host_too(postgresql_server: Server, schema: str) -> None:
    folder = str(postgresql_server.folder).replace("/", "%2F")
    records = opened(f"postgresql://{USER}@{folder}:{postgresql_server.port}/{DATABASE}?schema={schema}")
    assert records.commit([Put("k", "a", {})]) == 1
    records.close()


def test_a_user_without_rights_is_told_so(postgresql_server: Server, schema: str) -> None:
    with postgresql_server.admin() as admin:
        admin.execute(f"CREATE USER {schema} PASSWORD 'x'")
    with pytest.raises(InvalidSettings, match="permission denied"):
        opened(postgresql_server.url(f"schema={schema}").replace(f"stook:{PASSWORD}", f"{schema}:x"))


def test_another_encoding_is_refused(postgresql_server: Server, schema: str) -> None:
    with postgresql_server.admin() as admin:
        admin.execute(f"CREATE DATABASE {schema} TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'")
    with pytest.raises(InvalidSettings, match="LATIN1"):
        opened(postgresql_server.url().removesuffix(DATABASE) + schema)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("53100", DiskFull),
        ("53200", EngineUnavailable),
        ("53300", EngineUnavailable),
        ("55P03", EngineUnavailable),
        ("57014", EngineUnavailable),
        ("57P01", EngineUnavailable),
        ("57P03", EngineUnavailable),
        ("58030", EngineUnavailable),
        ("25006", EngineUnavailable),
        ("40001", EngineUnavailable),
        ("08006", EngineUnavailable),
        ("28P01", InvalidSettings),
        ("42501", InvalidSettings),
        ("3D000", InvalidSettings),
        ("XX001", CorruptStore),
        ("42P01", CorruptStore),
        ("23505", CorruptStore),
    ],
)
def test_every_code_has_its_error(code: str, error: type[StookError]) -> None:
    place = Place((("h", "1"),), "d", "u", "s", password="secret")
    cause = RuntimeError("it said secret things")
    cause.sqlstate = code  # type: ignore[attr-defined]
    kinds = {"42": exc.ProgrammingError, "23": exc.IntegrityError}
    found = failures.translate(kinds.get(code[:2], exc.OperationalError)("statement", {}, cause), place)
    assert type(found) is error
    assert "postgresql://h:1/d, schema s" in str(found)
    assert "secret" not in str(found)
    assert found.hint


def test_a_server_that_is_not_there_is_looked_for_within_the_deadline() -> None:
    url = f"postgresql://u:{PASSWORD}@127.0.0.1:{free_port()},127.0.0.1:{free_port()}/d?read_wait_s=1"
    with pytest.raises(EngineUnavailable, match="refused") as caught:
        opened(url)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("server closed the connection unexpectedly\n\tThis probably means\n\tthat secret", "server closed the connection unexpectedly"),
        ("b\nMultiple connection attempts failed. All failures were:\n- host: 'a': refused\n\tIs it?\n- host: 'b': secret",
         "host: 'a': refused; host: 'b': ***"),
        ("", "RuntimeError"),
    ],
)  # fmt: skip
def test_what_the_driver_said_is_told_short_and_whole(said: str, told: str) -> None:
    place = Place((("h", "1"),), "d", "u", "s", password="secret")
    error = exc.OperationalError("statement", {}, RuntimeError(said))
    assert failures.translate(error, place).message == f"{place} does not answer: {told}"
