"""Rows in JSON, one object a line, as Arrow columns.

It is a file of its own because parsers that guess types take large integers for doubles; here each number is what its
text says, and a declared column means what it means over HTTP. `app.files` calls it. It must never round.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal as PyDecimal
from typing import Any, Final

import msgspec
import pyarrow as pa

from stook.app.textcolumns import instants, own_column
from stook.core.arrow import as_table
from stook.core.errors import SchemaMismatch, SourceUnreadable, first_line
from stook.core.jsoncolumns import table_column
from stook.core.specs import Column

PLAIN_CHARACTERS_MAX: Final = 15  # a number so short, without exponent, is a double's to the last digit
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_OWN_HINT: Final = "let it hold values of one type, or leave it out"


class LongNumber(float):
    """A JSON number with more digits than its double gives back; `text` has them all."""

    text: str


def read_lines(content: bytes, name: str, columns: Iterable[Column], times: Iterable[str]) -> pa.Table:
    """The lines' objects as rows; what a line has not is null, empty lines do not count.

    `columns` are read as a push over HTTP reads them; `times` name columns of times, RFC 3339. Any other column is of the
    type that its values say. Raises SourceUnreadable naming the line, SchemaMismatch naming column and row.

    >>> read_lines(b'{"id": 9223372036854775809}\\n{"x": 1.5}', "f", (), ()).to_pylist()
    [{'id': 9223372036854775809, 'x': None}, {'id': None, 'x': 1.5}]
    """
    rows = list(_objects(content, name))
    declared = {column.name: column for column in columns}
    instant = set(times) - declared.keys()
    found: dict[str, Any] = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        cells = [row.get(key) for row in rows]
        what = f"{name}: column {key!r}"
        if key in declared:
            found[key] = table_column(cells, declared[key].dtype, what)
        elif key in instant and all(isinstance(cell, str | None) for cell in cells):
            found[key] = instants(pa.chunked_array([pa.array(cells, pa.string())]), what)
        else:
            found[key] = _own(cells, what)
    return as_table(found, name, declared.values())


def _objects(content: bytes, name: str) -> Iterable[Mapping[str, Any]]:
    decoder = msgspec.json.Decoder(dict[str, Any], float_hook=_number)
    for number, line in enumerate(content.removeprefix(_BYTE_ORDER_MARK).split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            yield decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError) as error:
            raise SourceUnreadable(
                f"{name} cannot be read: line {number}: {first_line(error)}",
                hint="write one JSON object a line, in UTF-8",
            ) from None


def _number(text: str) -> float:
    value = float(text)
    if len(text) <= PLAIN_CHARACTERS_MAX and "e" not in text and "E" not in text:
        return value
    if math.isinf(value):
        raise ValueError(f"{text} is beyond a double; write it as text")
    if PyDecimal(repr(value)) == PyDecimal(text):
        return value
    long = LongNumber(value)
    long.text = text
    return long


def _own(cells: list[Any], what: str) -> pa.Array | pa.ChunkedArray:
    """Values of no declared type: as Arrow has them; numbers that no common type of it holds as text would be."""
    present = [cell for cell in cells if cell is not None]
    if not present:
        return pa.nulls(len(cells), pa.string())
    numbers = all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in present)
    try:
        if not any(map(_is_long, present)):
            return pa.array(cells)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        if not numbers:
            raise SchemaMismatch(f"{what} cannot be read: {first_line(error)}", hint=_OWN_HINT) from None
    if not numbers:
        raise SchemaMismatch(f"{what} holds a number with more digits than a double", hint="write it as text")
    return own_column(pa.chunked_array([[None if cell is None else _spelled(cell) for cell in cells]], pa.string()))


def _is_long(cell: Any) -> bool:
    if isinstance(cell, dict):
        return any(map(_is_long, cell.values()))
    return any(map(_is_long, cell)) if isinstance(cell, list) else isinstance(cell, LongNumber)


def _spelled(cell: float) -> str:
    return cell.text if isinstance(cell, LongNumber) else repr(cell)
