"""A project with a bit of everything, what can be done to it, and what its user sees of it.

It is a file of its own because the same operations are killed, stopped and starved of disk space. Those tests call it.
It must never compare more than a user can see: how stores lay things out is theirs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import stook
from stook.core.instants import to_datetime, to_us
from stook.models.releases import get_release

from .processes import copy_project

NOW = "2024-02-01T00:00:00Z"
ACCOUNTS = 300  # more than are read one by one
KINDS = ("entity", "feature-view", "feature-service", "push-source", "dataset", "release", "deployment")
SETTINGS = '[project]\nname = "crashes"\n[limits]\nchunk_rows = 100\n'
FIRST = """
from stook import Entity, FeatureService, FeatureView, Field, FileSource, Float64, Int64, PushSource
account = Entity("account", join_keys={"account_id": Int64})
balance = FeatureView("balance", entities=[account], source=FileSource("balance.parquet"),
                      schema=[Field("amount", Float64), Field("moves", Int64)])
event = FeatureView("event", entities=[account], source=PushSource("events"), schema=[Field("number", Int64)])
twin = FeatureView("twin", entities=[account], source=PushSource("events"), schema=[Field("number", Int64)])
"""
NOTE = """
note = FeatureView("note", entities=[account], source=PushSource("notes"), schema=[Field("mark", Int64)])
"""
MORE = """
other = Entity("other", join_keys={"other_id": Int64}, description="new")
extra = FeatureView("extra", entities=[account, other], source=PushSource("extras"), schema=[Field("x", Int64)])
ranking = FeatureService("ranking", features=[balance, twin])
"""
FIT = """
import numpy as np
from sklearn.linear_model import LinearRegression
def fit(data, params, run):
    x = np.column_stack([data[c].to_numpy() for c in ("amount", "moves")])
    return LinearRegression().fit(x, np.arange(len(x)) * params["slope"])
"""
TRAIN = FIT + 'p.train("m", fit, data=p.dataset("s"), label="label", params={"slope": 2.0})\n'
SAVE = """
import pyarrow as pa
from stook.core.instants import to_datetime, to_us
labels = pa.table({"account_id": range(COUNT), "label": [1.0] * COUNT,
                   "event_timestamp": [to_datetime(to_us(NOW, "now"))] * COUNT})
p.get_historical_features(labels, ["balance:amount", "balance:moves"]).save("s")
"""
RELEASE = 'p.release("m", "m-1", features=["balance:amount", "balance:moves"])\n'


def script(body: str, *, clock: str | None = NOW) -> str:
    """A script for the stage: the body with the project open as `p`."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"NOW = {NOW!r}\nwith stook.open(root, clock={clock!r}) as p:\n{lines}"


def perform(body: str, root: Path) -> None:
    """The same in this process."""
    exec(script(body), {"root": str(root), "stook": stook})


def write_balances(root: Path, generation: int) -> None:
    """Every account's amount and moves name their generation."""
    day = to_us("2024-01-01T00:00:00Z", "day") + generation * 3_600_000_000
    pq.write_table(
        pa.table(
            {
                "account_id": range(ACCOUNTS),
                "event_timestamp": [to_datetime(day)] * ACCOUNTS,
                "amount": [float(generation)] * ACCOUNTS,
                "moves": [generation * 1_000 + n for n in range(ACCOUNTS)],
            }
        ),
        root / "balance.parquet",
    )


def make_base(root: Path) -> Path:
    """A project with two generations loaded, pushes folded and not, a dataset, a run, two releases, a deployment."""
    root.mkdir()
    (root / "stook.toml").write_text(SETTINGS)
    (root / "features.py").write_text(FIRST + NOTE)
    write_balances(root, 1)
    with stook.open(root, clock=NOW) as p:
        p.apply()
        p.materialize(None, NOW, ["balance"])
        p.push("notes", [{"account_id": n, "mark": n} for n in range(5)])
        p.push("events", [{"account_id": n, "number": n} for n in range(3)])
        p.fold()
        p.push("events", [{"account_id": n, "number": n + 10} for n in range(2, 5)])
    write_balances(root, 2)
    perform('p.materialize(None, NOW, ["balance"], replace=True)', root)
    perform(SAVE.replace("COUNT", "50"), root)
    perform(TRAIN, root)
    perform(RELEASE * 2, root)
    perform('p.deploy("m", "m-1")', root)
    return root


State = dict[str, Any]


