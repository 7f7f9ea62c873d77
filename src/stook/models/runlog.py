"""What `fit` holds in its hand: the run, to log parameters and metrics and to encode inputs as serving will.

It is a file of its own because users program against it. Training makes one and reads it at the end. It must never
write to a store: a tracking store that does not answer must not stop a training.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from stook.core.errors import InvalidArgument
from stook.core.jsontypes import spell_float
from stook.models import matrix

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    from stook.core.ports.clock import Clock
    from stook.core.specs import Column, JsonObject

METRICS_MAX: Final = 1_000
POINTS_PER_METRIC_MAX: Final = 1_000
TEXT_LENGTH_MAX: Final = 1_000
FLOAT_MAX: Final = sys.float_info.max


class _Series:
    """One metric's points, thinned evenly when there are too many."""

    def __init__(self) -> None:
        self.points: list[tuple[int, float, int]] = []
        self.stride = 1
        self.logged = 0
        self.last = (0, 0.0, 0)

    def add(self, step: int, value: float, now_us: int) -> None:
        """Keeps every `stride`-th point; when full, drops every second one and doubles the stride."""
        self.last = (step, value, now_us)
        if self.logged % self.stride == 0:
            if len(self.points) >= POINTS_PER_METRIC_MAX:
                self.points = self.points[::2]
                self.stride *= 2
            if self.logged % self.stride == 0:
                self.points.append(self.last)
        self.logged += 1

    def to_spec(self) -> JsonObject:
        """Steps, values and times as columns, ending with the last point; "NaN" where a value is none, and so on."""
        points = self.points if self.points[-1] is self.last else [*self.points, self.last]
        steps, values, times = zip(*points, strict=True)
        spelled = list(map(spell_float, values))
        return {"steps": list(steps), "values": spelled, "times_us": list(times), "logged": self.logged}


class ActiveRun:
    """The run that a `fit` function is given. Not for use from several threads.

    `id` is its name, `inputs` the model's input columns in order, `label` the label column.
    """

    def __init__(self, run_id: str, signature: tuple[Column, ...], label: str, clock: Clock) -> None:
        self.id = run_id
        self.inputs = [column.name for column in signature]
        self.label = label
        self.params: JsonObject = {}
        self._clock = clock
        self._series: dict[str, _Series] = {}
        self._closed = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Records numbers by name; `step` counts up from 0 by itself when left out.

        NaN and the infinities are recorded as such: a loss that diverges is what a run should tell. The last value is always kept. Of the history at most POINTS_PER_METRIC_MAX points a metric are, evenly
        thinned, over at most METRICS_MAX metrics. It is written when the run ends. Raises InvalidArgument.
        """
        self._check_open()
        if step is not None and (isinstance(step, bool) or not isinstance(step, int)):
            raise InvalidArgument(f"step is {step!r}, not a whole number", hint="run.log_metrics({...}, step=3)")
        checked = {self._metric_name(name): _number(name, value) for name, value in metrics.items()}
        now_us = self._clock.now_us()
        for name, value in checked.items():
            series = self._series.setdefault(name, _Series())
            series.add(series.logged if step is None else step, value, now_us)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Records parameters beside those given to `train`; a later value of the same name wins.

        Values that JSON cannot hold are kept as text. Raises InvalidArgument for a name that is not text.
        """
        self._check_open()
        for name, value in params.items():
            if not isinstance(name, str) or not name:
                raise InvalidArgument(f"parameter name {name!r} is not text", hint='run.log_params({"depth": 3})')
            self.params[name] = json_value(value)

    def matrix(self, data: pa.Table) -> NDArray[np.float64]:
        """The inputs as the float64 matrix that a model without column names gets when served: (rows, inputs),
        null as NaN. Raises SchemaMismatch for text and times."""
        return matrix.float_matrix(data.select(self.inputs))

    def frame(self, data: pa.Table) -> pd.DataFrame:
        """The inputs as the pandas DataFrame that a model fitted on named columns gets when served."""
        return matrix.frame(data.select(self.inputs))

    @property
    def metrics(self) -> dict[str, float]:
        """Each metric's last value."""
        return {name: series.last[1] for name, series in self._series.items()}

    def history(self) -> JsonObject:
        """Each metric's kept points: `steps`, `values`, `times_us` as columns, and how many were `logged`."""
        return {name: series.to_spec() for name, series in self._series.items()}

    def close(self) -> None:
        """Ends logging; later calls are refused, as nobody would read them."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise InvalidArgument(f"run {self.id!r} has ended", hint="log before fit returns")

    def _metric_name(self, name: object) -> str:
        if not isinstance(name, str) or not name or len(name) > TEXT_LENGTH_MAX:
            raise InvalidArgument(f"metric name {name!r} is not text", hint='run.log_metrics({"auc": 0.7})')
        if name not in self._series and len(self._series) >= METRICS_MAX:
            raise InvalidArgument(
                f"run {self.id!r} already has {METRICS_MAX} metrics; {name!r} is one too many",
                hint="log one name with step= instead of many names",
            )
        return name


def _number(name: str, value: Any) -> float:
    number = value.item() if hasattr(value, "item") and getattr(value, "size", 1) == 1 else value  # NumPy scalars
    if isinstance(number, float) or (
        isinstance(number, int) and not isinstance(number, bool) and abs(number) <= FLOAT_MAX
    ):
        return float(number)
    raise InvalidArgument(f"metric {name!r} is {number!r}, not a number", hint="log a number, or leave it out")


def json_value(value: Any) -> Any:
    """The value where JSON holds it exactly (lists and dicts of such too), else its text, shortened.

    >>> json_value({"depth": 3, "rate": float("inf"), "loss": len})
    {'depth': 3, 'rate': 'inf', 'loss': '<built-in function len>'}
    """
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:  # NumPy scalars
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple):
        return [json_value(inner) for inner in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: json_value(inner) for key, inner in value.items()}
    return repr(value)[:TEXT_LENGTH_MAX]
