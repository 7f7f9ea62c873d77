"""What a prediction answers: the predictions, the release that made them, and the features that went in.

It is a file of its own because the embedded platform and the remote client must answer with the very same
object. The models room and the client build it; users and faces take it apart. It must never load a model or
import Arrow.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from stook.core.results import OnlineResult


class PredictResult:
    """The answer to one predict call. Everything stands in the order of the entity rows.

    `release` is the id of the release that answered. `features` are the values that were looked up (not those
    of the request), `statuses` and `ages` (seconds) tell how far to trust them; without a look-up they are empty.

    >>> from stook.core.dtypes import Int64
    >>> from stook.core.statuses import OnlineColumn
    >>> online = OnlineResult([("id", Int64, [7])], [OnlineColumn("trips", Int64, [3], [0], [0])], now_us=2_000_000)
    >>> result = PredictResult([0.25], "delay-3", online)
    >>> result.predictions, result.release, result.features, result.statuses, result.ages
    ([0.25], 'delay-3', {'trips': [3]}, {'trips': ['PRESENT']}, {'trips': [2.0]})
    """

    __slots__ = ("online", "raw", "release")

    def __init__(self, raw: Any, release: str, online: OnlineResult | None = None) -> None:
        self.raw = raw
        self.release = release
        self.online = online

    def __len__(self) -> int:
        """The number of predictions."""
        return len(self.raw)

    @property
    def predictions(self) -> list[Any]:
        """One value for each row: a number, a label, or a list of numbers where the model answers several.

        `raw` is the same as it came: a list, or an Arrow array.
        """
        return self.raw if isinstance(self.raw, list) else self.raw.to_pylist()

    @property
    def features(self) -> dict[str, list[Any]]:
        """Each looked-up feature's values, by name; null where the status is not PRESENT."""
        if self.online is None:
            return {}
        return {
            column.name: column.values if isinstance(column.values, list) else column.values.to_pylist()
            for column in self.online.columns
        }

    @property
    def statuses(self) -> dict[str, list[str]]:
        """Each looked-up feature's statuses, by name."""
        return {} if self.online is None else self.online.statuses

    @property
    def event_timestamps(self) -> dict[str, list[datetime | None]]:
        """Each looked-up feature's event times, aware and UTC; None where nothing was found."""
        return {} if self.online is None else self.online.event_timestamps

    @property
    def ages(self) -> dict[str, list[float | None]]:
        """Each looked-up feature's age in seconds when it was read; None where nothing was found."""
        return {} if self.online is None else self.online.ages

    def to_dict(self) -> dict[str, Any]:
        """`predictions`, `release`, `features`, `statuses` and `ages`, as Python values."""
        return {
            "predictions": self.predictions,
            "release": self.release,
            "features": self.features,
            "statuses": self.statuses,
            "ages": self.ages,
        }
