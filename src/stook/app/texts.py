"""Text typed on a command line, in the types of the keys and inputs it names.

It is a file of its own because only people type keys; programs bring typed values, which are never converted.
The command line calls it. It must never guess: what is not exactly a value of the type is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from stook.app.textcolumns import declared_column
from stook.core.arrow import to_arrow
from stook.core.dtypes import Timestamp
from stook.core.errors import SchemaMismatch, did_you_mean
from stook.core.instants import to_us
from stook.core.specs import Column


def typed_columns(keys: Sequence[Column], columns: Mapping[str, Sequence[str]]) -> dict[str, pa.Array]:
    """Columns of text as Arrow arrays of the keys' types. An empty text is null, but for text and bytes keys.

    Raises SchemaMismatch naming the key, the text and the type.

    >>> from stook.core.dtypes import Int64
    >>> typed_columns([Column("driver_id", Int64)], {"driver_id": ["1001"]})["driver_id"].to_pylist()
    [1001]
    """
    types = {c.name: c.dtype for c in keys}
    typed = {}
    for name, texts in columns.items():
        if name not in types:
            raise SchemaMismatch(f"there is no join key {name!r}", hint=did_you_mean(name, types))
        dtype = types[name]
        if dtype == Timestamp:
            us = [to_us(text, f"join key {name!r}") if text else None for text in texts]
            typed[name] = pa.array(us, pa.int64()).cast(to_arrow(dtype))
        else:
            column = declared_column(
                pa.chunked_array([pa.array(list(texts), pa.string())]), dtype, f"join key {name!r}"
            )
            typed[name] = column.combine_chunks()
    return typed


def typed_request(inputs: Sequence[Column], texts: Mapping[str, str]) -> dict[str, Any]:
    """Values for a model's inputs, each for all rows. An empty text is null, but for text and bytes.

    Names that are no inputs stay text, for the model room to refuse. Raises SchemaMismatch naming input, text and type.

    >>> from stook.core.dtypes import Date
    >>> typed_request([Column("day", Date)], {"day": "2024-01-01"})
    {'day': datetime.date(2024, 1, 1)}
    """
    types = {c.name: c.dtype for c in inputs}
    typed: dict[str, Any] = dict(texts)
    for name in types.keys() & texts.keys():
        column = pa.chunked_array([pa.array([texts[name]], pa.string())])
        typed[name] = declared_column(column, types[name], f"request value {name!r}")[0].as_py()
    return typed


def parse_parameter(text: str) -> Any:
    """`1` as an int, `0.1` as a float, `true` as a bool, anything else as text: hyper-parameters on a command line.

    >>> [parse_parameter(t) for t in ("31", "0.1", "true", "gbdt")]
    [31, 0.1, True, 'gbdt']
    """
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
