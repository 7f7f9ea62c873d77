"""Rows of one schema: whole columns into stored values, and back.

It is a file of its own because it is the only place where bytes meet Arrow; `layout` says where they stand. The
write path encodes with it, the view reader decodes many rows with it. It must never loop in Python over the
cells of a fixed-width or text column, nor round a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stook.core import dtypes
from stook.core.arrow import to_arrow
from stook.core.dtypes import Bool, Bytes, Decimal, DType, String, Vector
from stook.core.errors import CorruptStore, SchemaMismatch, TooLarge
from stook.core.instants import MAX_US, MIN_US
from stook.core.rows import FORMAT, HEADER_BYTES, SIGN, TOMBSTONE
from stook.core.specs import Schema
from stook.online.layout import Layout, Slot, lay_out
from stook.online.nested import EPOCH_ORDINAL, packer, unpacker

VALUES_BYTES_MAX: Final = 2**31 - 1  # of one encoded or decoded column set, as Arrow's 32-bit offsets allow
_DATE_BOUNDS: Final = (1 - EPOCH_ORDINAL, date.max.toordinal() - EPOCH_ORDINAL)
_BOUNDS: Final[dict[DType, tuple[Any, int, int]]] = {
    dtypes.Date: (pa.int32(), *_DATE_BOUNDS),
    dtypes.Timestamp: (pa.int64(), MIN_US, MAX_US),
}
_STORAGE: Final[dict[DType, Any]] = {
    dtypes.Bool: pa.uint8(),
    dtypes.Date: pa.int32(),
    dtypes.Time: pa.int64(),
    dtypes.Timestamp: pa.int64(),
}


@dataclass(frozen=True)
class Orders:
    """The headers' columns: int64 event time, knowledge time, arrival, and whether the row is a tombstone."""

    event_us: Any
    knowledge_us: Any
    arrival: Any
    deleted: Any


