"""The entities of a request, checked: for each key column a list of exact Python values, or an Arrow array.

It is a file of its own because everything a user can get wrong in a read is found here, before a store is asked.
The read path calls it. It must never guess: `True` is no integer and `"1"` is none either. A whole float is, as in
label tables, since DataFrames turn integers into floats unasked, below 2**53: there nothing was rounded to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa

from stook.core import dtypes
from stook.core.arrow import TIMESTAMP, as_table, python_objects, require_valid
from stook.core.dtypes import DType
from stook.core.errors import InvalidArgument, SchemaMismatch, TooLarge, did_you_mean, shown
from stook.core.instants import is_absent, to_datetime, to_us
from stook.core.keycolumns import MANTISSA_BITS, ROUNDED_HINT, conform_key
from stook.core.specs import Column
from stook.online.keys import one_array

Entities = Mapping[str, Any]
_INT_BOUNDS: Final[dict[DType, tuple[int, int]]] = {
    dtype: (-(1 << bits - 1), (1 << bits - 1) - 1) if dtype in dtypes.SIGNED else (0, (1 << bits) - 1)
    for dtype in dtypes.INTEGERS
    for bits in (dtypes.INTEGER_BITS[str(dtype)],)
}
_PLAIN: Final[dict[DType, type]] = {dtypes.Bool: bool, dtypes.Bytes: bytes, dtypes.String: str}
_HINTS: Final[dict[DType, str]] = {
    dtypes.Bool: "give True or False",
    dtypes.String: 'give text, ["a"]',
    dtypes.Bytes: 'give bytes, [b"a"]',
    dtypes.Date: 'give a date, or text as "2013-10-15"',
    dtypes.Timestamp: 'give a datetime, or text as "2013-10-15T12:00:00Z"',
}


def gather(
    entities: Any, entity_rows: Any, keys: Sequence[Column], *, rows_max: int
) -> tuple[dict[str, list[Any] | pa.Array], int]:
    """The request's key columns and its number of rows.

    Exactly one of the two is given: `entities`, a mapping of columns or a table, or `entity_rows`, a list of
    mappings. A plan without keys has one row when neither names any. Raises InvalidArgument, SchemaMismatch
    naming row and key, TooLarge.

    >>> gather({"id": [7, None]}, None, [Column("id", dtypes.Int64)], rows_max=10)
    ({'id': [7, None]}, 2)
    """
    if entities is not None and entity_rows is not None:
        raise InvalidArgument("both entities and entity_rows are given", hint="give one of them")
    if entity_rows is not None:
        raw, rows = _from_rows(entity_rows, keys, rows_max)
    elif entities is not None or not keys:
        raw, rows = _from_columns({} if entities is None else entities, keys)
    else:
        raise InvalidArgument("no entities are given", hint=f"give entities={{{keys[0].name!r}: [...]}}")
    _check_rows(rows, rows_max)
    return {key.name: checked(raw[key.name], key) for key in keys}, rows


def _check_rows(rows: int, rows_max: int) -> None:
    if rows > rows_max:
        raise TooLarge(f"{rows} entity rows, over the limit of {rows_max}", hint="split the request")


def _from_rows(entity_rows: Any, keys: Sequence[Column], rows_max: int) -> tuple[dict[str, Any], int]:
    if not isinstance(entity_rows, list | tuple):
        raise SchemaMismatch(
            f"entity_rows is a {type(entity_rows).__name__}, not a list of dicts",
            hint="give a list of dicts, or columns as entities=",
        )
    _check_rows(len(entity_rows), rows_max)
    names = [key.name for key in keys]
    for number, row in enumerate(entity_rows):
        if not isinstance(row, Mapping):
            raise SchemaMismatch(
                f"entity_rows[{number}] is a {type(row).__name__}, not a dict", hint="give a list of dicts"
            )
        if len(row) != len(names) or not all(name in row for name in names):
            _refuse_names(row, names, f"entity_rows[{number}]")
    return {name: [row[name] for row in entity_rows] for name in names}, len(entity_rows)


def _from_columns(entities: Any, keys: Sequence[Column]) -> tuple[dict[str, Any], int]:
    names = [key.name for key in keys]
    if not isinstance(entities, Mapping):
        table = as_table(entities, "entities")
        entities = {name: table.column(number) for number, name in enumerate(table.column_names)}
    if len(entities) != len(names) or not all(name in entities for name in names):
        _refuse_names(entities, names, "entities")
    raw = {name: _column(entities[name], name) for name in names}
    lengths = {name: len(values) for name, values in raw.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
        raise SchemaMismatch(
            f"the columns of entities are not equally long: {told}", hint="give each entity one value per column"
        )
    return raw, lengths[names[0]] if names else 1


def _refuse_names(given: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    for name in names:
        if name not in given:
            hint = did_you_mean(name, map(str, given)) if given else f"it needs {', '.join(map(repr, names))}"
            raise SchemaMismatch(f"{where} has no key column {name!r}", hint=hint)
    for name in given:
        if name not in names:
            hint = did_you_mean(str(name), names) if names else "the features asked for have no keys"
            raise SchemaMismatch(f"{where} has {name!r}, which is no key of the features asked for", hint=hint)


def _column(values: Any, name: str) -> list[Any] | pa.Array | pa.ChunkedArray:
    """The values as a list when they are Python's, else as Arrow."""
    if isinstance(values, list):
        return values
    if isinstance(values, tuple | range):
        return list(values)
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    try:
        is_pandas = type(values).__module__.partition(".")[0] == "pandas"
        if is_pandas or (isinstance(values, np.ndarray) and values.ndim == 1):
            # Python's own values as a list: Arrow takes no integers over 2**63 - 1, and cuts times off among dates
            return python_objects(values) if values.dtype == object else pa.array(values, from_pandas=is_pandas)
        if hasattr(values, "__arrow_c_stream__"):
            return pa.chunked_array(values)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise SchemaMismatch(f"key {name!r} cannot be read as a column: {error}", hint="give a list") from None
    raise SchemaMismatch(
        f"key {name!r} is a {type(values).__name__}, not a column", hint=f"give a list: {{{name!r}: [...]}}"
    )


