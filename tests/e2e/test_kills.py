"""Kill -9 at random moments: nothing acknowledged is lost, and a rerun ends in the same state.

Real processes on a real project. `STOOK_TEST_KILLS` sets how often (20 here, 200 in `make test-long`); the seed of
a failing run is printed and can be given back as `STOOK_TEST_SEED`. Kills at chosen system calls are in `test_crashes`.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import stook

from . import processes
from .processes import KILLS, finish, free_port, kill_after, moments, start, start_server, wait_until, workers_of

pytestmark = pytest.mark.kill
ENTITIES = 20_000
ROWS = 60_000
END = "2024-02-01T00:00:00Z"
SETTINGS = """
[project]
name = "kills"
[limits]
chunk_rows = 1000
fold_rows = 3
"""
FEATURES = """
from stook import Entity, FeatureView, Field, FileSource, Float64, Int64, PushSource
account = Entity("account", join_keys={"account_id": Int64})
balance = FeatureView("balance", entities=[account], source=FileSource("balance.parquet"),
                      schema=[Field("amount", Float64), Field("moves", Int64)])
event = FeatureView("event", entities=[account], source=PushSource("events"), schema=[Field("number", Int64)])
"""
MATERIALIZE = """
import sys, stook
with stook.open(sys.argv[1]) as p:
    print("open", flush=True)
    p.materialize_incremental(sys.argv[2], ["balance"])
print("done", flush=True)
"""
REPLACE = MATERIALIZE.replace('p.materialize_incremental(sys.argv[2], ["balance"])',
                              'p.materialize(None, sys.argv[2], ["balance"], replace=True)')  # fmt: skip
PUSH = """
import sys, stook
first = int(sys.argv[2])
with stook.open(sys.argv[1]) as p:
    print("open", flush=True)
    for number in range(first, first + 100_000):
        p.push("event", [{"account_id": number % 50, "number": number}])
        print(number, flush=True)
"""


def rows(seed: int) -> pa.Table:
    random_ = np.random.default_rng(seed)
    start = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1e6)
    times = start + random_.integers(0, 25, ROWS) * 86_400_000_000  # coarse, so that ties are common
    return pa.table(
        {
            "account_id": random_.integers(0, ENTITIES, ROWS),
            "event_timestamp": pa.array(times).cast(pa.timestamp("us", tz="UTC")),
            "amount": random_.normal(size=ROWS),
            "moves": random_.integers(0, 100, ROWS),
        }
    )


def newest(table: pa.Table) -> dict[int, tuple[int, float]]:
    """Each account's newest row, ties to the later row of the file: position and amount."""
    found: dict[int, tuple[int, int, float]] = {}
    columns = (table[name].to_pylist() for name in ("account_id", "amount"))
    times = table["event_timestamp"].cast(pa.int64()).to_pylist()
    for position, (account, amount, when) in enumerate(zip(*columns, times, strict=True)):
        if account not in found or (when, position) >= found[account][:2]:
            found[account] = (when, position, amount)
    return {account: (when, amount) for account, (when, _, amount) in found.items()}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "stook.toml").write_text(SETTINGS)
    (tmp_path / "features.py").write_text(FEATURES)
    pq.write_table(rows(1), tmp_path / "balance.parquet")
    with stook.open(tmp_path) as p:
        p.apply()
    return tmp_path


def amounts_online(project: Path) -> dict[int, tuple[int, float]]:
    with stook.open(project) as p:
        result = p.prepare(["balance:amount"])({"account_id": np.arange(ENTITIES).tolist()[:10_000]})
        more = p.prepare(["balance:amount"])({"account_id": np.arange(10_000, ENTITIES).tolist()})
    found = {}
    for part in (result, more):
        values = part.to_dict()
        for account, amount, when in zip(values["account_id"], values["amount"], part.columns[0].event_us, strict=True):
            if amount is not None:
                found[account] = (int(when), amount)
    return found


def seconds_of(script: str, project: Path) -> float:
    started = time.monotonic()
    assert finish(start(script, project, END)) == "done\n"
    return time.monotonic() - started


