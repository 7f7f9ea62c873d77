"""Gateways behind a real HAProxy: they come and go under load and clients see nothing; too much load is refused, in order.

All engines are the embedded ones, coordination too; how the same goes on ZooKeeper, PostgreSQL and Redis is shown by the
cluster's demo.
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests import debian
from tests.servers import await_true

import stook
from stook.app.gateways import GROUP
from stook.app.scaffold import write_project
from stook.app.wiring import load_coordination
from stook.cluster.membership import Membership
from stook.core.settings import load_settings

from .processes import PATIENCE_S, free_port

pytestmark = [pytest.mark.server, pytest.mark.kill]
BODY = json.dumps({"features": ["driver_stats:trips"], "entities": {"driver_id": [1001]}}).encode()
CLIENTS = 4


class Front:
    """A project's gateways, its balancer and HAProxy, each a process of its own."""

    def __init__(self, root: Path) -> None:
        self.root, self.port = root, free_port()
        self.gateways: dict[str, subprocess.Popen[bytes]] = {}
        self.others: list[subprocess.Popen[bytes]] = []
        self.file = root / "haproxy.cfg"
        self.url = f"haproxy:///{self.file}?bind=127.0.0.1:{self.port}&balance=leastconn&socket={root / 's'}"

    def stook(self, *words: str) -> subprocess.Popen[bytes]:
        with (self.root / f"{words[1] if words[0] == 'cluster' else words[-1]}.log").open("ab") as log:
            command = [sys.executable, "-m", "stook", "-C", str(self.root), *words]
            return subprocess.Popen(command, stdout=log, stderr=log)

    def start(self, name: str) -> None:
        """Starts a gateway; `await_ready` waits for it."""
        self.gateways[name] = self.stook("serve", "--port", "0", "--join", name)

    def rows(self) -> dict[str, str]:
        """HAProxy's servers and their status."""
        with socket.socket(socket.AF_UNIX) as door:
            door.connect(str(self.root / "s"))
            door.sendall(b"show stat gateways 4 -1\n")
            answer = b"".join(iter(lambda: door.recv(65_536), b"")).decode()
        return {line.split(",")[1]: line.split(",")[17] for line in answer.splitlines()[1:] if line}

    def await_ready(self, *names: str) -> None:
        await_true(lambda: {n for n, s in self.rows().items() if s == "UP"} == set(names), f"{names} up", PATIENCE_S)

    def begin(self, *names: str) -> None:
        for name in names:
            self.start(name)
        self.others.append(self.stook("cluster", "balancer", self.url))
        await_true(self.file.exists, "HAProxy's file", PATIENCE_S)
        self.others.append(
            subprocess.Popen([debian.haproxy(), "-W", "-db", "-f", str(self.file)], stderr=subprocess.DEVNULL)
        )
        await_true((self.root / "s").exists, "HAProxy's socket", PATIENCE_S)
        self.await_ready(*names)

    def end(self) -> None:
        for process in (*self.gateways.values(), *self.others):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in (*self.gateways.values(), *self.others):
            process.wait(PATIENCE_S)


class Client(threading.Thread):
    """Asks again and again over one connection; counts statuses, and what failed though it was tried again."""

    def __init__(self, port: int, retries: int) -> None:
        super().__init__()
        self.port, self.retries = port, retries
        self.statuses: Counter[object] = Counter()
        self.failed: list[str] = []
        self.hints: list[str | None] = []
        self.slowest_s = 0.0
        self.stop = threading.Event()

    def run(self) -> None:
        connection = None
        while not self.stop.is_set():
            started, problem = time.monotonic(), "not tried"
            for _ in range(1 + self.retries):
                try:
                    connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
                    connection.request("POST", "/get-online-features", BODY)
                    answer = connection.getresponse()
                    text = answer.read()
                    self.statuses[answer.status] += 1
                    if answer.status in (429, 503):
                        self.hints.append(answer.headers["retry-after"])
                    problem = "" if answer.status == 200 else f"{answer.status}: {text[:200]!r}"
                    if not problem and json.loads(text)["results"][1]["values"] != [25]:
                        problem = f"wrong: {text[:200]!r}"
                except (OSError, http.client.HTTPException) as error:
                    problem = repr(error)
                    if connection is not None:
                        connection.close()
                    connection = None
                if not problem:
                    break
            if problem:
                self.failed.append(problem)
            self.slowest_s = max(self.slowest_s, time.monotonic() - started)
        if connection is not None:
            connection.close()


