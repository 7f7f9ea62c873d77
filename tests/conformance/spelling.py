"""Values in JSON as the interface says them, and to the bit, written a second time so that the product is judged by it.

It is a file of its own because feeds and doors both speak JSON. It must never import the product's spelling.
"""

from __future__ import annotations

import base64
import math
from datetime import UTC, date, datetime, time
from decimal import Decimal as PyDecimal
from typing import Any

from stook.core import dtypes
from stook.core.dtypes import Array, Decimal, DType, Map, Struct, Vector

SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def to_json(value: Any, dtype: DType) -> Any:
    """A Python value as a client would write it."""
    if value is None:
        return None
    match dtype:
        case Array(inner) | Vector(inner, _):
            return [to_json(item, inner) for item in value]
        case Struct(fields):
            return {name: to_json(value[name], inner) for name, inner in fields}
        case Map(key, inner):
            return [[to_json(k, key), to_json(v, inner)] for k, v in value]
        case Decimal():
            return format(value, "f")
    if isinstance(value, float):
        return value if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date | time) else value


def from_json(value: Any, dtype: DType) -> Any:
    """The Python value that a client of that type would take it for."""
    if value is None:
        return None
    match dtype:
        case Array(inner) | Vector(inner, _):
            return [from_json(item, inner) for item in value]
        case Struct(fields):
            assert list(value) == [name for name, _ in fields]
            return {name: from_json(value[name], inner) for name, inner in fields}
        case Map(key, inner):
            return [(from_json(k, key), from_json(v, inner)) for k, v in value]
        case Decimal():
            return PyDecimal(value)
    if dtype in dtypes.FLOATS:
        return SPECIAL[value] if isinstance(value, str) else float(value)
    if dtype == dtypes.Bytes:
        return base64.b64decode(value, validate=True)
    if dtype == dtypes.Timestamp:
        return datetime.fromisoformat(value).astimezone(UTC)
    if dtype == dtypes.Date:
        return date.fromisoformat(value)
    return time.fromisoformat(value) if dtype == dtypes.Time else value


def exact(value: Any, dtype: DType) -> str:
    """Text that is equal where values are equal to the bit: minus zero is not zero, NaN is NaN, 1 is not 1.0, True is
    not 1. Instants are equal by whatever name their zone goes, and maps as a dict or as pairs."""
    if value is None:
        return "null"
    match dtype:
        case Array(inner) | Vector(inner, _):
            return f"[{', '.join(exact(item, inner) for item in value)}]"
        case Struct(fields):
            assert list(value) == [name for name, _ in fields]
            return f"{{{', '.join(exact(value[name], inner) for name, inner in fields)}}}"
        case Map(key, inner):
            pairs = value.items() if isinstance(value, dict) else value
            return f"<{', '.join(f'{exact(k, key)}: {exact(v, inner)}' for k, v in pairs)}>"
    if isinstance(value, datetime):
        assert value.utcoffset() is not None
        return repr(value.astimezone(UTC))
    return repr(value)
