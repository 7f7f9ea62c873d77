"""Models as bytes and back: predictions equal to the last bit, and every refusal with its mend."""

from __future__ import annotations

import importlib
import io
import subprocess
import sys
import zipfile
from dataclasses import replace
from typing import Any

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pytest
import skops.io
from sklearn.base import BaseEstimator, clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from stook.backends.memory.blobs import MemoryBlobs
from stook.core.errors import CorruptStore, InvalidArgument, NotSupported, PickleRefused, SchemaMismatch
from stook.models import packaging
from stook.models.matrix import float_matrix, frame
from stook.models.packaging import Package, load, package
from stook.models.trusted import TRUSTED_TYPES

INPUTS = ["speed", "trips", "night"]
QUIET = {"verbose": -1, "num_threads": 1}


@pytest.fixture
def inputs(table: pa.Table) -> pa.Table:
    return table.select(INPUTS)


@pytest.fixture
def labels(table: pa.Table) -> Any:
    return table["late"].to_numpy()


def booster(inputs: pa.Table, labels: Any, **params: Any) -> Any:
    names = inputs.column_names
    data = lgb.Dataset(float_matrix(inputs), labels, feature_name=names)
    return lgb.train({"objective": "binary", **QUIET, **params}, data, num_boost_round=20)


def test_booster_round_trip_is_exact(inputs: pa.Table, labels: Any) -> None:
    model = booster(inputs, labels)
    made = package(model)
    assert made.format == "lightgbm-text"
    assert made.data.startswith(b"tree\n"), "any LightGBM tool reads it"
    assert load(made).predict(inputs).to_pylist() == model.predict(float_matrix(inputs)).tolist()


def test_booster_finds_its_columns_by_name(inputs: pa.Table, labels: Any) -> None:
    made = load(package(booster(inputs.select(["night", "speed"]), labels)))
    assert made.predict(inputs).equals(made.predict(inputs.select(["night", "trips", "speed"])))
    with pytest.raises(SchemaMismatch, match=r"'night'.*not among its inputs"):
        made.predict(inputs.select(["speed", "trips"]))


def test_booster_with_spaces_in_names(table: pa.Table, labels: Any) -> None:
    inputs = table.select(["speed"]).rename_columns(["top speed"])
    model = lgb.LGBMRegressor(n_estimators=3, n_jobs=1, verbose=-1).fit(frame(inputs), labels)
    assert model.booster_.feature_name() == ["top_speed"]
    assert load(package(model)).predict(inputs).to_pylist() == model.predict(frame(inputs)).tolist()


def test_booster_without_names_takes_inputs_in_order(inputs: pa.Table, labels: Any) -> None:
    model = lgb.train({"objective": "binary", **QUIET}, lgb.Dataset(float_matrix(inputs), labels), 5)
    made = load(package(model))
    assert made.predict(inputs).to_pylist() == model.predict(float_matrix(inputs)).tolist()
    with pytest.raises(SchemaMismatch, match="3 unnamed columns, and gets 2"):
        made.predict(inputs.drop_columns(["night"]))


def test_early_stopping_keeps_the_best_iteration(inputs: pa.Table, labels: Any) -> None:
    matrix = float_matrix(inputs)
    noise = np.random.default_rng(0).integers(0, 2, len(labels))
    data = lgb.Dataset(matrix, labels)
    model = lgb.train(
        {"objective": "binary", **QUIET}, data, 50,
        valid_sets=[lgb.Dataset(matrix, noise, reference=data)], callbacks=[lgb.early_stopping(2, verbose=False)],
        keep_training_booster=True,
    )  # fmt: skip
    assert 0 < model.best_iteration < model.current_iteration()
    assert load(package(model)).predict(inputs).to_pylist() == model.predict(matrix).tolist()


@pytest.mark.parametrize("classes", [[0, 1], ["in time", "late"], [False, True], [3, 1, 2]])
def test_lightgbm_classifier_answers_labels_and_probabilities(
    inputs: pa.Table, labels: Any, classes: list[Any]
) -> None:
    wanted = np.array(classes)[(labels + np.arange(len(labels)) % (len(classes) - 1)) % len(classes)]
    model = lgb.LGBMClassifier(n_estimators=10, n_jobs=1, verbose=-1).fit(float_matrix(inputs), wanted)
    made = package(model)
    assert made.outputs == ("predict", "predict_proba")
    assert load(made).predict(inputs).to_pylist() == model.predict(float_matrix(inputs)).tolist()
    probabilities = load(made, output="predict_proba").predict(inputs)
    assert probabilities.to_pylist() == model.predict_proba(float_matrix(inputs)).tolist()
    assert made.details["classes"] == sorted(classes)


