"""What a caller gives, in the JSON and Arrow that the server reads; what it answers, in the platform's results.

It is a file of its own because both directions must keep every value and type exact. `Remote` calls it. It is
pure. It must never check what the server checks: its errors are then the embedded platform's own.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa

from stook.core.arrow import decoded, from_arrow
from stook.core.definitions import FeatureService, FeatureView, Projection
from stook.core.errors import InvalidArgument, SchemaMismatch
from stook.core.instants import to_rfc3339, to_us
from stook.core.predictions import PredictResult
from stook.core.results import OnlineResult
from stook.core.statuses import NO_TIME, STATUS_NAMES, OnlineColumn

ARROW: Final = "application/vnd.apache.arrow.stream"
JSON: Final = "application/json"
_CODES: Final = {name: code for code, name in enumerate(STATUS_NAMES)}


def features_json(features: Any) -> dict[str, Any]:
    """Features as the request's fields: references, views, projections, or a service (object or name).

    >>> features_json("ranking"), features_json(["stats:trips"])
    ({'feature_service': 'ranking'}, {'features': ['stats:trips']})
    """
    if isinstance(features, FeatureService):
        return {"feature_service": features.name}
    if isinstance(features, str) and ":" not in features:
        return {"feature_service": features}
    if isinstance(features, str | FeatureView | Projection):
        features = [features]
    if not isinstance(features, Sequence):
        raise InvalidArgument(f"features is {features!r}", hint='give ["view:feature", ...], views or a service')
    return {"features": [_feature(item) for item in features]}


def _feature(item: Any) -> Any:
    if isinstance(item, str):
        return item
    if isinstance(item, FeatureView):
        item = item.projection
    if not isinstance(item, Projection):
        raise InvalidArgument(f"{item!r} is no feature", hint='write "view:feature", or pass a view')
    chosen = None if item.features is None else list(item.features)
    return {"view": item.view, "features": chosen, "name": item.name, "join_key_map": dict(item.join_key_map)}


def entities_json(entities: Any, entity_rows: Any) -> dict[str, Any]:
    """Entities as the request's fields; columns may be lists, Arrow, NumPy or DataFrame columns, or a table.

    >>> entities_json({"id": (1, 2)}, None), entities_json(None, [{"id": 1}])
    ({'entities': {'id': [1, 2]}}, {'entity_rows': [{'id': 1}]})
    """
    answer: dict[str, Any] = {}
    if entities is not None:
        if not isinstance(entities, Mapping):
            names = getattr(entities, "column_names", None) or getattr(entities, "columns", None)
            if names is None:
                raise SchemaMismatch(f"entities is a {type(entities).__name__}", hint='give {"driver_id": [1001]}')
            entities = {str(name): entities[name] for name in names}
        answer["entities"] = {name: [_plain(v) for v in _listed(values)] for name, values in entities.items()}
    if entity_rows is not None:
        if not isinstance(entity_rows, Sequence) or not all(isinstance(row, Mapping) for row in entity_rows):
            raise SchemaMismatch("entity_rows is not a list of mappings", hint='give [{"driver_id": 1001}]')
        answer["entity_rows"] = [{name: _plain(v) for name, v in row.items()} for row in entity_rows]
    return answer


def _listed(values: Any) -> Any:
    for method in ("to_pylist", "to_list", "tolist"):  # Arrow, pandas and Polars, NumPy
        if hasattr(values, method):
            return getattr(values, method)()
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise SchemaMismatch(f"{values!r} is not a column", hint="give a list")
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return to_rfc3339(to_us(value))
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def request_json(request: Mapping[str, Any] | None) -> dict[str, Any]:
    """A prediction's other inputs: one value each, or a column."""
    if request is None:
        return {}
    fields = {}
    for name, values in request.items():
        single = isinstance(values, str | bytes | np.generic) or not (
            isinstance(values, Sequence) or hasattr(values, "to_pylist") or hasattr(values, "tolist")
        )
        fields[name] = _plain(values) if single else [_plain(v) for v in _listed(values)]
    return {"request": fields}


def dump(fields: Mapping[str, Any]) -> bytes:
    """JSON of a request. Raises SchemaMismatch for what has no JSON form."""
    try:
        return json.dumps(fields, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise SchemaMismatch(f"the request cannot be sent: {error}", hint="give plain values") from None


def table_stream(table: pa.Table) -> bytes:
    """A table as an Arrow stream, in the layouts that a server takes."""
    columns = [decoded(c) if "_view" in str(c.type) else c for c in table.columns]
    table = pa.table(columns, table.column_names)
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
    by_index = np.array([_CODES[name] for name in statuses.dictionary.to_pylist()], dtype=np.uint8)
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
