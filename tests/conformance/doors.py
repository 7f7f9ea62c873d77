"""The ways out: one question asked through the SDK, the remote SDK, the command line and HTTP.

It is a file of its own because a new face is one more function here, and every case is then asked through it. The
suite calls it. It must never repair an answer: what a door gives is compared as it came.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import CliRunner

import stook
from stook.client import Remote
from stook.core.arrow import to_arrow
from stook.core.definitions import Projection
from stook.core.instants import to_datetime, to_us
from stook.core.statuses import NO_TIME
from stook.edge.cli.main import cli as command_line
from stook.testing.cases.case import KNOWN_COLUMN, LABEL_COLUMN, NOW, Case

from .spelling import from_json, to_json
from .worlds import World

ARROW = "application/vnd.apache.arrow.stream"
MANY = 70  # rows from which an online read decodes whole columns; see FEW_ROWS_MAX
CLOCK = to_datetime(NOW).isoformat()


@dataclass
class Answer:
    """What came back, by column: values; online also statuses, event times in microseconds, ages in seconds."""

    values: Mapping[str, Sequence[Any]]
    statuses: Mapping[str, Sequence[str]] | None = None
    event_us: Mapping[str, Sequence[int]] | None = None
    ages: Mapping[str, Sequence[float | None]] | None = None
    types: Mapping[str, pa.DataType] | None = None


def labels_of(case: Case) -> pa.Table:
    """The label table; a column of the user's own goes along."""
    columns = entities_of(case)
    columns[LABEL_COLUMN] = pa.array(case.labels, pa.int64()).cast(pa.timestamp("us", "UTC"))
    if case.known_by is not None:
        columns[KNOWN_COLUMN] = pa.array(case.known_by, pa.int64()).cast(pa.timestamp("us", "UTC"))
    columns["own label"] = pa.array(range(len(case.labels)), pa.int32())
    return pa.table(columns)


def entities_of(case: Case) -> dict[str, Any]:
    """The key columns, typed."""
    types = case.key_types()
    return {name: pa.array(values, to_arrow(types[name])) for name, values in case.entities.items()}


def training(case: Case, world: World) -> Answer:
    """A training set in Arrow; the user's own columns must come back untouched."""
    return _checked(case, _retrieval(case, world).to_arrow())


def saved(case: Case, world: World) -> Answer:
    """A training set saved as a dataset, verified, and read back."""
    name = case.name.replace("_", "-")
    _retrieval(case, world).save(name)
    dataset = world.platform.dataset(name)
    assert dataset.verify() == []
    return _checked(case, dataset.to_arrow())


def polars(case: Case, world: World) -> Answer:
    """A training set as a Polars frame."""
    frame = _retrieval(case, world).to_polars()
    return Answer({name: frame[name].to_list() for name in case.feature_types()})


def _retrieval(case: Case, world: World) -> Any:
    known = KNOWN_COLUMN if case.known_by is not None else None
    return world.platform.get_historical_features(
        labels_of(case), case.asked, full_feature_names=case.full_feature_names, as_known_at=known
    )


def _checked(case: Case, table: pa.Table) -> Answer:
    own = labels_of(case)
    assert table.column_names == [*own.column_names, *case.feature_types()], table.column_names
    assert table.select(own.column_names).equals(own), "the user's own columns came back changed"
    names = list(case.feature_types())
    return Answer({n: table.column(n).to_pylist() for n in names}, types={n: table.schema.field(n).type for n in names})


def cli_training(case: Case, world: World) -> Answer:
    """`stook get-historical-features`, from a file to a file."""
    labels, output = world.root / f"{case.name}.in.parquet", world.root / f"{case.name}.out.parquet"
    pq.write_table(labels_of(case), labels)
    options = ["--as-known-at", KNOWN_COLUMN] if case.known_by is not None else []
    _stook(world, case, "get-historical-features", str(labels), "-o", str(output), *options)
    return _checked(case, pq.read_table(output))


def sdk(case: Case, world: World) -> Answer:
    """`get_online_features(...)` as Python values."""
    return _online(world.platform, case)


def remote(case: Case, world: World) -> Answer:
    """The same through `stook.open("http://...")`."""
    with stook.open(world.url) as client:
        return _online(client, case)


def remote_json(case: Case, world: World) -> Answer:
    """The same through a client without Arrow; as Arrow, once it is there, its answer is of the declared types too."""
    with Remote(world.url, arrow=False) as client:
        return _online(client, case, in_arrow=True)


def _online(platform: Any, case: Case, *, in_arrow: bool = False) -> Answer:
    entities = {name: list(values) for name, values in case.entities.items()}
    # a view without keys has as many rows as it is asked for
    rows = [{} for _ in case.labels] if not entities else None
    found = platform.get_online_features(
        case.asked, rows, entities=entities or None, full_feature_names=case.full_feature_names
    )
    times = {
        name: [NO_TIME if at is None else to_us(at) for at in column] for name, column in found.event_timestamps.items()
    }
    types = None
    if in_arrow:
        table = found.to_arrow()
        types = {name: table.schema.field(name).type for name in case.feature_types()}
    return Answer(found.to_dict(), found.statuses, times, found.ages, types)


