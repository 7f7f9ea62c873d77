"""Python values, as programs and JSON bring them, in Arrow columns.

It is a file of its own because a Python value has no declared width: the type of the column it goes to decides what
it means, where a typed column (Arrow, NumPy, a DataFrame) already says. `core.arrow` builds tables with it. It must
never decide whether a value fits: what it cannot build is left as Arrow infers it, for `conform` to refuse.

A Python float that goes to a Float32 is the nearest float32, as a literal is in every language; one too large for it
is refused, not made infinite. Typed doubles are never rounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stook.core import dtypes
from stook.core.dtypes import Array, DType, Map, Struct, Vector

_REFUSALS = (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError)


def column_of(values: Sequence[Any], dtype: DType | None, arrow: pa.DataType | None) -> pa.Array:
    """An Arrow array of Python values meant for a column of `dtype`, whose Arrow type is `arrow`.

    A Map may be a dict or a list of pairs; a Struct's fields may come in any order, and absent ones are null. Raises
    what Arrow raises for values that are of no one type.

    >>> column_of([0.1], dtypes.Float32, pa.float32()).type
    DataType(float)
    """
    if isinstance(dtype, Array | Vector | Struct | Map):
        try:
            return _nested(values, dtype, arrow)
        except _REFUSALS:
            pass
    if dtype == dtypes.Time and any(getattr(value, "tzinfo", None) is not None for value in values):
        raise ValueError("a time of day has a zone, which would be lost")
    try:
        inferred = pa.array(values)
    except OverflowError:
        return pa.array(values, pa.uint64())  # Arrow does not try it by itself
    if dtype == dtypes.Float32 and pa.types.is_float64(inferred.type):
        nearest = inferred.cast(pa.float32(), safe=False)
        return inferred if _overflows(nearest, inferred) else nearest
    return inferred


def _nested(values: Sequence[Any], dtype: DType, arrow: pa.DataType) -> pa.Array:
    plain = [_plain(value, dtype) for value in values]
    built = pa.array(plain, arrow)
    narrow = [leaf for leaf in leaves(built) if pa.types.is_float32(leaf.type)]
    if narrow:
        wide = [leaf for leaf in leaves(pa.array(plain, _widened(arrow))) if pa.types.is_float64(leaf.type)]
        if any(_overflows(a, b) for a, b in zip(narrow, wide[-len(narrow) :], strict=False) if len(a) == len(b)):
            raise ValueError("a float is too large for float32")
    return built


def _plain(value: Any, dtype: DType) -> Any:
    """A value in the shape that Arrow's typed constructor takes."""
    if value is None:
        return None
    match dtype:
        case Array(element) | Vector(element, _):
            return [_plain(item, element) for item in value]
        case Map(key, item):
            pairs = value.items() if isinstance(value, dict) else value
            return [(_plain(k, key), _plain(v, item)) for k, v in pairs]
        case Struct(fields):
            known = dict(fields)
            if unknown := set(value) - set(known):
                raise ValueError(f"unknown fields {sorted(unknown)}")
            return {name: _plain(value.get(name), inner) for name, inner in fields}
    return value


def _widened(arrow: pa.DataType) -> pa.DataType:
    """The type with float64 in the place of float32, and nothing else of that width."""
    if pa.types.is_float32(arrow):
        return pa.float64()
    if pa.types.is_fixed_size_list(arrow):
        return pa.list_(_widened(arrow.value_type), arrow.list_size)
    if pa.types.is_list(arrow):
        return pa.list_(_widened(arrow.value_type))
    if pa.types.is_map(arrow):
        return pa.map_(_widened(arrow.key_type), _widened(arrow.item_type))
    if pa.types.is_struct(arrow):
        return pa.struct([pa.field(f.name, _widened(f.type)) for f in arrow])
    return arrow


def leaves(values: Any) -> Iterator[Any]:
    """The arrays at the ends of a nested one, in order, without what stands under a null."""
    kind = values.type
    if pa.types.is_map(kind):
        present = values.drop_null()
        entries = present.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
        yield from leaves(entries)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from leaves(values.drop_null().flatten())
    elif pa.types.is_struct(kind):
        for child in values.drop_null().flatten():
            yield from leaves(child)
    else:
        yield values


def maps(values: Any) -> Iterator[Any]:
    """The map arrays at any depth of a nested one, without what stands under a null."""
    kind = values.type
    if pa.types.is_map(kind):
        present = values.drop_null()
        yield present
        entries = present.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
        yield from maps(entries.flatten().field(1))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from maps(values.drop_null().flatten())
    elif pa.types.is_struct(kind):
        for child in values.drop_null().flatten():
            yield from maps(child)


def repeats_a_key(values: Any) -> bool:
    """Whether a map array without nulls has a row with a key twice."""
    kind = values.type
    entries = values.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
    lengths = np.asarray(pc.list_value_length(entries).cast(pa.int64()))
    if not len(lengths) or lengths.max() < 2:
        return False
    codes = np.asarray(entries.flatten().field(0).dictionary_encode().indices.cast(pa.int64()))
    pairs = np.repeat(np.arange(len(lengths)), lengths) * (codes.max() + 1) + codes
    return len(np.unique(pairs)) < len(pairs)


def _overflows(narrow: Any, wide: Any) -> bool:
    made = pc.and_(pc.is_inf(narrow), pc.is_finite(wide))
    return pc.any(made, min_count=0).as_py() is True
