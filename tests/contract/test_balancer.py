"""HAProxy as a Balancer: a real one, with real servers behind it, does what it is told and says how they stand."""

from __future__ import annotations

import http.server
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests import debian
from tests.e2e.processes import free_port
from tests.servers import await_true

from stook.backends.haproxy.balancer import HaproxyBalancer, open_balancer
from stook.backends.haproxy.configuration import ALGORITHMS
from stook.cluster.balance import decide
from stook.core.errors import Conflict, EngineUnavailable, InvalidArgument, InvalidSettings
from stook.core.ports.balancer import Act, Duty, Gateway, Step
from stook.core.settings import parse_url


class Upstream(http.server.BaseHTTPRequestHandler):
    """Says who it is, and keeps what was asked of it."""

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.answer()

    def answer(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        if self.path != "/health" and self.server.fails:  # type: ignore[attr-defined]
            self.connection.close()  # the call arrived, and no answer comes
            return
        body = self.server.name.encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ValueError):
            return


@contextmanager
def upstream(name: str) -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    server.name, server.asked, server.fails = name, [], False  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def gateway(server: http.server.ThreadingHTTPServer, **changes: object) -> Gateway:
    return Gateway(server.name, "127.0.0.1", server.server_address[1], **changes)  # type: ignore[attr-defined, arg-type]


def make_balancer(folder: Path, balance: str = "roundrobin") -> tuple[HaproxyBalancer, int]:
    port = free_port()
    text = f"haproxy:///{folder}/h.cfg?bind=127.0.0.1:{port}&balance={balance}&socket={folder}/s"
    return open_balancer(parse_url(text, folder, "balancer"), folder), port


@contextmanager
def running(folder: Path, balancer: HaproxyBalancer) -> Iterator[None]:
    process = subprocess.Popen([debian.haproxy(), "-W", "-db", "-f", str(folder / "h.cfg")], stderr=subprocess.DEVNULL)
    try:
        await_true(lambda: process.poll() is not None or (folder / "s").exists(), "HAProxy's socket")
        assert process.poll() is None, "HAProxy ended"
        await_true(lambda: answers(balancer), "HAProxy's answer")
        yield
    finally:
        process.terminate()
        process.wait(30)


def answers(balancer: HaproxyBalancer) -> bool:
    try:
        balancer.servers()
    except EngineUnavailable:
        return False
    return True


def call(port: int, path: str = "/", data: bytes | None = None) -> tuple[int, str, dict[str, str]]:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{port}{path}", data), timeout=30
        ) as answer:
            return answer.status, answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), dict(error.headers)


def settle(balancer: HaproxyBalancer, gateways: list[Gateway]) -> None:
    """Decides and acts until nothing is left to do and all that should take calls do."""
    leaving: dict[str, float] = {}

    def done() -> bool:
        nonlocal leaving
        decision = decide(gateways, balancer.servers(), leaving, now_s=0.0)
        leaving = dict(decision.leaving)
        for act in decision.acts:
            balancer.act(act)
        ready = {server.name for server in balancer.servers() if server.duty is Duty.READY and server.healthy}
        return not decision.acts and ready == {g.name for g in gateways if not g.draining}

    await_true(done, "servers as gateways")


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("h")


def test_gateways_come_drain_and_go(short: Path) -> None:
    balancer, port = make_balancer(short)
    balancer.write([])
    with running(short, balancer), upstream("a") as a, upstream("b") as b:
        status, body, headers = call(port)
        assert status == 503 and '"busy"' in body and headers["retry-after"] == "1"
        settle(balancer, [gateway(a), gateway(b)])
        assert {call(port)[1] for _ in range(10)} == {"a", "b"}
        settle(balancer, [gateway(a, draining=True), gateway(b)])
        assert {call(port)[1] for _ in range(10)} == {"b"}
        settle(balancer, [gateway(b, weight=7)])
        assert [(server.name, server.weight) for server in balancer.servers()] == [("b", 7)]
        settle(balancer, [gateway(a), gateway(b)])
        assert {call(port)[1] for _ in range(10)} == {"a", "b"}


def test_it_begins_with_what_its_file_says(short: Path) -> None:
    balancer, port = make_balancer(short)
    with upstream("a") as a, upstream("b") as b:
        assert balancer.write([gateway(b), gateway(a), Gateway("gone", "127.0.0.1", free_port(), draining=True)])
        assert not balancer.write([gateway(a), gateway(b)])
        with running(short, balancer):
            await_true(lambda: call(port)[0] == 200, "an answer")
            assert [server.name for server in balancer.servers()] == ["a", "b"]
            settle(balancer, [gateway(a), gateway(b)])
            settle(balancer, [gateway(a)])
            assert {call(port)[1] for _ in range(4)} == {"a"}