@pytest.mark.case(29)
@pytest.mark.parametrize(("script", "share"), [(MATERIALIZE, 3), (REPLACE, 3)], ids=["incremental", "replace"])
def test_a_killed_materialization_ends_in_the_same_state(project: Path, script: str, share: int) -> None:
    """A run is killed, or terminated as by a machine that shuts down, repeated, killed again; the last may finish."""
    what = "materialize, incremental" if script is MATERIALIZE else "materialize, replace"
    longest = seconds_of(script, project)
    pq.write_table(rows(2), project / "balance.parquet")  # everything changes: ties, corrections, late rows
    before, after = newest(rows(1)), newest(rows(2))
    for number, seconds in enumerate(moments(KILLS // share, longest)):
        kill_after(start(script, project, END), seconds, what, signal.SIGTERM if number % 3 == 2 else signal.SIGKILL)
        for account, value in amounts_online(project).items():
            assert value in (before.get(account), after.get(account))
    assert finish(start(script, project, END)) == "done\n"
    found = amounts_online(project)
    expected = dict(after)
    if script is MATERIALIZE:  # an upsert never takes away what a newer row of the old file had said
        for account, value in before.items():
            expected[account] = max(value, expected.get(account, value), key=lambda v: v[0])
        expected |= {a: v for a, v in after.items() if v[0] >= expected[a][0]}
    assert found == expected


def test_a_stopped_process_goes_on_and_readers_do_not_wait_for_it(project: Path) -> None:
    """SIGSTOP and, a while later, SIGCONT, at random moments of a load and of pushes, with somebody reading."""
    choose = processes.choices("stops")
    stops = max(KILLS // 4, 3)
    with stook.open(project) as p:
        read = p.prepare(["balance:amount", "event:number"])
        loading, pushing = start(REPLACE, project, END), start(PUSH, project, 0)
        try:
            for _ in range(stops):
                stopped = choose.choice([loading, pushing])
                time.sleep(choose.uniform(0.0, 0.4))
                stopped.send_signal(signal.SIGSTOP)
                for _ in range(20):
                    read({"account_id": list(range(100))})
                stopped.send_signal(signal.SIGCONT)
            loaded, _ = loading.communicate(timeout=120)
            assert loaded == "done\n" and loading.returncode == 0
        finally:
            loading.kill()
            pushing.kill()
            printed, _ = pushing.communicate()
            loading.communicate()
    last = int(printed.split()[-1])
    with stook.open(project) as p:
        online = p.get_online_features(["event:number"], entities={"account_id": list(range(50))}).to_dict()["number"]
    assert all(online[n % 50] is not None and online[n % 50] >= n for n in range(max(last - 49, 0), last + 1))
    assert amounts_online(project) == newest(rows(1))


def test_a_killed_client_loses_no_acknowledged_push(project: Path) -> None:
    """Case 65's first half: what was acknowledged is online and in history, whoever dies when."""
    acknowledged = -1
    for seconds in moments(KILLS - 2 * (KILLS // 3), 1.5):
        printed = kill_after(start(PUSH, project, acknowledged + 1), seconds, "push").split()
        acknowledged = int(printed[-1]) if printed else acknowledged
        with stook.open(project) as p:
            online = p.get_online_features(["event:number"], entities={"account_id": list(range(50))}).to_dict()
            now = datetime.now(UTC) + timedelta(seconds=1)
            labels = pa.table({"account_id": list(range(50)), "event_timestamp": [now] * 50})
            history = p.get_historical_features(labels, ["event:number"]).to_arrow()
        numbers = dict(zip(online["account_id"], online["number"], strict=True))
        for number in range(max(acknowledged - 49, 0), acknowledged + 1):
            assert numbers[number % 50] is not None and numbers[number % 50] >= number
        assert history["number"].to_pylist() == online["number"]
        acknowledged = max([acknowledged, *(n for n in numbers.values() if n is not None)])
    assert acknowledged > 0


class Client(threading.Thread):
    """Pushes 0, 1, 2 ... over HTTP, each until it is acknowledged, and reads between; keeps what was acknowledged."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port, self.stop, self.acknowledged, self.wrong = port, threading.Event(), -1, ""

    def ask(self, path: str, body: dict[str, object]) -> dict[str, Any] | None:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return json.load(answer)  # type: ignore[no-any-return]
        except (OSError, HTTPException):
            return None  # killed under us: not acknowledged

    def run(self) -> None:
        number = 0
        while not self.stop.is_set() and not self.wrong:
            row = {"account_id": [number % 50], "number": [number]}
            if self.ask("/push", {"push_source_name": "events", "df": row}) is None:
                time.sleep(0.02)
                continue
            self.acknowledged = number
            read = {"features": ["event:number"], "entities": {"account_id": [number % 50]}}
            answer = self.ask("/get-online-features", read)
            if answer is not None and answer["results"][1]["values"] != [number]:
                self.wrong = f"{number}: {answer}"
            number += 1


def test_a_killed_server_or_worker_loses_no_acknowledged_push_while_materialize_runs(project: Path) -> None:
    """Server, worker and materialize are killed in turn under a pushing and reading client."""
    choose = processes.choices("server")
    port = free_port()
    server = start_server(project, port)
    client = Client(port)
    client.start()
    loading = start(MATERIALIZE, project, END)
    try:
        for number in range(max(KILLS // 4, 3)):
            before = client.acknowledged
            time.sleep(choose.uniform(0.1, 1.0))
            if number % 3 == 0:
                os.kill(choose.choice(workers_of(server)), signal.SIGKILL)
                processes.killed["worker of a server under load"] += 1
            elif number % 3 == 1:
                server.kill()
                server.communicate()
                processes.killed["server under load"] += 1
                server = start_server(project, port)
            else:
                loading.kill()
                loading.communicate()
                processes.killed["materialize beside a server"] += 1
                loading = start(MATERIALIZE, project, END)
            wait_until(lambda before=before: client.acknowledged > before + 1 or bool(client.wrong))
            assert not client.wrong
        assert loading.wait(timeout=120) == 0
        client.stop.set()
        client.join(timeout=30)
    finally:
        client.stop.set()
        loading.kill()
        loading.communicate()
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
    assert client.acknowledged > 3 and not client.wrong
    with stook.open(project) as p:
        values = p.get_online_features(["event:number"], entities={"account_id": list(range(50))}).to_dict()["number"]
    for acknowledged in range(max(client.acknowledged - 49, 0), client.acknowledged + 1):
        assert values[acknowledged % 50] >= acknowledged
    assert amounts_online(project) == newest(rows(1))
