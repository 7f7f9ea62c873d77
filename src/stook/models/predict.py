"""Answering: inputs gathered by name, one call of a loaded model, and the answer with its provenance.

It is a file of its own because it is the hot path and touches no port but blobs, once a release. The app reads
the features and calls it. It must never fill an input by position, nor change a value to make it fit.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from stook.core.arrow import as_table, conform, to_arrow
from stook.core.dtypes import Timestamp
from stook.core.errors import (
    REASON_LENGTH_MAX,
    CorruptStore,
    InvalidArgument,
    NotSupported,
    PickleRefused,
    SchemaMismatch,
    StookError,
    UnknownObject,
    did_you_mean,
    first_line,
)
from stook.core.instants import to_datetime, to_us
from stook.core.predictions import PredictResult
from stook.core.pythonic import NotOfType, column_of
from stook.models import packaging
from stook.models.usercode import is_interrupt, told

if TYPE_CHECKING:
    from stook.core.ports.blobs import Blobs
    from stook.core.results import OnlineResult
    from stook.core.specs import Column
    from stook.models.predictors import Predictor
    from stook.models.releases import Release

LOADED_MODELS_MAX: Final = 8
_SEQUENCES: Final = (list, tuple, pa.Array, pa.ChunkedArray)
_COLUMN_HINT: Final = "give one value for all rows, or a list with one for each"


class Predictors:
    """Loaded models by release id; the least recently used goes first.

    Safe from several threads: a model is loaded once, and one that was dropped while another thread still asks it
    lives until that call ends.
    """

    def __init__(self, blobs: Blobs, *, allow_pickle: bool = False, models_max: int = LOADED_MODELS_MAX) -> None:
        self._blobs = blobs
        self._allow_pickle = allow_pickle
        self._models_max = models_max
        self._loaded: OrderedDict[str, Predictor] = OrderedDict()
        self._lock = threading.Lock()
        self._loading = threading.Lock()

    def get(self, release: Release) -> Predictor:
        """The release's model, loaded at first use.

        Raises PickleRefused, NotSupported for a missing or other library, CorruptStore when the artefact is gone or
        not what was stored.
        """
        if (found := self._find(release.id)) is not None:
            return found
        with self._loading:
            if (found := self._find(release.id)) is not None:
                return found
            loaded = self._load(release)
            with self._lock:
                self._loaded[release.id] = loaded
                while len(self._loaded) > self._models_max:
                    self._loaded.popitem(last=False)
            return loaded

    def close(self) -> None:
        """Forgets all models. Idempotent."""
        with self._lock:
            self._loaded.clear()

    def _find(self, release_id: str) -> Predictor | None:
        with self._lock:
            found = self._loaded.get(release_id)
            if found is not None:
                self._loaded.move_to_end(release_id)
            return found

    def _load(self, release: Release) -> Predictor:
        if release.pickled and not self._allow_pickle:
            raise PickleRefused(
                f"release {release.id!r} is stored as a pickle, which runs code when loaded",
                hint="serve it with allow_pickle=True if you trust who trained it",
            )
        try:
            package = packaging.fetch(self._blobs, release.artefact)
            return packaging.load(package, output=release.output, allow_pickle=self._allow_pickle)
        except UnknownObject:
            raise CorruptStore(
                f"release {release.id!r} has lost its artefact {release.artefact.key!r}",
                hint="restore it from a backup",
            ) from None
        except CorruptStore as error:
            raise CorruptStore(f"release {release.id!r}: {error.message}", hint=error.hint) from error
        except StookError:
            raise
        except BaseException as error:  # supervisor: a pickle runs the user's code, whatever that raises
            if is_interrupt(error):
                raise
            raise NotSupported(
                f"the model of release {release.id!r} does not load: {_shortly(error)}",
                hint="mend the model's code, then train and release again",
            ) from error


def predict(
    release: Release,
    predictor: Predictor,
    *,
    online: OnlineResult | None = None,
    request: Mapping[str, Any] | None = None,
) -> PredictResult:
    """The model's answer for each row. `online` is what the release's look-up answered (None: it has none).

    Raises as `assemble` does; SchemaMismatch also when the model refuses the inputs.
    """
    table = assemble(release, online, {} if request is None else request)
    return PredictResult(answer(release, predictor, table), release.id, online)


def answer(release: Release, predictor: Predictor, table: pa.Table) -> pa.Array:
    """The model's answer to a table of its inputs, in the release's output type; no rows answer no rows.

    Raises SchemaMismatch when the model fails on them, or answers another type than it did when it was released.
    """
    wanted = to_arrow(release.output_dtype)
    if not table.num_rows:
        return pa.array([], wanted)
    try:
        found = predictor.predict(table)
    except StookError:
        raise
    except BaseException as error:  # supervisor: whatever the model's own code raises, sys.exit() too
        if is_interrupt(error):
            raise
        raise SchemaMismatch(
            f"the model of release {release.id!r} fails on these inputs: {_shortly(error)}",
            hint="mend the inputs, or the model",
        ) from error
    if found.type == wanted:
        return found
    return conform(found, release.output_dtype, f"the answer of release {release.id!r}").combine_chunks()


def _shortly(error: BaseException) -> str:
    return told(error).partition("\n")[0][:REASON_LENGTH_MAX]


def assemble(release: Release, online: OnlineResult | None, request: Mapping[str, Any]) -> pa.Table:
    """The model's inputs, in the signature's order and types.

    Inputs come by name from the look-up's features, then from its keys, then from the request. A request value is
    one for each row (a list, NumPy or Arrow array) or one for all rows (anything else; RFC 3339 text for a time).
    Features that are not PRESENT are null. Raises InvalidArgument naming every input that is missing, and every
    value that is not asked for; SchemaMismatch for a value that is not exactly of its input's type.
    """
    _check_names(release, online, request)
    rows = _row_count(release, online, request)
    found: dict[str, tuple[Any, Any]] = {}
    if online is not None:
        found = {name: (values, dtype) for name, dtype, values in online.keys}
        found |= {column.name: (column.values, column.dtype) for column in online.columns}
    looked_up = release.looked_up
    arrays = []
    for column in release.inputs:
        if column.name in looked_up:
            values, dtype = found[column.name]
            arrays.append(_looked_up(values, dtype, column, release.id))
        else:
            arrays.append(_requested(request[column.name], column, rows))
    return pa.table(arrays, names=[column.name for column in release.inputs])


def _check_names(release: Release, online: OnlineResult | None, request: Mapping[str, Any]) -> None:
    wanted = [column.name for column in release.request_inputs]
    if not isinstance(request, Mapping):
        raise InvalidArgument(
            f"the request is a {type(request).__name__}, not values by name", hint='request={"speed": 0.5}'
        )
    for name in request:
        if not isinstance(name, str):
            raise InvalidArgument(f"request value {name!r} has no name of text", hint='request={"speed": 0.5}')
        if name in release.looked_up:
            raise InvalidArgument(
                f"release {release.id!r} looks {name!r} up itself", hint="leave it out of the request"
            )
        if name not in wanted:
            raise InvalidArgument(
                f"release {release.id!r} takes no request value {name!r}",
                hint=did_you_mean(name, wanted) if wanted else "it takes none",
            )
    missing = [name for name in wanted if name not in request]
    if missing:
        raise InvalidArgument(
            f"release {release.id!r} needs request value{'s' * (len(missing) > 1)} {', '.join(map(repr, missing))}",
            hint=f"request={{{missing[0]!r}: ...}}, one value for all rows or a list with one for each",
        )
    if release.looked_up and online is None:
        raise InvalidArgument(f"release {release.id!r} looks features up, so it needs entities", hint="entities={...}")
    if online is not None:
        answered = {name for name, _, _ in online.keys} | set(online.feature_names)
        absent = [column.name for column in release.inputs if column.name in release.looked_up - answered]
        if absent:
            raise InvalidArgument(
                f"the look-up for release {release.id!r} did not answer {', '.join(map(repr, absent))}",
                hint="read the features that the release names",
            )


def _row_count(release: Release, online: OnlineResult | None, request: Mapping[str, Any]) -> int:
    lengths = {name: len(values) for name, values in request.items() if _is_column(values)}
    rows = len(online) if online is not None else next(iter(lengths.values()), 1)
    for name, length in lengths.items():
        if length != rows:
            raise InvalidArgument(
                f"request value {name!r} of release {release.id!r} has {length} values for {rows} rows",
                hint=_COLUMN_HINT,
            )
    return rows


def _is_column(values: Any) -> bool:
    """Whether it has one value a row; an array without dimensions and pandas' Timestamp are one value."""
    if isinstance(values, np.ndarray):
        return values.ndim > 0
    return isinstance(values, _SEQUENCES) or (hasattr(values, "to_numpy") and hasattr(values, "__len__"))


