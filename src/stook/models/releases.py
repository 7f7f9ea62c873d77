"""Releases: an artefact, the features it looks up, their views' revisions and its inputs, as one immutable thing.

It is a file of its own because "trained on one thing, served on another" must be impossible by construction: what
serves is named here, once, and never changes. The app makes releases from finished runs and resolved read plans;
predict and Open Inference read them. It must never resolve a feature name itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from stook.core import dtypes
from stook.core.arrow import conform, to_arrow
from stook.core.definitions import Projection
from stook.core.dtypes import DType
from stook.core.errors import IncompatibleChange, InvalidArgument, SchemaMismatch, did_you_mean
from stook.core.specs import Column, ServiceSpec, columns_from_spec, columns_to_spec
from stook.models import packaging
from stook.models.packaging import Artefact
from stook.models.store import RELEASE, ModelStore, create_numbered, require
from stook.models.training import Run

if TYPE_CHECKING:
    from stook.core.plans import ReadPlan
    from stook.core.ports.records import Records
    from stook.core.specs import JsonObject


@dataclass(frozen=True)
class ViewPin:
    """A feature view as it was when released: which one (`uid`), and its schema's revision."""

    name: str
    uid: str
    schema_revision: int


@dataclass(frozen=True)
class Answer:
    """A feature that the look-up answers: the column's name and type, and where it comes from."""

    column: Column
    view: str
    feature: str


@dataclass(frozen=True)
class Lookup:
    """The features a release looks up when asked: enough to resolve them again, and to tell when they changed.

    `projections` name their features one by one; `service` is where they came from, for people. `keys` are the
    columns a request must bring.
    """

    projections: tuple[Projection, ...]
    full_feature_names: bool
    keys: tuple[Column, ...]
    answers: tuple[Answer, ...]
    views: tuple[ViewPin, ...]
    service: str | None = None

    @staticmethod
    def of_plan(
        plan: ReadPlan,
        projections: tuple[Projection, ...],
        *,
        service: str | None = None,
        full_feature_names: bool = False,
    ) -> Lookup:
        """The look-up that `plan`, resolved from `projections`, carries out."""
        pins = {r.view.name: ViewPin(r.view.name, r.view.uid, r.view.schema.revision) for r in plan.views}
        answers = _answers(plan)
        return Lookup(
            projections,
            full_feature_names,
            plan.keys,
            tuple(answers[n] for n in plan.names),
            tuple(pins.values()),
            service,
        )

    def to_spec(self) -> JsonObject:
        """JSON form, as recorded."""
        return {
            "projections": ServiceSpec("", self.projections).to_spec()["features"],
            "full_feature_names": self.full_feature_names,
            "keys": columns_to_spec(self.keys),
            "answers": [[*a.column.to_spec(), a.view, a.feature] for a in self.answers],
            "views": [[v.name, v.uid, v.schema_revision] for v in self.views],
            "service": self.service,
        }

    @staticmethod
    def from_spec(spec: Mapping[str, Any]) -> Lookup:
        """The inverse of `to_spec`."""
        whole = {"features": spec["projections"], "description": "", "tags": {}, "owner": ""}
        return Lookup(
            projections=ServiceSpec.from_spec("", whole).projections,
            full_feature_names=spec["full_feature_names"],
            keys=columns_from_spec(spec["keys"]),
            answers=tuple(Answer(Column.from_spec(a[:2]), a[2], a[3]) for a in spec["answers"]),
            views=tuple(ViewPin(*v) for v in spec["views"]),
            service=spec["service"],
        )


@dataclass(frozen=True)
class Release:
    """An immutable, deployable model. `id` is `<model>-<n>` and is never used again.

    `inputs` is the signature, in the model's order. `output` is the method that answers, `output_dtype` the type of
    one prediction. `lookup` is None where everything comes with the request.
    """

    id: str
    model: str
    run: str
    artefact: Artefact
    inputs: tuple[Column, ...]
    output: str
    output_dtype: DType
    lookup: Lookup | None
    label: str
    created_us: int

    @cached_property
    def looked_up(self) -> frozenset[str]:
        """The inputs that the look-up fills: its features, and keys that the model also learned from."""
        if self.lookup is None:
            return frozenset()
        answered = {a.column.name for a in self.lookup.answers} | {c.name for c in self.lookup.keys}
        return frozenset(c.name for c in self.inputs if c.name in answered)

    @cached_property
    def request_inputs(self) -> tuple[Column, ...]:
        """The inputs that the request must bring, in the signature's order."""
        return tuple(c for c in self.inputs if c.name not in self.looked_up)

    @property
    def pickled(self) -> bool:
        """Whether serving it needs `allow_pickle=True`."""
        return self.artefact.package.format == "cloudpickle"

    def to_spec(self) -> JsonObject:
        """JSON form, as recorded; the id is the record's name."""
        return {
            "model": self.model,
            "run": self.run,
            "artefact": self.artefact.to_spec(),
            "inputs": columns_to_spec(self.inputs),
            "request_inputs": [c.name for c in self.request_inputs],
            "output": self.output,
            "output_dtype": self.output_dtype.to_spec(),
            "lookup": None if self.lookup is None else self.lookup.to_spec(),
            "label": self.label,
            "created_us": self.created_us,
        }

    @staticmethod
    def from_spec(release_id: str, spec: Mapping[str, Any]) -> Release:
        """The inverse of `to_spec`."""
        plain = {key: value for key, value in spec.items() if key != "request_inputs"}
        plain["artefact"] = Artefact.from_spec(spec["artefact"])
        plain["inputs"] = columns_from_spec(spec["inputs"])
        plain["output_dtype"] = dtypes.from_spec(spec["output_dtype"])
        plain["lookup"] = None if spec["lookup"] is None else Lookup.from_spec(spec["lookup"])
        return Release(id=release_id, **plain)


