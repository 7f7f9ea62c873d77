"""Python values, as programs and JSON bring them, in Arrow columns.

It is a file of its own because a Python value has no declared width: the type of the column it goes to decides what
it means, where a typed column (Arrow, NumPy, a DataFrame) already says. `core.arrow` builds tables with it. It must
never let Arrow guess among kinds: left alone, it makes dates of datetimes that follow a date, cuts nanoseconds and zones,
and inside lists makes 1 of 1.9.

A Python float that goes to a Float32 is the nearest float32, as a literal is in every language; one too large for it
is refused, not made infinite, and an int must be exact. Typed doubles are never rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal as PyDecimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stook.core import dtypes
from stook.core.dtypes import Array, DType, Map, Primitive, Struct, Vector
from stook.core.errors import InvalidArgument, shown
from stook.core.instants import is_absent, to_datetime, to_us
from stook.core.jsontypes import EXACT_INT

_UTC: Final = pa.timestamp("us", tz="UTC")


class NotOfType(ValueError):
    """A Python value is not of the type that its column has, or has no one type with the others."""


def column_of(values: Sequence[Any], dtype: DType | None, arrow: pa.DataType | None) -> pa.Array:
    """An Arrow array of Python values meant for a column of `dtype`, whose Arrow type is `arrow`.

    A Map may be a dict or a list of pairs; a Struct's fields may come in any order, and absent ones are null. Where all
    values are of one other kind, the array is of that kind, for `conform` to judge. Raises NotOfType naming the row of a
    value that is not of the type, and what Arrow raises for values that are of no one type.

    >>> column_of([0.1], dtypes.Float32, pa.float32()).type
    DataType(float)
    """
    kinds = set(map(type, values)) - {type(None)}
    if absent := set(filter(is_absent, kinds)):
        values, kinds = [None if type(value) in absent else value for value in values], kinds - absent
    if isinstance(dtype, Array | Vector | Struct | Map):
        return _nested(values, dtype, arrow)
    if dtype is None and any(issubclass(kind, date) for kind in kinds):
        return _instants(values)
    if dtype == dtypes.Timestamp and any(issubclass(kind, datetime) for kind in kinds):
        checked = values if kinds == {datetime} else _all_of_type(values, dtype)
        return pa.array([None if value is None else to_us(value) for value in checked], pa.int64()).cast(_UTC)
    if (dtype == dtypes.Time and time in kinds) or (dtype in _GUESSED and len(kinds) > 1):
        values = _all_of_type(values, dtype)
    try:
        inferred = pa.array(values)
    except OverflowError:
        return pa.array(values, pa.uint64())  # Arrow does not try it by itself
    if dtype == dtypes.Float32 and pa.types.is_float64(inferred.type):
        nearest = inferred.cast(pa.float32(), safe=False)
        return inferred if _overflows(nearest, inferred) else nearest
    return inferred


def _instants(values: Sequence[Any]) -> pa.Array:
    """Dates, or datetimes to the nanosecond, of a column of which nothing is declared."""
    present = [value for value in values if value is not None]
    timed = [value for value in present if isinstance(value, datetime)]
    if not timed and all(isinstance(value, date) for value in present):
        return pa.array(values)
    if len(timed) < len(present):
        raise NotOfType("it holds datetimes beside dates or other values")
    if any(getattr(value, "nanosecond", 0) for value in timed):  # pandas' Timestamp
        zone = "UTC" if any(value.tzinfo is not None for value in timed) else None
        exact = [None if v is None else to_us(_whole(v)) * 1_000 + getattr(v, "nanosecond", 0) for v in values]
        return pa.array(exact, pa.int64()).cast(pa.timestamp("ns", zone))
    if len({value.tzinfo is None for value in timed}) == 2:
        return pa.array([None if value is None else to_us(value) for value in values], pa.int64()).cast(_UTC)
    return pa.array(values)


def _whole(value: Any) -> Any:
    """A pandas Timestamp without its nanoseconds."""
    return value.replace(nanosecond=0) if getattr(value, "nanosecond", 0) else value


def _all_of_type(values: Sequence[Any], dtype: DType) -> list[Any]:
    """Each value in the shape that Arrow's typed constructor takes. Raises NotOfType naming the row of another one."""
    plain = []
    for row, value in enumerate(values):
        try:
            plain.append(_plain(value, dtype))
        except (TypeError, ValueError, OverflowError, AttributeError, InvalidArgument):
            raise NotOfType(f"row {row} holds {shown(value)}, which is not {dtype}") from None
    return plain


def _nested(values: Sequence[Any], dtype: DType, arrow: pa.DataType) -> pa.Array:
    plain = _all_of_type(values, dtype)
    built = pa.array(plain, arrow)
    narrow = [leaf for leaf in leaves(built) if pa.types.is_float32(leaf.type)]
    if narrow:
        wide = [
            leaf for leaf in leaves(pa.array(plain, with_ends(arrow, _wide_float))) if pa.types.is_float64(leaf.type)
        ]
        if any(_overflows(a, b) for a, b in zip(narrow, wide[-len(narrow) :], strict=False) if len(a) == len(b)):
            raise NotOfType("a float is too large for float32")
    return built


