"""Several processes at one project at once: writers on one key, materializations, applies, readers during loads.

Real processes on the embedded engines. Whatever they interleave to, the end is what some order of them gives, and a
reader meets one generation in an answer.
"""

from __future__ import annotations

import json
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import stook
from stook.core.specs import ViewSpec

from .processes import KILLS, PATIENCE_S, finish, free_port, hear, start, start_server, tell, wait_until

pytestmark = pytest.mark.kill
ROUNDS = max(KILLS, 8)
MANY = 1_500  # entities of one read: whole columns; a handful are read one by one
FEW = 40
END = "2024-02-01T00:00:00Z"
SETTINGS = '[project]\nname = "together"\n[limits]\nchunk_rows = 500\nfold_rows = 25\n'
FEATURES = """
from stook import Entity, FeatureView, Field, FileSource, Float64, Int64, PushSource
account = Entity("account", join_keys={"account_id": Int64})
balance = FeatureView("balance", entities=[account], source=FileSource("balance.parquet"),
                      schema=[Field("amount", Int64), Field("moves", Int64)])
limit = FeatureView("limit", entities=[account], source=FileSource("limit.parquet"), schema=[Field("most", Int64)])
event = FeatureView("event", entities=[account], source=PushSource("events"), schema=[Field("number", Int64)])
"""
PUSH = """
import sys, stook
from datetime import datetime, timedelta, timezone
writer, count = int(sys.argv[2]), int(sys.argv[3])
day = datetime(2024, 1, 1, tzinfo=timezone.utc)
with stook.open(sys.argv[1]) as p:
    print("open", flush=True)
    sys.stdin.readline()
    for n in range(count):
        when = day + timedelta(seconds=n // 4)  # coarse, so that ties are common
        p.push("event", [{"account_id": k, "number": n * 2 + writer, "event_timestamp": when} for k in (1, 2)])
print("done", flush=True)
"""
OBEY = """
import sys, stook
from stook import *
with stook.open(sys.argv[1]) as p:
    print("open", flush=True)
    for line in sys.stdin:
        try:
            exec(line)
        except stook.errors.StookError as error:
            print(type(error).__name__, flush=True)
        else:
            print("done", flush=True)
"""
LOAD = """
import os, sys, stook, pyarrow as pa, pyarrow.parquet as pq
from datetime import datetime, timezone
root, many = sys.argv[1], int(sys.argv[2])
day = datetime(2024, 1, 1, tzinfo=timezone.utc)
def write(view, columns):
    table = pa.table({"account_id": range(many), "event_timestamp": [day] * many, **columns})
    pq.write_table(table, f"{root}/{view}.new")
    os.replace(f"{root}/{view}.new", f"{root}/{view}.parquet")
with stook.open(root) as p:
    print("open", flush=True)
    number = 1
    while sys.stdin.readline() != "stop\\n":
        number += 1
        write("balance", {"amount": [number] * many, "moves": [number * 1000] * many})
        write("limit", {"most": [number] * many})
        for view in ("balance", "limit"):
            p.materialize(None, "2024-02-01", [view], replace=True)
            live, before = [g.number for g in reversed(p.generations(view)) if g.state.value != "loading"][:2]
            for generation in (before, live):
                p.activate(view, generation)
        print(number, flush=True)
"""


def write_sources(root: Path, number: int) -> None:
    day = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    keys: dict[str, Any] = {"account_id": range(MANY), "event_timestamp": [day] * MANY}
    balance = pa.table({**keys, "amount": [number] * MANY, "moves": [number * 1_000] * MANY})
    pq.write_table(balance, root / "balance.parquet")
    pq.write_table(pa.table({**keys, "most": [number] * MANY}), root / "limit.parquet")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "stook.toml").write_text(SETTINGS)
    (tmp_path / "features.py").write_text(FEATURES)
    write_sources(tmp_path, 1)
    with stook.open(tmp_path) as p:
        p.apply()
    return tmp_path