def test_lightgbm_text_categories_stay_those_of_training(table: pa.Table, labels: Any) -> None:
    inputs = table.select(["speed", "city"])
    data = frame(inputs).astype({"city": "category"})
    model = lgb.LGBMClassifier(n_estimators=20, min_child_samples=2, n_jobs=1, verbose=-1).fit(data, labels)
    made = load(package(model), output="predict_proba")
    assert made.predict(inputs).to_pylist() == model.predict_proba(data).tolist()
    alone = inputs.filter(pa.compute.equal(inputs["city"], "rome")).slice(0, 1)
    row = inputs["city"].to_pylist().index("rome")
    assert made.predict(alone).to_pylist() == model.predict_proba(data.iloc[[row]]).tolist(), "one row, one category"
    new = made.predict(pa.table({"speed": [0.1], "city": ["paris"]})).to_pylist()
    assert new == made.predict(pa.table({"speed": [0.1], "city": pa.array([None], pa.string())})).to_pylist()


def test_lightgbm_whole_number_categories_of_pandas_are_refused(inputs: pa.Table, labels: Any) -> None:
    data = frame(inputs.select(["speed", "night"])).astype({"night": "category"})
    model = lgb.LGBMClassifier(n_estimators=3, n_jobs=1, verbose=-1).fit(data, labels)
    with pytest.raises(SchemaMismatch, match="only text may be a pandas category"):
        load(package(model)).predict(inputs)


@pytest.mark.parametrize("spelled", [False, True], ids=["numbers", "their text"])
def test_lightgbm_categories_of_another_column_are_refused_though_their_count_matches(
    table: pa.Table, labels: Any, spelled: bool
) -> None:
    """The model learned codes of the city and categories of the trips; one category, one text, and each is the other."""
    inputs = table.select(["trips", "city"])
    data = frame(inputs)
    data["city"] = data["city"].astype("category").cat.codes
    data["trips"] = (data["trips"].astype(str) if spelled else data["trips"]).astype("category")
    model = lgb.LGBMClassifier(n_estimators=5, min_child_samples=2, n_jobs=1, verbose=-1).fit(data, labels)
    with pytest.raises(SchemaMismatch, match="only text may be a pandas category"):
        load(package(model)).predict(inputs)


def test_lightgbm_with_its_own_objective_answers_raw_scores(inputs: pa.Table, labels: Any) -> None:
    def squares(truth: Any, guess: Any) -> Any:
        return guess - truth, np.ones_like(truth)

    model = lgb.LGBMClassifier(objective=squares, n_estimators=5, n_jobs=1, verbose=-1).fit(
        float_matrix(inputs), labels
    )
    made = package(model)
    assert made.outputs == ("predict",)
    expected = model.booster_.predict(float_matrix(inputs)).tolist()
    assert load(made).predict(inputs).to_pylist() == expected


def test_unfitted_lightgbm_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"not fitted.*call its fit\(\)"):
        package(lgb.LGBMClassifier())


def test_damaged_lightgbm_text_is_corrupt(inputs: pa.Table, labels: Any) -> None:
    made = package(booster(inputs, labels))
    with pytest.raises(CorruptStore, match="train and release again"):
        load(replace(made, data=b"no model"))


def sklearn_models() -> list[Any]:
    impute = make_pipeline(SimpleImputer(), StandardScaler())
    return [
        make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
        make_pipeline(SimpleImputer(), RandomForestClassifier(n_estimators=5, random_state=0)),
        HistGradientBoostingClassifier(max_iter=5),
        make_pipeline(impute, lgb.LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1)),
        GridSearchCV(make_pipeline(SimpleImputer(), LogisticRegression()), {"logisticregression__C": [0.1, 1.0]}, cv=2),
    ]


@pytest.mark.parametrize("model", sklearn_models(), ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("named", [True, False], ids=["frame", "matrix"])
def test_sklearn_round_trip_is_exact(model: Any, inputs: pa.Table, labels: Any, named: bool) -> None:
    given = frame(inputs) if named else float_matrix(inputs)
    model = clone(model).fit(given, labels)
    made = package(model)
    assert made.format == "skops"
    for output in ("predict", "predict_proba"):
        expected = getattr(model, output)(given).tolist()
        assert load(made, output=output).predict(inputs).to_pylist() == expected


def test_sklearn_pipeline_with_text_takes_a_frame(table: pa.Table, labels: Any) -> None:
    inputs = table.select(["city", "speed"])
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["city"]), (SimpleImputer(), ["speed"])),
        LogisticRegression(),
    ).fit(frame(inputs), labels)
    made = load(package(model), output="predict_proba")
    assert made.predict(inputs).to_pylist() == model.predict_proba(frame(inputs)).tolist()
    swapped = made.predict(inputs.select(["speed", "city"]))
    assert swapped.equals(made.predict(inputs)), "columns are found by name"


