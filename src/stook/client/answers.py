"""The server's JSON answers as the platform's results, each value of its declared type; no Arrow, no NumPy.

It is a file of its own because a program that only asks a server should not have to install what a platform needs.
`Remote` calls it where Arrow is not installed, and for pushes of Python values then. It is pure. It must never guess
what a value is: the server says each column's type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from stook.client.spelling import plain, spell_any
from stook.core.dtypes import FLOATS, DType, from_spec
from stook.core.errors import NotSupported, SchemaMismatch, shown
from stook.core.instants import to_us
from stook.core.jsontypes import REFUSALS, reader, writer
from stook.core.predictions import PredictResult
from stook.core.results import OnlineResult
from stook.core.specs import Column
from stook.core.statuses import NO_TIME, STATUS_CODES, OnlineColumn

_SPELLED_FLOATS: Final = {float, type(None)}


def online_result(answer: Mapping[str, Any]) -> OnlineResult:
    """An online answer with types, as the embedded platform gives it.

    >>> column = {"values": ["YWI="], "statuses": ["PRESENT"], "event_timestamps": ["1970-01-01T00:00:01Z"]}
    >>> said = {"feature_names": ["a"], "types": ["bytes"], "key_columns": 0, "now": "1970-01-01T00:00:03Z"}
    >>> result = online_result({"metadata": said, "results": [column]})
    >>> result.to_dict(), result.statuses, result.ages
    ({'a': [b'ab']}, {'a': ['PRESENT']}, {'a': [2.0]})
    """
    return _result(answer["metadata"], answer["results"])


def predict_result(answer: Mapping[str, Any]) -> PredictResult:
    """A prediction's answer with types."""
    said = answer["metadata"]
    predictions = _values(answer["predictions"], _type(said["predictions"]))
    if said["features"] is None:
        return PredictResult(predictions, answer["release"])
    names = said["features"]["feature_names"]
    count = said["features"]["key_columns"]
    columns = [{"values": said["keys"][name]} for name in names[:count]]
    columns += [
        {"values": answer["features"][n], **{part: answer[part][n] for part in ("statuses", "event_timestamps")}}
        for n in names[count:]
    ]
    return PredictResult(predictions, answer["release"], _result(said["features"], columns))


def _result(said: Mapping[str, Any], columns: Sequence[Mapping[str, Any]]) -> OnlineResult:
    named = list(zip(said["feature_names"], map(_type, said["types"]), columns, strict=True))
    count = said["key_columns"]
    times: dict[str | None, int] = {None: NO_TIME}
    statuses, codes, instants, event_us = None, [], None, []  # columns of one view have the same
    answered = []
    for name, dtype, column in named[count:]:
        assert dtype is not None, "the server names every feature's type"
        if column["statuses"] != statuses:
            statuses = column["statuses"]
            codes = [STATUS_CODES[status] for status in statuses]
        if column["event_timestamps"] != instants:
            instants = column["event_timestamps"]
            event_us = [times[at] if at in times else times.setdefault(at, to_us(at)) for at in instants]
        answered.append(OnlineColumn(name, dtype, _values(column["values"], dtype), codes, event_us))
    keys = [(name, dtype, _values(column["values"], dtype)) for name, dtype, column in named[:count]]
    return OnlineResult(keys, answered, now_us=to_us(said["now"]))


def _type(spec: Any) -> DType | None:
    return None if spec is None else from_spec(spec)


def _values(cells: list[Any], dtype: DType | None) -> list[Any]:
    if dtype in FLOATS and set(map(type, cells)) <= _SPELLED_FLOATS:
        return cells
    one = None if dtype is None else reader(dtype, False)
    if one is None:
        return cells
    values = [None if cell is None else one(cell) for cell in cells]
    return [None if value is None else float(value) for value in values] if dtype in FLOATS else values


def pushed_columns(data: Any, what: str, columns: Sequence[Column]) -> dict[str, list[Any]]:
    """Python values to push, as JSON columns: a list of dicts, or a dict of lists.

    Raises SchemaMismatch naming column and row of a value that JSON would show as something else, and NotSupported for
    what needs Arrow to be read.
    """
    types = {column.name: column.dtype for column in columns}
    if isinstance(data, Mapping):
        given = {name: _listed(values, name, what) for name, values in data.items()}
    elif isinstance(data, list | tuple) and all(isinstance(row, Mapping) for row in data):
        names = dict.fromkeys(name for row in data for name in row)
        given = {name: [row.get(name) for row in data] for name in names}
    else:
        raise NotSupported(
            f"{what} is a {type(data).__name__}, which only Arrow can read",
            hint="give a list of dicts or a dict of lists, or pip install pyarrow numpy",
        )
    return {name: _column(cells, types.get(name), name, what) for name, cells in given.items()}


def _listed(values: Any, name: str, what: str) -> list[Any]:
    if isinstance(values, list | tuple):
        return list(values)
    if hasattr(values, "tolist") and not isinstance(values, str | bytes):  # NumPy
        listed = values.tolist()
        if isinstance(listed, list):
            return listed
    raise SchemaMismatch(f"{what}: column {name!r} is a {type(values).__name__}, not a list", hint="give a list")


def _column(cells: list[Any], dtype: DType | None, name: str, what: str) -> list[Any]:
    """`dtype` is None for a time, and for a name that the server will refuse."""
    one = spell_any if dtype is None else writer(dtype)
    converted = []
    for row, cell in enumerate(cells):
        try:
            value = plain(cell)
            converted.append(None if value is None else one(value))
        except REFUSALS:
            raise SchemaMismatch(
                f"{what}: column {name!r} is {shown(cell)} in row {row}, not {dtype or 'a value'}",
                hint="convert it, or declare the column as what it is",
            ) from None
    return converted