def _plain(value: Any, dtype: DType) -> Any:
    """A value in the shape that Arrow's typed constructor takes; raises for what is not of the type."""
    if value is None:
        return None
    match dtype:
        case Array(element) | Vector(element, _):
            if isinstance(value, str | bytes | bytearray | set | frozenset | dict):
                raise TypeError  # each would come apart, or in any order
            if isinstance(element, Primitive) and set(map(type, value)) <= _PLAIN[element.name]:
                return list(value)
            return [_plain(item, element) for item in value]
        case Map(key, item):
            pairs = value.items() if isinstance(value, dict) else value
            return [(_plain(k, key), _plain(v, item)) for k, v in pairs]
        case Struct(fields):
            known = dict(fields)
            if unknown := set(value) - set(known):
                raise ValueError(f"unknown fields {sorted(unknown)}")
            return {name: _plain(value.get(name), inner) for name, inner in fields}
    return _ONE[dtype.name if isinstance(dtype, Primitive) else "decimal"](value)


def _bool(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError
    return bool(value)


def _int(value: Any) -> int:
    if isinstance(value, bool | np.bool_):
        raise TypeError
    if isinstance(value, float | np.floating):
        if not (float(value).is_integer() and abs(float(value)) < EXACT_INT):
            raise ValueError
    elif isinstance(value, PyDecimal):
        if value != value.to_integral_value():
            raise ValueError
    elif not isinstance(value, int | np.integer):
        raise TypeError
    return int(value)


def _float64(value: Any) -> float:
    return _float(value, float)


def _float32(value: Any) -> float:
    return _float(value, np.float32)


def _float(value: Any, kind: Callable[[Any], Any]) -> float:
    if isinstance(value, float | np.floating):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError
    if int(kind(int(value))) != int(value):
        raise ValueError
    return float(value)


def _of(*kinds: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if not isinstance(value, kinds):
            raise TypeError
        return value

    return check


def _date(value: Any) -> date:
    if isinstance(value, datetime) or not isinstance(value, date):
        raise TypeError  # a time of day would be lost
    return value


def _time(value: Any) -> time:
    if not isinstance(value, time) or value.tzinfo is not None:
        raise TypeError  # a zone would be lost
    return value


def _timestamp(value: Any) -> datetime:
    if isinstance(value, np.datetime64):
        whole = value.astype("M8[us]")
        if whole != value:
            raise ValueError
        value = whole.item()
    if not isinstance(value, datetime):
        raise TypeError
    return to_datetime(to_us(value))


def _decimal(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, PyDecimal | int):
        raise TypeError
    return value


_ONE: Final[dict[str, Callable[[Any], Any]]] = {
    "bool": _bool,
    **dict.fromkeys(dtypes.INTEGER_BITS, _int),
    "float64": _float64,
    "float32": _float32,
    "string": _of(str),
    "bytes": _of(bytes, bytearray),
    "date": _date,
    "time": _time,
    "timestamp": _timestamp,
    "decimal": _decimal,
}
_GUESSED: Final = (dtypes.Float32, dtypes.String, dtypes.Bytes, dtypes.Date)  # where Arrow makes one kind of two
_PLAIN: Final[dict[str, set[type]]] = {  # kinds that need no look at each value
    "bool": {bool, type(None)},
    **{name: {int, type(None)} for name in dtypes.INTEGER_BITS},
    "float64": {float, type(None)},
    "float32": {float, type(None)},
    "string": {str, type(None)},
    "bytes": {bytes, type(None)},
    "date": {date, type(None)},
    "time": {type(None)},
    "timestamp": {datetime, type(None)},
}


def with_ends(arrow: pa.DataType, end: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """The type, with what `end` makes of each type at its ends.

    >>> with_ends(pa.list_(pa.int8()), lambda kind: pa.int64() if kind == pa.int8() else kind)
    ListType(list<item: int64>)
    """
    if pa.types.is_map(arrow):
        return pa.map_(with_ends(arrow.key_type, end), with_ends(arrow.item_type, end))
    if pa.types.is_fixed_size_list(arrow):
        return pa.list_(with_ends(arrow.value_type, end), arrow.list_size)
    if pa.types.is_list(arrow):
        return pa.list_(with_ends(arrow.value_type, end))
    if pa.types.is_struct(arrow):
        return pa.struct([field.with_type(with_ends(field.type, end)) for field in arrow])
    return end(arrow)


def _wide_float(arrow: pa.DataType) -> pa.DataType:
    return pa.float64() if pa.types.is_float32(arrow) else arrow


def levels(values: Any) -> Iterator[Any]:
    """An array and all that are nested in it, outer ones first, without what stands under a null."""
    yield values
    kind = values.type
    if pa.types.is_map(kind):
        entries = values.drop_null().cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
        yield from levels(entries.flatten())
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from levels(values.drop_null().flatten())
    elif pa.types.is_struct(kind):
        for child in values.drop_null().flatten():
            yield from levels(child)


def leaves(values: Any) -> Iterator[Any]:
    """The arrays at the ends of a nested one, in order, without what stands under a null."""
    return (level for level in levels(values) if not pa.types.is_nested(level.type))


def repeats_a_key(values: Any) -> bool:
    """Whether a map array has a row with a key twice; 0.0 and -0.0 are one key, as for every engine."""
    kind = values.type
    values = values.drop_null()
    entries = values.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
    lengths = np.asarray(pc.list_value_length(entries).cast(pa.int64()))
    if not len(lengths) or lengths.max() < 2:
        return False
    keys = entries.flatten().field(0)
    if pa.types.is_floating(keys.type):
        keys = pc.add(keys, pa.scalar(0.0, keys.type))
    codes = np.asarray(keys.dictionary_encode().indices.cast(pa.int64()))
    pairs = np.repeat(np.arange(len(lengths)), lengths) * (codes.max() + 1) + codes
    return len(np.unique(pairs)) < len(pairs)


def _overflows(narrow: Any, wide: Any) -> bool:
    made = pc.and_(pc.is_inf(narrow), pc.is_finite(wide))
    return pc.any(made, min_count=0).as_py() is True
