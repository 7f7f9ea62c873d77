"""Requests a second and their latency over HTTP, beside a bare echo on the same server and `feast serve`.

It is a file of its own because it needs servers and a client that costs less than they do. `run.py` calls it. One worker
each; the client is one loop over raw sockets that keep their connection, in this process.
"""

from __future__ import annotations

import json
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import stook
from measuring import Figure, Plan, median_call, percentile, sampled
from peers.environments import FEAST_PYTHON, Child, await_port, feast_surroundings, free_port
from project import CLOCK, make

HERE = Path(__file__).resolve().parent
ENTITIES = 10_000
ARROW = "application/vnd.apache.arrow.stream"
SECONDS = 1.0
ECHO = "bare echo"
FEAST = "feast serve"
AIMS = {(1, "json"): ">= 20x feast serve; >= 0.5x echo", (100, "json"): ">= 40x feast serve"}
ECHO_SERVER = """
import asyncio, sys
from granian.constants import HTTPModes, Interfaces
from granian.log import LogLevels
from granian.server.embed import Server
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
answers = {}
async def echo(request):
    await request.body()
    size = int(request.path_params["size"])
    return Response(answers.setdefault(size, b"x" * size), media_type="application/json")
app = Starlette(routes=[Route("/{size}", echo, methods=["POST"])])
asyncio.run(Server(app, address="127.0.0.1", port=int(sys.argv[1]), interface=Interfaces.ASGINL, websockets=False,
                   http=HTTPModes.http1, log_level=LogLevels.error).serve())
"""


@dataclass(frozen=True)
class Target:
    """Where requests go, and the bodies sent in turn."""

    port: int
    path: str
    bodies: list[bytes]
    accept: str = "application/json"

    def requests(self) -> list[bytes]:
        """Whole requests."""
        head = f"POST {self.path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAccept: {self.accept}\r\n"
        return [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in self.bodies]


