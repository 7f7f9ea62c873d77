"""What a Delta table holds in place of a logical type, there and back without losing a bit (cases 42 to 49)."""

from __future__ import annotations

from datetime import time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from stook import Array, Float32, Int64, Map, String, Struct, Time, UInt8, UInt16, UInt32, UInt64, Vector
from stook.core.arrow import to_arrow
from stook.core.dtypes import PRIMITIVES, DType
from stook.core.errors import CorruptStore
from stook.core.physical import physical, to_logical, to_physical

DELTA_HAS_NO = {pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(), pa.time64("us")}
ROWS: list[tuple[DType, list[Any]]] = [
    (UInt8, [0, None, 255]),
    (UInt16, [0, None, 2**16 - 1]),
    (UInt32, [0, None, 2**32 - 1]),
    (UInt64, [0, None, 2**64 - 1]),
    (Time, [time(0), None, time(23, 59, 59, 999_999)]),
    (Array(UInt64), [[2**64 - 1, None], None, []]),
    (Vector(UInt8, 2), [[0, 255], None, [1, 2]]),
    (Array(Vector(UInt32, 2)), [[[0, 2**32 - 1], None], None, []]),
    (Vector(Float32, 3), [[0.5, -0.0, 1.0], None, [1.0, 2.0, 3.0]]),
    (Struct({"u": UInt64, "t": Array(Time)}), [{"u": 2**64 - 1, "t": [time(1), None]}, None, {"u": None, "t": None}]),
    (Map(String, UInt64), [[("a", 2**64 - 1), ("", None)], None, []]),
    (Map(UInt16, Struct({"v": Vector(UInt8, 1)})), [[(65_535, {"v": [255]})], None, []]),
    (Int64, [-(2**63), None, 2**63 - 1]),
]


@pytest.mark.parametrize("dtype", PRIMITIVES.values(), ids=str)
def test_delta_has_every_physical_type(dtype: DType) -> None:
    assert physical(dtype) not in DELTA_HAS_NO


@pytest.mark.parametrize(("dtype", "values"), ROWS, ids=[str(dtype) for dtype, _ in ROWS])
@pytest.mark.parametrize("part", [slice(0, 3), slice(1, 3), slice(0, 1), slice(1, 2), slice(3, 3)], ids=str)
def test_slices_and_chunks_come_back(dtype: DType, values: list[Any], part: slice) -> None:
    """Case 49."""
    whole = pa.array(values, to_arrow(dtype))
    chunked = pa.chunked_array([whole[part], whole[:0], whole], to_arrow(dtype))
    stored = to_physical(chunked, dtype)
    assert stored.type == physical(dtype)
    found = to_logical(stored, dtype)
    assert found.type == to_arrow(dtype)
    assert found.to_pylist() == values[part] + values


@pytest.mark.parametrize(("dtype", "values"), ROWS, ids=[str(dtype) for dtype, _ in ROWS])
def test_no_chunk_at_all_keeps_the_type(dtype: DType, values: list[Any]) -> None:
    empty = pa.chunked_array([], to_arrow(dtype))
    assert to_logical(to_physical(empty, dtype), dtype).type == to_arrow(dtype)


OFFSETS = pa.array([0, 1, 3, 4], pa.int32())
MASK = pa.array([False, True, False])


def test_what_stands_under_a_null_list_stays_there() -> None:
    """A null list may cover elements, as masks leave it; they were once given to the list before."""
    covered = pa.ListArray.from_arrays(OFFSETS, pa.array([1, 98, 99, 4], pa.uint64()), mask=MASK)
    stored = to_physical(pa.chunked_array([covered]), Array(UInt64))
    assert stored.to_pylist() == [[Decimal(1)], None, [Decimal(4)]]
    assert to_logical(stored, Array(UInt64)).to_pylist() == [[1], None, [4]]


def test_what_stands_under_a_null_map_stays_there() -> None:
    keys, items = pa.array(["a", "x", "y", "b"]), pa.array([1, 98, 99, 4], pa.uint64())
    covered = pa.MapArray.from_arrays(OFFSETS, keys, items, mask=MASK)
    stored = to_physical(pa.chunked_array([covered, covered[1:]]), Map(String, UInt64))
    assert to_logical(stored, Map(String, UInt64)).to_pylist() == [[("a", 1)], None, [("b", 4)], None, [("b", 4)]]


def test_what_stands_under_a_null_struct_stays_there() -> None:
    inner = pa.ListArray.from_arrays(OFFSETS, pa.array([1, 98, 99, 4], pa.uint8()))
    covered = pa.StructArray.from_arrays([inner], names=["l"], mask=MASK)
    dtype = Struct({"l": Array(UInt8)})
    stored = to_physical(pa.chunked_array([covered, covered[1:]]), dtype)
    assert to_logical(stored, dtype).to_pylist() == [{"l": [1]}, None, {"l": [4]}, None, {"l": [4]}]


@pytest.mark.parametrize(
    ("stored", "dtype"),
    [
        (pa.array([-1], pa.int16()), UInt8),
        (pa.array([Decimal(2**64)], pa.decimal128(20, 0)), UInt64),
        (pa.array([[1, 2, 3]], pa.list_(pa.int16())), Vector(UInt8, 2)),
    ],
)
def test_what_is_none_of_the_types_values_is_corrupt(stored: pa.Array, dtype: DType) -> None:
    with pytest.raises(CorruptStore, match="does not read back"):
        to_logical(pa.chunked_array([stored]), dtype)
