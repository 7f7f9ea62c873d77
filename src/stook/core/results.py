"""What an online read answers: values with status, event time and age.

It is a file of its own because the embedded platform and the remote client must answer with the very same
object. The online room and the client build it; users and faces take it apart. It must never read a store.

Columns stay as they were decoded (Python lists for a few rows, Arrow and NumPy arrays for many) until asked for
in another form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from stook.core.dtypes import DType
from stook.core.errors import NotSupported
from stook.core.instants import MICROS_PER_SECOND, to_datetime
from stook.core.statuses import NO_TIME, STATUS_NAMES, OnlineColumn

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa


class OnlineResult:
    """The answer to one online read. Names map to lists in the order of the entity rows.

    >>> from stook.core.dtypes import Int64
    >>> result = OnlineResult([("id", Int64, [7])], [OnlineColumn("trips", Int64, [3], [0], [0])], now_us=2_000_000)
    >>> result.to_dict(), result.statuses, result.ages
    ({'id': [7], 'trips': [3]}, {'trips': ['PRESENT']}, {'trips': [2.0]})
    """

    __slots__ = ("columns", "keys", "now_us")

    def __init__(
        self, keys: Sequence[tuple[str, DType | None, Any]], columns: Sequence[OnlineColumn], *, now_us: int
    ) -> None:
        self.keys = keys
        self.columns = columns
        self.now_us = now_us

    @property
    def feature_names(self) -> list[str]:
        """The features' names, in the order asked."""
        return [column.name for column in self.columns]

    def __len__(self) -> int:
        """The number of entity rows."""
        if self.keys:
            return len(self.keys[0][2])
        return len(self.columns[0].statuses) if self.columns else 0

    def to_dict(self) -> dict[str, list[Any]]:
        """Join keys, then features, each as a list of Python values."""
        answer = {name: _as_list(values) for name, _, values in self.keys}
        for name, _, values, _, _ in self.columns:
            answer[name] = values if type(values) is list else values.to_pylist()
        return answer

    @property
    def statuses(self) -> dict[str, list[str]]:
        """Each feature's statuses, by name."""
        return self._each("statuses", STATUS_NAMES.__getitem__)

    @property
    def event_timestamps(self) -> dict[str, list[datetime | None]]:
        """Each feature's event times, aware and UTC; None where nothing was found."""
        return self._each("event_us", lambda us: None if us == NO_TIME else to_datetime(us))

    @property
    def ages(self) -> dict[str, list[float | None]]:
        """Each feature's age in seconds when it was read; None where nothing was found."""
        now = self.now_us
        return self._each("event_us", lambda us: None if us == NO_TIME else (now - us) / MICROS_PER_SECOND)

    def _each(self, attribute: str, convert: Callable[[int], Any]) -> dict[str, list[Any]]:
        """A list of each column's converted codes or times; what columns of one view share is converted once."""
        converted: dict[int, list[Any]] = {}
        answer = {}
        for column in self.columns:
            raw = getattr(column, attribute)
            found = converted.get(id(raw))
            if found is None:
                found = converted[id(raw)] = [
                    convert(item) for item in (raw if isinstance(raw, list) else raw.tolist())
                ]
            answer[column.name] = found.copy()
        return answer

    def to_arrow(self) -> pa.Table:
        """Join keys, then for each feature `name`, `name__status` (dictionary of text) and `name__event_timestamp`.

        Raises InvalidArgument where a feature or a key is named like another's status or time, and NotSupported where
        only the client is installed, without Arrow.
        """
        return _arrow_form("to_arrow").to_table(self.keys, self.columns)

    def to_df(self) -> pd.DataFrame:
        """Join keys and features as a pandas DataFrame; integers with nulls stay exact (Int64)."""
        form = _arrow_form("to_df")
        return form.to_pandas(form.values_table(self.keys, self.columns))

    def to_polars(self) -> pl.DataFrame:
        """Join keys and features as a Polars DataFrame."""
        form = _arrow_form("to_polars")
        return form.to_polars(form.values_table(self.keys, self.columns))


def _as_list(values: Any) -> list[Any]:
    return values if isinstance(values, list) else values.to_pylist()


def _arrow_form(verb: str) -> Any:
    try:
        from stook.core import results_arrow  # start-up time: Arrow loads only when asked for
    except ModuleNotFoundError as error:
        if error.name not in {"pyarrow", "numpy"}:
            raise
        hint = "pip install pyarrow numpy, or take to_dict()"
        raise NotSupported(f"{verb}() needs {error.name}, which is not installed", hint=hint) from None
    return results_arrow