def observe(root: Path) -> State:
    """What a user sees of a project: declarations, online values, pushed history, datasets, predictions."""
    found: State = {}
    with stook.open(root, clock=NOW) as p:
        check_no_orphans(p)
        for kind in KINDS:
            found[kind] = json.loads(
                json.dumps([[r.name, r.spec] for r in p.list(kind)]).replace(str(root.absolute()), "ROOT")
            )
        everyone = {"account_id": list(range(ACCOUNTS))}
        for record in p.list("feature-view"):
            view = p._parts.view(record.name)
            if len(view.keys) == 1:
                features = [f"{view.name}:{c.name}" for c in view.features]
                answer = p.get_online_features(features, entities=everyone)
                found[f"online {view.name}"] = answer.to_dict()
            found[f"history {view.name}"] = sorted(pushed(p, view), key=str)
        for name, _ in found["dataset"]:
            dataset = p.dataset(name)
            assert dataset.verify() == []
            found[f"rows of {name}"] = dataset.to_arrow().to_pylist()
        for name, _ in found["release"]:
            p._answering._model(get_release(p._parts.wiring.records, name), None)  # it loads
        for name, _ in found["deployment"]:
            found[f"predictions of {name}"] = p.predict(name, entities={"account_id": [1, 2]}).to_dict()
    return found


def check_no_orphans(p: Any) -> None:
    """No view that is gone has left rows behind, online or in history."""
    uids = {r.spec["uid"] for r in p.list("feature-view")}
    assert {name.split("/")[1] for name in p._parts.wiring.tables.names("push/")} <= uids
    assert p._parts.registry.orphans() == ()


def pushed(p: Any, view: Any) -> list[dict[str, Any]]:
    """Every pushed row that history holds, as often as it holds it."""
    table, tail, _ = p._parts.pushes.history_of(view)
    rows = [] if table is None else p._parts.wiring.tables.read(table).to_pylist()
    return rows + ([] if tail is None else tail.to_pylist())


Seen = Callable[[State, State, State], bool]


def whole(seen: State, old: State, new: State) -> bool:
    """The old state or the new one."""
    return seen in (old, new)


def row_by_row(seen: State, old: State, new: State) -> bool:
    """An upsert comes online chunk by chunk: each account's row is the old or the new one, and all else is."""
    columns, before, after = (
        list(zip(*(s["online balance"][c] for c in ("account_id", "amount", "moves")), strict=True))
        for s in (seen, old, new)
    )
    rows = all(row in (b, a) for row, b, a in zip(columns, before, after, strict=True))
    return rows and whole({**seen, "online balance": 0}, {**old, "online balance": 0}, {**new, "online balance": 0})


def view_by_view(seen: State, old: State, new: State) -> bool:
    """A prune deletes one declaration after the other: each part is the old or the new one, or gone."""
    whole_parts = all(part in (old.get(k), new.get(k)) for k, part in seen.items() if k not in KINDS)
    return whole_parts and all(name in old[kind] for kind in KINDS for name in seen[kind])


@dataclass(frozen=True)
class Operation:
    """Something that is killed: what changes before it, what it calls, what may be seen after."""

    name: str
    body: str
    features: str = FIRST + NOTE
    generation: int = 2
    may_be: Seen = whole
    repeatable: bool = True  # else it is repeated only where the old state was left: it is a new act each time


OPERATIONS = [
    Operation("apply", "p.apply()", features=FIRST + NOTE + MORE),
    Operation("apply, prune", "p.apply(prune=True)", features=FIRST, may_be=view_by_view),
    Operation("push", 'p.push("events", [{"account_id": n, "number": 100 + n} for n in range(7)])', repeatable=False),
    Operation("fold", "p.fold()"),
    Operation("materialize, incremental", "p.materialize_incremental(NOW)", generation=3, may_be=row_by_row),
    Operation("materialize, replace", 'p.materialize(None, NOW, ["balance"], replace=True)', generation=3),
    Operation("activate", 'p.activate("balance", 1)'),
    Operation("dataset save", SAVE.replace("COUNT", "90"), generation=3, repeatable=False),
    Operation("release", RELEASE, repeatable=False),
    Operation("deploy", 'p.deploy("m", "m-2")'),
    Operation("rollback", 'p.rollback("m")', repeatable=False),
]


def begin(base: Path, root: Path, operation: Operation) -> Path:
    """A copy of the project, about to perform the operation."""
    copy_project(base, root)
    (root / "features.py").write_text(operation.features)
    if operation.generation != 2:
        write_balances(root, operation.generation)
    if operation.name == "rollback":
        perform('p.deploy("m", "m-2")', root)
    return root


def check_survived(operation: Operation, root: Path, old: State, new: State, at: object) -> None:
    """The state is whole, and a rerun ends in the new one."""
    seen = observe(root)
    assert operation.may_be(seen, old, new), (at, difference(seen, old), difference(seen, new))
    if operation.repeatable or seen == old:
        perform(operation.body, root)
        seen = observe(root)
    assert seen == new, (at, difference(seen, new))


def difference(seen: State, other: State) -> dict[str, Any]:
    """Where two states differ."""
    return {k: (seen.get(k), other.get(k)) for k in seen | other if seen.get(k) != other.get(k)}
