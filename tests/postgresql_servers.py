"""PostgreSQL servers of the tests' own: made in a folder, started, killed, copied to a standby, ended for sure.

It is a file of its own because contract, unit and conformance tests start the same ones. It must never touch a server
that it did not start, nor leave one running: each ends with the block, or with the process that started it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from tests.debian import postgresql, program
from tests.servers import await_true

USER, PASSWORD, DATABASE = "stook", "pass-word-of-the-tests", "stook"
WAIT_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _unprivileged() -> list[str]:
    """PostgreSQL refuses to run as root. The server gets SIGQUIT when its parent ends."""
    command = [program("setpriv", "util-linux"), "--pdeathsig", "QUIT"]
    if os.geteuid() != 0:
        return command
    user = _owner()
    return [*command, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _owner() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


class Server:
    """A server over a folder of its own; `start` and `kill` may follow each other."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data, self.port = folder, folder / "data", free_port()
        self._programs = postgresql()
        self.process: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        """An empty cluster with one user and one database."""
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run("initdb", "-D", self.data, "-U", USER, f"--pwfile={secret}", "--encoding=UTF8", "--locale=C.UTF-8",
                  "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync")  # fmt: skip
        self.start()
        with self.admin("postgres") as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")

    def copy_to(self, standby: Server, name: str) -> None:
        """A standby that streams from this server; start it yourself."""
        source = f"host=127.0.0.1 port={self.port} user={USER} password={PASSWORD} application_name={name}"
        self._run("pg_basebackup", "-d", source, "-D", standby.data, "-R", "-X", "stream", "--checkpoint=fast")

    def promote(self) -> None:
        self._run("pg_ctl", "-D", self.data, "promote", "-w")

    def start(self, **settings: str) -> None:
        """Starts the server and waits until it answers."""
        deadline_tries = 100
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        for _ in range(deadline_tries):  # one that was killed just now may still hold its memory
            with (self.folder / "log").open("ab") as log:
                self.process = subprocess.Popen(
                    [*_unprivileged(), str(self._programs / "postgres"), "-D", str(self.data), "-p", str(self.port),
                     "-k", str(self.folder), "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=100", *options],
                    cwd=self.folder, stdout=log, stderr=log,
                )  # fmt: skip
            await_true(lambda: self.process is None or self.process.poll() is not None or self.answers(), "start")
            if self.process.poll() is None:
                return
        raise AssertionError((self.folder / "log").read_text()[-5000:])

    def answers(self) -> bool:
        try:
            with self.admin("postgres"):
                return True
        except psycopg.OperationalError:
            return False

    def admin(self, database: str = DATABASE) -> psycopg.Connection[Any]:
        """A connection by the socket, which asks for no password."""
        return psycopg.connect(
            host=str(self.folder), port=self.port, user=USER, dbname=database, autocommit=True, connect_timeout=10
        )

    def kill(self) -> None:
        """SIGKILL to the server and all its processes at once, as if the machine had gone."""
        self.signal_all(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(WAIT_S)

    def speak_tls(self, name: str) -> Path:
        """Makes the server speak TLS, with a certificate for an address; returns the certificate, which signed itself."""
        key, certificate = self.data / "server.key", self.data / "server.crt"
        command = [*_unprivileged(), program("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes",
                   "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=stook", "-addext",
                   f"subjectAltName=IP:{name}"]  # fmt: skip
        subprocess.run(command, check=True, cwd=self.folder, capture_output=True, timeout=WAIT_S)
        with self.admin() as admin:
            admin.execute("ALTER SYSTEM SET ssl = on")
            admin.execute("SELECT pg_reload_conf()")
            await_true(lambda: admin.execute("SHOW ssl").fetchone() == ("on",), "TLS")
        return certificate

    def signal_all(self, how: int) -> None:
        """A signal to the server and to each of its processes."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for pid in (self.process.pid, *map(int, children.read_text().split())):
            with suppress(ProcessLookupError):
                os.kill(pid, how)

    def stop(self, how: int = signal.SIGINT) -> None:
        """An orderly end; `SIGINT` sends its clients away first."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def url(self, options: str = "", *, password: str = PASSWORD, others: str = "") -> str:
        query = f"?{options}" if options else ""
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}{others}/{DATABASE}{query}"

    def _run(self, name: str, *arguments: object) -> None:
        command = [*_unprivileged(), str(self._programs / name), *map(str, arguments)]
        done = subprocess.run(command, check=False, cwd=self.folder, capture_output=True, text=True, timeout=WAIT_S)
        assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def folder_for_servers() -> Iterator[Path]:
    """A folder that the servers' user may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="stook-postgresql-"))
    if os.geteuid() == 0:
        os.chown(folder, _owner().pw_uid, _owner().pw_gid)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running(*, made: bool = True) -> Iterator[Server]:
    """A server, made and started (or neither yet); ended behind the block."""
    with folder_for_servers() as folder:
        server = Server(folder)
        try:
            if made:
                server.make()
            yield server
        finally:
            server.stop()