def checked(values: list[Any] | pa.Array | pa.ChunkedArray, key: Column) -> list[Any] | pa.Array:
    """The values, each exactly of the key's type or null. Raises SchemaMismatch naming key and row."""
    if isinstance(values, list):
        return check_list(values, key)
    if key.dtype == dtypes.Timestamp and pa.types.is_date(values.type):
        values = values.cast(TIMESTAMP)  # a day's midnight, as in text
    what = f"key {key.name!r}"
    array = one_array(conform_key(values, key.dtype, what))
    if key.dtype == dtypes.String:
        require_valid(pa.chunked_array([array]), what)
    return array


def check_list(values: list[Any], key: Column) -> list[Any]:
    """The values, each exactly of the key's type or None; a new list.

    Integers may be NumPy's, whole floats or whole decimals, times and dates may be text, and a date is its midnight. Raises SchemaMismatch naming key, row and type.
    """
    dtype = key.dtype
    kinds = set(map(type, values))
    if absent := {kind for kind in kinds if is_absent(kind)}:
        values, kinds = [None if type(value) in absent else value for value in values], kinds - absent | {type(None)}
    present = [value for value in values if value is not None] if type(None) in kinds else values
    kinds.discard(type(None))
    if dtype in _INT_BOUNDS and kinds <= {int}:
        low, high = _INT_BOUNDS[dtype]
        if not present or (min(present) >= low and max(present) <= high):
            return list(values)
    elif dtype in _PLAIN and kinds <= {_PLAIN[dtype]} and (dtype != dtypes.String or _is_text("".join(present))):
        return list(values)
    one = _ONE.get(dtype, _integer)
    return [None if value is None else _convert(one, value, key, row) for row, value in enumerate(values)]


def _convert(one: Callable[[Any, DType], Any], value: Any, key: Column, row: int) -> Any:
    try:
        return one(value, key.dtype)
    except (TypeError, ValueError, OverflowError, InvalidArgument):
        if key.dtype in _INT_BOUNDS:
            low, high = _INT_BOUNDS[key.dtype]
            hint = ROUNDED_HINT if _may_be_rounded(value) else f"give an int from {low} to {high}"
        else:
            hint = _HINTS[key.dtype]
        raise SchemaMismatch(f"key {key.name!r} is {shown(value)} in row {row}, not {key.dtype}", hint=hint) from None


def _is_text(text: str) -> bool:
    """Whether it has a UTF-8 form, which a lone surrogate lacks."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _integer(value: Any, dtype: DType) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | np.integer | np.floating):
        raise TypeError
    if int(value) != value or _may_be_rounded(value):
        raise ValueError
    low, high = _INT_BOUNDS[dtype]
    if not low <= value <= high:
        raise ValueError
    return int(value)


def _may_be_rounded(value: Any) -> bool:
    """Whether it is a float at which another integer may have arrived, being rounded by its type."""
    if not isinstance(value, float | np.floating):
        return False
    bits = MANTISSA_BITS.get(8 * getattr(value, "itemsize", 8), MANTISSA_BITS[64])
    return 2.0**bits <= abs(float(value)) < math.inf


def _bool(value: Any, _: DType) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError
    return bool(value)


def _text(value: Any, _: DType) -> str:
    if not isinstance(value, str) or not _is_text(value):
        raise TypeError
    return str(value)


def _bytes(value: Any, _: DType) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError
    return bytes(value)


def _date(value: Any, _: DType) -> date:
    if isinstance(value, str):
        return date.fromisoformat(value)
    if isinstance(value, datetime) or not isinstance(value, date):
        raise TypeError
    return value


def _timestamp(value: Any, _: DType) -> datetime:
    if not isinstance(value, date | str):  # a datetime is a date too
        raise TypeError
    return to_datetime(to_us(value))


_ONE: Final[dict[DType, Callable[[Any, DType], Any]]] = {
    dtypes.Bool: _bool,
    dtypes.String: _text,
    dtypes.Bytes: _bytes,
    dtypes.Date: _date,
    dtypes.Timestamp: _timestamp,
}
