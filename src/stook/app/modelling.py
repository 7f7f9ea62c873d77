"""Verbs about models: train, release, deploy, predict, rollback.

They are a file of their own so that each family of verbs fits in the head. `Platform` inherits them. They must
only resolve features and call the models room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa

from stook.app.answering import Answering, read_plan
from stook.app.parts import Parts
from stook.core.arrow import as_table
from stook.core.predictions import PredictResult
from stook.core.specs import Column
from stook.models import deployments, openinference, releases, training
from stook.models.releases import Lookup, Release
from stook.models.rollout import Deployment
from stook.models.store import ModelStore
from stook.models.training import Fit, Run, TrainingData
from stook.offline.datasets import Dataset
from stook.offline.retrieval import Retrieval
from stook.registry.resolve import Features, expand, resolve_features


class Modelling:
    """Trains, releases and answers."""

    _parts: Parts

    @cached_property
    def _models(self) -> ModelStore:
        wiring = self._parts.wiring
        return ModelStore(wiring.records, wiring.blobs, wiring.clock)

    @cached_property
    def _answering(self) -> Answering:
        return Answering(self._parts)

    def train(
        self,
        name: str,
        fit: Fit,
        *,
        data: Retrieval | Dataset | pa.Table | Any,
        label: str,
        params: Mapping[str, Any] | None = None,
        allow_pickle: bool = False,
    ) -> Run:
        """Calls `fit(data, params, run)` with an Arrow table and records the model it returns as a run.

        `data`: a dataset, a retrieval (its keys and label time are known), or any table (then every column but
        the label is an input). Records parameters, metrics, the dataset's manifest, code hash and environment.
        Model inputs are the columns minus keys, label times and label, in order. Raises InvalidArgument when
        `fit` fails (the run is kept as failed), PickleRefused when the model needs `allow_pickle=True`.
        """  # fmt: skip
        prepared = _training_data(data, label)
        return training.train(self._models, name, fit=fit, data=prepared, params=params, allow_pickle=allow_pickle)

    def release(
        self,
        name: str,
        run: Run | str,
        *,
        features: Features | None = None,
        output: str = "predict",
        full_feature_names: bool = False,
    ) -> Release:
        """Makes a finished run an immutable release: artefact, feature-view revisions, input signature.

        Inputs that `features` answer are looked up when asked; the others come with the request. `output` is the
        model's method that answers: "predict", or "predict_proba". Raises InvalidArgument, SchemaMismatch,
        UnknownFeature.
        """  # fmt: skip
        found = training.get_run(self._parts.wiring.records, run) if isinstance(run, str) else run
        lookup = None
        if features is not None:
            catalogue = self._parts.registry.catalogue(fresh=True)
            plan = resolve_features(catalogue, features, full_feature_names=full_feature_names)
            service = features if isinstance(features, str) else getattr(features, "name", None)
            lookup = Lookup.of_plan(
                plan, expand(catalogue, features), service=service, full_feature_names=full_feature_names
            )
        return releases.release(self._models, name, run=found, lookup=lookup, output=output)

    def deploy(self, name: str, release: Release | str, *, expected: int | None = None) -> Deployment:
        """Lets deployment `name` answer with a release, in one step.

        Raises UnknownObject, CorruptStore, Conflict, and IncompatibleChange for a release that could not answer, as
        features that it reads are gone or others; the deployment then stays as it was.
        """
        moved = deployments.deploy(
            self._models, name, _release_id(release), expected=expected, check=self._check_answers
        )
        return self._moved(name, moved)

    def rollback(self, name: str, *, expected: int | None = None) -> Deployment:
        """Back to the release before, in one compare-and-set.

        Raises UnknownObject, InvalidArgument, and what `deploy` raises; the deployment then stays as it was.
        """
        return self._moved(
            name, deployments.roll_back(self._models, name, expected=expected, check=self._check_answers)
        )

    def _check_answers(self, release: Release) -> None:
        read_plan(release, self._parts.registry.catalogue(fresh=True))

    def _moved(self, name: str, deployment: Deployment) -> Deployment:
        """This process answers with it from now on; others see it within a second."""
        self._parts.catalogue(fresh=True)
        self._answering.moved(name)
        return deployment

    def predict(
        self,
        name: str,
        *,
        entities: Mapping[str, Any] | None = None,
        entity_rows: Sequence[Mapping[str, Any]] | None = None,
        request: Mapping[str, Any] | None = None,
        allow_pickle: bool | None = None,
    ) -> PredictResult:
        """Predictions of the release that deployment `name` answers with, and the features that went in.

        Features are looked up for `entities` (or `entity_rows`); what is not a feature comes from `request`, one
        value a row or one for all. `allow_pickle` defaults to the setting `serve.allow_pickle`. Raises
        UnknownObject, InvalidArgument naming every missing input, SchemaMismatch, PickleRefused,
        IncompatibleChange when the features are not those it was released with.
        """  # fmt: skip
        return self._answering.predict(
            name, entities=entities, entity_rows=entity_rows, request=request, allow_pickle=allow_pickle
        )

    def score(self, name: str, data: Any) -> pa.Array:
        """Predictions of deployment `name` for a table that holds every input itself, such as a test set.

        No features are looked up; columns are taken by name, others ignored. Raises UnknownObject, SchemaMismatch.
        """
        return self._answering.score(name, data)

    def model_metadata(self, name: str) -> dict[str, Any]:
        """A deployment's model in the words of the Open Inference Protocol v2. Raises UnknownObject."""
        return openinference.model_metadata(name, self._answering.release_of(name))

    def prediction_keys(self, name: str) -> tuple[Column, ...]:
        """The join keys that deployment `name` looks features up by, with types. Raises UnknownObject."""
        lookup = self._answering.release_of(name).lookup
        return () if lookup is None else lookup.keys

    def prediction_inputs(self, name: str) -> tuple[Column, ...]:
        """The inputs that a request to deployment `name` must bring itself, with types. Raises UnknownObject."""
        return self._answering.release_of(name).request_inputs

    def model_ready(self, name: str) -> bool:
        """Whether deployment `name` can answer: its model is loaded, which also makes the first answer quick.

        Raises UnknownObject.
        """
        return self._answering.ready(name)

    def infer(self, name: str, body: object) -> dict[str, Any]:
        """Answers an Open Inference Protocol v2 request: the model's inputs as tensors, no features looked up."""
        return self._answering.infer(name, body)


def _release_id(release: Release | str) -> str:
    return release if isinstance(release, str) else release.id


def _training_data(data: Any, label: str) -> TrainingData:
    if isinstance(data, Retrieval | Dataset):
        return TrainingData(
            data.to_arrow(), label, keys=data.keys, label_times=data.label_times, manifest=data.provenance()
        )
    return TrainingData(as_table(data, "the training data"), label)