def answer_bytes(connection: socket.socket) -> int:
    """Reads one answer; its body's length. Raises RuntimeError for one that is no 200, ConnectionResetError for none."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += received(connection, 65_536)
    head, _, body = data.partition(b"\r\n\r\n")
    if b" 200 " not in head[:16]:
        raise RuntimeError((head + b"\n" + body)[:500].decode())
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    missing = length - len(body)
    while missing > 0:
        missing -= len(received(connection, min(missing, 1 << 20)))
    return length


def received(connection: socket.socket, size: int) -> bytes:
    """What came. Raises ConnectionResetError where the server has closed."""
    data = connection.recv(size)
    if not data:
        raise ConnectionResetError
    return data


def connect(port: int) -> socket.socket:
    """A connection that sends at once."""
    link = socket.create_connection(("127.0.0.1", port), 60)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link


def drive(target: Target, clients: int, seconds: float) -> tuple[float, list[float]]:
    """Requests a second and the latency of each, with so many connections that always have one request under way."""
    requests = target.requests()
    latencies: list[float] = []
    sent: dict[socket.socket, float] = {}
    turn = 0
    started = time.perf_counter()

    def send(link: socket.socket) -> None:
        nonlocal turn
        sent[link] = time.perf_counter()
        link.sendall(requests[turn % len(requests)])
        turn += 1

    for _ in range(clients):
        send(connect(target.port))
    while sent:
        for link in list(sent) if clients == 1 else select.select(list(sent), [], [], 60)[0]:
            try:
                answer_bytes(link)
            except ConnectionResetError:  # Feast's workers end after a thousand requests
                del sent[link]
                link.close()
                send(connect(target.port))
                continue
            now = time.perf_counter()
            latencies.append(now - sent.pop(link))
            if now - started < seconds:
                send(link)
            else:
                link.close()
    return len(latencies) / (time.perf_counter() - started), latencies


def measure(plan: Plan) -> list[Figure]:
    """Online reads as JSON and Arrow, one client and eight; and predictions."""
    root = plan.folder / "serving"
    make(root, entities=ENTITIES, rows=10)
    with stook.open(root, clock=CLOCK) as p:
        p.apply()
        p.materialize(None, CLOCK, ["fifty"])
    figures: list[Figure] = []
    with stook_server(root) as port, echo_server() as echo, feast_server(plan, root) as feast:
        random = np.random.default_rng(5)
        sizes = (1, 100) if plan.quick else (1, 10, 100, 1_000)
        for count in sizes:
            ids = [random.integers(0, ENTITIES, count).tolist() for _ in range(64)]
            for form in ("json", "arrow") if not plan.quick else ("json",):
                for clients in (1, 8) if not plan.quick else (1,):
                    figures += _figures(plan, (port, echo, feast), ids, form, clients)
    return figures


def _figures(
    plan: Plan, ports: tuple[int, int, int | None], ids: list[list[int]], form: str, clients: int
) -> list[Figure]:
    port, echo, feast = ports
    count = len(ids[0])
    names = [f"fifty:f{i}" for i in range(50)]
    bodies = [json.dumps({"features": names, "entities": {"user_id": one}}).encode() for one in ids]
    accept = ARROW if form == "arrow" else "application/json"
    ours = Target(port, "/get-online-features", bodies, accept)
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.sendall(ours.requests()[0])
        size = answer_bytes(link)
    cases = {"stook": ours, ECHO: Target(echo, f"/{size}", bodies)}
    if feast is not None and form == "json" and count in (1, 100):
        theirs = [f"view:f{i}" for i in range(50)]
        feasts = [json.dumps({"features": theirs, "entities": {"user_id": one}}).encode() for one in ids]
        cases[FEAST] = Target(feast, "/get-online-features", feasts)
    rates: dict[str, list[float]] = {name: [] for name in cases}
    waits: dict[str, list[float]] = {name: [] for name in cases}
    seconds = SECONDS / 3 if plan.quick else SECONDS
    for target in cases.values():
        drive(target, clients, seconds / 3)
    for _ in range(plan.rounds):
        for name, target in cases.items():
            rate, latencies = drive(target, clients, seconds * (2 if name == FEAST else 1))
            rates[name].append(rate)
            waits[name].append(percentile(latencies, 0.99))
    crowd = "1 client" if clients == 1 else f"{clients} clients"
    what = f"HTTP {count:,} x 50 as {'Arrow' if form == 'arrow' else 'JSON'}, {crowd}"
    aim = AIMS.get((count, form), "") if clients == 1 else ""
    p99 = {name: [statistics.median(taken)] for name, taken in waits.items()}
    return [
        Figure(what, rates, "requests/s", (ECHO,), aim),
        Figure(f"{what}: p99", p99, "s", (ECHO,)),
    ]


@contextmanager
def stook_server(root: Path, *options: str) -> Iterator[int]:
    """The port of `stook serve` with one worker."""
    port = free_port()
    command = [sys.executable, "-m", "stook", "-C", str(root), "serve", "--workers", "1", "--clock", CLOCK, *options]
    process = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith("serving")
        yield port
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def echo_server() -> Iterator[int]:
    """The port of a bare Starlette application that reads the body and answers as many bytes as its path says."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", ECHO_SERVER, str(port)])
    try:
        await_port(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def feast_server(plan: Plan, root: Path) -> Iterator[int | None]:
    """The port of `feast serve` on SQLite with the same users; None without peers."""
    if not plan.peers:
        yield None
        return
    port = free_port()
    names = [f"f{i}" for i in range(50)]
    file = plan.folder / "feast-serve.parquet"
    pq.write_table(pq.read_table(root / "wide.parquet", columns=["user_id", "event_timestamp", *names]), file)
    child = Child(FEAST_PYTHON, HERE / "peers" / "time_feast.py", feast_surroundings())
    folder = str(plan.folder / "feast-serve")
    try:
        child.ask(
            "open", name="serve", folder=folder, online="sqlite", offline="duckdb", file=str(file), features=names,
            ttl_days=400,
        )  # fmt: skip
        child.ask("materialize", name="serve")
        child.ask("serve", folder=folder, port=port)
        await_port(port)
        yield port
    finally:
        child.close()


PREDICT = """
import stook
def fit(data, params, run):
    def model(table):
        return (table.column("f0").to_numpy() > 0).astype(int)
    return model
"""


def measure_predict(plan: Plan) -> list[Figure]:
    """Predictions that look fifty features up, in process and over HTTP, of a model that itself costs nothing."""
    root = plan.folder / "predict"
    make(root, entities=ENTITIES, rows=10)
    space: dict[str, Any] = {}
    exec(PREDICT, space)
    random = np.random.default_rng(5)
    (root / "stook.toml").write_text('[project]\nname = "bench"\n[serve]\nallow_pickle = true\n')
    with stook.open(root, clock=CLOCK) as p:
        p.apply()
        p.materialize(None, CLOCK, ["fifty"])
        labels = {"user_id": list(range(50)), "event_timestamp": ["2024-05-01"] * 50, "y": [0, 1] * 25}
        data = p.get_historical_features(labels, "s50x1")
        run = p.train("m", space["fit"], data=data, label="y", allow_pickle=True)
        p.deploy("m", p.release("m", run, features="s50x1"))
        read = p.prepare("s50x1")
        figures = []
        with stook_server(root) as port:
            for count in (1, 100):
                ids = [random.integers(0, ENTITIES, count).tolist() for _ in range(64)]
                calls = 300 if count == 1 else 100
                cases: dict[str, Callable[[], float]] = {
                    "stook": median_call(
                        lambda one: p.predict("m", entities={"user_id": one}, allow_pickle=True), ids, calls
                    ),
                    "the read alone": median_call(lambda one: read({"user_id": one}).to_arrow(), ids, calls),
                }
                taken = sampled(cases, plan.rounds)
                figures.append(
                    Figure(
                        f"predict {count:,} with 50 features looked up",
                        taken,
                        "s",
                        ("the read alone",),
                    )
                )
                bodies = [json.dumps({"entities": {"user_id": one}}).encode() for one in ids]
                target = Target(port, "/predict/m", bodies)
                rates = {"stook": [drive(target, 1, SECONDS / 2)[0] for _ in range(plan.rounds)]}
                figures.append(Figure(f"HTTP predict {count:,} with 50 features, 1 client", rates, "requests/s"))
    return figures
