"""What a caller asks, in the JSON that the server reads.

It is a file of its own because every verb says its features and entities alike. `Remote` calls it. It is pure, and
needs no Arrow and no NumPy. It must never check what the server checks: its errors are then the embedded platform's own.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final

from stook.core.definitions import FeatureService, FeatureView, Projection
from stook.core.errors import InvalidArgument, SchemaMismatch
from stook.core.instants import is_absent, to_rfc3339, to_us
from stook.core.jsontypes import spell_float

ARROW: Final = "application/vnd.apache.arrow.stream"
JSON: Final = "application/json"


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
        answer["entities"] = {name: [_key(v) for v in _key_column(values, name)] for name, values in entities.items()}
    if entity_rows is not None:
        if not isinstance(entity_rows, Sequence) or not all(isinstance(row, Mapping) for row in entity_rows):
            raise SchemaMismatch("entity_rows is not a list of mappings", hint='give [{"driver_id": 1001}]')
        answer["entity_rows"] = [{name: _key(v) for name, v in row.items()} for row in entity_rows]
    return answer


def row_count(fields: Mapping[str, Any]) -> int:
    """The rows that a request's entities ask for.

    >>> row_count({"entities": {"id": [1, 2]}}), row_count({})
    (2, 1)
    """
    rows = fields.get("entity_rows")
    columns = (fields.get("entities") or {}).values() if rows is None else [rows]
    return max(map(len, columns), default=1)


def _listed(values: Any) -> Any:
    for method in ("to_pylist", "to_list", "tolist"):  # Arrow, pandas and Polars, NumPy
        if hasattr(values, method):
            return getattr(values, method)()
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise SchemaMismatch(f"{values!r} is not a column", hint="give a list")
    return values


def _key_column(values: Any, name: str) -> Any:
    """A column of keys as Python values, as the embedded platform takes it: what pandas calls absent is null."""
    if hasattr(values, "isna") and hasattr(values, "tolist"):
        return [None if absent else value for value, absent in zip(values.tolist(), values.isna(), strict=True)]
    if getattr(getattr(values, "dtype", None), "kind", "") == "M":  # NumPy's tolist makes numbers of nanoseconds
        micros = values.astype("M8[us]")
        if (micros.astype(values.dtype).view("i8") != values.view("i8")).any():
            raise SchemaMismatch(f"key {name!r} has digits below a microsecond", hint="round it to microseconds")
        return micros.tolist()
    return _listed(values)


def _key(value: Any) -> Any:
    """A key as JSON: as any value, but a whole decimal is an integer, and what pandas calls absent is null."""
    if is_absent(type(value)):
        return None
    if isinstance(value, Decimal) and value.is_finite() and value == int(value):
        return int(value)
    return spell_any(value)


def is_numpy_value(value: Any) -> bool:
    """Whether it is one NumPy value, such as a cell of an array; NumPy need not be there to tell."""
    return type(value).__module__ == "numpy" and hasattr(value, "dtype") and not hasattr(value, "__len__")


def plain(value: Any) -> Any:
    """A value without NumPy's and pandas' kinds, at any depth. Raises ValueError for a time below a microsecond.

    >>> plain([1, (None, {"a": 2})])
    [1, [None, {'a': 2}]]
    """
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if is_absent(type(value)):
        return None
    if type(value).__module__ != "numpy" or not hasattr(value, "dtype"):
        return value
    if value.dtype.kind == "M":
        whole = value.astype("M8[us]")
        if (whole != value).any():
            raise ValueError
        value = whole
    return plain(value.tolist())


def spell_any(value: Any) -> Any:
    """A Python value of no known type as JSON.

    >>> spell_any([b"ab", float("nan"), date(2024, 5, 1)])
    ['YWI=', 'NaN', '2024-05-01']
    """
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return to_rfc3339(to_us(value))
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float):
        return spell_float(float(value))
    if is_numpy_value(value):
        return spell_any(value.item())
    if isinstance(value, time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dict):
        return {key: spell_any(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [spell_any(inner) for inner in value]
    return value


def request_json(request: Mapping[str, Any] | None) -> dict[str, Any]:
    """A prediction's other inputs: one value each, or a column."""
    if request is None:
        return {}
    fields = {}
    for name, values in request.items():
        single = (
            isinstance(values, str | bytes)
            or is_numpy_value(values)
            or not (isinstance(values, Sequence) or hasattr(values, "to_pylist") or hasattr(values, "tolist"))
        )
        fields[name] = spell_any(values) if single else [spell_any(v) for v in _listed(values)]
    return {"request": fields}


def dump(fields: Mapping[str, Any]) -> bytes:
    """JSON of a request. Raises SchemaMismatch for what has no JSON form."""
    try:
        return json.dumps(fields, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise SchemaMismatch(f"the request cannot be sent: {error}", hint="give plain values") from None
