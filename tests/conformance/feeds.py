"""The ways in: a case's facts as files of each kind, as a query over files, as pushes over each door.

It is a file of its own because a new kind of source is one more function here, and every case then comes in by it.
Worlds call it. It must never change a fact to fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import deltalake
import httpx
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

import stook
from stook import FileSource, PushSource, SqlSource
from stook.client import Remote
from stook.core.arrow import to_arrow
from stook.core.definitions import Source
from stook.core.dtypes import DType
from stook.testing.cases.case import CaseView, Fact

from .spelling import to_json

EVENT, CREATED = "event_timestamp", "created"
TIMES = pa.timestamp("us", "UTC")


def table(view: CaseView, facts: Sequence[Fact]) -> pa.Table:
    """Facts as a typed table: keys, event time, features, perhaps the created time."""
    columns: dict[str, Any] = {}
    for i, (name, dtype) in enumerate(view.keys):
        columns[name] = pa.array([fact.key[i] for fact in facts], to_arrow(dtype))
    columns[EVENT] = pa.array([fact.at for fact in facts], pa.int64()).cast(TIMES)
    for i, (name, dtype) in enumerate(view.features):
        columns[name] = pa.array([fact.values[i] for fact in facts], to_arrow(dtype))
    if view.created:
        columns[CREATED] = pa.array([fact.known for fact in facts], pa.int64()).cast(TIMES)
    return pa.table(columns)


def source(feed: str, root: Path, view: CaseView) -> Source:
    """The view's source, its files written."""
    created = CREATED if view.created else None
    folder = root / "data" / view.name
    if feed not in WRITERS:
        return PushSource(f"{view.name}.pushed", created_timestamp_column=created)
    folder.mkdir(parents=True)
    tables = [table(view, facts) for facts in view.files]
    WRITERS[feed](folder, tables)
    if feed == "sql":
        query = f"SELECT * FROM read_parquet('data/{view.name}/*.parquet')"
        return SqlSource(query, timestamp_field=EVENT, created_timestamp_column=created)
    path = f"data/{view.name}" if feed == "delta" else f"data/{view.name}/*.{feed}"
    return FileSource(path, timestamp_field=EVENT, created_timestamp_column=created)


def _parquet(folder: Path, tables: Sequence[pa.Table]) -> None:
    for number, rows in enumerate(tables):
        # row groups of two rows, dictionary and plain pages in turn: what reads one group or one page is found out
        pq.write_table(rows, folder / f"part-{number}.parquet", row_group_size=2, use_dictionary=number % 2 == 0)


def _csv(folder: Path, tables: Sequence[pa.Table]) -> None:
    for number, rows in enumerate(tables):
        pyarrow.csv.write_csv(rows, folder / f"part-{number}.csv")


def _delta(folder: Path, tables: Sequence[pa.Table]) -> None:
    """One commit a file. Delta has no unsigned integers: such columns come as what other writers put in their place."""
    for rows in tables:
        held = rows
        for i, field in enumerate(rows.schema):
            if field.type in SIGNED_FOR:
                held = held.set_column(i, field.name, rows.column(i).cast(SIGNED_FOR[field.type]))
        deltalake.write_deltalake(str(folder), held, mode="append")


SIGNED_FOR = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
}
WRITERS: dict[str, Callable[[Path, Sequence[pa.Table]], None]] = {
    "parquet": _parquet,
    "csv": _csv,
    "delta": _delta,
    "sql": _parquet,
}


def push(feed: str, platform: Any, web: httpx.Client, view: CaseView) -> None:
    """Pushes a view's facts, one push for each of its files."""
    for facts in view.files:
        rows = table(view, facts)
        if feed == "http push":
            _push_json(web, view, facts)
        elif feed == "remote push":
            # half of the rows by each form in which the client sends them
            half = -(-rows.num_rows // 2)
            with Remote(str(web.base_url), arrow=True) as in_arrow, Remote(str(web.base_url), arrow=False) as in_json:
                in_arrow.push(view.name, rows.slice(0, half))
                if half < rows.num_rows:
                    in_json.push(view.name, rows.slice(half).to_pylist())
        else:
            # in two chunks, the second one a slice: what takes the first chunk only, or a slice's parent, is found out
            half = rows.num_rows // 2
            platform.push(view.name, pa.concat_tables([rows.slice(0, half), rows.slice(half)]))
    if feed == "folded":
        platform.fold()


def _push_json(web: httpx.Client, view: CaseView, facts: Sequence[Fact]) -> None:
    types: dict[str, DType] = {**dict(view.keys), **dict(view.features)}
    columns: dict[str, list[Any]] = {name: [] for name in types}
    columns[EVENT] = []
    for fact in facts:
        for (name, dtype), value in zip((*view.keys, *view.features), (*fact.key, *fact.values), strict=True):
            columns[name].append(to_json(value, dtype))
        columns[EVENT].append(None if fact.at is None else stook.core.instants.to_rfc3339(fact.at))
        if view.created:
            known = None if fact.known is None else stook.core.instants.to_rfc3339(fact.known)
            columns.setdefault(CREATED, []).append(known)
    answer = web.post("/push", json={"view": view.name, "df": columns, "to": "both"})
    assert answer.status_code == 200, answer.text
