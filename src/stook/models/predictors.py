"""Loaded models behind one method: an Arrow table of inputs in, an Arrow array of predictions out.

It is a file of its own because each library takes its inputs in its own form, and nothing above may care which.
Packaging builds predictors, `models.predict` and training's proof call them. It must never load bytes that
packaging has not checked, nor reorder inputs but by name.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa

from stook.core.errors import CorruptStore, NotSupported, SchemaMismatch, did_you_mean, first_line
from stook.models.matrix import float_matrix, frame

ONE_THREAD_ROWS_MAX: Final = 1_000  # up to here waking threads costs more than they save, most of all in a busy server
_ANSWER_HINT: Final = "answer one value a row, as a list, NumPy or Arrow array"
_REFUSED_HINT: Final = "give the model what it was trained on; nulls reach it as NaN"


class Predictor(Protocol):
    """A model ready to answer. Safe to call from several threads as far as its library is."""

    def predict(self, table: pa.Table) -> pa.Array:
        """One prediction for each of the table's rows (at least one), in their order.

        Columns are found by name where the model knows names, else taken in the table's order. Several numbers a
        row are a fixed-size list. Raises SchemaMismatch when the model refuses the inputs; a callable of the
        user's raises whatever it raises.
        """
        ...


def methods(model: object) -> tuple[str, ...]:
    """Which of `predict` and `predict_proba` the model answers; a mere callable counts as `predict`."""
    found = tuple(name for name in ("predict", "predict_proba") if callable(getattr(model, name, None)))
    return found or (("predict",) if callable(model) else ())


def load_lightgbm(data: bytes, details: dict[str, Any], output: str) -> Predictor:
    """A predictor from LightGBM's text. Raises NotSupported without LightGBM, CorruptStore for other text."""
    try:
        import lightgbm  # optional driver: only LightGBM models need it
    except ImportError:
        raise NotSupported("the model needs LightGBM, which is not installed", hint="pip install lightgbm") from None
    except OSError as error:  # its wheel leaves OpenMP to the system
        raise NotSupported(
            f"LightGBM does not load: {first_line(error)}", hint="on Debian: apt-get install libgomp1"
        ) from None
    try:
        booster = lightgbm.Booster(model_str=data.decode())
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError, ValueError, KeyError) as error:
        raise CorruptStore(
            f"the LightGBM artefact does not read back: {first_line(error)}", hint="train and release again"
        ) from error
    return LightGbmPredictor(booster, (ValueError, lightgbm.basic.LightGBMError), details.get("classes"), output)


def of_object(model: Any, output: str) -> Predictor:
    """A predictor for any unpickled model: scikit-learn's estimators as such, everything else on Arrow tables."""
    sklearn = sys.modules.get("sklearn.base")
    if sklearn is not None and isinstance(model, sklearn.BaseEstimator):
        return EstimatorPredictor(model, output)
    return CallablePredictor(getattr(model, output, model))


class LightGbmPredictor:
    """A Booster; with `classes` it answers as LGBMClassifier does."""

    def __init__(
        self, booster: Any, refusals: tuple[type[Exception], ...], classes: list[Any] | None, output: str
    ) -> None:
        self._booster = booster
        self._refusals = refusals
        self._classes = None if classes is None else pa.array(classes)
        self._output = output
        names = booster.feature_name()
        self._names = None if names == [f"Column_{i}" for i in range(len(names))] else names
        self._count = len(names)
        self._categories = booster.pandas_categorical or []
        infos = booster.dump_model(num_iteration=1)["feature_infos"] if self._categories else {}
        self._numbers = {i for i, name in enumerate(names) if name in infos and not infos[name]["values"]}

    def predict(self, table: pa.Table) -> pa.Array:
        """See Predictor. Text columns reach a model trained on pandas categories as those categories."""
        table = self._select(table)
        inputs = self._frame(table) if self._categories else float_matrix(table)
        try:
            threads = {"num_threads": 1} if table.num_rows <= ONE_THREAD_ROWS_MAX else {}
            scores = self._booster.predict(inputs, **threads)
        except self._refusals as error:
            raise SchemaMismatch(f"LightGBM refuses the inputs: {first_line(error)}", hint=_REFUSED_HINT) from error
        if self._classes is None:
            return as_array(scores, table.num_rows)
        probabilities = scores if scores.ndim == 2 else np.vstack((1.0 - scores, scores)).transpose()
        if self._output == "predict_proba":
            return as_array(probabilities, table.num_rows)
        return self._classes.take(pa.array(np.argmax(probabilities, axis=1)))

    def _select(self, table: pa.Table) -> pa.Table:
        if self._names is not None:
            have = table.column_names
            known = {name.replace(" ", "_"): name for name in have} | {name: name for name in have}  # as LightGBM does
            return select(table, self._names, {n: known.get(n, n) for n in self._names}, "the LightGBM model")
        if self._count != table.num_columns:
            raise SchemaMismatch(
                f"the LightGBM model was trained on {self._count} unnamed columns, and gets {table.num_columns}",
                hint="train it on run.matrix(data), which holds every input in order, or give it feature names",
            )
        return table

    def _frame(self, table: pa.Table) -> Any:
        """LightGBM pairs category columns with its lists of categories by position alone, so what is not surely the same
        is refused: as many texts as lists, the lists of text, and none of these columns one that it learned as numbers."""
        text = {i: field.name for i, field in enumerate(table.schema) if pa.types.is_string(field.type)}
        learned = sum(all(isinstance(value, str) for value in values) for values in self._categories)
        if not len(text) == learned == len(self._categories) or self._numbers & text.keys():
            raise SchemaMismatch(
                f"the LightGBM model was trained on {len(self._categories)} pandas categories, which are not its"
                f" {len(text)} inputs of text",
                hint="only text may be a pandas category; give whole numbers with categorical_feature= instead",
            )
        return frame(table).astype(dict.fromkeys(text.values(), "category"))