def sdk_arrow(case: Case, world: World) -> Answer:
    """A prepared read of many rows as Arrow: whole columns are decoded at once."""
    return _many(world.platform, case)


def remote_arrow(case: Case, world: World) -> Answer:
    """The same from afar."""
    with stook.open(world.url) as client:
        return _many(client, case)


def _many(platform: Any, case: Case) -> Answer:
    read = platform.prepare(features=case.asked, full_feature_names=case.full_feature_names)
    rows = len(case.labels)
    times = -(-MANY // rows) if rows else 1
    entities = {name: pa.chunked_array([column] * times) for name, column in entities_of(case).items()}
    found = read(entities).to_arrow()
    first = found.slice(0, rows)
    for copy in range(1, times):  # every copy of the rows is answered as the first one is
        assert repr(found.slice(copy * rows, rows).to_pylist()) == repr(first.to_pylist())
    return _from_table(case, first)


def _from_table(case: Case, table: pa.Table) -> Answer:
    names = list(case.feature_types())
    return Answer(
        {n: table.column(n).to_pylist() for n in names},
        {n: table.column(f"{n}__status").to_pylist() for n in names},
        {n: table.column(f"{n}__event_timestamp").cast(pa.int64()).fill_null(NO_TIME).to_pylist() for n in names},
        types={n: table.schema.field(n).type for n in names},
    )


def http_json(case: Case, world: World) -> Answer:
    """`POST /get-online-features`, answered in JSON."""
    found = _post(case, world, {}).json()
    names = found["metadata"]["feature_names"]
    results = dict(zip(names, found["results"], strict=True))
    types = case.feature_types()
    assert sorted(names[: len(case.entities)]) == sorted(case.entities), names
    assert names[len(case.entities) :] == list(types), names
    return Answer(
        {n: [from_json(v, t) for v in results[n]["values"]] for n, t in types.items()},
        {n: results[n]["statuses"] for n in types},
        {n: [NO_TIME if at is None else to_us(at) for at in results[n]["event_timestamps"]] for n in types},
        {n: results[n]["ages"] for n in types},
    )


def http_arrow(case: Case, world: World) -> Answer:
    """`POST /get-online-features`, answered as an Arrow stream."""
    answer = _post(case, world, {"Accept": ARROW})
    with pa.ipc.open_stream(answer.content) as reader:
        return _from_table(case, reader.read_all())


def _post(case: Case, world: World, headers: dict[str, str]) -> httpx.Response:
    types = case.key_types()
    body: dict[str, Any] = {"features": [_asked(item) for item in case.asked]}
    if case.entities:
        body["entities"] = {n: [to_json(v, types[n]) for v in column] for n, column in case.entities.items()}
    else:
        body["entity_rows"] = [{} for _ in case.labels]
    body["full_feature_names"] = case.full_feature_names
    if world.app is not None:
        answer = asyncio.run(_post_in_process(world.app, body, headers))
    else:
        answer = world.web.post("/get-online-features", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


async def _post_in_process(app: Any, body: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://stook") as client:
        return await client.post("/get-online-features", json=body, headers=headers)


def _asked(item: str | Projection) -> Any:
    if isinstance(item, str):
        return item
    chosen = None if item.features is None else list(item.features)
    return {"view": item.view, "features": chosen, "name": item.name, "join_key_map": dict(item.join_key_map)}


def cli(case: Case, world: World) -> Answer:
    """`stook get-online-features --json`."""
    entities = []
    for name, values in case.entities.items():
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow([_text(value) for value in values])
        entities += ["-e", f"{name}={line.getvalue()}"]
    done = _stook(world, case, "get-online-features", *entities, "--clock", CLOCK)
    found = json.loads(done)
    types = case.feature_types()
    return Answer(
        {n: [from_json(v, t) for v in found["values"][n]] for n, t in types.items()},
        {n: found["statuses"][n] for n in types},
        {n: [NO_TIME if at is None else to_us(at) for at in found["event_timestamps"][n]] for n in types},
        {n: found["ages"][n] for n in types},
    )


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, date | datetime) else str(value)


def _stook(world: World, case: Case, *arguments: str) -> str:
    """The command line in this process: a process a case would be most of the suite's time, and `tests/e2e/test_cli.py`
    starts enough of them."""
    features = [part for item in case.asked for part in ("-f", str(item))]
    full = ["--full-feature-names"] if case.full_feature_names else []
    done = CliRunner().invoke(command_line, ["-C", str(world.root), "--json", *arguments, *features, *full])
    assert done.exit_code == 0, done.output
    return done.stdout


Door = Callable[[Case, World], Answer]
PAST: dict[str, Door] = {"training": training, "saved": saved, "polars": polars, "cli training": cli_training}
NOW_DOORS: dict[str, Door] = {
    "sdk": sdk,
    "sdk arrow": sdk_arrow,
    "http json": http_json,
    "http arrow": http_arrow,
    "remote": remote,
    "remote json": remote_json,
    "remote arrow": remote_arrow,
    "cli": cli,
}
DOORS = {**PAST, **NOW_DOORS}
