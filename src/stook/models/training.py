"""Training: calls the user's `fit`, and records how the model came about.

It is a file of its own because a run's record must hold everything that a release later pins: parameters,
metrics, dataset, code, environment, inputs and artefact. The app calls `train`; releases read runs. It must never
leave a record that points at an artefact not yet stored, nor lose why a run failed.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from stook.core import dtypes
from stook.core.arrow import from_arrow, require_columns
from stook.core.dtypes import DType
from stook.core.errors import InvalidArgument, InvalidDefinition, SchemaMismatch, StookError
from stook.core.jsontypes import NON_FINITE, spell_float
from stook.core.names import check_name
from stook.core.ports.records import Put, Record
from stook.core.specs import Column, columns_from_spec, columns_to_spec
from stook.models import packaging, provenance
from stook.models.packaging import Artefact, Package
from stook.models.runlog import ActiveRun, json_value
from stook.models.store import RUN, ModelStore, create_numbered, require
from stook.models.usercode import is_interrupt, told

if TYPE_CHECKING:
    import pyarrow as pa

    from stook.core.ports.records import Records
    from stook.core.specs import JsonObject

Fit = Callable[["pa.Table", dict[str, Any], ActiveRun], Any]
RunStatus = Literal["running", "finished", "failed"]
PROOF_ROWS_MAX: Final = 8
PROOF_SEARCH_ROWS_MAX: Final = 10_000
ERROR_LENGTH_MAX: Final = 2_000


@dataclass(frozen=True)
class TrainingData:
    """What a model learns from: a table, which of its columns are not inputs, and where it came from.

    `manifest` is the saved dataset's manifest, or the plan hash of an unsaved retrieval, kept as it is. `inputs`
    narrows the model's inputs to these columns, in this order.
    """

    table: pa.Table
    label: str
    keys: tuple[str, ...] = ()
    label_times: tuple[str, ...] = ()
    manifest: Mapping[str, Any] | None = None
    inputs: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Run:
    """One training, as recorded. `id` is `<model>-<n>`.

    `metrics` are the last values, `history` every kept point (see `ActiveRun.log_metrics`), as JSON, where a value may be
    "NaN", "Infinity" or "-Infinity". `outputs` maps each
    method the model answers to the type of one prediction. `artefact` is None unless the run finished; `error`
    says why it failed. Times are microseconds since the epoch, UTC.
    """

    id: str
    model: str
    status: RunStatus
    label: str
    inputs: tuple[Column, ...]
    params: JsonObject
    dataset: JsonObject
    code: JsonObject
    environment: dict[str, str]
    started_us: int
    metrics: dict[str, float]
    history: JsonObject
    outputs: tuple[tuple[str, DType], ...] = ()
    artefact: Artefact | None = None
    error: str | None = None
    ended_us: int | None = None

    def to_spec(self) -> JsonObject:
        """JSON form, as recorded; the id is the record's name."""
        return {
            "model": self.model,
            "status": self.status,
            "label": self.label,
            "inputs": columns_to_spec(self.inputs),
            "params": self.params,
            "dataset": self.dataset,
            "code": self.code,
            "environment": self.environment,
            "started_us": self.started_us,
            "metrics": {name: spell_float(value) for name, value in self.metrics.items()},
            "history": self.history,
            "outputs": [[name, dtype.to_spec()] for name, dtype in self.outputs],
            "artefact": None if self.artefact is None else self.artefact.to_spec(),
            "error": self.error,
            "ended_us": self.ended_us,
        }

    @staticmethod
    def from_spec(run_id: str, spec: Mapping[str, Any]) -> Run:
        """The inverse of `to_spec`."""
        plain = dict(spec)
        plain["inputs"] = columns_from_spec(spec["inputs"])
        plain["outputs"] = tuple((name, dtypes.from_spec(dtype)) for name, dtype in spec["outputs"])
        plain["metrics"] = {name: NON_FINITE.get(value, value) for name, value in spec["metrics"].items()}
        plain["artefact"] = None if spec["artefact"] is None else Artefact.from_spec(spec["artefact"])
        return Run(id=run_id, **plain)


def get_run(records: Records, run_id: str) -> Run:
    """The run. Raises UnknownObject, naming near ones."""
    return Run.from_spec(run_id, require(records, RUN, run_id).spec)


def train(
    store: ModelStore,
    name: str,
    *,
    fit: Fit,
    data: TrainingData,
    params: Mapping[str, Any] | None = None,
    allow_pickle: bool = False,
) -> Run:
    """Calls `fit(data, params, run)` and records the model it returns as run `<name>-<n>`.

    `fit` gets the whole table, labels, keys and label times included. The model must prove that it can be served:
    its package is loaded again and asked for a few of the table's rows, from the inputs alone. The artefact is
    stored first, the record finished last and only if it still says `running`; a process that dies in between
    leaves a run `running` and at most an unreferenced blob.

    Raises InvalidArgument, from the error itself, when `fit` raises, SystemExit too (the run is then recorded as failed);
    PickleRefused when the model needs `allow_pickle=True`; SchemaMismatch for unfit data; Conflict when somebody
    else changed the run's record.
    """
    _check_call(name, fit, params)
    inputs = signature(data)
    started = Run(
        id="",
        model=name,
        status="running",
        label=data.label,
        inputs=inputs,
        params={key: json_value(value) for key, value in (params or {}).items()},
        dataset=dict(data.manifest or {}),
        code=provenance.describe_code(fit),
        environment=provenance.describe_environment(),
        started_us=store.clock.now_us(),
        metrics={},
        history={},
    )
    record = create_numbered(store.records, RUN, name, started.to_spec())
    active = ActiveRun(record.name, inputs, data.label, store.clock)
    supervised = _Supervised(store, record, replace(started, id=record.name), active)
    return supervised.run(fit, data, dict(params or {}), allow_pickle=allow_pickle)