def test_sklearn_refusing_nulls_is_the_callers_error(inputs: pa.Table, labels: Any) -> None:
    model = LogisticRegression().fit(np.nan_to_num(float_matrix(inputs)), labels)
    with pytest.raises(SchemaMismatch, match=r"refuses the inputs.*NaN.*nulls reach it as NaN"):
        load(package(model)).predict(inputs)


class Doubler(BaseEstimator):
    """An estimator of the user's own."""

    def fit(self, x: Any, y: Any) -> Doubler:
        return self

    def predict(self, x: Any) -> Any:
        return x[:, 0] * 2


def test_estimators_of_ones_own_need_pickle() -> None:
    with pytest.raises(PickleRefused, match=r"Doubler.*not known to be safe.*allow_pickle=True"):
        package(Doubler())
    made = package(Doubler(), allow_pickle=True)
    assert made.format == "cloudpickle"
    assert made.requirements.keys() == {"python", "cloudpickle", "scikit-learn"}
    assert load(made, allow_pickle=True).predict(pa.table({"a": [1.5, None]})).to_pylist()[0] == 3.0


def test_pickles_are_refused_on_both_ends() -> None:
    def rule(data: pa.Table) -> Any:
        return data["a"]

    with pytest.raises(PickleRefused, match="allow_pickle=True"):
        package(rule)
    made = package(rule, allow_pickle=True)
    with pytest.raises(PickleRefused, match="allow_pickle=True"):
        load(made)
    assert load(made, allow_pickle=True).predict(pa.table({"a": ["x", None]})).to_pylist() == ["x", None]


def test_skops_naming_a_function_that_runs_code_is_refused(inputs: pa.Table, labels: Any) -> None:
    """A prefix of trust ("sklearn.", "numpy.") would admit this: numpy's own test helper executes its argument."""
    runs_code = importlib.import_module("numpy.testing").runstring
    evil = make_pipeline(FunctionTransformer(runs_code, kw_args={"dict": {}}), LogisticRegression())
    data = skops.io.dumps(evil)
    assert any(name.startswith("numpy.testing") for name in skops.io.get_untrusted_types(data=data))
    with pytest.raises(PickleRefused, match=r"numpy\.testing"):
        load(Package("skops", data))
    with pytest.raises(PickleRefused, match=r"numpy\.testing"):
        package(evil)


@pytest.mark.parametrize("name", sorted(TRUSTED_TYPES))
def test_every_trusted_name_is_a_class_or_a_plain_function(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    found = getattr(importlib.import_module(module), attribute)
    assert isinstance(found, type) or callable(found)
    assert "test" not in name


def test_script_code_is_pickled_by_value(script: Any) -> None:
    """A user's training file cannot be imported where the model is served."""
    module = script(
        "my_training",
        "class Rule:\n    def predict(self, data):\n        return twice(data['a'])\n"
        "def twice(column):\n    return [2 * v for v in column.to_pylist()]\n",
    )
    made = package(module.Rule(), allow_pickle=True, script="my_training")
    code = (
        "import sys, pyarrow as pa\nfrom stook.models.packaging import Package, load\n"
        "p = load(Package('cloudpickle', sys.stdin.buffer.read()), allow_pickle=True)\n"
        "print(p.predict(pa.table({'a': [1, 2]})).to_pylist())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=made.data, capture_output=True, check=True)
    assert done.stdout.decode().strip() == "[2, 4]"
    absent = package(module.Rule(), allow_pickle=True)
    failed = subprocess.run([sys.executable, "-c", code], input=absent.data, capture_output=True, check=False)
    assert "names my_training, which cannot be imported here" in failed.stderr.decode()


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"fit returned None.*return model"):
        package(None)
    with pytest.raises(InvalidArgument, match=r"returned a int, which neither has predict\(\)"):
        package(3)
    with pytest.raises(InvalidArgument, match="cannot be pickled"):
        stream = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)))
        package(lambda data: stream.read(), allow_pickle=True)


def test_an_output_the_model_lacks_is_refused(inputs: pa.Table, labels: Any) -> None:
    made = package(booster(inputs, labels))
    with pytest.raises(InvalidArgument, match=r"no output 'predict_proba'.*answers the score itself"):
        load(made, output="predict_proba")


