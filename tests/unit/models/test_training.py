"""Runs: what is recorded, in which order, and how a failing fit ends."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pytest

from stook.backends.memory.clock import FrozenClock
from stook.core import dtypes
from stook.core.errors import Conflict, InvalidArgument, PickleRefused, SchemaMismatch, UnknownObject
from stook.core.ports.records import Delete
from stook.core.specs import Column
from stook.models import provenance, runlog
from stook.models.store import ModelStore, create_numbered
from stook.models.training import Run, TrainingData, get_run, signature, train


def fit_booster(data: pa.Table, params: dict[str, Any], run: Any) -> Any:
    matrix = lgb.Dataset(run.matrix(data), data[run.label].to_numpy(), feature_name=run.inputs)
    model = lgb.train({"objective": "binary", "verbose": -1, "num_threads": 1, **params}, matrix, 5)
    run.log_metrics({"auc": 0.75, "rows": np.int64(data.num_rows)})
    run.log_params({"rounds": 5})
    return model


def test_a_run_records_all_that_made_the_model(store: ModelStore, numeric: TrainingData) -> None:
    data = replace(numeric, manifest={"name": "rides"})
    run = train(store, "delay", fit=fit_booster, data=data, params={"num_leaves": 7})
    assert (run.id, run.status, run.label) == ("delay-1", "finished", "late")
    assert run.inputs == (
        Column("speed", dtypes.Float64), Column("trips", dtypes.Int64), Column("night", dtypes.Bool),
    )  # fmt: skip
    assert run.params == {"num_leaves": 7, "rounds": 5}
    assert run.metrics == {"auc": 0.75, "rows": 200.0}
    assert run.dataset == {"name": "rides"}
    assert run.outputs == (("predict", dtypes.Float64),)
    assert run.code["of"] == "source"
    assert run.code["name"].endswith(":fit_booster")
    assert {"python", "stook", "lightgbm", "numpy"} <= run.environment.keys()
    assert run.artefact is not None
    assert store.blobs.exists(run.artefact.key)
    assert get_run(store.records, "delay-1") == replace(
        run, artefact=replace(run.artefact, package=replace(run.artefact.package, data=b""))
    )


def test_the_table_reaches_fit_whole_and_in_order(store: ModelStore, mixed: TrainingData) -> None:
    def fit(data: pa.Table, params: dict[str, Any], run: Any) -> Any:
        assert data is mixed.table
        assert run.inputs == ["speed", "trips", "night", "city"]
        assert list(run.frame(data).columns) == run.inputs
        return lambda inputs: [0] * inputs.num_rows

    run = train(store, "delay", fit=fit, data=mixed, allow_pickle=True)
    assert [c.name for c in run.inputs] == ["speed", "trips", "night", "city"]
    assert signature(replace(mixed, inputs=("city", "driver_id"))) == (
        Column("city", dtypes.String), Column("driver_id", dtypes.Int64),
    )  # fmt: skip


def test_a_failing_fit_is_recorded_and_says_where(store: ModelStore, numeric: TrainingData) -> None:
    def fit(data: pa.Table, params: dict[str, Any], run: Any) -> Any:
        run.log_metrics({"auc": 0.5})
        raise KeyError("no such column")

    with pytest.raises(
        InvalidArgument, match=r"run 'delay-1' failed: fit raised KeyError.*test_training\.py:\d+"
    ) as raised:
        train(store, "delay", fit=fit, data=numeric)
    assert isinstance(raised.value.__cause__, KeyError)
    run = get_run(store.records, "delay-1")
    assert (run.status, run.artefact, run.metrics) == ("failed", None, {"auc": 0.5})
    assert run.error is not None
    assert run.error.startswith("fit raised KeyError: 'no such column'")
    assert list(store.blobs.keys()) == []


def test_an_interrupted_fit_is_recorded_and_stays_an_interrupt(store: ModelStore, numeric: TrainingData) -> None:
    def fit(data: pa.Table, params: dict[str, Any], run: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(store, "delay", fit=fit, data=numeric)
    assert get_run(store.records, "delay-1").status == "failed"


class Unshowable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (SystemExit(3), "SystemExit: 3"),
        (GeneratorExit(), "GeneratorExit"),
        (ValueError("lone \ud800"), r"ValueError: lone \\ud800"),
        (Unshowable(), r"Unshowable: \(its text cannot be shown"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_however_fit_ends_the_run_says_so(
    store: ModelStore, numeric: TrainingData, error: BaseException, says: str
) -> None:
    def fit(data: pa.Table, params: dict[str, Any], run: Any) -> Any:
        raise error

    with pytest.raises(InvalidArgument, match=f"run 'delay-1' failed: fit raised {says}") as raised:
        train(store, "delay", fit=fit, data=numeric)
    raised.value.message.encode()
    assert get_run(store.records, "delay-1").status == "failed"


def test_a_pickle_not_allowed_fails_the_run(store: ModelStore, numeric: TrainingData) -> None:
    with pytest.raises(PickleRefused, match="allow_pickle=True"):
        train(store, "delay", fit=lambda data, params, run: len, data=numeric)
    assert get_run(store.records, "delay-1").status == "failed"


def test_a_model_that_cannot_be_served_fails_the_run(store: ModelStore, numeric: TrainingData) -> None:
    """Trained on the label as well: found out at training, not at the first request."""

    def fit(data: pa.Table, params: dict[str, Any], run: Any) -> Any:
        wide = np.column_stack([run.matrix(data), data["late"].to_numpy()])
        return lgb.train({"verbose": -1, "num_threads": 1}, lgb.Dataset(wide, data["late"].to_numpy()), 2)

    with pytest.raises(SchemaMismatch, match="4 unnamed columns, and gets 3"):
        train(store, "delay", fit=fit, data=numeric)
    run = get_run(store.records, "delay-1")
    assert run.status == "failed"
    assert "the proof that its model can predict" in str(run.error)


def test_a_model_that_answers_no_type_of_ours_fails_the_run(store: ModelStore, numeric: TrainingData) -> None:
    with pytest.raises(SchemaMismatch, match="predict answers null"):
        train(store, "x", fit=lambda d, p, r: lambda t: [None] * t.num_rows, data=numeric, allow_pickle=True)


def test_numbers_are_never_used_again(store: ModelStore, trained: Callable[..., Run]) -> None:
    assert [trained().id, trained().id, trained("other").id] == ["delay-1", "delay-2", "other-1"]
    store.records.commit([Delete("run", "delay-2")])
    assert trained().id == "delay-3"


def test_numbering_survives_others_numbering(store: ModelStore) -> None:
    class Racing:
        """Records in which somebody else takes the number just before each of the first three commits."""

        left = 3

        def __getattr__(self, name: str) -> Any:
            return getattr(store.records, name)

        def commit(self, changes: Any, **kwargs: Any) -> int:
            if self.left:
                self.left -= 1
                create_numbered(store.records, "run", "delay", {})
            return store.records.commit(changes, **kwargs)

    assert create_numbered(Racing(), "run", "delay", {}).name == "delay-4"
    endless = Racing()
    endless.left = 10_000
    with pytest.raises(Conflict, match="no number for a new run"):
        create_numbered(endless, "run", "delay", {})


def test_a_run_that_somebody_deleted_is_not_brought_back(store: ModelStore, numeric: TrainingData) -> None:
    def fit(data: pa.Table, params: dict[str, Any], run: Any) -> Any:
        store.records.commit([Delete("run", run.id)])
        return lambda inputs: [0.5] * inputs.num_rows

    with pytest.raises(Conflict):
        train(store, "delay", fit=fit, data=numeric, allow_pickle=True)
    assert store.records.get("run", "delay-1") is None


@pytest.mark.parametrize("value", ["0.5", None, True, 10**400, np.array([0.5, 0.6]), [0.5]], ids=str)
def test_metrics_are_numbers(value: Any) -> None:
    run = runlog.ActiveRun("delay-1", (), "late", FrozenClock(5))
    with pytest.raises(InvalidArgument, match=r"metric 'auc' is .*not a number"):
        run.log_metrics({"loss": 1.0, "auc": value})
    assert run.metrics == {}, "all or none of one call"


def test_a_metric_that_is_not_finite_is_recorded_and_loses_no_training(
    store: ModelStore, numeric: TrainingData
) -> None:
    def fit(data: pa.Table, params: dict[str, Any], run: Any) -> Any:
        for loss in (1.0, math.inf, np.float32("nan")):
            run.log_metrics({"loss": loss})
        run.log_metrics({"low": -math.inf})
        return lambda inputs: [0.5] * inputs.num_rows

    made = train(store, "delay", fit=fit, data=numeric, allow_pickle=True)
    for run in (made, get_run(store.records, "delay-1")):
        assert run.status == "finished"
        assert math.isnan(run.metrics["loss"]) and run.metrics["low"] == -math.inf
        assert run.history["loss"]["values"] == [1.0, "Infinity", "NaN"]
    record = store.records.get("run", "delay-1")
    assert record is not None
    json.dumps(record.spec, allow_nan=False)


def test_metric_steps_count_up_and_the_last_value_wins() -> None:
    clock = FrozenClock(5)
    run = runlog.ActiveRun("delay-1", (), "late", clock)
    run.log_metrics({"loss": 3})
    clock.set(6)
    run.log_metrics({"loss": 2})
    run.log_metrics({"loss": 1.5}, step=40)
    assert run.metrics == {"loss": 1.5}
    assert run.history()["loss"] == {"steps": [0, 1, 40], "values": [3.0, 2.0, 1.5], "times_us": [5, 6, 6], "logged": 3}
    with pytest.raises(InvalidArgument, match=r"step is 1\.5"):
        run.log_metrics({"loss": 1}, step=1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [999, 1_000, 1_001, 12_345])
def test_long_histories_are_thinned_evenly_and_end_with_the_last_point(count: int) -> None:
    run = runlog.ActiveRun("delay-1", (), "late", FrozenClock(5))
    for step in range(count):
        run.log_metrics({"loss": step})
    kept = run.history()["loss"]
    assert len(kept["steps"]) <= runlog.POINTS_PER_METRIC_MAX + 1
    assert (kept["steps"][0], kept["steps"][-1], kept["logged"]) == (0, count - 1, count)
    assert len({b - a for a, b in zip(kept["steps"][:-2], kept["steps"][1:-1], strict=True)}) == 1


def test_metrics_have_bounds_and_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runlog, "METRICS_MAX", 2)
    run = runlog.ActiveRun("delay-1", (), "late", FrozenClock(5))
    run.log_metrics({"a": 1, "b": 1})
    with pytest.raises(InvalidArgument, match=r"'c' is one too many.*step="):
        run.log_metrics({"c": 1})
    with pytest.raises(InvalidArgument, match="metric name '' is not text"):
        run.log_metrics({"": 1})
    run.close()
    with pytest.raises(InvalidArgument, match="has ended"):
        run.log_metrics({"a": 1})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"label": "lat"}, SchemaMismatch, "no column 'lat'.*did you mean 'late'"),
        ({"keys": ("driver",)}, SchemaMismatch, "no column 'driver'.*did you mean 'driver_id'"),
        ({"inputs": ("sped",)}, SchemaMismatch, "no column 'sped'"),
        ({"inputs": ("late",)}, InvalidArgument, "label 'late' is among the inputs"),
        ({"inputs": ()}, InvalidArgument, "no columns besides"),
    ],
)
def test_unfit_data_is_refused(numeric: TrainingData, change: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        signature(replace(numeric, **change))


def test_empty_data_and_types_without_a_name_are_refused(numeric: TrainingData) -> None:
    with pytest.raises(InvalidArgument, match="has no rows"):
        signature(replace(numeric, table=numeric.table.slice(0, 0)))
    odd = numeric.table.append_column("wait", pa.nulls(200, pa.duration("s")))
    with pytest.raises(SchemaMismatch, match="column 'wait' is duration"):
        signature(replace(numeric, table=odd))


@pytest.mark.parametrize(
    ("name", "fit", "params", "message"),
    [
        ("1x", len, None, "model name '1x' is not possible"),
        ("x", "fit", None, "not a function"),
        ("x", len, {1: 2}, "parameter name 1"),
    ],
)
def test_wrong_calls_leave_no_run(
    store: ModelStore, numeric: TrainingData, name: str, fit: Any, params: Any, message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        train(store, name, fit=fit, data=numeric, params=params)
    assert store.records.list("run") == []


def test_an_unknown_run_names_near_ones(store: ModelStore, trained: Callable[..., Run]) -> None:
    with pytest.raises(UnknownObject, match="there is no run yet"):
        get_run(store.records, "delay-1")
    trained()
    with pytest.raises(UnknownObject, match="did you mean 'delay-1'"):
        get_run(store.records, "delay-2")


def test_code_without_source_is_known_by_its_bytecode() -> None:
    scope: dict[str, Any] = {}
    for name, limit in (("a", 1), ("b", 1), ("c", 2)):
        exec(f"def {name}(d, p, r):\n    return lambda t: [v > {limit} for v in t]", scope)
    found = [provenance.describe_code(scope[name]) for name in "abc"]
    assert {f["of"] for f in found} == {"bytecode"}
    assert found[0]["digest"] == found[1]["digest"] != found[2]["digest"]


def test_code_behind_partials_objects_and_builtins_is_found() -> None:
    class Fit:
        def __call__(self, data: Any, params: Any, run: Any) -> Any:
            return None

    plain = provenance.describe_code(fit_booster)
    assert provenance.describe_code(functools.partial(fit_booster, 1)) == plain
    assert provenance.describe_code(Fit())["name"].endswith("Fit")
    assert provenance.describe_code(len)["of"] == "nothing"


def test_parameters_are_kept_as_json(store: ModelStore, numeric: TrainingData) -> None:
    def fit(data: pa.Table, params: dict[str, Any], run: Any) -> Any:
        assert params["loss"] is math.log, "fit gets what the caller gave"
        return lambda inputs: [0.5] * inputs.num_rows

    given = {"loss": math.log, "rate": np.float32(0.5), "grid": (1, math.inf), "deep": {"a": [None, True]}}
    run = train(store, "delay", fit=fit, data=numeric, params=given, allow_pickle=True)
    assert run.params == {
        "loss": "<built-in function log>", "rate": 0.5, "grid": [1, "inf"], "deep": {"a": [None, True]},
    }  # fmt: skip


def test_the_proof_prefers_rows_without_nulls(store: ModelStore, table: pa.Table) -> None:
    from sklearn.linear_model import LinearRegression

    head = pa.table({"x": pa.array([None, 1.0, 2.0]), "y": [0.0, 1.0, 2.0]})

    def fit(data: pa.Table, params: dict[str, Any], run: Any) -> Any:
        full = data.drop_null()
        return LinearRegression().fit(run.matrix(full), full["y"].to_numpy())

    assert train(store, "line", fit=fit, data=TrainingData(head, "y")).status == "finished"
