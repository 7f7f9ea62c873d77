"""Tables to push and the server's Arrow answers, as Arrow streams: exact, and fastest for many rows.

It is a file of its own because it needs Arrow and NumPy, which a program that only asks a server may lack. `Remote`
calls it where they are installed. It is pure. It must never copy what it can share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from stook.core.arrow import as_table, decoded, from_arrow
from stook.core.predictions import PredictResult
from stook.core.results import OnlineResult
from stook.core.specs import Column
from stook.core.statuses import NO_TIME, STATUS_CODES, OnlineColumn


def pushed_stream(data: Any, what: str, columns: Sequence[Column]) -> bytes:
    """A table to push as an Arrow stream, in the layouts that a server takes; see `as_table`."""
    table = as_table(data, what, columns)
    table = pa.table([decoded(c) if "_view" in str(c.type) else c for c in table.columns], table.column_names)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def read_stream(body: bytes) -> pa.Table:
    """The table in an Arrow stream."""
    with pa.ipc.open_stream(body) as reader:
        return reader.read_all()


def online_result(table: pa.Table) -> OnlineResult:
    """The server's answer as the embedded platform gives it: exact types, statuses, event times."""
    facts = table.schema.metadata
    keys_count, now_us = int(facts[b"stook.key_columns"]), int(facts[b"stook.now_us"])
    names, columns = table.column_names, [column.combine_chunks() for column in table.columns]
    keys = [(names[i], from_arrow(columns[i].type), columns[i]) for i in range(keys_count)]
    answered = []
    for i in range(keys_count, len(names), 3):
        dtype = from_arrow(columns[i].type)
        assert dtype is not None, "the server answers our types only"
        answered.append(OnlineColumn(names[i], dtype, columns[i], _codes(columns[i + 1]), _micros(columns[i + 2])))
    return OnlineResult(keys, answered, now_us=now_us)


def _codes(statuses: pa.Array) -> np.ndarray[Any, np.dtype[np.uint8]]:
    by_index = np.array([STATUS_CODES[name] for name in statuses.dictionary.to_pylist()], dtype=np.uint8)
    return by_index[statuses.indices.to_numpy()]


def _micros(times: pa.Array) -> Any:
    return times.cast(pa.int64()).fill_null(NO_TIME).to_numpy()


def predict_result(body: bytes) -> PredictResult:
    """The server's predictions: the first column; the features that were looked up: the others."""
    table = read_stream(body)
    facts = table.schema.metadata
    raw = table.column(0).combine_chunks()
    online = online_result(table.drop_columns([table.column_names[0]])) if b"stook.now_us" in facts else None
    return PredictResult(raw, facts[b"stook.release"].decode(), online)