class RowCodec:
    """Encodes and decodes rows of one schema.

    `where` names the view in messages.
    """

    def __init__(self, schema: Schema, where: str) -> None:
        self.schema = schema
        self.layout: Layout = lay_out(schema.features)
        self._where = where
        self._bitmap = np.dtype((np.uint8, (self.layout.bitmap_bytes,)))

    def encode(self, orders: Orders, arrays: Sequence[Any]) -> list[bytes]:
        """Stored values of the rows, without full keys; `arrays` are the features' Arrow arrays in schema order.

        A tombstone is its header alone. Raises SchemaMismatch for instants outside the years 1 to 9999, TooLarge
        when the values hold 2 GiB or more together.
        """
        layout, count = self.layout, len(orders.event_us)
        width = HEADER_BYTES + layout.size
        block = np.zeros((count, width), np.uint8)
        _write_headers(block, orders, self.schema.revision)
        nulls = np.zeros((count, len(layout.slots)), bool)
        tails: list[Any] = []
        for slot, array in zip(layout.slots, arrays, strict=True):
            self._check_bounds(slot, array)
            if array.null_count:
                nulls[:, slot.bit] = np.asarray(array.is_null())
            if slot.variable is None:
                _strided(block, slot.cell, HEADER_BYTES + slot.offset, width)[:] = _cells(array, slot)
            else:
                tails.append(self._blobs(array, slot))
        block[:, HEADER_BYTES : HEADER_BYTES + layout.bitmap_bytes] = np.packbits(nulls, axis=1, bitorder="little")
        if tails:
            self._write_ends(block, tails)
            values = self._join(block, tails)
        else:
            values = block.view(f"V{width}").ravel().tolist()
        for row in np.flatnonzero(orders.deleted).tolist():
            values[row] = values[row][:HEADER_BYTES]
        return values

    def _check_bounds(self, slot: Slot, array: Any) -> None:
        bounds = _BOUNDS.get(slot.column.dtype)
        if bounds is None or array.null_count == len(array):
            return
        storage, low, high = bounds
        extent = pc.min_max(array.view(storage))
        if extent["min"].as_py() < low or extent["max"].as_py() > high:
            raise SchemaMismatch(
                f"{self._where}: feature {slot.column.name!r} holds an instant outside the years 1 to 9999",
                hint="mend the value, or make it null",
            )

    def _blobs(self, array: Any, slot: Slot) -> Any:
        """A variable column as Arrow binary without nulls."""
        dtype = slot.column.dtype
        if dtype in (String, Bytes):
            return (array.fill_null("" if dtype == String else b"") if array.null_count else array).cast(pa.binary())
        pack = packer(dtype)
        try:
            return pa.array([b"" if v is None else pack(v) for v in array.to_pylist()], pa.binary())
        except (ValueError, OverflowError) as error:
            raise SchemaMismatch(
                f"{self._where}: feature {slot.column.name!r} holds a value that cannot be stored: {error}",
                hint="are its times within the years 1 to 9999?",
            ) from None

    def _write_ends(self, block: Any, tails: list[Any]) -> None:
        lengths = np.stack([np.asarray(pc.binary_length(tail), np.int64) for tail in tails], axis=1)
        if block.size + int(lengths.sum()) > VALUES_BYTES_MAX:
            raise TooLarge(f"{self._where}: {len(block)} rows hold over 2 GiB", hint="write fewer rows at a time")
        cell = f"({len(tails)},)<u4"
        _strided(block, cell, HEADER_BYTES + self.layout.ends_at, block.shape[1])[:] = np.cumsum(lengths, axis=1)

    @staticmethod
    def _join(block: Any, tails: list[Any]) -> list[bytes]:
        heads = _binary(block)
        joined: list[bytes] = pc.binary_join_element_wise(heads, *tails, b"").to_pylist()
        return joined

    def picker(self, names: Sequence[str]) -> Picker:
        """Compiles which features `decode` answers, in the order of `names`; None for a name the schema lacks."""
        return Picker.of([self.layout.slot(name) for name in names])

    def decode(self, rows: Rows, picker: Picker) -> list[Any]:
        """Features of live rows as Arrow arrays of this schema's types; None for a name the schema lacks.

        Raises CorruptStore for bytes that `encode` cannot have written, TooLarge for 2 GiB or more.
        """
        layout = self.layout
        rests = rows.lengths() - layout.size
        if np.any(rests < 0) or (not layout.variables and np.any(rests)):
            raise self._corrupt("a row's length")
        block = rows.block(layout.size)
        bitmap = block.cells(self._bitmap, 0)
        nulls = np.unpackbits(bitmap, axis=1, count=len(layout.slots), bitorder="little") if bitmap.any() else None
        answer: list[Any] = [None] * picker.width
        for run in picker.runs:
            run.read(block, nulls, answer)
        for at, slot in picker.fixed:
            answer[at] = _fixed_array(
                block.cells(slot.cell, slot.offset), slot.column.dtype, _validity(nulls, slot.bit)
            )
        if picker.variable:
            segments = self._segments(block, rows, rests)
            for at, slot in picker.variable:
                places = np.arange(slot.variable or 0, len(segments), layout.variables)
                answer[at] = self._variable_array(segments.take(pa.array(places)), slot, _validity(nulls, slot.bit))
        return answer

    def _segments(self, block: _Block, rows: Rows, rests: Any) -> Any:
        """All variable cells, row by row, as one Arrow binary array over the joined variable parts."""
        layout = self.layout
        ends = block.cells(f"({layout.variables},)<u4", layout.ends_at).astype(np.int64)
        rests = np.broadcast_to(rests, block.rows)
        if np.any(np.diff(ends, axis=1, prepend=0) < 0) or not np.array_equal(ends[:, -1], rests):
            raise self._corrupt("the ends of a row's variable columns")
        total = int(rests.sum())
        if total > VALUES_BYTES_MAX:
            raise TooLarge(f"{self._where}: the answer holds over 2 GiB", hint="ask for fewer rows at a time")
        bases = np.cumsum(rests) - rests
        offsets = np.zeros(ends.size + 1, np.int32)
        offsets[1:] = (bases[:, None] + ends).ravel()
        data = rows.joined_from(layout.size)
        return pa.Array.from_buffers(pa.binary(), ends.size, [None, pa.py_buffer(offsets), pa.py_buffer(data)])

    def _variable_array(self, picked: Any, slot: Slot, validity: Any) -> Any:
        dtype = slot.column.dtype
        if dtype in (String, Bytes):
            buffers = [validity, *picked.buffers()[1:]]
            array = pa.Array.from_buffers(to_arrow(dtype), len(picked), buffers)
            if dtype == String:
                try:
                    array.validate(full=True)
                except pa.ArrowInvalid:
                    raise self._corrupt(f"the text of feature {slot.column.name!r}") from None
            return array
        unpack = unpacker(dtype)
        present = _present(validity, len(picked))
        cells = [unpack(blob) if there else None for blob, there in zip(picked.to_pylist(), present, strict=True)]
        return pa.array(cells, to_arrow(dtype))

    def _corrupt(self, what: str) -> CorruptStore:
        return CorruptStore(
            f"{self._where}: {what} does not read back as written", hint="materialize the view again with replace"
        )


