"""Online results as Arrow, pandas and Polars.

It is a file of its own so that `core.results` loads without Arrow. Only `core.results` and retrievals call it.
It must never change a value: integers with nulls stay integers in every form.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from stook.core.arrow import TIMESTAMP, from_arrow, to_arrow
from stook.core.errors import InvalidArgument, NotSupported
from stook.core.statuses import NO_TIME, STATUS_NAMES, OnlineColumn

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from stook.core.dtypes import DType

Keys = Sequence[tuple[str, "DType | None", Any]]

NAMES_KEPT_MAX: Final = 256
_ARROW: Final = (pa.Array, pa.ChunkedArray)
STATUS_TYPE = pa.dictionary(pa.int8(), pa.string())


def to_table(keys: Keys, columns: Sequence[OnlineColumn]) -> pa.Table:
    """The whole answer: keys, then value, status and event time of each feature.

    Columns of one view share their status and time arrays, so those are built once a view. Raises InvalidArgument
    where a feature or a key is named like another's status or time.
    """
    key_names, arrays = _keys(keys)
    shared: dict[int, Any] = {}
    last_codes = last_us = statuses = times = None
    for _, dtype, values, codes, event_us in columns:
        if codes is not last_codes:
            statuses, last_codes = shared.get(id(codes)), codes
            if statuses is None:
                statuses = shared[id(codes)] = _statuses(codes)
        if event_us is not last_us:
            times, last_us = shared.get(id(event_us)), event_us
            if times is None:
                times = shared[id(event_us)] = _times(event_us)
        arrays += (values if isinstance(values, pa.Array) else _values(values, dtype), statuses, times)
    names = _all_names(tuple(key_names), tuple([column[0] for column in columns]))
    return pa.Table.from_arrays(arrays, names=names)


def values_table(keys: Keys, columns: Sequence[OnlineColumn]) -> pa.Table:
    """Keys and features alone."""
    names, arrays = _keys(keys)
    for column in columns:
        names.append(column.name)
        arrays.append(_values(column.values, column.dtype))
    return pa.Table.from_arrays(arrays, names=names)


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """A pandas DataFrame that keeps integers and booleans with nulls exact, by pandas' nullable types.

    Raises NotSupported naming the install command when pandas is missing.
    """
    try:
        import pandas as pd
    except ImportError:
        raise NotSupported("to_df() needs pandas, which is not installed", hint="pip install pandas") from None
    nullable = {
        pa.bool_(): pd.BooleanDtype(), pa.int8(): pd.Int8Dtype(), pa.int16(): pd.Int16Dtype(),
        pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype(), pa.uint8(): pd.UInt8Dtype(),
        pa.uint16(): pd.UInt16Dtype(), pa.uint32(): pd.UInt32Dtype(), pa.uint64(): pd.UInt64Dtype(),
    }  # fmt: skip
    with_nulls = {field.type for field, column in zip(table.schema, table.columns, strict=True) if column.null_count}
    exact = {arrow: dtype for arrow, dtype in nullable.items() if arrow in with_nulls}
    return table.to_pandas(types_mapper=exact.get)


def to_polars(table: pa.Table) -> pl.DataFrame:
    """A Polars DataFrame. Raises NotSupported naming the install command when Polars is missing."""
    try:
        import polars as pl
    except ImportError:
        raise NotSupported("to_polars() needs Polars, which is not installed", hint="pip install polars") from None
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


@lru_cache(NAMES_KEPT_MAX)
def _all_names(keys: tuple[str, ...], features: tuple[str, ...]) -> list[str]:
    """The names of an answer's columns; do not change the list. Raises InvalidArgument where two are alike."""
    names = [*keys, *(f"{name}{end}" for name in features for end in ("", "__status", "__event_timestamp"))]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidArgument(
            f"two columns of the answer would be named {twice!r}",
            hint="take to_dict() and .statuses, or ask for these features apart",
        )
    return names


def _keys(keys: Keys) -> tuple[list[str], list[Any]]:
    names = [name for name, _, _ in keys]
    arrays = [_values(values, dtype) for _, dtype, values in keys]
    return names, arrays


def _values(values: Any, dtype: DType | None) -> Any:
    if isinstance(values, _ARROW):
        return values
    if dtype is None:
        guessed = pa.array(values)
        dtype = from_arrow(guessed.type)
        return guessed if dtype is None else guessed.cast(to_arrow(dtype))
    return pa.array(values, to_arrow(dtype))


@cache
def _status_names() -> pa.Array:
    """Made at first use: Arrow loads pandas, where there is one, to make an array of Python values."""
    return pa.array(STATUS_NAMES, pa.string())


def _statuses(statuses: Any) -> Any:
    codes = np.asarray(statuses, dtype=np.int8)
    return pa.DictionaryArray.from_arrays(pa.array(codes), _status_names())


def _times(event_us: Any) -> Any:
    micros = np.asarray(event_us, dtype=np.int64)
    if not (micros == NO_TIME).any():
        return pa.Array.from_buffers(TIMESTAMP, len(micros), [None, pa.py_buffer(np.ascontiguousarray(micros))])
    return pa.array(micros, mask=micros == NO_TIME).cast(TIMESTAMP)
