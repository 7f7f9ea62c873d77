"""What a client can do to the server below HTTP: bytes that are no request, requests never finished, answers never read.

After each, a normal request is answered within ANSWER_WAIT_S; at the end the same workers live, have grown by less
than GROWN_MIB_MAX each, and have logged nothing unforeseen.
"""

from __future__ import annotations

import random
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from tests.servers import await_true

from . import served

pytestmark = pytest.mark.server

ANSWER_WAIT_S = 5.0
GROWN_MIB_MAX = 150
SILENT_WAIT_S = 30.0  # the server's limit for a request's headers to come, and for an answer to be read
SLACK_S = 15.0
IDLE = 300
OVERFLOW = 1_200  # more than the workers' limit of connections, for one worker
SEED = served.seed()
ASK = b'{"features":["stats:trips"],"entities":{"driver_id":[1]}}'
HEAD = b"POST /get-online-features HTTP/1.1\r\nHost: x\r\n"
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(ASK) + ASK
LARGE = b'{"features":["stats:city"],"entities":{"driver_id":[%b]}}' % b",".join(b"1" for _ in range(10_000))


@dataclass
class Open:
    """Connections opened at the start that say or read nothing; the last test sees them ended."""

    at: float
    by_name: dict[str, socket.socket] = field(default_factory=dict)


def connect(server: served.Running, text: bytes = b"", receive_bytes: int | None = None) -> socket.socket:
    connection = socket.socket()
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(ANSWER_WAIT_S)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(text)
    return connection


def said(connection: socket.socket) -> bytes:
    """All that comes until the server closes or says nothing for a moment."""
    found = b""
    try:
        while piece := connection.recv(1 << 16):
            found += piece
            if b"\r\n\r\n" in found:
                connection.settimeout(0.1)
    except ConnectionError:
        return found + b"(reset)"
    except TimeoutError:
        pass
    return found


def status(text: bytes) -> int:
    found = re.match(rb"HTTP/1\.[01] (\d{3}) ", text)
    assert found is not None, text[:300]
    return int(found[1])


def answers_promptly(server: served.Running) -> None:
    """Asserts that each of several new connections is answered, whichever worker takes it."""
    for _ in range(3):
        started = time.monotonic()
        answer = httpx.post(f"{server.url}/get-online-features", content=ASK, timeout=ANSWER_WAIT_S)
        assert answer.status_code == 200, answer.text
        assert time.monotonic() - started < ANSWER_WAIT_S


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served.make_project(tmp_path_factory.mktemp("sockets") / "demo", serve_lines="body_limit_mib = 1\n")


@pytest.fixture(scope="module", autouse=True)
def crowded(root: Path) -> Iterator[tuple[served.Running, float]]:
    """A server of one worker with more idle connections than it takes, and since when."""
    with served.serving(root, workers=1) as running, ExitStack() as stack:
        for _ in range(OVERFLOW):
            stack.enter_context(connect(running))
        yield running, time.monotonic()


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[served.Running]:
    with served.serving(root, workers=2) as running:
        for _ in range(20):
            answers_promptly(running)
        with served.unharmed(running, GROWN_MIB_MAX):
            yield running