@contextmanager
def asking(port: int, *, clients: int = CLIENTS, retries: int = 0) -> Iterator[list[Client]]:
    """Clients that ask while the block runs."""
    found = [Client(port, retries) for _ in range(clients)]
    for client in found:
        client.start()
    try:
        yield found
    finally:
        for client in found:
            client.stop.set()
        for client in found:
            client.join(PATIENCE_S)


@pytest.fixture
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    debian.haproxy()
    root = write_project("p", tmp_path_factory.mktemp("g"))
    (root / "stook.toml").write_text('[project]\nname = "p"\n[engines]\ncoordination = "sqlite:///c.db?session_s=2"\n')
    with stook.open(root) as p:
        p.apply()
        p.materialize_incremental("2024-06-01")
    with ExitStack() as ends:
        made = Front(root)
        ends.callback(made.end)
        yield made


def test_gateways_come_and_go_and_no_call_fails(front: Front) -> None:
    """One is added, one is killed, all are restarted one by one. Reads that met a killed one are tried with another by
    HAProxy; the client's one retry is not needed, and only stands for what HAProxy itself cannot see."""
    front.begin("a", "b")
    with asking(front.port, retries=1) as clients:
        front.start("c")
        front.await_ready("a", "b", "c")
        front.gateways["a"].kill()
        for worker in workers_of(front.gateways["a"].pid):
            kill(worker)
        front.await_ready("b", "c")  # by its session's end, within two seconds and a little
    assert [problem for client in clients for problem in client.failed] == []
    with asking(front.port) as clients:
        for name in ("b", "c"):
            front.gateways[name].send_signal(signal.SIGTERM)
            assert front.gateways[name].wait(PATIENCE_S) == 0
            front.start(name)
            front.await_ready("b", "c")
    assert [problem for client in clients for problem in client.failed] == []
    assert set().union(*(client.statuses for client in clients)) == {200}


def test_too_much_load_is_refused_in_order_and_passes(front: Front) -> None:
    """Ten times as many clients as one gateway has patience for: each is answered or told when to come again."""
    front.begin("a")
    with asking(front.port, clients=1) as alone:
        time.sleep(1.0)  # a second of load is what is measured
    with asking(front.port, clients=200) as clients:
        time.sleep(3.0)
    statuses: Counter[object] = sum((client.statuses for client in clients), Counter())
    assert set(statuses) <= {200, 429, 503}, statuses
    assert all(hint is not None and hint.isdecimal() for client in clients for hint in client.hints)
    assert not [p for client in clients for p in client.failed if not p.startswith(("429", "503"))]
    assert statuses[200] / 3.0 > alone[0].statuses[200] * 0.5, (statuses, alone[0].statuses)
    assert max(client.slowest_s for client in clients) < 20.0
    with asking(front.port) as after:
        time.sleep(0.5)
    assert not [problem for client in after for problem in client.failed]


def test_what_answers_is_not_taken_away_because_nobody_is_listed(front: Front) -> None:
    """The only gateway's main process is stopped until its session ends, while its worker answers; then it goes on."""
    front.begin("a")
    listed = Membership(opened := load_coordination(load_settings(front.root)), GROUP)
    try:
        assert set(listed.members()) == {"a"}
        with asking(front.port, clients=1) as clients:
            front.gateways["a"].send_signal(signal.SIGSTOP)
            try:
                await_true(lambda: not listed.members(), "the session's end", PATIENCE_S)
                looks = len((front.root / "balancer.log").read_text())
                time.sleep(2.0)  # four looks of the balancer
                assert front.rows() == {"a": "UP"}
                assert len((front.root / "balancer.log").read_text()) == looks
            finally:
                front.gateways["a"].send_signal(signal.SIGCONT)
            await_true(lambda: set(listed.members()) == {"a"}, "the gateway's return", PATIENCE_S)
    finally:
        opened.close()
    assert [problem for client in clients for problem in client.failed] == []


def workers_of(pid: int) -> list[int]:
    try:
        listing = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(number) for number in listing.split()]


def kill(number: int) -> None:
    subprocess.run(["kill", "-9", str(number)], check=False)
