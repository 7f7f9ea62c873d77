"""Model inputs in the forms that libraries take: a float matrix, or a pandas DataFrame.

It is a file of its own because training and serving must encode inputs by the very same code, or a model would
answer differently from how it learned. Predictors call it, and users' `fit` functions through their run. It must never
reorder columns or fill a null with anything but NaN.

A float64 matrix holds every bool, float32, float64 and integer up to 2**53 in size exactly; larger int64 and
uint64 values are rounded to the nearest double, as LightGBM and scikit-learn would do themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from stook.core.arrow import from_arrow
from stook.core.errors import NotSupported, SchemaMismatch

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_FLOAT64: Final = pa.float64()


def float_matrix(table: pa.Table, what: str = "the model's input") -> NDArray[np.float64]:
    """The table as a C-ordered float64 matrix of shape (rows, columns), null as NaN.

    Takes bools, integers, floats and decimals. Raises SchemaMismatch naming the column for anything else.

    >>> float_matrix(pa.table({"a": [1, None], "b": [True, False]}))
    array([[ 1.,  1.],
           [nan,  0.]])
    """
    matrix = np.empty((table.num_rows, table.num_columns), np.float64)
    for i, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        matrix[:, i] = _floats(column, f"{what} {name!r}")
    return matrix


def _floats(column: pa.ChunkedArray, what: str) -> Any:
    kind = column.type
    if kind != _FLOAT64:
        if not (
            pa.types.is_integer(kind)
            or pa.types.is_floating(kind)
            or pa.types.is_boolean(kind)
            or pa.types.is_decimal(kind)
            or pa.types.is_null(kind)
        ):
            raise SchemaMismatch(
                f"{what} is {from_arrow(kind) or kind}, which a matrix of numbers cannot hold",
                hint="make a number of it in the dataset, or train on run.frame(data), which keeps text and times",
            )
        column = column.cast(_FLOAT64, safe=False)
    return column.to_numpy()


def frame(table: pa.Table) -> pd.DataFrame:
    """The table as a pandas DataFrame in NumPy's types: integers and bools with nulls become float64 with NaN.

    Raises NotSupported naming the install command when pandas is missing.
    """
    for i, column in enumerate(table.columns):
        if column.null_count and pa.types.is_boolean(column.type):  # pandas would make objects of True and None
            table = table.set_column(i, table.column_names[i], column.cast(_FLOAT64))
    try:
        return table.to_pandas()
    except ImportError:
        raise NotSupported(
            "this model takes a DataFrame, and pandas is not installed", hint="pip install pandas"
        ) from None