def _looked_up(values: Any, dtype: Any, column: Column, release_id: str) -> pa.ChunkedArray:
    if not isinstance(values, pa.Array | pa.ChunkedArray):
        values = pa.array(values) if dtype is None else pa.array(values, to_arrow(dtype))
    try:
        return _exactly(values, column, f"feature {column.name!r}")
    except SchemaMismatch as error:  # the feature was widened, and now holds what the model never learned
        raise SchemaMismatch(
            f"release {release_id!r} learned {column.name!r} as {column.dtype}: {error.message}",
            hint="train and release the model again, on the feature as it is now",
        ) from None


def _requested(values: Any, column: Column, rows: int) -> pa.ChunkedArray:
    what = f"request value {column.name!r}"
    if _is_column(values):
        return _column(values, column, what)
    if isinstance(values, pa.Scalar):
        one = _exactly(pa.repeat(values, 1), column, what)
    else:
        one = _of_python([values[()] if isinstance(values, np.ndarray) else values], column, what)
    return one.take(pa.array(np.zeros(rows, np.int64)))


def _exactly(values: pa.Array | pa.ChunkedArray, column: Column, what: str) -> pa.ChunkedArray:
    if pa.types.is_null(values.type):  # nothing but nulls: any type holds them
        return pa.chunked_array([pa.nulls(len(values), to_arrow(column.dtype))])
    return conform(values, column.dtype, what)


