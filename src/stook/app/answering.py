"""What a deployment answers with right now: release, resolved features, loaded model, kept between requests.

It is a file of its own because it is the hot path of `predict`, with state that follows the registry. `Modelling`
owns one. It must never answer with a release later than a second after the deployment moved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from stook.app.parts import Parts
from stook.core.arrow import as_table, conform, require_columns
from stook.core.errors import CallerError, Conflict, IncompatibleChange, InvalidArgument, StookError, UnknownFeature
from stook.core.plans import ReadPlan
from stook.core.predictions import PredictResult
from stook.models import openinference
from stook.models.deployments import get_deployment
from stook.models.predict import Predictors, answer, predict
from stook.models.releases import Release, check_plan, get_release
from stook.online.read import PreparedRead
from stook.registry.catalogue import Catalogue
from stook.registry.resolve import resolve_features

DEPLOYMENTS_KEPT_MAX: Final = 1_000


@dataclass(frozen=True)
class _Live:
    """A deployment as of one revision of the records store."""

    revision: int
    stamp: int
    release: Release
    read: PreparedRead | None


class Answering:
    """Live deployments by name, refreshed when the records store's revision moves. Thread-safe."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._live: dict[str, _Live] = {}
        if parts.following is not None:
            parts.following.listen(self._refresh_all)
        self._models = {allowed: Predictors(parts.wiring.blobs, allow_pickle=allowed) for allowed in (False, True)}

    def release_of(self, name: str) -> Release:
        """The release that answers now. Raises UnknownObject."""
        return self._current(name).release

    def predict(
        self,
        name: str,
        *,
        entities: Mapping[str, Any] | None,
        entity_rows: Sequence[Mapping[str, Any]] | None,
        request: Mapping[str, Any] | None,
        allow_pickle: bool | None,
    ) -> PredictResult:
        """See `Modelling.predict`."""  # fmt: skip
        live = self._current(name)
        online = None
        if live.read is not None:
            if entities is None and entity_rows is None:
                keys = ", ".join(key.name for key in live.read.plan.keys)
                raise InvalidArgument(
                    f"deployment {name!r} looks features up, and no entities were given", hint=f"give entities: {keys}"
                )
            try:
                online = live.read.read(entities, entity_rows=entity_rows)
            except Conflict:  # a row was written under definitions that came since the last look
                self._parts.catalogue(fresh=True)
                self.moved(name)
                live = self._current(name)
                online = None if live.read is None else live.read.read(entities, entity_rows=entity_rows)
        elif entities or entity_rows:
            raise InvalidArgument(f"deployment {name!r} looks no features up", hint="put the model's inputs in request")
        return predict(live.release, self._model(live.release, allow_pickle), online=online, request=request)

    def score(self, name: str, data: Any) -> pa.Array:
        """See `Modelling.score`."""
        release = self.release_of(name)
        what = f"the table to score with {release.id!r}"
        table = as_table(data, what, release.inputs)
        require_columns(table, [c.name for c in release.inputs], what)
        columns = {c.name: conform(table.column(c.name), c.dtype, f"{what}: {c.name!r}") for c in release.inputs}
        return answer(release, self._model(release, None), pa.table(columns))

    def infer(self, name: str, body: object) -> dict[str, Any]:
        """See `Modelling.infer`."""
        release = self.release_of(name)
        asked = openinference.parse_infer(release, body)
        predictions = answer(release, self._model(release, None), asked.table)
        return openinference.infer_response(name, release, predictions, asked.id)

    def ready(self, name: str) -> bool:
        """See `Modelling.model_ready`."""
        release = self.release_of(name)
        try:
            self._model(release, None)
        except StookError:
            return False
        return True

    def _model(self, release: Release, allow_pickle: bool | None) -> Any:
        allowed = self._parts.wiring.settings.serve.allow_pickle if allow_pickle is None else allow_pickle
        return self._models[bool(allowed)].get(release)

    def _current(self, name: str) -> _Live:
        catalogue = self._parts.catalogue()
        revision = self._parts.registry.revision
        live = self._live.get(name)
        # where records are a network away, whoever follows them refreshes what is known: no request waits for that
        if live is None or (live.revision != revision and self._parts.following is None):
            live = self._refreshed(name, live, revision, catalogue)
            if len(self._live) >= DEPLOYMENTS_KEPT_MAX:
                self._live.clear()
            self._live[name] = live
        return live

    def moved(self, name: str) -> None:
        """The deployment was moved by this process: the next prediction looks again."""
        self._live.pop(name, None)

    def _refresh_all(self) -> None:
        """What was asked for, as of the registry's revision now. Raises what keeps it from being seen."""
        catalogue, revision = self._parts.registry.seen, self._parts.registry.revision
        for name, live in list(self._live.items()):
            if live.revision == revision:
                continue
            try:
                self._live[name] = self._refreshed(name, live, revision, catalogue)
            except CallerError:  # it is gone, or does not fit any more: whoever asks next is told
                self._live.pop(name, None)

    def _refreshed(self, name: str, before: _Live | None, revision: int, catalogue: Catalogue) -> _Live:
        records = self._parts.wiring.records
        release_id = get_deployment(records, name).release
        if before is not None and before.release.id == release_id and before.stamp == catalogue.stamp:
            return _Live(revision, before.stamp, before.release, before.read)
        release = get_release(records, release_id)
        plan = read_plan(release, catalogue)
        return _Live(revision, catalogue.stamp, release, None if plan is None else self._parts.prepared(plan))


def read_plan(release: Release, catalogue: Catalogue) -> ReadPlan | None:
    """What the release reads, by the definitions of now; None where it looks nothing up.

    Raises IncompatibleChange naming the release and what it reads that is gone, or is not what it learned.
    """
    lookup = release.lookup
    if lookup is None:
        return None
    try:
        plan = resolve_features(catalogue, lookup.projections, full_feature_names=lookup.full_feature_names)
    except UnknownFeature as error:
        raise IncompatibleChange(
            f"release {release.id!r} reads what is gone: {error.message}", hint="train and release the model again"
        ) from None
    check_plan(release, plan)
    return plan