@dataclass(frozen=True)
class _Run:
    """Fixed columns of one plain type that follow each other in storage and in the answer, read as one matrix."""

    at: int
    slots: tuple[Slot, ...]

    def read(self, block: _Block, nulls: Any, answer: list[Any]) -> None:
        """Puts the columns into the answer, all of them over one transposed copy."""
        first, count, rows = self.slots[0], len(self.slots), block.rows
        cells = np.ascontiguousarray(block.matrix(first.cell, first.offset, count).T)
        arrow = to_arrow(first.column.dtype)
        whole = pa.Array.from_buffers(arrow, rows * count, [None, pa.py_buffer(cells)])
        if nulls is None:
            answer[self.at : self.at + count] = [whole.slice(start, rows) for start in range(0, rows * count, rows)]
            return
        for number, slot in enumerate(self.slots):
            column = whole.slice(number * rows, rows)
            validity = _validity(nulls, slot.bit)
            if validity is not None:
                column = pa.Array.from_buffers(arrow, rows, [validity, pa.py_buffer(cells[number])])
            answer[self.at + number] = column


@dataclass(frozen=True)
class Picker:
    """Which features are decoded, compiled once: runs of plain columns, other fixed columns, variable columns, each with
    its place in the answer."""

    width: int
    runs: tuple[_Run, ...]
    fixed: tuple[tuple[int, Slot], ...]
    variable: tuple[tuple[int, Slot], ...]

    @staticmethod
    def of(slots: Sequence[Slot | None]) -> Picker:
        """A picker of these places, None for what the schema lacks."""
        runs: list[list[tuple[int, Slot]]] = []
        fixed, variable = [], []
        for at, slot in enumerate(slots):
            if slot is None:
                continue
            if slot.variable is not None:
                variable.append((at, slot))
            elif not _is_plain(slot.column.dtype):
                fixed.append((at, slot))
            elif runs and _follows(runs[-1][-1], (at, slot)):
                runs[-1].append((at, slot))
            else:
                runs.append([(at, slot)])
        compiled = tuple(_Run(run[0][0], tuple(slot for _, slot in run)) for run in runs)
        return Picker(len(slots), compiled, tuple(fixed), tuple(variable))


def _is_plain(dtype: DType) -> bool:
    """Whether a cell is a value of Arrow's as it lies."""
    return not isinstance(dtype, Vector | Decimal) and dtype != Bool


def _follows(before: tuple[int, Slot], after: tuple[int, Slot]) -> bool:
    (at, slot), (next_at, next_slot) = before, after
    side_by_side = next_at == at + 1 and next_slot.offset == slot.offset + slot.width
    return side_by_side and next_slot.column.dtype == slot.column.dtype


@dataclass(frozen=True)
class Rows:
    """Stored values, whose bodies begin at `starts` (of all, or of each). `joined`: all of them, where each has `width`
    bytes, which spares a slice a row; None where widths differ."""

    values: Sequence[bytes]
    starts: Sequence[int] | int
    joined: bytes | None = None
    width: int = 0

    def lengths(self) -> Any:
        """The bodies' lengths; one number where all are alike."""
        if self.joined is not None and isinstance(self.starts, int):
            return np.int64(self.width - self.starts)
        return np.fromiter(map(len, self.values), np.int64, len(self.values)) - np.asarray(self.starts)

    def block(self, size: int) -> _Block:
        """The first `size` bytes of the bodies."""
        values, starts = self.values, self.starts
        if self.joined is not None and isinstance(starts, int):
            return _Block(self.joined, len(values), starts, self.width)
        if isinstance(starts, int):
            return _Block(b"".join([v[starts : starts + size] for v in values]), len(values), 0, size)
        return _Block(b"".join([v[s : s + size] for v, s in zip(values, starts, strict=True)]), len(values), 0, size)

    def joined_from(self, size: int) -> bytes:
        """What follows the first `size` bytes of the bodies, one after the other."""
        if isinstance(self.starts, int):
            return b"".join([value[self.starts + size :] for value in self.values])
        return b"".join([v[s + size :] for v, s in zip(self.values, self.starts, strict=True)])


