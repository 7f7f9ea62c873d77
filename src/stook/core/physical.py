"""Logical types in Delta tables: the one table of their physical form, and the exact way there and back.

It is a file of its own because Delta has no unsigned integers, times of day or fixed-length lists, and because
writers of Delta cut nanoseconds and lose zones in silence: what a table of ours holds is decided here. The Delta
backend writes by it, engines read by it. It must never lose a bit.

===================  =====================
logical              physical
===================  =====================
uint8, uint16        int16, int32
uint32               int64
uint64               decimal(20, 0)
time                 int64 microseconds
vector<t, n>         list of t's physical
anything else        itself
===================  =====================
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from stook.core import dtypes
from stook.core.arrow import to_arrow
from stook.core.dtypes import Array, DType, Map, Struct, Vector
from stook.core.errors import CorruptStore

_PHYSICAL: Final[dict[DType, pa.DataType]] = {
    dtypes.UInt8: pa.int16(),
    dtypes.UInt16: pa.int32(),
    dtypes.UInt32: pa.int64(),
    dtypes.UInt64: pa.decimal128(20, 0),
    dtypes.Time: pa.int64(),
}


def physical(dtype: DType) -> pa.DataType:
    """The Arrow type that holds a logical type in a Delta table.

    >>> physical(dtypes.UInt64)
    Decimal128Type(decimal128(20, 0))
    """
    if (known := _PHYSICAL.get(dtype)) is not None:
        return known
    match dtype:
        case Array(element) | Vector(element, _):
            return pa.list_(physical(element))
        case Struct(fields):
            return pa.struct([pa.field(n, physical(t)) for n, t in fields])
        case Map(key, value):
            return pa.map_(physical(key), physical(value))
    return to_arrow(dtype)


def to_physical(values: pa.ChunkedArray, dtype: DType) -> pa.ChunkedArray:
    """Values of the logical type's Arrow form in its physical form.

    >>> to_physical(pa.chunked_array([[2**64 - 1]], pa.uint64()), dtypes.UInt64).type
    Decimal128Type(decimal128(20, 0))
    """
    return values.cast(physical(dtype))


def to_logical(values: pa.ChunkedArray, dtype: DType) -> pa.ChunkedArray:
    """The inverse. Raises CorruptStore when a stored value is none of the type's."""
    try:
        return values.cast(to_arrow(dtype))
    except pa.ArrowInvalid as error:
        raise CorruptStore(f"a stored column does not read back as {dtype}: {error}", hint="restore it") from None
