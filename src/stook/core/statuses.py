"""Statuses of answered values, and one answered column.

It is a file of its own so that the codec, the result and its Arrow form share them without importing each other.
The online room and the client build columns of it. It must never import Arrow or NumPy.
"""

from __future__ import annotations

import enum
from typing import Any, Final, NamedTuple

from stook.core.dtypes import DType

NO_TIME: Final = -(1 << 63)


class Status(enum.IntEnum):
    """Why a value is there, or is not. What is not PRESENT is null over every door."""

    PRESENT = 0
    NULL_VALUE = 1
    NOT_FOUND = 2
    OUTSIDE_MAX_AGE = 3
    ERROR = 4


STATUS_NAMES: Final = tuple(status.name for status in Status)
STATUS_CODES: Final = {name: code for code, name in enumerate(STATUS_NAMES)}


class OnlineColumn(NamedTuple):
    """One answered feature, in the order of the entity rows.

    `values`: a list, or an Arrow array of the type. `statuses`: a list of ints, or a NumPy uint8 array.
    `event_us`: a list of ints, or a NumPy int64 array; NO_TIME where there is none. Columns of one view may
    share the last two.
    """

    name: str
    dtype: DType
    values: Any
    statuses: Any
    event_us: Any
