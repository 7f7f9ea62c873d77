"""One stored row's features as Python values, by a struct compiled once.

It is a file of its own because a request for one entity cannot afford NumPy or Arrow: a precompiled struct reads
ten doubles in a tenth of a microsecond. The view reader keeps one `RowReader` per schema that stored rows have.
It must never answer anything but what `codec.RowCodec.decode` and Arrow's `to_pylist` do for the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from decimal import Context
from decimal import Decimal as PyDecimal
from typing import Any, Final

from stook.core import dtypes
from stook.core.dtypes import Decimal, DType, Vector
from stook.core.instants import to_datetime
from stook.core.specs import Column, Schema
from stook.online.layout import END_BYTES, Layout, Slot, element_format, lay_out
from stook.online.nested import to_date, to_time, unpacker

Convert = Callable[[Any], Any]
_EXACT: Final = Context(prec=dtypes.DECIMAL_PRECISION_MAX)


class RowReader:
    """Reads the `wanted` features of rows under one schema, in that order.

    A feature that the schema lacks, or holds in a type that does not widen into the wanted one, is None; widened
    types convert exactly. `read` answers a row with a meaningless first item, then the features: a tuple when
    none is null, else a list.
    """

    def __init__(self, schema: Schema, wanted: Sequence[Column]) -> None:
        layout = lay_out(schema.features)
        found = [(index, column, slot) for index, column in enumerate(wanted, 1) if (slot := _stored(layout, column))]
        fixed = sorted(
            ((i, column, slot) for i, column, slot in found if slot.variable is None), key=lambda f: f[2].offset
        )
        self._unpack = struct.Struct(_format(layout, [slot for _, _, slot in fixed])).unpack_from
        self._no_nulls = bytes(layout.bitmap_bytes)
        self._cells = [
            (index, slot.bit, position, _converter(slot.column.dtype, column.dtype))
            for position, (index, column, slot) in enumerate(fixed, 1)
        ]
        self._blobs = [
            (index, slot.bit, slot.variable, _blob_converter(slot.column.dtype))
            for index, _, slot in found
            if slot.variable is not None
        ]
        self._ends = struct.Struct(f"<{layout.variables}I").unpack_from
        self._layout = layout
        self._width = len(wanted) + 1
        straight = all(index == position and convert is None for index, _, position, convert in self._cells)
        self._straight = straight and not self._blobs and len(fixed) == len(wanted)

    def read(self, value: bytes, at: int) -> tuple[Any, ...] | list[Any]:
        """The features of the row whose body begins at `at`.

        Raises struct.error, ValueError, IndexError, TypeError or msgspec's errors (ValueErrors) for damaged bytes.
        """
        raw = self._unpack(value, at)
        if self._straight and raw[0] == self._no_nulls:
            return raw
        nulls = int.from_bytes(raw[0], "little")
        row: list[Any] = [None] * self._width
        for index, bit, position, convert in self._cells:
            if not nulls >> bit & 1:
                cell = raw[position]
                row[index] = cell if convert is None else convert(cell)
        if self._blobs:
            self._read_blobs(value, at, nulls, row)
        return row

    def _read_blobs(self, value: bytes, at: int, nulls: int, row: list[Any]) -> None:
        ends = (*self._ends(value, at + self._layout.ends_at), 0)  # so that column 0 begins at ends[-1]
        base = at + self._layout.size
        if base + ends[-2] != len(value):
            raise ValueError("the ends of the variable columns do not meet the row's")
        for index, bit, number, convert in self._blobs:
            if not nulls >> bit & 1:
                if ends[number - 1] > ends[number]:
                    raise ValueError("a variable column ends before it begins")
                blob = value[base + ends[number - 1] : base + ends[number]]
                row[index] = blob if convert is None else convert(blob)


def _stored(layout: Layout, column: Column) -> Slot | None:
    slot = layout.slot(column.name)
    return slot if slot is not None and dtypes.widens(slot.column.dtype, column.dtype) else None


def _format(layout: Layout, slots: Sequence[Slot]) -> str:
    """The struct of the bitmap and these cells; what lies between is skipped, all up to the variable part is there."""
    parts, at = [f"<{layout.bitmap_bytes}s"], layout.bitmap_bytes
    for slot in slots:
        parts.append(f"{slot.offset - at}x{slot.format}")
        at = slot.offset + slot.width
    parts.append(f"{layout.ends_at + END_BYTES * layout.variables - at}x")
    return "".join(parts)


def _converter(stored: DType, wanted: DType) -> Convert | None:
    """From the struct's cell to the wanted type's Python value; None where they are the same."""
    match stored, wanted:
        case Decimal(_, scale), Decimal(_, wanted_scale):
            return _decimal(10 ** (wanted_scale - scale), wanted_scale)
        case Vector(), _:
            assert isinstance(stored, Vector)
            unpack = struct.Struct(element_format(stored)).unpack
            return lambda cell: list(unpack(cell))
        case dtypes.Date, _:
            return to_date
        case dtypes.Time, _:
            return to_time
        case dtypes.Timestamp, _:
            return to_datetime
    return float if stored in dtypes.INTEGERS and wanted in dtypes.FLOATS else None


def _decimal(factor: int, scale: int) -> Convert:
    return lambda cell: PyDecimal(int.from_bytes(cell, "little", signed=True) * factor).scaleb(-scale, _EXACT)


def _blob_converter(dtype: DType) -> Convert | None:
    if dtype == dtypes.Bytes:
        return None
    return bytes.decode if dtype == dtypes.String else unpacker(dtype)
