"""Where each feature stands in a stored value.

It is a file of its own because encoding, decoding by column and decoding by row must agree on every byte. The
codec and the view reader compile from it. It must never touch a value: it only counts bytes.

After the header (`core.rows`) and, for long keys, the full key, a value's body is::

    null bitmap      one bit a feature in the order of the schema, least significant first; 1 = null
    fixed columns    little-endian, packed, in the order of the schema; zeros where null
    ends             for each variable column a little-endian u32: where it ends in the variable part
    variable part    text and bytes as they are, nested values as one MessagePack blob each
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stook.core.dtypes import Decimal, DType, Primitive, Vector
from stook.core.specs import Column

# numpy's and struct's spelling of one fixed cell
_FIXED: Final[dict[str, tuple[str, str]]] = {
    "bool": ("u1", "?"),
    "int8": ("i1", "b"),
    "int16": ("<i2", "h"),
    "int32": ("<i4", "i"),
    "int64": ("<i8", "q"),
    "uint8": ("u1", "B"),
    "uint16": ("<u2", "H"),
    "uint32": ("<u4", "I"),
    "uint64": ("<u8", "Q"),
    "float32": ("<f4", "f"),
    "float64": ("<f8", "d"),
    "date": ("<i4", "i"),
    "time": ("<i8", "q"),
    "timestamp": ("<i8", "q"),
}
_WIDTHS: Final = {"?": 1, "b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "f": 4, "q": 8, "Q": 8, "d": 8}
DECIMAL_BYTES: Final = 16
END_BYTES: Final = 4


@dataclass(frozen=True)
class Slot:
    """One feature's place.

    `bit` is its number in the null bitmap. A fixed column has the numpy type and struct format of its cell, and
    its `offset` and `width` in the body; a variable one has its number among the variable columns in `variable`.
    """

    column: Column
    bit: int
    variable: int | None
    offset: int = 0
    width: int = 0
    cell: str = ""
    format: str = ""


@dataclass(frozen=True)
class Layout:
    """The body of rows under one schema. `size` counts all bytes before the variable part."""

    slots: tuple[Slot, ...]
    bitmap_bytes: int
    ends_at: int
    variables: int
    size: int

    def slot(self, name: str) -> Slot | None:
        """The place of the feature of that name."""
        return next((s for s in self.slots if s.column.name == name), None)


def lay_out(columns: tuple[Column, ...]) -> Layout:
    """The layout of these features.

    >>> from stook.core.dtypes import Int64, String
    >>> layout = lay_out((Column("trips", Int64), Column("city", String)))
    >>> layout.size, layout.slots[0].offset, layout.slots[1].variable
    (13, 1, 0)
    """
    bitmap_bytes = (len(columns) + 7) // 8
    offset, variables, slots = bitmap_bytes, 0, []
    for bit, column in enumerate(columns):
        cell = _cell(column.dtype)
        if cell is None:
            slots.append(Slot(column, bit, variables))
            variables += 1
        else:
            name, spelling, width = cell
            slots.append(Slot(column, bit, None, offset, width, name, spelling))
            offset += width
    return Layout(tuple(slots), bitmap_bytes, offset, variables, offset + END_BYTES * variables)


def _cell(dtype: DType) -> tuple[str, str, int] | None:
    """(numpy type, struct format, bytes) of a fixed cell; None for variable types."""
    match dtype:
        case Primitive(name) if name in _FIXED:
            numpy_type, letter = _FIXED[name]
            return numpy_type, letter, _WIDTHS[letter]
        case Decimal():
            return f"V{DECIMAL_BYTES}", f"{DECIMAL_BYTES}s", DECIMAL_BYTES
        case Vector(Primitive(name), length):
            numpy_type, letter = _FIXED[name]
            width = _WIDTHS[letter] * length
            return f"({length},){numpy_type}", f"{width}s", width
    return None


def element_format(dtype: Vector) -> str:
    """The struct format of one vector: `<3f`."""
    return f"<{dtype.length}{_FIXED[str(dtype.element)][1]}"
