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

from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

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
    """Values of the logical type's Arrow form in its physical form."""
    wanted = physical(dtype)
    if values.type == wanted:
        return values
    return pa.chunked_array([_convert(chunk, dtype, down=True) for chunk in values.chunks], wanted)


def to_logical(values: pa.ChunkedArray, dtype: DType) -> pa.ChunkedArray:
    """The inverse. Raises CorruptStore when a stored value is none of the type's."""
    wanted = to_arrow(dtype)
    if values.type == wanted:
        return values
    try:
        chunks = [_convert(chunk, dtype, down=False) for chunk in values.chunks]
    except pa.ArrowInvalid as error:
        raise CorruptStore(f"a stored column does not read back as {dtype}: {error}", hint="restore it") from None
    return pa.chunked_array(chunks, wanted)


def _convert(values: Any, dtype: DType, *, down: bool) -> Any:
    """One array, level by level, so that nulls, slices and nesting stay as they are."""
    target = physical(dtype) if down else to_arrow(dtype)
    if values.type == target:
        return values
    match dtype:
        case Array(element):
            return _with_children(values, target, _convert(_flat(values), element, down=down))
        case Vector(element, length):
            return _vector(values, element, length, down=down)
        case Struct(fields):
            children = [_convert(values.field(n), t, down=down) for n, t in enumerate(t for _, t in fields)]
            names = [name for name, _ in fields]
            plain = pa.StructArray.from_arrays(children, names=names, mask=pc.is_null(values))
            return plain.cast(target)
        case Map(key, value):
            keys, items = _convert(values.keys, key, down=down), _convert(values.items, value, down=down)
            return pa.MapArray.from_arrays(_offsets(values), keys, items, type=target)
    return values.cast(target)


def _flat(values: Any) -> Any:
    return values.values


def _offsets(values: Any) -> Any:
    """Offsets with a null where the list is null, as Arrow's constructors read them."""
    offsets = values.offsets
    if not values.null_count:
        return offsets
    nulls = pa.concat_arrays([pc.is_null(values), pa.array([False])])
    return pc.if_else(nulls, pa.scalar(None, offsets.type), offsets)


def _with_children(values: Any, target: pa.DataType, children: Any) -> Any:
    return pa.ListArray.from_arrays(_offsets(values), children, type=target)


def _vector(values: Any, element: DType, length: int, *, down: bool) -> Any:
    mask = pc.is_null(values)
    if down:
        children = _convert(values.flatten(), element, down=True)  # flatten() leaves null vectors out
        lengths = pc.if_else(mask, 0, length).cast(pa.int32())
        offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths)])
        if values.null_count:
            offsets = pc.if_else(pa.concat_arrays([mask, pa.array([False])]), pa.scalar(None, pa.int32()), offsets)
        return pa.ListArray.from_arrays(offsets, children)
    lengths = pc.list_value_length(values)
    if not pc.all(pc.equal(lengths, length), min_count=0).as_py():
        raise pa.ArrowInvalid(f"a list is not {length} long")
    present = pc.cumulative_sum(pc.invert(mask).cast(pa.int64()))
    taken = pc.if_else(mask, pa.scalar(None, pa.int64()), pc.subtract(present, 1))
    children = _convert(values.drop_null().flatten(), element, down=False)
    dense = pa.FixedSizeListArray.from_arrays(children, length)
    return dense.take(taken)