def test_no_gateways_never_replace_those_in_the_file(short: Path) -> None:
    balancer, _ = make_balancer(short)
    assert balancer.write([])
    assert balancer.write([Gateway("a", "127.0.0.1", 1)])
    assert not balancer.write([])
    assert "server a 127.0.0.1:1 " in (short / "h.cfg").read_text()


def test_one_that_was_added_and_left_without_checks_is_checked(short: Path) -> None:
    """Whoever added it was killed before it said that its health be asked."""
    balancer, _ = make_balancer(short)
    balancer.write([])
    with running(short, balancer), upstream("a") as a:
        words = f"add server gateways/a 127.0.0.1:{a.server_address[1]} check inter 200ms fall 2 rise 1"
        balancer._tell(words, "New server registered.")
        settle(balancer, [gateway(a, weight=1)])
        a.shutdown()
        a.server_close()
        await_true(lambda: not balancer.servers()[0].healthy, "its end noticed")


def test_an_address_of_six_bytes_groups(short: Path) -> None:
    balancer, _ = make_balancer(short)
    balancer.write([])
    six = Gateway("six", "::1", 9)
    with running(short, balancer):
        balancer.act(Act(Step.ADD, six))
        (server,) = balancer.servers()
        assert (server.host, server.port) == ("::1", 9)
        assert [act.step for act in decide([six], [server], {}, now_s=0.0).acts][-1] is Step.READY


@pytest.mark.parametrize("balance", list(ALGORITHMS))
def test_every_way_of_spreading_takes_servers_while_it_runs(short: Path, balance: str) -> None:
    balancer, port = make_balancer(short, balance)
    balancer.write([])
    with running(short, balancer), upstream("a") as a, upstream("b") as b:
        settle(balancer, [gateway(a)])
        settle(balancer, [gateway(a), gateway(b)])
        seen = {call(port)[1] for _ in range(40)}
        assert seen == ({"a", "b"} if balance in ("roundrobin", "random", "leastconn") else seen) and seen <= {"a", "b"}
        settle(balancer, [gateway(b)])
        assert call(port)[1] == "b"


def test_only_reads_are_sent_a_second_time(short: Path) -> None:
    """One server takes a call and closes: a read is answered by the other, a push is not tried again."""
    balancer, port = make_balancer(short)
    balancer.write([])
    with running(short, balancer), ExitStack() as stack:
        bad, good = stack.enter_context(upstream("bad")), stack.enter_context(upstream("good"))
        settle(balancer, [gateway(bad), gateway(good)])
        bad.fails = True  # type: ignore[attr-defined]
        assert {call(port, "/get-online-features", b"{}")[:2] for _ in range(6)} == {(200, "good")}
        statuses = [call(port, "/push", b"{}")[0] for _ in range(6)]
        pushed = [path for server in (bad, good) for path in server.asked if path == "/push"]  # type: ignore[attr-defined]
        assert set(statuses) == {200, 502} and len(pushed) == 6


def test_what_is_wrong_is_said(short: Path) -> None:
    balancer, _ = make_balancer(short)
    with pytest.raises(EngineUnavailable, match="is it running"):
        balancer.servers()
    balancer.write([])
    one = Gateway("a", "127.0.0.1", 1)
    with running(short, balancer):
        with pytest.raises(Conflict, match="No such server"):
            balancer.act(Act(Step.READY, one))
        balancer.act(Act(Step.ADD, one))
        with pytest.raises(Conflict, match="Already exists"):
            balancer.act(Act(Step.ADD, one))
        balancer.act(Act(Step.READY, one))
        with pytest.raises(Conflict, match="maintenance"):
            balancer.act(Act(Step.REMOVE, one))
    for wrong in (
        Gateway("a b", "127.0.0.1", 1), Gateway("a", "127.0.0.1; disable", 1), Gateway("a", "host", 1),
        Gateway("a", "0.0.0.0", 1), Gateway("a", "127.0.0.1", 1, weight=257), Gateway("a", None, "1"),  # type: ignore[arg-type]
    ):  # fmt: skip
        with pytest.raises(InvalidArgument, match="no gateway"):
            balancer.write([wrong])
    with pytest.raises(InvalidSettings, match="one of roundrobin"):
        make_balancer(short, "fair")