def test_other_library_series_are_refused_but_not_other_patches(inputs: pa.Table, labels: Any) -> None:
    """kserve#2059: models loaded under another scikit-learn are the most repeated serving failure."""
    made = package(HistGradientBoostingClassifier(max_iter=2).fit(float_matrix(inputs), labels))
    ours = made.requirements["scikit-learn"]
    series = ".".join(ours.split(".")[:2])
    load(replace(made, requirements={**made.requirements, "scikit-learn": f"{series}.99"}))
    with pytest.raises(NotSupported, match=r'scikit-learn 1\.2\.3, here is .*pip install "scikit-learn==1\.2\.\*"'):
        load(replace(made, requirements={**made.requirements, "scikit-learn": "1.2.3"}))
    with pytest.raises(NotSupported, match=r'needs left-pad.*pip install "left-pad==1\.0"'):
        load(replace(made, requirements={"left-pad": "1.0"}))
    text = package(booster(inputs, labels))
    load(replace(text, requirements={"lightgbm": "3.0.0"}))  # LightGBM reads old text
    with pytest.raises(NotSupported, match=r"python 2\.7\.1"):
        load(Package("cloudpickle", b"", {"python": "2.7.1"}), allow_pickle=True)


def test_missing_libraries_name_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("skops", "skops.io", "cloudpickle", "lightgbm"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(NotSupported, match="pip install skops"):
        load(Package("skops", b""))
    with pytest.raises(NotSupported, match="pip install lightgbm"):
        load(Package("lightgbm-text", b""))
    with pytest.raises(NotSupported, match="pip install cloudpickle"):
        load(Package("cloudpickle", b""), allow_pickle=True)
    with pytest.raises(NotSupported, match="pip install skops"):
        package(LogisticRegression())


@pytest.mark.parametrize("data", [b"", b"\x80garbage", b"PK\x03\x04"])
def test_bytes_that_are_no_model_are_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptStore, match="does not read back"):
        load(Package("cloudpickle", data), allow_pickle=True)
    with pytest.raises(CorruptStore, match="does not read back"):
        load(Package("skops", data))


def test_a_skops_archive_without_a_schema_is_corrupt() -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("other", "x")
    with pytest.raises(CorruptStore, match="does not read back"):
        load(Package("skops", held.getvalue()))


def test_a_tampered_blob_is_corrupt() -> None:
    blobs = MemoryBlobs()
    artefact = packaging.store(blobs, "delay-1", package(len, allow_pickle=True))
    assert artefact.key == f"runs/delay-1/{artefact.sha256}"
    assert packaging.fetch(blobs, artefact) == artefact.package
    blobs.delete(artefact.key)
    blobs.put(artefact.key, b"other")
    with pytest.raises(CorruptStore, match=r"SHA-256.*backup"):
        packaging.fetch(blobs, artefact)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ([1, 2], [1, 2]),
        (np.array([1.5, np.nan]), None),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (pa.chunked_array([["a"], ["b"]]), ["a", "b"]),
        (frame(pa.table({"a": [1, 2]}))["a"], [1, 2]),
    ],
)
def test_answers_of_many_kinds_are_columns(raw: Any, expected: list[Any] | None) -> None:
    made = load(package(lambda data: raw, allow_pickle=True), allow_pickle=True)
    found = made.predict(pa.table({"a": [0, 0]})).to_pylist()
    assert found == expected or (expected is None and found[0] == 1.5 and np.isnan(found[1]))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([1], "1 predictions for 2 rows"),
        (3.5, "no column of predictions"),
        ([1, "a"], "no column"),
        (None, "no column"),
        ({2.0, 1.0}, "answered a set, whose parts belong to no row"),
        (frozenset({2.0, 1.0}), "answered a frozenset"),
        ({0: 1.0, 1: 2.0}, "answered a dict"),
        ("ab", "answered a str"),
        (b"ab", "answered a bytes"),
    ],
)
def test_answers_that_are_no_column_are_refused(raw: Any, message: str) -> None:
    made = load(package(lambda data: raw, allow_pickle=True), allow_pickle=True)
    with pytest.raises(SchemaMismatch, match=message):
        made.predict(pa.table({"a": [0, 0]}))


def test_matrix_holds_what_doubles_hold_and_rounds_the_rest() -> None:
    big = pa.table({"a": pa.array([2**53 + 1, None], pa.int64()), "b": pa.array([2**64 - 1, 0], pa.uint64())})
    assert float_matrix(big)[0].tolist() == [2.0**53, 2.0**64]
    with pytest.raises(SchemaMismatch, match=r"'t' is string.*run\.frame"):
        float_matrix(pa.table({"t": ["x"]}))
    assert float_matrix(pa.table({"n": pa.nulls(2)})).shape == (2, 1)


def test_frame_keeps_bools_with_nulls_numeric() -> None:
    made = frame(pa.table({"b": [True, None], "c": [True, False], "i": [1, None]}))
    assert [str(t) for t in made.dtypes] == ["float64", "bool", "float64"]
