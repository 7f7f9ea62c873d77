"""Values as JSON, whole columns at a time, by logical type; `core.jsoncolumns` is the way back.

It is a file of its own because JSON lacks most of our types, and every face that speaks it must spell them alike.
The HTTP server calls it. It is pure; Python objects per cell exist here and nowhere before. It must never round:
what JSON's form does not say exactly is refused.

Single values are spelled as `core.jsontypes` says; 64-bit integers are exact numbers, or text where asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal as PyDecimal
from functools import lru_cache
from typing import Any, Final

import msgspec
import numpy as np
import orjson

from stook.core import dtypes
from stook.core.dtypes import Array, Decimal, DType, Map, Primitive, Struct, Vector
from stook.core.instants import MICROS_PER_SECOND, to_rfc3339
from stook.core.jsontypes import TYPES_KEPT_MAX, Convert, spell_float
from stook.core.statuses import NO_TIME, STATUS_NAMES

_WIDE: Final = (dtypes.Int64, dtypes.UInt64)
_WIDE_NAMES: Final = frozenset(dtype.name for dtype in _WIDE)
_FLOAT_NAMES: Final = frozenset(dtype.name for dtype in dtypes.FLOATS)
_NUMBER_NAMES: Final = frozenset(dtype.name for dtype in (*dtypes.FLOATS, *dtypes.INTEGERS))
_SHORT_NAMES: Final = _NUMBER_NAMES - _WIDE_NAMES
_STATUSES: Final = [f'"{name}"'.encode() for name in STATUS_NAMES]
_NULL: Final = b"null"
_TIMES: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z
_EXACT_US: Final = 1 << 53  # differences below are exact as doubles
encode: Final = msgspec.json.Encoder().encode


def values_json(values: Any, dtype: DType | None, *, int64_text: bool = False) -> msgspec.Raw:
    """A column as a JSON array: `values` is a list, or an Arrow array of the type.

    >>> bytes(values_json([1.5, None, float("inf")], dtypes.Float64))
    b'[1.5,null,"Infinity"]'
    >>> bytes(values_json([2**60], dtypes.Int64, int64_text=True))
    b'["1152921504606846976"]'
    """
    return msgspec.Raw(values_bytes(values, dtype, int64_text=int64_text))


def columns_bytes(columns: Iterable[tuple[Any, DType | None]], *, int64_text: bool = False) -> list[bytes]:
    """Each column (values and type) as a JSON array, as `values_json`. Arrays of numbers go from their buffer into text,
    lists of numbers are encoded in one call.

    >>> columns_bytes([([1, None], dtypes.Int64), ([1.5, float("inf")], dtypes.Float64), (["],["] * 2, dtypes.String)])
    [b'[1,null]', b'[1.5,"Infinity"]', b'["],[","],["]']
    """
    wanted = list(columns)
    answer: list[bytes | None] = [None] * len(wanted)
    places, numbers = [], []
    for place, (values, dtype) in enumerate(wanted):
        if isinstance(dtype, Primitive) and dtype.name in (_SHORT_NAMES if int64_text else _NUMBER_NAMES):
            if isinstance(values, list):
                places.append(place)
                numbers.append(values)
            elif not values.null_count:
                answer[place] = _finite_bytes(values)
    if numbers:
        spelled = encode(numbers)[2:-2].split(b"],[")  # numbers have no brackets
        for place, text in zip(places, spelled, strict=True):
            if not (_NULL in text and wanted[place][1] in dtypes.FLOATS):
                answer[place] = b"[%b]" % text
    return [
        values_bytes(values, dtype, int64_text=int64_text) if done is None else done
        for done, (values, dtype) in zip(answer, wanted, strict=True)
    ]


def _finite_bytes(values: Any) -> bytes | None:
    """An Arrow array of numbers without nulls as JSON; None where one of them is no number in JSON."""
    cells = values.to_numpy()
    if cells.dtype == np.float32:
        cells = cells.astype(np.float64)  # the digits of the value, not of its type
    text = orjson.dumps(cells, option=orjson.OPT_SERIALIZE_NUMPY)
    return None if b"n" in text else text  # of null, which is its word for NaN and infinities


def values_bytes(values: Any, dtype: DType | None, *, int64_text: bool = False) -> bytes:
    """As `values_json`, for whoever joins bytes."""
    cells = values if isinstance(values, list) else _cells(values, dtype)
    if isinstance(dtype, Primitive):  # by name: hashing a type costs more than encoding a few cells
        one: Convert | None = str if int64_text and dtype.name in _WIDE_NAMES else None
        if dtype.name in _FLOAT_NAMES:
            one = spell_float
    else:
        one = None if dtype is None else _to_json(dtype, int64_text)
    if one is not None:
        cells = [None if cell is None else one(cell) for cell in cells]
    return encode(cells)


def statuses_json(statuses: Any) -> msgspec.Raw:
    """Status numbers (a list or a NumPy array) as their names.

    >>> bytes(statuses_json([0, 2]))
    b'["PRESENT","NOT_FOUND"]'
    """
    codes = statuses if isinstance(statuses, list) else statuses.tolist()
    return msgspec.Raw(b"[%b]" % b",".join([_STATUSES[code] for code in codes]))


def times_json(event_us: Any) -> msgspec.Raw:
    """Microseconds (a list or a NumPy int64 array; NO_TIME: null) as RFC 3339 text.

    >>> bytes(times_json([0, NO_TIME]))
    b'["1970-01-01T00:00:00Z",null]'
    """
    if not isinstance(event_us, list):
        try:
            return msgspec.Raw(orjson.dumps(event_us.view("M8[us]"), option=_TIMES))
        except TypeError:  # of NO_TIME, and of the last day that a datetime holds
            event_us = event_us.tolist()
    texts = [_NULL if us == NO_TIME else b'"%b"' % to_rfc3339(us).encode() for us in event_us]
    return msgspec.Raw(b"[%b]" % b",".join(texts))


def ages_json(event_us: Any, now_us: int) -> msgspec.Raw:
    """Ages in seconds at `now_us`; null where there is no time.

    >>> bytes(ages_json([0, NO_TIME], 2_500_000))
    b'[2.5,null]'
    """
    if not isinstance(event_us, list):
        if len(event_us) and now_us - int(event_us.min()) < _EXACT_US and int(event_us.max()) - now_us < _EXACT_US:
            return msgspec.Raw(orjson.dumps((now_us - event_us) / MICROS_PER_SECOND, option=orjson.OPT_SERIALIZE_NUMPY))
        event_us = event_us.tolist()
    return msgspec.Raw(encode([None if us == NO_TIME else (now_us - us) / MICROS_PER_SECOND for us in event_us]))


def _cells(values: Any, dtype: DType | None) -> list[Any]:
    """Python values of an Arrow array; plain numbers go through NumPy, which is several times faster."""
    if not (isinstance(dtype, Primitive) and dtype.name in _NUMBER_NAMES):
        return values.to_pylist()
    if not values.null_count:
        return values.to_numpy(zero_copy_only=False).tolist()
    cells: list[Any] = values.fill_null(0).to_numpy(zero_copy_only=False).tolist()
    for row in np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False)).tolist():
        cells[row] = None
    return cells


@lru_cache(TYPES_KEPT_MAX)
def _to_json(dtype: DType, int64_text: bool) -> Convert | None:
    """What makes one value of the type JSON; None where msgspec already spells it right."""
    if dtype in dtypes.FLOATS:
        return spell_float
    if dtype in _WIDE:
        return str if int64_text else None
    match dtype:
        case Decimal():
            return _decimal_text
        case Array(element) | Vector(element, _):
            return _each(_to_json(element, int64_text))
        case Struct(fields):
            return _fields([(name, _to_json(inner, int64_text)) for name, inner in fields])
        case Map(key, value):
            return _pairs(_to_json(key, int64_text), _to_json(value, int64_text))
    return None


def _decimal_text(value: PyDecimal) -> str:
    return format(value, "f")


def _apply(one: Convert | None, cell: Any) -> Any:
    return cell if one is None or cell is None else one(cell)


def _each(one: Convert | None) -> Convert | None:
    return None if one is None else lambda cells: [_apply(one, cell) for cell in cells]


def _fields(converters: Sequence[tuple[str, Convert | None]]) -> Convert | None:
    if all(one is None for _, one in converters):
        return None
    return lambda cell: {name: _apply(one, cell[name]) for name, one in converters}


def _pairs(key: Convert | None, value: Convert | None) -> Convert | None:
    if key is None and value is None:
        return None
    return lambda pairs: [(_apply(key, k), _apply(value, v)) for k, v in pairs]
