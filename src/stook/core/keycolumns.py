"""Key columns in the Arrow type of their key, exactly.

It is a file of its own because a key that was rounded before it came here finds another entity's row, which a value's
own check cannot see. Label tables, online entities, pushes and deletes bring their keys through it. It must never take
a float for an integer that the float's type may have been rounded to.
"""

from __future__ import annotations

import math
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from stook.core import dtypes
from stook.core.arrow import conform, decoded
from stook.core.dtypes import DType
from stook.core.errors import SchemaMismatch

MANTISSA_BITS: Final = {16: 11, 32: 24, 64: 53}  # by the width of a float: beyond, whole ones lie 2 and more apart
ROUNDED_HINT: Final = "give such keys as integers"


def conform_key(values: pa.ChunkedArray | pa.Array, dtype: DType, what: str) -> pa.ChunkedArray:
    """As `conform`; whole floats stand for integers only where nothing was rounded to them.

    Raises SchemaMismatch naming `what`.

    >>> conform_key(pa.array([1.0, None]), dtypes.Int64, "id").to_pylist()
    [1, None]
    """
    column = decoded(values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values]))
    if dtype in dtypes.INTEGERS and pa.types.is_floating(column.type):
        bits = MANTISSA_BITS[column.type.bit_width]
        bounds = pc.min_max(column.cast(pa.float64()))
        largest = max((abs(bound) for bound in bounds.as_py().values() if bound is not None), default=0.0)
        if 2.0**bits <= largest < math.inf:
            raise SchemaMismatch(
                f"{what} holds {column.type} with {largest:.0f} in it: from 2**{bits} on, another integer may have been"
                " rounded to it",
                hint=ROUNDED_HINT,
            )
    return conform(column, dtype, what)
