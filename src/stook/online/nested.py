"""Nested values (arrays, structs, maps) as one MessagePack blob each.

It is a file of its own because a nested value is the one thing stored that Python must walk element by element.
The codec packs with it, both readers unpack with it. It must never see a top-level null, nor store a field's
name: a struct's fields go by position, since their types never change under one name.

In a blob an array is an array, a struct the array of its fields, a map the array of its [key, value] pairs; a
time is its int64 microseconds, a date its days since 1970, a decimal its text, everything else itself.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal as PyDecimal
from typing import Any, Final

import msgspec

from stook.core import dtypes
from stook.core.dtypes import Array, Decimal, DType, Map, Struct
from stook.core.instants import EPOCH, MICRO, to_datetime

Convert = Callable[[Any], Any]
EPOCH_ORDINAL: Final = 719_163  # date(1970, 1, 1).toordinal()
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode


def to_date(days: int) -> date:
    """The date of that many days since 1970."""
    return date.fromordinal(days + EPOCH_ORDINAL)


def to_time(us: int) -> time:
    """The time of day of that many microseconds since midnight."""
    seconds, micro = divmod(us, 1_000_000)
    minutes, second = divmod(seconds, 60)
    return time(minutes // 60, minutes % 60, second, micro)


def _from_time(value: time) -> int:
    return ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond


def _from_datetime(value: datetime) -> int:
    return (value - EPOCH) // MICRO


_TO_WIRE: Final[dict[DType, Convert]] = {
    dtypes.Date: lambda value: value.toordinal() - EPOCH_ORDINAL,
    dtypes.Time: _from_time,
    dtypes.Timestamp: _from_datetime,
}
_FROM_WIRE: Final[dict[DType, Convert]] = {
    dtypes.Date: to_date,
    dtypes.Time: to_time,
    dtypes.Timestamp: to_datetime,
}


def packer(dtype: DType) -> Callable[[Any], bytes]:
    """What turns a value, as Arrow's `to_pylist` gives it, into its blob.

    >>> unpacker(Map(dtypes.String, dtypes.Int64))(packer(Map(dtypes.String, dtypes.Int64))([("a", 1)]))
    [('a', 1)]
    """
    convert = _converter(dtype, _TO_WIRE, outward=True)
    return _encode if convert is None else lambda value: _encode(convert(value))


def unpacker(dtype: DType) -> Callable[[bytes], Any]:
    """The inverse of `packer`. Raises msgspec.DecodeError, TypeError or ValueError for bytes that no packer made."""
    convert = _converter(dtype, _FROM_WIRE, outward=False)
    return _decode if convert is None else lambda blob: convert(_decode(blob))


def _converter(dtype: DType, leaves: dict[DType, Convert], *, outward: bool) -> Convert | None:
    """The conversion of one present value; None where there is nothing to do."""
    match dtype:
        case Array(element):
            inner = _nullable(_converter(element, leaves, outward=outward))
            return None if inner is None else lambda values: [inner(v) for v in values]
        case Map(key, value):
            to_key = _nullable(_converter(key, leaves, outward=outward)) or _same
            to_value = _nullable(_converter(value, leaves, outward=outward)) or _same
            return lambda pairs: [(to_key(k), to_value(v)) for k, v in pairs]
        case Struct(fields):
            return _struct(
                [(n, _nullable(_converter(t, leaves, outward=outward)) or _same) for n, t in fields], outward
            )
        case Decimal():
            return str if outward else PyDecimal
    return leaves.get(dtype)


def _struct(fields: list[tuple[str, Convert]], outward: bool) -> Convert:
    if outward:
        return lambda row: [convert(row[name]) for name, convert in fields]
    return lambda row: {name: convert(v) for (name, convert), v in zip(fields, row, strict=True)}


def _nullable(convert: Convert | None) -> Convert | None:
    return None if convert is None else lambda value: None if value is None else convert(value)


def _same(value: Any) -> Any:
    return value