@contextmanager
def together(*processes: subprocess.Popen[str]) -> Iterator[None]:
    """Ends the processes, whatever happens."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.case(26, 27, 32)
def test_two_writers_on_one_key_keep_the_newest_and_lose_none(project: Path) -> None:
    count = 3 * ROUNDS
    writers = [start(PUSH, project, number, count) for number in (0, 1)]
    with together(*writers):
        for writer in writers:
            tell(writer)
        for writer in writers:
            assert finish(writer) == "done\n"
    with stook.open(project) as p:
        online = p.get_online_features(["event:number"], entities={"account_id": [1, 2]}).to_dict()["number"]
        labels = pa.table({"account_id": [1, 2], "event_timestamp": [datetime.now(UTC)] * 2})
        history = p.get_historical_features(labels, ["event:number"]).to_arrow()["number"].to_pylist()
        table, tail, _ = p._parts.pushes.history_of(p._parts.view("event"))
        assert table is not None  # folds ran beside the pushes
        rows = p._parts.wiring.tables.read(table).to_pylist() + (tail.to_pylist() if tail is not None else [])
    assert online == history  # both follow the order of arrival in the log
    last = (count - 1) // 4 * 4
    assert all(number // 2 >= last for number in online)
    for key in (1, 2):
        assert sorted(r["number"] for r in rows if r["account_id"] == key) == list(range(2 * count))


MODES = {
    "incremental": f"p.materialize_incremental('{END}', ['balance', 'limit'])",
    "replace": f"p.materialize(None, '{END}', ['balance', 'limit'], replace=True)",
}


@pytest.mark.case(29)
def test_two_materializations_at_once_end_as_one(project: Path) -> None:
    """Both incremental, both anew, one of each; on views that hold nothing yet, and on such that do."""
    a, b = start(OBEY, project), start(OBEY, project)
    number = 1
    with together(a, b), stook.open(project) as p:
        for loaded in [False, True] * max(ROUNDS // 20, 1):
            for pair in combinations_with_replacement(MODES, 2):
                number += 1
                if not loaded:
                    for view in ("balance", "limit"):
                        p.delete("feature-view", view)
                    p.apply()
                write_sources(project, number)
                assert both(a, b, *(MODES[mode] for mode in pair)) == ("done", "done")
                read = p.prepare(["balance:amount", "balance:moves", "limit:most"])
                found = read({"account_id": list(range(MANY))}).to_dict()
                assert set(found["amount"]) == set(found["most"]) == {number}
                assert set(found["moves"]) == {number * 1_000}
                assert p.parity(["balance:amount", "limit:most"], {"account_id": list(range(200))})
                for view in ("balance", "limit"):
                    states = [g.state.value for g in p.generations(view)]
                    assert states.count("live") == 1 and "loading" not in states


def both(a: subprocess.Popen[str], b: subprocess.Popen[str], first: str, second: str) -> tuple[str, str]:
    tell(a, first)
    tell(b, second)
    return hear(a), hear(b)


@pytest.mark.case(59)
def test_two_applies_at_once_are_both_kept_or_one_is_refused(project: Path) -> None:
    """Others' objects, the same object, and an entity that changes under a view that is being added."""
    a, b = start(OBEY, project), start(OBEY, project)
    with together(a, b):
        for n in range(ROUNDS):
            entity = f"e = Entity('e{n}', {{'k': Int64}}); "
            view = "FeatureView('{}', entities=[e], source=PushSource('s{}'), schema=[Field('x', Int64)])"
            first, second = (
                f"{entity}p.apply([e, {view.format(f'{letter}{n}', f'{letter}{n}')}])" for letter in ("a", "b")
            )
            assert both(a, b, first, second) == ("done", "done")
            said = both(a, b, *(f"p.apply([Entity('same{n}', {{'k': {t}}})])" for t in ("Int64", "String")))
            assert set(said) <= {"done", "Conflict", "IncompatibleChange"} and "done" in said
            tell(a, f"p.apply([Entity('t{n}', {{'k': Int64}})])")
            assert hear(a) == "done"
            typed = view.format(f"c{n}", f"c{n}").replace("[e]", f"[Entity('t{n}', {{'k': Int64}})]")
            said = both(a, b, f"p.apply([{typed}])", f"p.apply([Entity('t{n}', {{'k': String}})])")
            assert set(said) <= {"done", "Conflict", "IncompatibleChange"} and "done" in said
    with stook.open(project) as p:
        entities = {r.name: r.spec for r in p.list("entity")}
        views = {r.name: ViewSpec.from_spec(r.name, r.spec) for r in p.list("feature-view")}
    assert {f"{letter}{n}" for n in range(ROUNDS) for letter in ("a", "b")} <= set(views)
    assert {f"same{n}" for n in range(ROUNDS)} <= set(entities)
    for name, view in views.items():  # no view stands on another entity than it was declared on
        keys = [(k, t) for e in view.entities for k, t in entities[e]["join_keys"]]
        assert keys == [(c.name, c.dtype.to_spec()) for c in view.keys], name