class EstimatorPredictor:
    """A scikit-learn estimator: a DataFrame where it was fitted on named columns, else a float matrix."""

    def __init__(self, model: Any, output: str) -> None:
        self._call = getattr(model, output)
        names = getattr(model, "feature_names_in_", None)
        self._names = None if names is None else [str(name) for name in names]

    def predict(self, table: pa.Table) -> pa.Array:
        """See Predictor."""
        if self._names is None:
            inputs: Any = float_matrix(table)
        else:
            inputs = frame(select(table, self._names, {}, "the scikit-learn model"))
        try:
            raw = self._call(inputs)
        except (ValueError, TypeError) as error:
            raise SchemaMismatch(f"scikit-learn refuses the inputs: {first_line(error)}", hint=_REFUSED_HINT) from error
        return as_array(raw, table.num_rows)


class CallablePredictor:
    """Anything that maps an Arrow table to predictions."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def predict(self, table: pa.Table) -> pa.Array:
        """See Predictor."""
        return as_array(self._call(table), table.num_rows)


def select(table: pa.Table, names: Sequence[str], known: dict[str, str], what: str) -> pa.Table:
    """The columns `names`, each under its name in the table where `known` says so. Raises SchemaMismatch."""
    have = table.column_names
    wanted = [known.get(name, name) for name in names]
    if wanted == have:
        return table
    missing = [name for name in wanted if name not in have]
    if missing:
        raise SchemaMismatch(
            f"{what} was trained on {', '.join(map(repr, missing))}, not among its inputs",
            hint=did_you_mean(missing[0], have) + "; inputs are the dataset's columns without keys, times and label",
        )
    return table.select(wanted)


def as_array(raw: Any, rows: int) -> pa.Array:
    """A model's answer as one Arrow array of `rows` values; a matrix becomes a fixed-size list a row.

    Raises SchemaMismatch when it is no column or has another length.
    """
    if not isinstance(raw, pa.Array | pa.ChunkedArray | list | tuple) and hasattr(raw, "to_numpy"):
        raw = raw.to_numpy()
    if isinstance(raw, set | frozenset | Mapping | str | bytes | bytearray):  # Arrow would take each apart
        raise SchemaMismatch(
            f"the model answered a {type(raw).__name__}, whose parts belong to no row", hint=_ANSWER_HINT
        )
    try:
        if isinstance(raw, pa.ChunkedArray):
            array = raw.combine_chunks()
        elif isinstance(raw, np.ndarray) and raw.ndim == 2 and raw.shape[1]:
            array = pa.FixedSizeListArray.from_arrays(pa.array(raw.reshape(-1)), raw.shape[1])
        else:
            array = raw if isinstance(raw, pa.Array) else pa.array(raw)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise SchemaMismatch(
            f"the model answered a {type(raw).__name__}, which is no column of predictions: {first_line(error)}",
            hint=_ANSWER_HINT,
        ) from error
    if len(array) != rows:
        raise SchemaMismatch(
            f"the model answered {len(array)} predictions for {rows} rows", hint="answer one for each row, in order"
        )
    return array
