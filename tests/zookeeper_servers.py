"""A ZooKeeper ensemble in processes of its own, on free ports of this machine, for the tests that need a real one.

It is a file of its own because contract, cluster and end-to-end tests start the same one. It must never leave a process
behind, nor wait for anything but a condition.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests import debian

WAIT_S = 60.0
TICK_MS = 500
MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"


class Ensemble:
    """Servers by number, from 1; each can be killed, stopped, continued and started again on its own data."""

    def __init__(self, root: Path, size: int) -> None:
        self.root, self.size = root, size
        self._java, self._jar = debian.zookeeper()
        ports = free_ports(3 * size)
        self.ports = {number: ports[3 * (number - 1)] for number in range(1, size + 1)}
        servers = "\n".join(
            f"server.{number}=127.0.0.1:{ports[3 * number - 2]}:{ports[3 * number - 1]}"
            for number in range(1, size + 1)
        )
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        for number, port in self.ports.items():
            folder = self._folder(number)
            (folder / "data").mkdir(parents=True)
            (folder / "data" / "myid").write_text(str(number))
            (folder / "zoo.cfg").write_text(
                f"tickTime={TICK_MS}\ninitLimit=20\nsyncLimit=6\ndataDir={folder}/data\nclientPort={port}\n"
                "clientPortAddress=127.0.0.1\nadmin.enableServer=false\n4lw.commands.whitelist=*\nmaxClientCnxns=0\n"
                f"maxSessionTimeout=20000\n{servers}\n"
            )
            (folder / "logback.xml").write_text("<configuration></configuration>")
            (folder / "log4j.properties").write_text("log4j.rootLogger=OFF\n")

    @property
    def hosts(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self.ports.values())

    def url(self, chroot: str, session_s: float = 2) -> str:
        return f"zookeeper://{self.hosts}{chroot}?session_s={session_s:g}"

    def start(self, *numbers: int) -> None:
        """Starts these servers (none named: all); they need not be ready when it returns."""
        for number in numbers or self.ports:
            folder = self._folder(number)
            command = [self._java, "-Xmx128m", "-Xshare:auto", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
            command += ["-Dzookeeper.fsync.warningthresholdms=100000", "-cp", f"{self._jar}:{folder}", MAIN]
            with (folder / "out.txt").open("ab") as out:
                self._processes[number] = subprocess.Popen(
                    [*command, str(folder / "zoo.cfg")], stdout=out, stderr=out, cwd=folder
                )

    def kill(self, *numbers: int) -> None:
        """Kills these servers with SIGKILL (none named: all), and waits until they are gone."""
        for number in numbers or tuple(self._processes):
            self._processes[number].kill()
        for number in numbers or tuple(self._processes):
            self._processes.pop(number).wait(WAIT_S)

    def stop(self, number: int) -> None:
        os.kill(self._processes[number].pid, signal.SIGSTOP)

    def go_on(self, number: int) -> None:
        os.kill(self._processes[number].pid, signal.SIGCONT)

    def running(self) -> list[int]:
        return [number for number, process in self._processes.items() if process.poll() is None]

    def mode(self, number: int) -> str:
        """What the server says it is: leader, follower, or nothing."""
        answer = ""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.ports[number]), 2) as connection:
            connection.sendall(b"srvr")
            connection.settimeout(2)
            while part := connection.recv(4096):
                answer += part.decode()
        return next((line[6:] for line in answer.splitlines() if line.startswith("Mode: ")), "")

    def leader(self) -> int:
        """The leading server, waited for."""
        deadline_s = time.monotonic() + WAIT_S
        while True:
            for number in self.running():
                if self.mode(number) == "leader":
                    return number
            assert time.monotonic() < deadline_s, f"no leader: {self.said()}"
            time.sleep(0.05)

    def await_all(self) -> None:
        """Waits until every running server serves."""
        deadline_s = time.monotonic() + WAIT_S
        while not all(self.mode(number) for number in self.running()):
            assert time.monotonic() < deadline_s, f"not all serve: {self.said()}"
            time.sleep(0.05)

    def restore(self) -> None:
        """All servers run and serve again."""
        self.start(*(set(self.ports) - set(self.running())))
        self.await_all()

    def said(self) -> str:
        return "\n".join(f"{p}: {p.read_text()[-500:]}" for p in self.root.glob("*/out.txt"))

    def _folder(self, number: int) -> Path:
        return self.root / f"server-{number}"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now; held together, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@contextmanager
def ensemble(size: int = 3) -> Iterator[Ensemble]:
    """A fresh ensemble that serves; killed behind the block, its data deleted."""
    with tempfile.TemporaryDirectory(prefix="stook-zookeeper-") as folder:
        servers = Ensemble(Path(folder), size)
        try:
            servers.start()
            servers.leader()
            servers.await_all()
            yield servers
        finally:
            servers.kill()