def _column(values: Any, column: Column, what: str) -> pa.ChunkedArray:
    """One value a row, exactly in the input's type; typed columns say themselves what they are."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return _exactly(values, column, what)
    if isinstance(values, list | tuple):
        return _of_python(values, column, what)
    if (dimensions := getattr(values, "ndim", 1)) != 1:
        raise SchemaMismatch(f"{what} is a {type(values).__name__} of {dimensions} dimensions", hint=_COLUMN_HINT)
    try:
        typed = as_table({column.name: values}, what, [column]).column(0)
    except SchemaMismatch as error:
        raise SchemaMismatch(error.message, hint=_COLUMN_HINT) from None
    return _exactly(typed, column, what)


def _of_python(values: Sequence[Any], column: Column, what: str) -> pa.ChunkedArray:
    """Python values, exactly in the input's type; only Python floats may round, to Float32, as Python has no such type."""
    dtype = column.dtype
    if dtype == Timestamp:
        values = [to_datetime(to_us(value, what)) if isinstance(value, str) else value for value in values]
    try:
        array = column_of(values, dtype, to_arrow(dtype))
    except NotOfType as error:
        raise SchemaMismatch(f"{what}: {error}", hint="mend the value") from None
    except (pa.ArrowException, TypeError, ValueError, OverflowError, KeyError) as error:
        raise SchemaMismatch(f"{what} is not all {dtype}: {first_line(error)}", hint="mend the value") from None
    return _exactly(array, column, what)