def release(
    store: ModelStore, name: str, *, run: Run, lookup: Lookup | None = None, output: str = "predict"
) -> Release:
    """Records a new release of a finished run, and returns it.

    Inputs that `lookup` answers are looked up when the model is asked; the others must come with the request.
    `output` is the model's method that answers: `predict` (a score, a value or a class label, as the library has
    it) or `predict_proba` (one probability a class, in the order of the model's classes).

    Raises InvalidArgument when the run did not finish, is of another model, has no such output, or when the look-up
    answers none of its inputs; SchemaMismatch when a feature's type cannot be the input's.
    """
    if run.model != name:
        raise InvalidArgument(
            f"run {run.id!r} is of model {run.model!r}, not {name!r}", hint=f"release it as {run.model!r}"
        )
    if run.artefact is None:
        raise InvalidArgument(
            f"run {run.id!r} is {run.status}, so there is nothing to release", hint="release a finished run"
        )
    packaging.check_output(run.artefact.package, output)
    made = Release(
        id="",
        model=name,
        run=run.id,
        artefact=run.artefact,
        inputs=run.inputs,
        output=output,
        output_dtype=dict(run.outputs)[output],
        lookup=lookup,
        label=run.label,
        created_us=store.clock.now_us(),
    )
    _check_lookup(made)
    record = create_numbered(store.records, RELEASE, name, made.to_spec())
    return Release.from_spec(record.name, record.spec)


def get_release(records: Records, release_id: str) -> Release:
    """The release. Raises UnknownObject, naming near ones."""
    return Release.from_spec(release_id, require(records, RELEASE, release_id).spec)


def check_plan(release: Release, plan: ReadPlan) -> None:
    """Raises IncompatibleChange when `plan` no longer reads what was released.

    A view made anew under its old name, a feature that is gone, and a type that the input cannot take are refused;
    added features and widened types are not, since stored rows still read the same.
    """
    lookup = release.lookup
    assert lookup is not None, "a release without a look-up has no plan"
    mend = "train and release the model again"
    pinned = {pin.name: pin for pin in lookup.views}
    for read in plan.views:
        pin = pinned.get(read.view.name)
        if pin is not None and pin.uid != read.view.uid:
            raise IncompatibleChange(
                f"release {release.id!r} reads feature view {pin.name!r}, which was deleted and made anew", hint=mend
            )
    answers = _answers(plan)
    inputs = {c.name: c.dtype for c in release.inputs}
    for answer in lookup.answers:
        now = answers.get(answer.column.name)
        if now is None or (now.view, now.feature) != (answer.view, answer.feature):
            raise IncompatibleChange(
                f"release {release.id!r} reads {answer.view}:{answer.feature}, which is gone", hint=mend
            )
        wanted = inputs.get(answer.column.name)
        if wanted is not None and not _fits(now.column.dtype, wanted):
            raise IncompatibleChange(
                f"release {release.id!r} learned {answer.view}:{answer.feature} as {wanted}, now it is {now.column.dtype}",
                hint=mend,
            )


def _answers(plan: ReadPlan) -> dict[str, Answer]:
    found = {}
    for read in plan.views:
        for feature, name in read.outputs:
            column = read.view.feature(feature)
            assert column is not None, f"the plan reads {feature!r}, which {read.view.name!r} lacks"
            found[name] = Answer(Column(name, column.dtype), read.view.name, feature)
    return found


def _fits(have: DType, want: DType) -> bool:
    """Whether values of `have` may be values of `want`: one family of types; each value is checked when it comes."""
    try:
        conform(pa.array([], to_arrow(have)), want, "")
    except SchemaMismatch:
        return False
    return True


def _check_lookup(release: Release) -> None:
    lookup = release.lookup
    if lookup is None:
        return
    answers = {a.column.name: a for a in lookup.answers}
    matched = [c for c in release.inputs if c.name in answers]
    if not matched:
        names = ", ".join(repr(c.name) for c in release.inputs[:8])
        raise InvalidArgument(
            f"the features answer none of the model's inputs ({names})",
            hint=did_you_mean(release.inputs[0].name, answers)
            + "; name the features the dataset was made with, and full_feature_names as it was then",
        )
    for column in matched:
        answer = answers[column.name]
        if not _fits(answer.column.dtype, column.dtype):
            raise SchemaMismatch(
                f"input {column.name!r} was trained as {column.dtype}, feature {answer.view}:{answer.feature} is {answer.column.dtype}",
                hint="train on the dataset as the features gave it",
            )
