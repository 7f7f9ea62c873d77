"""Predict: inputs by name, nothing guessed, every refusal naming what and how."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from stook.core import dtypes
from stook.core.errors import CorruptStore, InvalidArgument, NotSupported, PickleRefused, SchemaMismatch
from stook.core.results import OnlineResult
from stook.core.specs import Column
from stook.models import packaging
from stook.models.predict import Predictors, answer, assemble, predict
from stook.models.releases import Release, release
from stook.models.store import ModelStore
from stook.models.training import Run

from . import plans

Train = Callable[..., Run]


@pytest.fixture
def made(store: ModelStore, trained: Train) -> Release:
    return release(store, "delay", run=trained(), lookup=plans.lookup())


def takes(made: Release, *columns: Column) -> Release:
    """The release as if it took these inputs, all from the request."""
    return replace(made, inputs=columns, lookup=None)


@pytest.mark.parametrize("arrow", [False, True])
def test_predict_answers_with_its_provenance(store: ModelStore, made: Release, arrow: bool) -> None:
    models = Predictors(store.blobs, allow_pickle=True)
    result = predict(made, models.get(made), online=plans.online(arrow=arrow), request={"night": True})
    assert result.predictions == [1.0, 0.0]
    assert len(result) == 2
    assert result.to_dict() == {
        "predictions": [1.0, 0.0],
        "release": "delay-1",
        "features": {"speed": [0.5, None], "trips": [30, 4]},
        "statuses": {"speed": ["PRESENT", "NOT_FOUND"], "trips": ["PRESENT", "NOT_FOUND"]},
        "ages": {"speed": [2.0, None], "trips": [2.0, None]},
    }
    assert result.event_timestamps["speed"] == [datetime(1970, 1, 1, 0, 0, 8, tzinfo=UTC), None]


def test_predict_without_a_lookup(store: ModelStore, trained: Train) -> None:
    made = release(store, "delay", run=trained())
    loaded = Predictors(store.blobs, allow_pickle=True).get(made)
    request = {"speed": [1, 2.5], "trips": [11, None], "night": False}
    result = predict(made, loaded, request=request)
    assert result.to_dict() == {
        "predictions": [1.0, None], "release": "delay-1", "features": {}, "statuses": {}, "ages": {},
    }  # fmt: skip
    assert predict(made, loaded, request={"speed": [], "trips": [], "night": True}).predictions == []


def test_inputs_come_by_name_in_the_signatures_order(made: Release) -> None:
    table = assemble(made, plans.online(), {"night": [True, None]})
    assert table.to_pydict() == {"speed": [0.5, None], "trips": [30, 4], "night": [True, None]}
    assert table.schema.types == [pa.float64(), pa.int64(), pa.bool_()]
    turned = replace(made, inputs=made.inputs[::-1])
    assert assemble(turned, plans.online(), {"night": True}).column_names == ["night", "trips", "speed"]


def test_keys_fill_inputs_too(made: Release) -> None:
    with_key = replace(made, inputs=(plans.KEY, plans.SPEED))
    assert assemble(with_key, plans.online(), {}).to_pydict() == {"driver_id": [7, 8], "speed": [0.5, None]}


@pytest.mark.parametrize(
    ("request_values", "message"),
    [
        ({}, "release 'delay-1' needs request value 'night'"),
        ({"night": True, "speed": 1.0}, "looks 'speed' up itself"),
        ({"night": True, "nigth": True}, "takes no request value 'nigth'.*did you mean 'night'"),
        ({"night": [True]}, "'night' of release 'delay-1' has 1 values for 2 rows"),
    ],
)
def test_wrong_requests_are_refused(made: Release, request_values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        assemble(made, plans.online(), request_values)


def test_everything_missing_is_named_at_once(made: Release) -> None:
    with pytest.raises(InvalidArgument, match="needs request values 'speed', 'trips', 'night'"):
        assemble(replace(made, lookup=None), None, {})
    with pytest.raises(InvalidArgument, match="so it needs entities"):
        assemble(made, None, {"night": True})
    empty = OnlineResult([("driver_id", dtypes.Int64, [7])], [], now_us=0)
    with pytest.raises(InvalidArgument, match="did not answer 'speed', 'trips'"):
        assemble(made, empty, {"night": True})


def test_requests_of_different_lengths_are_refused(made: Release) -> None:
    with pytest.raises(InvalidArgument, match="'trips' of release 'delay-1' has 1 values for 2 rows"):
        assemble(replace(made, lookup=None), None, {"speed": [1.0, 2.0], "trips": [3], "night": True})


NOON = datetime(2013, 10, 15, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        (dtypes.Float64, 3, 3.0),
        (dtypes.Float64, None, None),
        (dtypes.Float32, 0.1, float(np.float32(0.1))),
        (dtypes.Int8, 3, 3),
        (dtypes.Int64, 2**63 - 1, 2**63 - 1),
        (dtypes.UInt64, 2**64 - 1, 2**64 - 1),
        (dtypes.Int64, np.int32(4), 4),
        (dtypes.Bool, False, False),
        (dtypes.String, "oslo", "oslo"),
        (dtypes.Bytes, b"\x00", b"\x00"),
        (dtypes.Timestamp, NOON, NOON),
        (dtypes.Timestamp, "2013-10-15T12:00:00Z", NOON),
        (dtypes.Date, date(2013, 1, 1), date(2013, 1, 1)),
        (dtypes.Decimal(5, 2), Decimal("1.5"), Decimal("1.50")),
        (dtypes.Struct({"a": dtypes.Int64}), {"a": 1}, {"a": 1}),
        (dtypes.Int64, pa.scalar(5), 5),
        (dtypes.Timestamp, pd.Timestamp("2013-10-15T12:00", tz="UTC"), NOON),
        (dtypes.Timestamp, pd.Timestamp("2013-10-15T14:00", tz="Europe/Oslo"), NOON),
        (dtypes.Timestamp, np.datetime64("2013-10-15T12:00:00"), NOON),
        (dtypes.Timestamp, pd.NaT, None),
        (dtypes.Float64, pd.NA, None),
        (dtypes.Float64, np.array(5.0), 5.0),
        (dtypes.Int64, np.array(5), 5),
        (dtypes.Struct({"a": dtypes.Int64, "b": dtypes.String}), {"a": None}, {"a": None, "b": None}),
        (dtypes.Map(dtypes.String, dtypes.Int64), {"a": 1}, [("a", 1)]),
    ],
)
def test_one_value_serves_all_rows(made: Release, dtype: Any, value: Any, expected: Any) -> None:
    two = takes(made, Column("x", dtype), Column("rows", dtypes.Int64))
    table = assemble(two, None, {"x": value, "rows": [0, 0]})
    assert table["x"].to_pylist() == [expected, expected]
    alone = isinstance(value, pa.Scalar | np.ndarray)
    listed = None if alone else assemble(two, None, {"x": [value, None], "rows": [0, 0]})
    assert listed is None or listed["x"].to_pylist() == [expected, None]


@pytest.mark.parametrize(
    "values", [[1, 2], (1, 2), np.array([1, 2], np.int16), pa.array([1, 2]), pa.chunked_array([[1], [2]]), pd.Series([1, 2])],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
def test_columns_of_many_kinds(made: Release, values: Any) -> None:
    assert assemble(takes(made, Column("x", dtypes.Int64)), None, {"x": values})["x"].to_pylist() == [1, 2]


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (dtypes.Array(dtypes.Int64), [[]], [[]]),
        (dtypes.Array(dtypes.Int64), [[1, None], None], [[1, None], None]),
        (dtypes.Vector(dtypes.Float32, 2), [[0.1, 2]], [[float(np.float32(0.1)), 2.0]]),
        (dtypes.Struct({"a": dtypes.Int64}), [{"a": None}], [{"a": None}]),
        (dtypes.Timestamp, [pd.Timestamp("2013-10-15T12:00", tz="UTC"), "2013-10-15T12:00:00Z", pd.NaT], [NOON, NOON, None]),
        (dtypes.Timestamp, pd.Series(pd.to_datetime(["2013-10-15T12:00Z"])), [NOON]),
        (dtypes.Int64, pd.Series([1, None], dtype="Int64"), [1, None]),
        (dtypes.Decimal(5, 2), pd.Series([Decimal("1.5"), None]), [Decimal("1.50"), None]),
        (dtypes.String, pl.Series(["a", None]), ["a", None]),
        (dtypes.String, pd.Series(["a", "a"]).astype("category"), ["a", "a"]),
        (dtypes.UInt64, [2**64 - 1, 1], [2**64 - 1, 1]),
    ],
    ids=str,
)  # fmt: skip
def test_columns_mean_what_the_input_is(made: Release, dtype: Any, values: Any, expected: Any) -> None:
    assert assemble(takes(made, Column("x", dtype)), None, {"x": values})["x"].to_pylist() == expected


def test_a_request_has_values_by_names_of_text(made: Release) -> None:
    one = takes(made, Column("x", dtypes.Int64))
    for request in ([1], {1}, "x", 5, []):
        with pytest.raises(InvalidArgument, match=f"the request is a {type(request).__name__}, not values by name"):
            predict(one, Raises(ValueError()), request=request)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="request value 1 has no name of text"):
        assemble(one, None, {"x": 1, 1: 2})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (dtypes.Timestamp, pd.Timestamp("2024-01-01T00:00:00.000000999", tz="UTC")),
        (dtypes.Timestamp, date(2024, 1, 1)),
        (dtypes.Time, time(1, tzinfo=UTC)),
        (dtypes.Date, NOON),
        (dtypes.Vector(dtypes.Float64, 2), [1, True]),
        (dtypes.Array(dtypes.Int64), [1.5]),
        (dtypes.Array(dtypes.Int64), {1, 2}),
        (dtypes.Int64, np.array([[1, 2]])),
        (dtypes.Int64, pd.DataFrame({"a": [1]})),
        (dtypes.Int64, pl.DataFrame({"a": [1]})),
        (dtypes.Int64, pd.Timestamp("2024-01-01", tz="UTC")),
        (dtypes.Int64, 1.5),
        (dtypes.Int64, "1"),
        (dtypes.Int64, True),
        (dtypes.Int64, 2**63),
        (dtypes.Int8, 200),
        (dtypes.Float64, "1.5"),
        (dtypes.Float64, True),
        (dtypes.Float64, 2**53 + 1),
        (dtypes.Float32, 1e300),
        (dtypes.Float32, np.array([0.1])),
        (dtypes.Bool, 1),
        (dtypes.String, 1),
        (dtypes.String, b"x"),
        (dtypes.Timestamp, 5),
        (dtypes.Date, "2013-01-01"),
        (dtypes.Int64, [1, "a"]),
        (dtypes.Int64, [True, 1]),
        (dtypes.Int64, {"a": 1}),
        (dtypes.Array(dtypes.Int64), [["a"]]),
        (dtypes.Int64, object()),
    ],
    ids=repr,
)
def test_values_not_exactly_of_the_type_are_refused(made: Release, dtype: Any, value: Any) -> None:
    for values in (value, [value]):
        with pytest.raises(SchemaMismatch, match="request value 'x'"):
            assemble(takes(made, Column("x", dtype)), None, {"x": values})


def test_a_widened_features_value_is_checked_when_it_comes(made: Release) -> None:
    narrow = replace(made, inputs=(plans.SPEED, Column("trips", dtypes.Int8)))
    assert assemble(narrow, plans.online(), {})["trips"].to_pylist() == [30, 4]
    with pytest.raises(SchemaMismatch, match=r"'delay-1' learned 'trips' as int8: feature 'trips'.*release the model"):
        assemble(narrow, plans.online(trips=[300, 4]), {})
    single = replace(made, inputs=(Column("speed", dtypes.Float32), plans.TRIPS))
    assert assemble(single, plans.online(), {})["speed"].to_pylist() == [0.5, None]
    with pytest.raises(SchemaMismatch, match=r"learned 'speed' as float32: .*float32 would round"):
        assemble(single, plans.online(speed=[0.5, 0.1]), {})


def test_pickles_need_permission_where_they_are_served(store: ModelStore, made: Release) -> None:
    with pytest.raises(PickleRefused, match=r"release 'delay-1' is stored as a pickle.*allow_pickle=True"):
        Predictors(store.blobs).get(made)


def test_lost_and_damaged_artefacts_are_corrupt(store: ModelStore, made: Release) -> None:
    models = Predictors(store.blobs, allow_pickle=True)
    store.blobs.delete(made.artefact.key)
    with pytest.raises(CorruptStore, match="release 'delay-1' has lost its artefact"):
        models.get(made)
    store.blobs.put(made.artefact.key, b"x")
    with pytest.raises(CorruptStore, match=r"release 'delay-1': artefact .*SHA-256"):
        models.get(made)


def test_the_cache_is_bounded_and_drops_the_least_recently_used(
    store: ModelStore, made: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    fetch = packaging.fetch

    def counting(blobs: Any, artefact: Any) -> Any:
        loads.append(artefact.key)
        return fetch(blobs, artefact)

    monkeypatch.setattr(packaging, "fetch", counting)
    models = Predictors(store.blobs, allow_pickle=True, models_max=2)
    first, second, third = (replace(made, id=f"delay-{n}") for n in range(3))
    kept = models.get(first)
    models.get(second)
    assert models.get(first) is kept
    models.get(third)  # drops the second
    assert models.get(first) is kept
    assert len(loads) == 3
    models.get(second)
    assert len(loads) == 4
    models.close()
    assert models.get(first) is not kept


def test_threads_asking_at_once_load_once(store: ModelStore, made: Release) -> None:
    models = Predictors(store.blobs, allow_pickle=True)
    barrier = threading.Barrier(8)
    found: list[int] = []

    def ask() -> None:
        barrier.wait()
        found.append(id(models.get(made)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_no_rows_are_no_predictions_of_the_right_type(store: ModelStore, made: Release) -> None:
    loaded = Predictors(store.blobs, allow_pickle=True).get(made)
    nothing = assemble(replace(made, lookup=None), None, {"speed": [], "trips": [], "night": []})
    assert answer(made, loaded, nothing).equals(pa.array([], pa.float64()))


class Unshowable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Raises:
    """A loaded model that ends like this."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def predict(self, table: pa.Table) -> pa.Array:
        raise self.error


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (SystemExit(3), "SystemExit: 3"),
        (GeneratorExit(), "GeneratorExit"),
        (ValueError("lone \ud800"), r"ValueError: lone \\ud800"),
        (Unshowable(), r"Unshowable: \(its text cannot be shown"),
        (ValueError("first\nsecond"), r"ValueError: first \("),
    ],
    ids=lambda v: type(v).__name__,
)
def test_however_a_model_ends_the_caller_is_told(made: Release, error: BaseException, says: str) -> None:
    one = pa.table({"speed": [0.5], "trips": [1], "night": [True]})
    with pytest.raises(SchemaMismatch, match=f"model of release 'delay-1' fails on these inputs: {says}") as raised:
        answer(made, Raises(error), one)
    str(raised.value).encode()


def test_an_interrupt_at_the_terminal_ends_the_program_but_a_models_own_does_not(made: Release) -> None:
    one, model = pa.table({"speed": [0.5], "trips": [1], "night": [True]}), Raises(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        answer(made, model, one)
    with ThreadPoolExecutor(1) as pool, pytest.raises(SchemaMismatch, match="KeyboardInterrupt"):  # as in a server
        pool.submit(answer, made, model, one).result()


class LoadsBadly:
    """A model whose pickle ends the program."""

    def __call__(self, table: pa.Table) -> list[float]:
        return [0.0] * table.num_rows

    def __reduce__(self) -> Any:
        return sys.exit, (3,)


def test_a_model_that_does_not_load_is_told(store: ModelStore, made: Release) -> None:
    package = packaging.package(LoadsBadly(), allow_pickle=True)
    artefact = packaging.store(store.blobs, "delay-1", package)
    with pytest.raises(NotSupported, match="model of release 'delay-1' does not load: SystemExit: 3"):
        Predictors(store.blobs, allow_pickle=True).get(replace(made, artefact=artefact))