@dataclass(frozen=True)
class _Block:
    """Bodies of equally wide fixed parts: row i's begins at `base + i * stride` of `buffer`."""

    buffer: bytes
    rows: int
    base: int
    stride: int

    def cells(self, cell: Any, offset: int) -> Any:
        """One column's cells, contiguous."""
        return np.ascontiguousarray(_strided(self.buffer, cell, self.base + offset, self.stride, self.rows))

    def matrix(self, cell: str, offset: int, columns: int) -> Any:
        """A view of equal columns that stand side by side, a row each."""
        dtype = np.dtype(cell)
        if not self.rows:
            return np.zeros((0, columns), dtype)
        shape, strides = (self.rows, columns), (self.stride, dtype.itemsize)
        return np.ndarray(shape, dtype, self.buffer, self.base + offset, strides)


def _strided(buffer: Any, cell: Any, offset: int, stride: int, rows: int | None = None) -> Any:
    """A view of one column within packed rows."""
    dtype = np.dtype(cell)
    shape = (len(buffer) if rows is None else rows, *dtype.shape)
    strides = (stride, *(dtype.base.itemsize for _ in dtype.shape))
    if not shape[0]:
        return np.zeros(shape, dtype.base)
    return np.ndarray(shape, dtype.base, buffer, offset, strides)


def _write_headers(block: Any, orders: Orders, revision: int) -> None:
    width = block.shape[1]
    for number, column in enumerate((orders.event_us, orders.knowledge_us, orders.arrival)):
        flipped = np.asarray(column, np.int64).view(np.uint64) ^ np.uint64(SIGN)
        _strided(block, ">u8", 8 * number, width)[:] = flipped
    _strided(block, "<u4", 24, width)[:] = revision
    block[:, 28] = np.where(orders.deleted, TOMBSTONE, 0)
    block[:, 29] = FORMAT


def _binary(block: Any) -> Any:
    """A matrix of bytes as Arrow binary, a row each."""
    rows, width = block.shape
    offsets = np.arange(0, (rows + 1) * width, width, dtype=np.int32)
    return pa.Array.from_buffers(pa.binary(), rows, [None, pa.py_buffer(offsets), pa.py_buffer(block)])


def _cells(array: Any, slot: Slot) -> Any:
    """A fixed column as NumPy cells, zeros where null."""
    dtype = slot.column.dtype
    if isinstance(dtype, Decimal):
        raw = np.frombuffer(array.buffers()[1], slot.cell)[array.offset : array.offset + len(array)]
        if array.null_count:
            raw = raw.copy()
            raw[np.asarray(array.is_null())] = np.void(bytes(slot.width))
        return raw
    if isinstance(dtype, Vector):
        inner = array.values[array.offset * dtype.length : (array.offset + len(array)) * dtype.length]
        cells = inner.fill_null(0).to_numpy(zero_copy_only=False).reshape(len(array), dtype.length)
        return np.where(np.asarray(array.is_null())[:, None], 0, cells) if array.null_count else cells
    storage = _STORAGE.get(dtype)
    if storage is not None:
        array = array.cast(storage)
    return (array.fill_null(0) if array.null_count else array).to_numpy(zero_copy_only=False)


def _fixed_array(cells: Any, dtype: DType, validity: Any) -> Any:
    """A fixed column's contiguous cells as an Arrow array."""
    rows, arrow = len(cells), to_arrow(dtype)
    if isinstance(dtype, Vector):
        child = pa.Array.from_buffers(arrow.value_type, rows * dtype.length, [None, pa.py_buffer(cells)])
        return pa.Array.from_buffers(arrow, rows, [validity], children=[child])
    if dtype == Bool:
        cells = np.packbits(cells, bitorder="little")
    return pa.Array.from_buffers(arrow, rows, [validity, pa.py_buffer(cells)])


def _validity(nulls: Any, bit: int) -> Any:
    """Arrow's validity bitmap of one feature; None when nothing is null."""
    if nulls is None:
        return None
    column = nulls[:, bit]
    return pa.py_buffer(np.packbits(column == 0, bitorder="little")) if column.any() else None


def _present(validity: Any, rows: int) -> list[Any]:
    if validity is None:
        return [True] * rows
    return np.unpackbits(np.frombuffer(validity, np.uint8), count=rows, bitorder="little").tolist()
