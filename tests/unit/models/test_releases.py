"""Releases and deployments: what is pinned, what is refused, and pointers that move in one step."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from stook.core import dtypes
from stook.core.errors import (
    Conflict,
    CorruptStore,
    IncompatibleChange,
    InvalidArgument,
    SchemaMismatch,
    UnknownObject,
)
from stook.core.ports.records import Delete
from stook.core.specs import Column
from stook.models.deployments import deploy, get_deployment, roll_back
from stook.models.releases import Release, check_plan, get_release, release
from stook.models.store import ModelStore
from stook.models.training import Run, TrainingData, get_run, train

from . import plans

Train = Callable[..., Run]


def test_a_release_pins_artefact_inputs_and_views(store: ModelStore, trained: Train) -> None:
    run = trained()
    made = release(store, "delay", run=run, lookup=plans.lookup(revision=3))
    assert (made.id, made.run, made.output, made.output_dtype) == ("delay-1", "delay-1", "predict", dtypes.Float64)
    assert made.looked_up == {"speed", "trips"}
    assert [c.name for c in made.request_inputs] == ["night"]
    assert made.pickled
    assert made.lookup is not None
    assert [(v.name, v.uid, v.schema_revision) for v in made.lookup.views] == [("stats", "u1", 3)]
    assert made.lookup.service == "ranking"
    assert get_release(store.records, "delay-1") == made
    assert store.records.get("release", "delay-1").spec["request_inputs"] == ["night"]  # type: ignore[union-attr]
    assert release(store, "delay", run=get_run(store.records, run.id)).id == "delay-2"


def test_release_ids_are_never_used_again(store: ModelStore, trained: Train) -> None:
    run = trained()
    release(store, "delay", run=run)
    store.records.commit([Delete("release", "delay-1")])
    assert release(store, "delay", run=run).id == "delay-2"


def test_a_key_that_the_model_learned_from_is_no_request_input(store: ModelStore, numeric: TrainingData) -> None:
    def fit(data: Any, params: Any, run: Any) -> Any:
        return lambda inputs: inputs["driver_id"]

    data = replace(numeric, inputs=("speed", "driver_id"))
    made = release(store, "x", run=train(store, "x", fit=fit, data=data, allow_pickle=True), lookup=plans.lookup())
    assert made.request_inputs == ()


def test_without_a_lookup_everything_is_requested(store: ModelStore, trained: Train) -> None:
    made = release(store, "delay", run=trained())
    assert made.request_inputs == made.inputs
    assert made.lookup is None


def test_unreleasable_runs_are_refused(store: ModelStore, trained: Train, numeric: TrainingData) -> None:
    run = trained()
    with pytest.raises(InvalidArgument, match="of model 'delay', not 'other'"):
        release(store, "other", run=run)
    with pytest.raises(InvalidArgument, match="no output 'predict_proba'"):
        release(store, "delay", run=run, output="predict_proba")
    with pytest.raises(InvalidArgument):
        train(store, "delay", fit=lambda d, p, r: 1 / 0, data=numeric)
    with pytest.raises(InvalidArgument, match="run 'delay-2' is failed, so there is nothing to release"):
        release(store, "delay", run=get_run(store.records, "delay-2"))
    assert store.records.list("release") == []


def test_features_that_answer_nothing_of_the_model_are_refused(store: ModelStore, trained: Train) -> None:
    """As when the dataset was made with full feature names and the release without."""
    other = plans.lookup(features=(Column("stats__speed", dtypes.Float64),))
    with pytest.raises(InvalidArgument, match=r"answer none of the model's inputs .*full_feature_names"):
        release(store, "delay", run=trained(), lookup=other)


def test_a_feature_of_another_kind_of_type_is_refused(store: ModelStore, trained: Train) -> None:
    text = plans.lookup(features=(plans.SPEED, Column("trips", dtypes.String)))
    with pytest.raises(SchemaMismatch, match="'trips' was trained as int64, feature stats:trips is string"):
        release(store, "delay", run=trained(), lookup=text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"uid": "u2"}, "'stats', which was deleted and made anew"),
        ({"features": (plans.SPEED,)}, "stats:trips, which is gone"),
        ({"features": (plans.SPEED, Column("trips", dtypes.String))}, "learned stats:trips as int64, now it is string"),
    ],
)
def test_a_release_does_not_read_views_that_changed_under_it(
    store: ModelStore, trained: Train, change: dict[str, Any], message: str
) -> None:
    """Trained on v3, served on v4 (feast#2728)."""
    made = release(store, "delay", run=trained(), lookup=plans.lookup())
    with pytest.raises(IncompatibleChange, match=message):
        check_plan(made, plans.plan(**change))


def test_a_release_reads_on_when_views_only_grew(store: ModelStore, trained: Train) -> None:
    made = release(store, "delay", run=trained(), lookup=plans.lookup())
    grown = (plans.SPEED, plans.TRIPS, Column("new", dtypes.String))
    check_plan(made, plans.plan(grown, revision=2))


@pytest.mark.parametrize(
    ("learned", "now"),
    [
        (dtypes.Float32, dtypes.Float64),
        (dtypes.Int32, dtypes.Int64),
        (dtypes.Vector(dtypes.Float32, 2), dtypes.Vector(dtypes.Float64, 2)),
    ],
    ids=str,
)
def test_a_release_reads_on_when_a_feature_was_widened(
    store: ModelStore, trained: Train, learned: dtypes.DType, now: dtypes.DType
) -> None:
    """Each value is checked when it comes; the registry takes no narrowing, so there would be no way back."""
    made = release(store, "delay", run=trained(), lookup=plans.lookup())
    narrow = replace(made, inputs=(Column("speed", learned),))
    check_plan(narrow, plans.plan((Column("speed", now), plans.TRIPS), revision=2))


@pytest.fixture
def three(store: ModelStore, trained: Train) -> list[Release]:
    run = trained()
    return [release(store, "delay", run=run) for _ in range(3)]


def test_deploy_and_roll_back(store: ModelStore, three: list[Release]) -> None:
    for made in three:
        assert deploy(store, "live", made.id).release == made.id
    assert roll_back(store, "live").release == "delay-2"
    assert roll_back(store, "live").release == "delay-1"
    with pytest.raises(InvalidArgument, match="'live': there is no release before 'delay-1'"):
        roll_back(store, "live")
    state = get_deployment(store.records, "live")
    assert (state.release, state.generation) == ("delay-1", 5)
    assert [s.action for s in state.steps] == ["deploy"] * 3 + ["rollback"] * 2


def test_deploying_again_writes_nothing(store: ModelStore, three: list[Release]) -> None:
    deploy(store, "live", "delay-1")
    before = store.records.revision()
    deploy(store, "live", "delay-1")
    assert store.records.revision() == before


def test_wrong_deployments_are_refused(store: ModelStore, three: list[Release]) -> None:
    with pytest.raises(UnknownObject, match=r"no release 'delay-9'.*did you mean"):
        deploy(store, "live", "delay-9")
    with pytest.raises(InvalidArgument, match="deployment name"):
        deploy(store, "a__b", "delay-1")
    with pytest.raises(UnknownObject, match="there is no deployment yet"):
        roll_back(store, "live")
    store.blobs.delete(three[0].artefact.key)
    with pytest.raises(CorruptStore, match="release 'delay-1' has lost its artefact"):
        deploy(store, "live", "delay-1")
    assert store.records.list("deployment") == []


def test_expected_generations_guard_against_others(store: ModelStore, three: list[Release]) -> None:
    deploy(store, "live", "delay-1", expected=0)
    deploy(store, "live", "delay-2", expected=1)
    with pytest.raises(Conflict, match="generation 2, not 1"):
        deploy(store, "live", "delay-3", expected=1)
    with pytest.raises(Conflict, match="generation 2, not 1"):
        roll_back(store, "live", expected=1)
    with pytest.raises(Conflict, match="generation 0, not 1"):
        deploy(store, "other", "delay-1", expected=1)


def test_two_rollbacks_at_once_go_back_one_step(store: ModelStore, three: list[Release]) -> None:
    """Both read the same state; one of the two compare-and-sets must fail, and not be repeated by itself."""
    for made in three:
        deploy(store, "live", made.id)

    class Slow:
        """Records whose commit first lets the other rollback through."""

        def __getattr__(self, name: str) -> Any:
            return getattr(store.records, name)

        def commit(self, changes: Any, **kwargs: Any) -> int:
            roll_back(store, "live")
            return store.records.commit(changes, **kwargs)

    with pytest.raises(Conflict, match="moved by somebody else"):
        roll_back(replace(store, records=Slow()), "live")
    assert get_deployment(store.records, "live").release == "delay-2"


def test_readers_see_one_release_at_every_moment(store: ModelStore, three: list[Release]) -> None:
    """mlflow#3016: readers saw none, or two."""
    deploy(store, "live", "delay-1")
    stop = threading.Event()
    seen: set[str] = set()

    def read() -> None:
        while not stop.is_set():
            seen.add(get_deployment(store.records, "live").release)

    reader = threading.Thread(target=read)
    reader.start()
    for made in itertools.islice(itertools.cycle(three), 100):
        deploy(store, "live", made.id)
    stop.set()
    reader.join()
    assert seen <= {made.id for made in three}
    assert seen