class Reader(threading.Thread):
    """Asks again and again, and keeps the first answer that mixes generations."""

    def __init__(self, ask: Callable[[], tuple[set[int], ...]]) -> None:
        super().__init__(daemon=True)
        self.ask, self.stop = ask, threading.Event()
        self.seen: set[int] = set()
        self.answers, self.wrong = 0, ""

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                for values in self.ask():
                    self.answers += 1
                    self.seen |= values
                    if len(values) != 1 or None in values:
                        self.wrong = f"answer {self.answers} holds {sorted(values, key=str)}"
                        return
        except BaseException as error:  # noqa: BLE001  the test looks at it
            self.wrong = repr(error)


def in_process(p: Any, count: int) -> Callable[[], tuple[set[int], ...]]:
    """Reads that many entities of two views; the generations met in each view."""
    read = p.prepare(["balance:amount", "balance:moves", "limit:most"])
    entities = {"account_id": list(range(count))}

    def ask() -> tuple[set[int], ...]:
        answer = read(entities)
        if count > FEW:
            table = answer.to_arrow()
            balance = set(pc.unique(table["amount"]).to_pylist())
            balance |= {v // 1_000 for v in pc.unique(table["moves"]).to_pylist()}
            return balance, set(pc.unique(table["most"]).to_pylist())
        values = answer.to_dict()
        return set(values["amount"]) | {v // 1_000 for v in values["moves"]}, set(values["most"])

    return ask


def over_http(port: int, count: int) -> Callable[[], tuple[set[int], ...]]:
    """The same from a server."""
    body = {"features": ["balance:amount", "balance:moves", "limit:most"]}
    data = json.dumps({**body, "entities": {"account_id": list(range(count))}}).encode()

    def ask() -> tuple[set[int], ...]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/get-online-features", data)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            found = json.load(answer)
        names = found["metadata"]["feature_names"]
        values = {name: set(part["values"]) for name, part in zip(names, found["results"], strict=True)}
        return values["amount"] | {v // 1_000 for v in values["moves"]}, values["most"]

    return ask


@pytest.mark.case(34, 35, 36)
def test_readers_during_loads_and_switches_see_one_generation_each_time(project: Path) -> None:
    """Few and many entities, two views, in this process and over HTTP, while both views are loaded and switched."""
    port = free_port()
    with stook.open(project) as p, ExitStack() as ends:
        p.materialize(None, END, ["balance", "limit"])
        server = start_server(project, port)
        ends.callback(lambda: (server.terminate(), server.communicate(timeout=PATIENCE_S)))
        asks = [in_process(p, FEW), in_process(p, MANY), over_http(port, FEW), over_http(port, MANY)]
        readers = [Reader(ask) for ask in asks]
        loader = start(LOAD, project, MANY)
        with together(loader):
            for reader in readers:
                reader.start()
            for _ in range(max(ROUNDS // 4, 5)):
                tell(loader)
                assert hear(loader).isdigit()
                told = [reader.answers for reader in readers]
                wait_until(
                    lambda told=told: all(r.answers > n + 1 or r.wrong for r, n in zip(readers, told, strict=True))
                )
            for reader in readers:
                reader.stop.set()
                reader.join(PATIENCE_S)
    assert [reader.wrong for reader in readers] == ["", "", "", ""]
    assert all(len(reader.seen) > 2 for reader in readers), [(r.answers, r.seen) for r in readers]
