"""One value in JSON, both ways, by its logical type; plain Python, so that a client needs no Arrow for it.

It is a file of its own because JSON lacks most of our types, and a server that reads them and a client that has them
in hand must mean the same. The HTTP face reads requests with it, the client writes pushes and reads answers. It must
never round, nor take a value of one type for one of another: what a type does not hold is refused.

Spelling: NaN and infinities `"NaN"`, `"Infinity"`, `"-Infinity"`; bytes base64; decimals and times of day text; dates
`YYYY-MM-DD`; timestamps RFC 3339 UTC; arrays and vectors arrays; structs objects; maps arrays of [key, value].
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal as PyDecimal
from decimal import InvalidOperation
from functools import lru_cache
from typing import Any, Final

from stook.core import dtypes
from stook.core.dtypes import Array, Decimal, DType, Map, Struct, Vector
from stook.core.errors import InvalidArgument
from stook.core.instants import to_datetime, to_rfc3339, to_us, whole_micros

Convert = Callable[[Any], Any]
TYPES_KEPT_MAX: Final = 4_096
NON_FINITE: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
REFUSALS: Final = (ValueError, TypeError, KeyError, InvalidOperation, InvalidArgument)  # what a reader or writer raises
EXACT_INT: Final = 1 << 53  # below, whole doubles are one integer each
_WIDE: Final = (dtypes.Int64, dtypes.UInt64)


@lru_cache(TYPES_KEPT_MAX)
def reader(dtype: DType, int64_text: bool) -> Convert | None:
    """What makes a value of the type from one JSON value that is not null; None where it is that already.

    Numbers stay as they are, for whoever receives them to check; with `int64_text`, and inside nested types, text is
    taken for 64-bit integers. The reader raises one of REFUSALS for what is no value of the type.

    >>> reader(dtypes.Bytes, False)("YWI=")
    b'ab'
    """
    if dtype in dtypes.FLOATS:
        return _float
    if dtype in _WIDE:
        return _integer_text if int64_text else None
    match dtype:
        case Decimal():
            return _decimal
        case Array(element) | Vector(element, _):
            one = _strict(element)
            return lambda cells: [None if cell is None else one(cell) for cell in _listed(cells)]
        case Struct(fields):
            return _struct_reader([(name, _strict(inner)) for name, inner in fields])
        case Map(key, value):
            return _map_reader(_strict(key), _strict(value))
    return _SIMPLE.get(dtype)


def _strict(dtype: DType) -> Convert:
    """Inside nested values nobody checks after us: Arrow would make 1 of 1.5."""
    one = reader(dtype, True)
    if dtype in dtypes.INTEGERS:
        return _integer_text
    if dtype in (dtypes.String, dtypes.Bool):
        kind = str if dtype == dtypes.String else bool
        return lambda cell: _of_kind(cell, kind)
    assert one is not None
    return one


def _of_kind(cell: Any, kind: type) -> Any:
    if not isinstance(cell, kind):
        raise TypeError
    return cell


_INTEGER: Final = re.compile(r"-?[0-9]{1,20}")


def _integer_text(cell: Any) -> int:
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < EXACT_INT:
        return int(cell)
    if isinstance(cell, bool) or not isinstance(cell, int | str):
        raise TypeError
    if isinstance(cell, str) and not _INTEGER.fullmatch(cell):
        raise ValueError  # int() also takes spaces, underscores and digits of other scripts
    return int(cell)


def _float(cell: Any) -> Any:
    if isinstance(cell, str):
        return NON_FINITE[cell]
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        raise TypeError
    return cell


def _decimal(cell: Any) -> PyDecimal:
    if isinstance(cell, bool) or not isinstance(cell, int | str):
        raise TypeError
    value = PyDecimal(cell)
    if not value.is_finite():
        raise ValueError
    return value


def _bytes(cell: Any) -> bytes:
    return base64.b64decode(_of_kind(cell, str), validate=True)


def _time(cell: Any) -> time:
    found = time.fromisoformat(whole_micros(_of_kind(cell, str)))
    if found.tzinfo is not None:
        raise ValueError  # a zone would be lost
    return found


def _timestamp(cell: Any) -> datetime:
    return to_datetime(to_us(_of_kind(cell, str)))


_SIMPLE: Final[dict[DType, Convert]] = {
    dtypes.Bytes: _bytes,
    dtypes.Date: lambda cell: date.fromisoformat(_of_kind(cell, str)),
    dtypes.Time: _time,
    dtypes.Timestamp: _timestamp,
}


def _listed(cell: Any) -> list[Any]:
    listed: list[Any] = _of_kind(cell, list)
    return listed


def _struct_reader(readers: Sequence[tuple[str, Convert]]) -> Convert:
    names = {name for name, _ in readers}

    def read(cell: Any) -> dict[str, Any]:
        if not isinstance(cell, dict) or not cell.keys() <= names:
            raise TypeError
        return {name: None if cell.get(name) is None else one(cell[name]) for name, one in readers}

    return read


def _map_reader(key: Convert, value: Convert) -> Convert:
    def read(cell: Any) -> list[tuple[Any, Any]]:
        return [(key(k), None if v is None else value(v)) for k, v in _listed(cell)]

    return read


@lru_cache(TYPES_KEPT_MAX)
def writer(dtype: DType) -> Convert:
    """What makes JSON of one Python value of the type that is not None.

    Numbers are sent as they are, for the receiver to check; what JSON would show as something else must be of the type. The writer raises one of REFUSALS for what is no value of the type.

    >>> writer(Array(dtypes.Bytes))([b"ab", None]), writer(dtypes.Float64)(math.nan)
    (['YWI=', None], 'NaN')
    """
    match dtype:
        case Decimal():
            return _decimal_text
        case Array(element) | Vector(element, _):
            return _all_of(writer(element))
        case Struct(fields):
            return _struct_writer({name: writer(inner) for name, inner in fields})
        case Map(key, value):
            return _map_writer(writer(key), writer(value))
    return _float_json if dtype in dtypes.FLOATS else _WRITERS.get(dtype, _number)


def spell_float(value: float) -> float | str:
    """A float as a JSON number, or as text where JSON has no number for it.

    >>> spell_float(1.5), spell_float(-math.inf)
    (1.5, '-Infinity')
    """
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _number(cell: Any) -> Any:
    if not isinstance(cell, int | float) or (isinstance(cell, float) and not math.isfinite(cell)):
        raise TypeError  # text would be taken for an integer
    return cell


def _float_json(cell: Any) -> Any:
    if isinstance(cell, str):
        raise TypeError  # the receiver would take "NaN" for a number
    return spell_float(cell) if isinstance(cell, float) else _number(cell)


def _decimal_text(cell: Any) -> str:
    if isinstance(cell, bool) or not isinstance(cell, PyDecimal | int):
        raise TypeError
    return format(cell, "f") if isinstance(cell, PyDecimal) else str(cell)


def _date_text(cell: Any) -> str:
    if isinstance(cell, datetime):
        raise TypeError  # its time of day would be lost
    return str(_of_kind(cell, date).isoformat())


def _time_text(cell: Any) -> str:
    if _of_kind(cell, time).tzinfo is not None:
        raise ValueError  # a zone would be lost
    return str(cell.isoformat())


def _base64(cell: Any) -> str:
    if not isinstance(cell, bytes | bytearray):
        raise TypeError
    return base64.b64encode(cell).decode()


_WRITERS: Final[dict[DType, Convert]] = {
    dtypes.Bytes: _base64,
    dtypes.Date: _date_text,
    dtypes.Time: _time_text,
    dtypes.Timestamp: lambda cell: to_rfc3339(to_us(_of_kind(cell, datetime))),
    dtypes.String: lambda cell: _of_kind(cell, str),
    dtypes.Bool: lambda cell: _of_kind(cell, bool),
}


def _all_of(one: Convert) -> Convert:
    def write(cells: Any) -> list[Any]:
        if isinstance(cells, str | bytes | bytearray | set | frozenset | Mapping):
            raise TypeError  # each would come apart, or in any order
        return [None if cell is None else one(cell) for cell in cells]

    return write


def _struct_writer(writers: Mapping[str, Convert]) -> Convert:
    def write(cell: Any) -> dict[str, Any]:
        return {name: None if value is None else writers[name](value) for name, value in _of_kind(cell, dict).items()}

    return write


def _map_writer(key: Convert, value: Convert) -> Convert:
    def write(cell: Any) -> list[list[Any]]:
        pairs = cell.items() if isinstance(cell, dict) else cell
        return [[key(k), None if v is None else value(v)] for k, v in pairs]

    return write
