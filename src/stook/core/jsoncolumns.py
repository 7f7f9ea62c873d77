"""Columns of JSON values as Python values and Arrow arrays, by logical type.

It is a file of its own because JSON comes in by requests and by files, and must mean the same in both; `core.jsontypes`,
which says what one value means, must need no Arrow. The faces and the reader of JSON lines call it. It must never
round, nor take a value of one type for one of another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import pyarrow as pa

from stook.core import dtypes
from stook.core.arrow import to_arrow
from stook.core.dtypes import Array, Decimal, DType, Map, Struct, Vector
from stook.core.errors import SchemaMismatch, shown
from stook.core.jsontypes import REFUSALS, reader
from stook.core.pythonic import column_of
from stook.core.specs import Column

SHOWN_BITS_MAX: Final = 256


def column_from_json(cells: list[Any], dtype: DType, what: str, *, int64_text: bool = False) -> Any:
    """A column of JSON values as Python values of the type, or as an Arrow array where the type is nested.

    Numbers stay as they are: whoever receives them checks them against the type. With `int64_text`, or in any
    case for values, text is taken for 64-bit integers. Raises SchemaMismatch naming `what` and the row.

    >>> column_from_json(["NaN", 2], dtypes.Float64, "x")
    [nan, 2]
    >>> column_from_json(["YWI="], dtypes.Bytes, "x")
    [b'ab']
    """
    one = reader(dtype, int64_text)
    if one is None:
        return cells
    converted = []
    for row, cell in enumerate(cells):
        try:
            converted.append(None if cell is None else one(cell))
        except REFUSALS:
            raise SchemaMismatch(f"{what} is {shown(cell)} in row {row}, not {dtype}", hint=_hint(dtype)) from None
    if isinstance(dtype, Array | Vector | Struct | Map):
        return _nested_array(converted, dtype, what)
    return converted


def request_from_json(
    values: Mapping[str, Any], inputs: Iterable[Column], *, int64_text: bool = False
) -> dict[str, Any]:
    """A prediction's request values in the types of the model's inputs, each one for all rows or a list with one for each.

    Names that are no inputs stay as they are, for the model room to refuse. Raises SchemaMismatch naming value and row.

    >>> request_from_json({"day": "2024-01-01"}, [Column("day", dtypes.Date)])
    {'day': datetime.date(2024, 1, 1)}
    """
    types = {column.name: column.dtype for column in inputs}
    typed = {}
    for name, value in values.items():
        if name not in types or value is None:
            typed[name] = value
            continue
        cells = value if isinstance(value, list) else [value]
        column = column_from_json(cells, types[name], f"request value {name!r}", int64_text=int64_text)
        one = column[0].as_py() if isinstance(column, pa.Array) and len(column) else None
        typed[name] = column if isinstance(value, list) else one if isinstance(column, pa.Array) else column[0]
    return typed


def table_column(cells: list[Any], dtype: DType, what: str) -> Any:
    """As `column_from_json`, for a column of a table: text is taken for 64-bit integers, and unsigned ones come as
    an Arrow array, since Arrow alone takes no Python integer over 2**63 - 1."""
    column = column_from_json(cells, dtype, what, int64_text=True)
    if isinstance(column, list):
        check_width(column, what, unsigned=dtype == dtypes.UInt64)
    if dtype == dtypes.UInt64 and all(type(cell) is int for cell in column if cell is not None):
        return pa.array(column, pa.uint64())
    return column


def check_width(cells: list[Any], what: str, *, unsigned: bool = False) -> None:
    """Raises SchemaMismatch naming `what` and the row of an integer that no column of 64 bits holds.

    >>> check_width([1, -(2**63), "text"], "x")
    """
    low, high = (0, 1 << 64) if unsigned else (-(1 << 63), 1 << 63)
    for row, cell in enumerate(cells):
        if type(cell) is int and not low <= cell < high:
            text = str(cell) if cell.bit_length() <= SHOWN_BITS_MAX else f"an integer of {cell.bit_length()} bits"
            kind = "uint64" if unsigned else "int64"
            raise SchemaMismatch(f"{what} is {text} in row {row}, beyond {kind}", hint="give decimals as text")


def _nested_array(cells: list[Any], dtype: DType, what: str) -> pa.Array:
    arrow = to_arrow(dtype)
    try:
        built = column_of(cells, dtype, arrow)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):  # whose text would show Python's own words
        raise SchemaMismatch(f"{what} is not {dtype}: a value inside does not fit", hint=_hint(dtype)) from None
    if built.type != arrow:
        raise SchemaMismatch(f"{what} holds {built.type}, not {dtype}", hint=_hint(dtype))
    return built


_HINTS: Final[dict[DType, str]] = {
    dtypes.Bytes: "give base64 text",
    dtypes.Date: 'give text as "2013-10-15"',
    dtypes.Time: 'give text as "12:30:00.123456"',
    dtypes.Timestamp: 'give text as "2013-10-15T12:00:00.123456Z"',
}


def _hint(dtype: DType) -> str:
    match dtype:
        case Decimal():
            return 'give decimals as text, "12.50"'
        case Struct():
            return "give an object with the declared fields"
        case Map():
            return "give an array of [key, value] pairs"
        case Array() | Vector():
            return "give an array of values"
    return _HINTS.get(dtype, "give a number")
