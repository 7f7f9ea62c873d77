"""What the models tests share: a store in memory, a small data set, a finished run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stook.backends.memory.blobs import MemoryBlobs
from stook.backends.memory.clock import FrozenClock
from stook.backends.memory.records import MemoryRecords
from stook.models.store import ModelStore
from stook.models.training import Run, TrainingData, train

NOW = 1_000_000


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(NOW)


@pytest.fixture
def store(clock: FrozenClock) -> ModelStore:
    return ModelStore(MemoryRecords(), MemoryBlobs(), clock)


@pytest.fixture(scope="session")
def table() -> pa.Table:
    """200 rows: a key, a label time, four inputs (float, int, bool, text) with nulls, a label."""
    rng = np.random.default_rng(7)
    speed = rng.normal(size=200)
    trips = rng.integers(0, 50, 200)
    return pa.table(
        {
            "driver_id": pa.array(np.arange(200)),
            "event_timestamp": pa.array(np.arange(200), pa.timestamp("us", tz="UTC")),
            "speed": pa.array(speed, mask=rng.random(200) < 0.1),
            "trips": pa.array(trips, mask=rng.random(200) < 0.1),
            "night": pa.array(rng.random(200) < 0.5),
            "city": pa.array(rng.choice(["oslo", "rome", "lima"], 200)),
            "late": pa.array((speed + trips / 25 > 1).astype(np.int64)),
        }
    )


@pytest.fixture
def numeric(table: pa.Table) -> TrainingData:
    """The data without its text column."""
    return TrainingData(
        table.drop_columns(["city"]), label="late", keys=("driver_id",), label_times=("event_timestamp",)
    )


@pytest.fixture
def mixed(table: pa.Table) -> TrainingData:
    """The data with its text column, and a manifest."""
    return TrainingData(
        table,
        label="late",
        keys=("driver_id",),
        label_times=("event_timestamp",),
        manifest={"name": "rides", "plan_hash": "ab12"},
    )


def mean_rule(data: pa.Table, params: dict[str, Any], run: Any) -> Any:
    """A fit that returns a callable, so that no library is needed."""
    limit = params.get("limit", 10)
    return lambda inputs: [None if t is None else float(t > limit) for t in inputs["trips"].to_pylist()]


@pytest.fixture
def trained(store: ModelStore, numeric: TrainingData) -> Callable[..., Run]:
    """Trains the callable rule."""

    def make(name: str = "delay", **params: Any) -> Run:
        return train(store, name, fit=mean_rule, data=numeric, params=params, allow_pickle=True)

    return make


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Any]:
    """Imports source text as a module, as `stook train` does with a user's file."""
    import importlib

    def make(name: str, source: str) -> Any:
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()
        return importlib.import_module(name)

    return make