def signature(data: TrainingData) -> tuple[Column, ...]:
    """The model's inputs: the table's columns minus keys, label times and label, in order, with logical types.

    Raises SchemaMismatch naming a column that is missing or of no logical type, InvalidArgument when nothing is left.
    """
    table, what = data.table, "the training data"
    require_columns(table, [data.label, *data.keys, *data.label_times, *(data.inputs or ())], what)
    if not table.num_rows:
        raise InvalidArgument(f"{what} has no rows", hint="check the labels and the time range")
    outside = {data.label, *data.keys, *data.label_times}
    names = data.inputs if data.inputs is not None else [n for n in table.column_names if n not in outside]
    if data.label in names:
        raise InvalidArgument(f"the label {data.label!r} is among the inputs", hint="leave it out of inputs")
    if not names:
        raise InvalidArgument(f"{what} has no columns besides keys, times and label", hint="add features")
    require_columns(table, names, what)
    return tuple(Column(name, _logical(table.schema.field(name), what)) for name in names)


def _logical(field: pa.Field, what: str) -> DType:
    dtype = from_arrow(field.type)
    if dtype is None:
        raise SchemaMismatch(
            f"{what}'s column {field.name!r} is {field.type}, which has no stook type", hint="convert it, or drop it"
        )
    return dtype


def _check_call(name: str, fit: object, params: Mapping[str, Any] | None) -> None:
    try:
        check_name("model", name)
    except InvalidDefinition as error:
        raise InvalidArgument(error.message, hint=error.hint) from None
    if not callable(fit):
        raise InvalidArgument(f"fit of {name!r} is {fit!r}, not a function", hint="def fit(data, params, run): ...")
    for key in params or ():
        if not isinstance(key, str) or not key:
            raise InvalidArgument(f"parameter name {key!r} of {name!r} is not text", hint="params maps text to values")


@dataclass(frozen=True)
class _Supervised:
    """A run under way: whatever happens, its record says how it ended."""

    store: ModelStore
    record: Record
    started: Run
    active: ActiveRun

    def run(self, fit: Fit, data: TrainingData, params: dict[str, Any], *, allow_pickle: bool) -> Run:
        stage = "fit"
        try:
            model = fit(data.table, params, self.active)
            stage = "packaging"
            package = packaging.package(model, allow_pickle=allow_pickle, script=provenance.script_of(fit))
            stage = "the proof that its model can predict from the run's inputs"
            outputs = prove(
                package, data.table.select([c.name for c in self.started.inputs]), allow_pickle=allow_pickle
            )
            stage = "storing the artefact"
            artefact = packaging.store(self.store.blobs, self.record.name, package)
        except BaseException as error:  # supervisor: however the user's code ends, the run's record says so
            text = f"{stage} raised {told(error)}{_where(error, fit)}"[:ERROR_LENGTH_MAX]
            self._finish(replace(self.started, status="failed", error=text))
            if isinstance(error, StookError) or is_interrupt(error):
                raise
            raise InvalidArgument(
                f"run {self.record.name!r} failed: {text}", hint="mend it and train again; the run is kept as failed"
            ) from error
        return self._finish(replace(self.started, status="finished", outputs=outputs, artefact=artefact))

    def _finish(self, run: Run) -> Run:
        self.active.close()
        ended = replace(
            run,
            params={**run.params, **self.active.params},
            metrics=self.active.metrics,
            history=self.active.history(),
            ended_us=self.store.clock.now_us(),
        )
        self.store.records.commit([Put(RUN, run.id, ended.to_spec(), expected=self.record.revision)])
        return ended


def prove(package: Package, inputs: pa.Table, *, allow_pickle: bool) -> tuple[tuple[str, DType], ...]:
    """Loads the package and asks each of its outputs for a few rows; returns the type of one prediction of each.

    Rows without nulls are preferred, as some models refuse nulls. Raises whatever loading and predicting raise.
    """
    complete = inputs.slice(0, PROOF_SEARCH_ROWS_MAX).drop_null()
    rows = (complete if complete.num_rows else inputs).slice(0, PROOF_ROWS_MAX)
    types = []
    for output in package.outputs:
        answer = packaging.load(package, output=output, allow_pickle=allow_pickle).predict(rows)
        dtype = from_arrow(answer.type)
        if dtype is None:
            raise SchemaMismatch(
                f"the model's {output} answers {answer.type}", hint="answer numbers, booleans, text or lists of numbers"
            )
        types.append((output, dtype))
    return tuple(types)


def _where(error: BaseException, fit: Any) -> str:
    """` (file:line)` of the innermost frame in the file of `fit`, where the user should look."""
    frames = traceback.extract_tb(error.__traceback__)
    file = getattr(getattr(fit, "__code__", None), "co_filename", None)
    own = [frame for frame in frames if frame.filename == file]
    return f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
