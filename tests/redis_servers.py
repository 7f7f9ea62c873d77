"""Redis servers, alone and in a cluster, for the tests that talk to real ones.

It is a file of its own because contract, unit and conformance tests start them alike. Each is a process on a free port
with a folder of its own, ended for sure with the tests. It must never wait for a time where a server can say how far
it is, nor leave a server running.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import RedisError

from . import debian

WAIT_S = 60.0
NODE_TIMEOUT_MS = 2_000
MASTERS, REPLICAS_EACH = 3, 1
_PREFIXES = count(1)


def free_port() -> int:
    """A port that is free, as is the one 10 000 above it, which cluster members use among themselves."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            if port >= 55_000:
                continue
            try:
                other.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


def await_true(condition: Callable[[], object], what: str, within_s: float = WAIT_S) -> None:
    """Waits until a condition holds; a server that does not answer yet is no answer."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            if condition():
                return
        except (RedisError, OSError):
            pass
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.01)


@dataclass
class RedisServer:
    """One server process on a port; it can be killed, paused, and started again on its folder."""

    folder: Path
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [
            debian.redis_server(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder),
            "--save", "", "--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no", *self.options,
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            surroundings = {**os.environ, **self.environment}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=surroundings)
        await_true(lambda: self.client().ping(), f"start of {self.place}")

    def client(self, **options: Any) -> Any:
        return redis.Redis(port=self.port, socket_timeout=5, **options)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(WAIT_S)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()  # also a paused one
            self.process.wait(WAIT_S)


@contextmanager
def redis_server(*options: str, **environment: str) -> Iterator[RedisServer]:
    """A server, ended behind the block."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = RedisServer(Path(folder), options, environment)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@dataclass
class RedisCluster:
    """Masters and their replicas."""

    servers: list[RedisServer]

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(server.place for server in self.servers)}"

    def masters(self) -> list[RedisServer]:
        """Those that say they are masters and hold slots, in the order of the ports first given."""
        found = []
        for server in self.servers:
            if server.process is not None and server.process.poll() is None:
                nodes = server.client().execute_command("CLUSTER NODES")
                if any("myself,master" in node["flags"] and node["slots"] for node in nodes.values()):
                    found.append(server)
        return found

    def size(self) -> int:
        """Keys of all masters."""
        return sum(server.client().dbsize() for server in self.masters())

    def is_whole(self) -> bool:
        """Whether every server knows every slot covered by a master that is there, and every master has its replica."""
        for server in self.servers:
            info = server.client().execute_command("CLUSTER INFO")
            if (info["cluster_state"], info["cluster_slots_ok"]) != ("ok", "16384"):
                return False
            nodes = server.client().execute_command("CLUSTER NODES").values()
            if any("fail" in node["flags"] for node in nodes):
                return False
        masters = self.masters()
        return len(masters) == MASTERS and all(
            any(replica.client().info("replication").get("master_link_status") == "up" for replica in self.servers)
            and master.client().info("replication")["connected_slaves"] >= REPLICAS_EACH
            for master in masters
        )


@contextmanager
def redis_cluster() -> Iterator[RedisCluster]:
    """Three masters with a replica each, ended behind the block."""
    with ExitStack() as stack:
        options = (
            "--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS),
            "--cluster-require-full-coverage", "no", "--repl-diskless-sync-delay", "0",
            "--cluster-allow-replica-migration", "no",
        )  # fmt: skip
        servers = [stack.enter_context(redis_server(*options)) for _ in range(MASTERS * (1 + REPLICAS_EACH))]
        command = [
            debian.program("redis-cli", "redis-tools"), "--cluster", "create", *(server.place for server in servers),
            "--cluster-replicas", str(REPLICAS_EACH), "--cluster-yes",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, timeout=WAIT_S * 2, check=False)
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
        cluster = RedisCluster(servers)
        await_true(cluster.is_whole, "a whole cluster", WAIT_S)
        yield cluster


_open = ExitStack()
atexit.register(_open.close)


@cache
def shared_server() -> RedisServer:
    """One server for all tests of a run that leave it as it is."""
    return _open.enter_context(redis_server("--appendfsync", "everysec"))


@cache
def shared_cluster() -> RedisCluster:
    """One cluster for all tests of a run that leave it whole."""
    return _open.enter_context(redis_cluster())


def new_prefix() -> str:
    """A prefix that no test had before: a namespace, empty at first."""
    return f"t{os.getpid()}.{next(_PREFIXES)}"