@pytest.fixture(scope="module", autouse=True)
def silent(server: served.Running) -> Iterator[Open]:
    """Connections that are left alone while the tests run."""
    opened = Open(time.monotonic())
    opened.by_name["unused"] = connect(server)
    opened.by_name["half a line"] = connect(server, b"GET /hea")
    opened.by_name["half a preface"] = connect(server, b"PRI * HTT")
    opened.by_name["headers without end"] = connect(server, b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\r\n")
    opened.by_name["answered, then idle"] = connect(server, WHOLE)
    opened.by_name["half a body"] = connect(server, b"POST /push HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
    unread = connect(server, receive_bytes=4_096)
    body = b"POST /get-online-features HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(LARGE), LARGE)
    unread.sendall(body * 20)  # answers of some megabytes, more than kernels keep
    opened.by_name["answers never read"] = unread
    yield opened
    for connection in opened.by_name.values():
        connection.close()


@pytest.fixture(autouse=True)
def still_well(server: served.Running) -> Iterator[None]:
    yield
    answers_promptly(server)


GET = b"GET /health HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /push HTTP/1.1\r\nHost: x\r\n"
REFUSED: dict[str, tuple[bytes, set[int]]] = {
    "bytes": (b"\x00\x01\xff\xfe\r\n\r\n", {400}),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), {400}),
    "http/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 505}),
    "http/9": (b"GET / HTTP/9.9\r\n\r\n", {400, 505}),
    "http/0.9": (b"GET /health\r\n\r\n", {400}),
    "thousands of headers": (GET + b"".join(b"X%d: a\r\n" % i for i in range(5_000)) + b"\r\n", {431}),
    "the same header thousands of times": (GET + b"X: a\r\n" * 5_000 + b"\r\n", {431}),
    "a giant header": (GET + b"X: " + b"a" * 2_000_000 + b"\r\n\r\n", {431}),
    "a header without a colon": (GET + b"nothing\r\n\r\n", {400}),
    "a header with a NUL": (GET + b"X: \x00\r\n\r\n", {400}),
    "a folded header": (GET + b"X: a\r\n b\r\n\r\n", {400}),
    "space before the colon": (POST + b"Content-Length : 2\r\n\r\n{}", {400}),
    "a negative length": (POST + b"Content-Length: -1\r\n\r\n", {400}),
    "a length with a plus": (POST + b"Content-Length: +2\r\n\r\n{}", {400}),
    "a length that is no number": (POST + b"Content-Length: two\r\n\r\n{}", {400}),
    "a length beyond 64 bits": (POST + b"Content-Length: 99999999999999999999999\r\n\r\n", {400}),
    "two lengths": (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x", {400}),
    "two lengths in one": (POST + b"Content-Length: 2, 3\r\n\r\n{}x", {400}),
    "length and chunks": (POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
    "an unknown transfer encoding": (POST + b"Transfer-Encoding: gzip\r\n\r\n", {400, 501}),
    "chunked twice": (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", {400}),
    "a chunk size that is none": (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", {400}),
    "a chunk size beyond 64 bits": (POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n", {400}),
    "a chunk longer than it says": (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n", {400}),
    "an endless chunk extension": (POST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 1_000_000, {400}),
    "endless trailers": (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 100_000, {400, 431}),
    "bytes in the path": (b"GET /objects/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
    "an endless path": (b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", {414}),
    "a path of broken percents": (b"GET /objects/%zz/%ff%c0%af HTTP/1.1\r\nHost: x\r\n\r\n", {404}),
    "a path with a NUL": (b"GET /objects/entity/a%00b HTTP/1.1\r\nHost: x\r\n\r\n", {404}),
    "a path of dots": (b"GET /objects/../../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", {404}),
    "a long path": (b"GET /objects/" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", {404}),
    "a long query": (POST[:10] + b"?view=" + b"a" * 60_000 + b" HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", {400}),
    "trace": (b"TRACE /health HTTP/1.1\r\nHost: x\r\n\r\n", {405}),
    "options": (b"OPTIONS /push HTTP/1.1\r\nHost: x\r\n\r\n", {405}),
    "options of all": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", {404}),
    "connect": (b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n", {404, 405}),
    "a method nobody knows": (b"BREW /health HTTP/1.1\r\nHost: x\r\n\r\n", {405}),
    "a method without end": (b"A" * 100_000 + b" /health HTTP/1.1\r\nHost: x\r\n\r\n", {400, 405, 431}),
    "a body said to be compressed": (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 57\r\n\r\n" + ASK, {422}),
    "a body said to be Arrow": (
        b"POST /push?view=stats HTTP/1.1\r\nContent-Type: application/vnd.apache.arrow.stream\r\nContent-Length: 57\r\n\r\n" + ASK,
        {422},
    ),
    "an Arrow body without a name": (
        b"POST /push?view&to= HTTP/1.1\r\nContent-Type: application/vnd.apache.arrow.stream\r\nContent-Length: 57\r\n\r\n" + ASK,
        {400, 422},
    ),
    "too long, said first": (POST + b"Content-Length: 1048577\r\n\r\n" + b" " * 1_048_577, {413}),
}  # fmt: skip
ANSWERED: dict[str, bytes] = {
    "http/1.0": b"GET /health HTTP/1.0\r\n\r\n",
    "an absolute URI": b"GET http://elsewhere.example/health HTTP/1.1\r\nHost: x\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "head": b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n",
    "an upgrade": GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n\r\n",
    "bytes in headers": GET + b"Authorization: Bearer \xff\xfe\r\nAccept: \xff\r\nCookie: \x80=\x80\r\n\r\n",
    "a content type that lies": HEAD + b"Content-Type: image/png\r\nContent-Length: 57\r\n\r\n" + ASK,
    "an expectation unknown": HEAD + b"Expect: wonders\r\nContent-Length: 57\r\n\r\n" + ASK,
    "chunks of one byte": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"1\r\n%c\r\n" % c for c in ASK) + b"0\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_request_of_ours_is_refused(server: served.Running, name: str) -> None:
    text, statuses = REFUSED[name]
    with closing_rudely(server) as connection:
        try:
            connection.sendall(text)
        except ConnectionError:
            return  # refused before it was all sent
        answer = said(connection)
    if name == "http/2" and not answer.startswith(b"HTTP/"):
        return  # closed without a word
    assert status(answer) in statuses, answer[:300]
    head, _, body = answer.partition(b"\r\n\r\n")
    assert len(body) < 4_096
    shown = (head + body).replace(b"pyarrow.ipc.new_stream", b"").decode("latin-1")  # a mend that we name
    assert not served.LEAKS.search(shown), shown


@contextmanager
def closing_rudely(server: served.Running) -> Iterator[socket.socket]:
    connection = connect(server)
    try:
        yield connection
    finally:
        connection.close()


@pytest.mark.parametrize("name", ANSWERED)
def test_what_is_odd_but_right_is_answered(server: served.Running, name: str) -> None:
    with closing_rudely(server) as connection:
        connection.sendall(ANSWERED[name])
        assert status(said(connection)) == 200


def test_pipelined_requests_are_answered_in_order(server: served.Running) -> None:
    asks = [b'{"features":["stats:trips"],"entities":{"driver_id":[%d]}}' % i for i in range(100)]
    with closing_rudely(server) as connection:
        connection.sendall(b"".join(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(ask), ask) for ask in asks))
        found = b""
        while found.count(b"HTTP/1.1 200 OK") < len(asks) or not found.endswith(b"}]}"):
            piece = connection.recv(1 << 16)
            assert piece, found[-300:]
            found += piece
    assert re.findall(rb'"results":\[\{"values":\[(\d+)\]', found) == [b"%d" % i for i in range(100)]


def test_a_body_is_waited_for_with_a_word(server: served.Running) -> None:
    with closing_rudely(server) as connection:
        connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(ASK))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(ASK)
        assert status(said(connection)) == 200


@pytest.mark.parametrize(
    "length", [b"Content-Length: 100\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n64\r\nhalf"]
)
def test_a_body_shorter_than_it_says(server: served.Running, length: bytes) -> None:
    with closing_rudely(server) as connection:
        connection.sendall(POST + length)
        connection.shutdown(socket.SHUT_WR)
        answer = said(connection)
        assert not answer or status(answer) == 400


@pytest.mark.parametrize("linger", [True, False], ids=["reset", "closed"])
def test_clients_that_leave_before_the_answer(server: served.Running, linger: bool) -> None:
    slow = b'{"end":"2024-05-01T12:00:00Z","views":["stats"]}'
    run = b"POST /materialize-incremental HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(slow), slow)
    for text in [WHOLE, run, WHOLE[:-5], GET, b"G"] * 10:
        with closing_rudely(server) as connection:
            if linger:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            connection.sendall(text)


def test_random_bytes_and_requests_cut_and_mangled(server: served.Running) -> None:
    chance = random.Random(SEED)
    print(f"STOOK_TEST_SEED={SEED}")
    seeds = [text for text, _ in REFUSED.values() if len(text) < 1_000] + list(ANSWERED.values())
    for _ in range(int(150 * served.factor())):
        text = bytearray(chance.choice(seeds))
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(text))
            text[at : at + chance.randrange(4)] = chance.randbytes(chance.randrange(4))
        with closing_rudely(server) as connection:
            connection.sendall(bytes(text[: chance.randrange(1, len(text) + 1)]))
            if chance.random() < 0.5:
                connection.shutdown(socket.SHUT_WR)
                answer = said(connection)
                assert not answer.startswith(b"HTTP/1.1 5"), (bytes(text), answer)


def test_many_idle_connections_leave_room(server: served.Running) -> None:
    with ExitStack() as stack:
        for number in range(IDLE):
            stack.enter_context(connect(server, GET if number % 2 else b""))
        answers_promptly(server)


def test_bodies_that_stall_hold_a_bounded_memory(server: served.Running) -> None:
    """A hundred bodies, all but whole, would be a hundred mebibytes; a worker holds four of them."""
    almost = POST + b"Content-Length: 1048576\r\n\r\n" + b" " * 1_048_000
    before = server.rss_mib()
    with ExitStack() as stack:
        held = [stack.enter_context(connect(server, almost)) for _ in range(100)]
        answers_small(server)
        for connection in held:
            connection.sendall(b" " * 576)
        statuses = [status(connection.recv(4_096)) for connection in held]
    assert set(statuses) == {400, 429}, statuses
    assert statuses.count(400) <= 2 * 4
    after = server.rss_mib()
    assert all(after[pid] - before[pid] < GROWN_MIB_MAX for pid in before), (before, after)


def answers_small(server: served.Running) -> None:
    """Asserts that what has no body is answered while bodies pile up."""
    for _ in range(3):
        assert httpx.get(f"{server.url}/health", timeout=ANSWER_WAIT_S).status_code == 200


def test_connections_that_say_or_read_nothing_are_ended(server: served.Running, silent: Open) -> None:
    deadline = silent.at + SILENT_WAIT_S + SLACK_S
    for name, connection in silent.by_name.items():
        connection.settimeout(max(1.0, deadline - time.monotonic()))
        if name == "answers never read":
            port = connection.getsockname()[1]
            await_true(lambda port=port: not established(server.port, port), name, deadline - time.monotonic())
            continue
        try:
            while connection.recv(1 << 16):
                pass
        except ConnectionError:
            continue
        except TimeoutError:
            pytest.fail(f"{name}: still open after {time.monotonic() - silent.at:.0f} s")


def established(port: int, peer: int) -> bool:
    """Whether the server's side of a connection is there still."""
    ends = [line.split()[1:4] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(int(a[-4:], 16) == port and int(b[-4:], 16) == peer and state == "01" for a, b, state in ends)


def test_more_idle_connections_than_a_worker_takes(crowded: tuple[served.Running, float]) -> None:
    """They shut others out for as long as a request may take to come, and no longer. It used to be forever."""
    running, since = crowded
    left = since + SILENT_WAIT_S + SLACK_S - time.monotonic()
    answer = httpx.post(f"{running.url}/get-online-features", content=ASK, timeout=max(left, ANSWER_WAIT_S))
    assert answer.status_code == 200
    served.check_log(running.log())
