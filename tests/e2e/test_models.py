"""Models in an open project: what deploys, what answers, and what is refused with the deployment left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import stook
from stook import Entity, FeatureView, Field, Float32, Float64, Int64, PushSource
from stook.core.dtypes import DType
from stook.core.errors import IncompatibleChange, InvalidArgument, SchemaMismatch

thing = Entity("thing", join_keys={"k": Int64})


def view(name: str, feature: str, dtype: DType = Int64) -> FeatureView:
    return FeatureView(name, entities=[thing], schema=[Field(feature, dtype)], source=PushSource(f"{name}_rows"))


@pytest.fixture
def p(tmp_path: Path) -> Iterator[Any]:
    (tmp_path / "stook.toml").write_text('[project]\nname = "p"\n[serve]\nallow_pickle = true\n')
    with stook.open(tmp_path) as platform:
        yield platform


def released(p: Any, answer: Callable[[pa.Table], Any], *, features: list[str] | None = None, **inputs: Any) -> str:
    """A release of model m that answers by `answer`."""
    data = pa.table({**inputs, "y": [0, 1]})
    run = p.train("m", lambda data, params, run: answer, data=data, label="y", allow_pickle=True)
    return str(p.release("m", run, features=features).id)


def zeros(table: pa.Table) -> list[int]:
    return [0] * table.num_rows


def test_a_release_that_cannot_answer_is_not_deployed_nor_rolled_back_to(p: Any) -> None:
    old, new = view("old", "z"), view("new", "x")
    p.apply([thing, old, new])
    p.push("new", [{"k": 1, "x": 1}])
    p.deploy("m", released(p, zeros, features=["old:z"], z=[1, 2]))
    p.deploy("m", released(p, zeros, features=["new:x"], x=[1, 2]))
    p.delete("feature-view", "old")  # only an earlier release reads it
    for attempt in (lambda: p.rollback("m"), lambda: p.deploy("other", "m-1"), lambda: p.deploy("m", "m-1")):
        with pytest.raises(IncompatibleChange, match=r"release 'm-1' reads what is gone: .*'old'"):
            attempt()
    assert p.list("deployment") == [p.get("deployment", "m")]
    assert p.predict("m", entities={"k": [1]}).release == "m-2"
    p.apply([thing, old, new])
    with pytest.raises(IncompatibleChange, match="release 'm-1' reads feature view 'old', which was deleted"):
        p.rollback("m")
    p.deploy("m", released(p, zeros, features=["old:z"], z=[1, 2]))
    assert p.rollback("m").release == "m-2"


def test_a_deployment_answers_on_when_a_feature_was_widened(p: Any) -> None:
    p.apply([thing, view("a", "x", Float32)])
    p.push("a", [{"k": 1, "x": 0.5}])
    p.deploy("m", released(p, lambda t: t["x"].to_pylist(), features=["a:x"], x=pa.array([1, 2], pa.float32())))
    p.apply([view("a", "x", Float64)])
    p.push("a", [{"k": 2, "x": 0.25}, {"k": 3, "x": 0.1}])
    assert p.predict("m", entities={"k": [1, 2, 4]}).predictions == [0.5, 0.25, None]
    with pytest.raises(
        SchemaMismatch, match=r"release 'm-1' learned 'x' as float32: .* would round .*release the model"
    ):
        p.predict("m", entities={"k": [1, 3]})
    p.deploy("m", released(p, lambda t: t["x"].to_pylist(), features=["a:x"], x=[0.5, 0.1]))
    assert p.predict("m", entities={"k": [1, 3]}).predictions == [0.5, 0.1]


def test_sys_exit_in_a_model_or_fit_ends_nobody(p: Any) -> None:
    def leave(table: pa.Table) -> list[int]:
        if table["x"][0].as_py() < 0:
            raise SystemExit(3)
        return [0] * table.num_rows

    p.deploy("m", released(p, leave, x=[1, 2]))
    with pytest.raises(SchemaMismatch, match="model of release 'm-1' fails on these inputs: SystemExit: 3"):
        p.predict("m", request={"x": -1})
    with pytest.raises(SchemaMismatch, match="SystemExit: 3"):
        p.score("m", [{"x": -1}])
    with pytest.raises(InvalidArgument, match=r"run 'm-2' failed: the proof .* raised SystemExit: 3"):
        released(p, leave, x=[-1, 2])
    assert p.get("run", "m-2").spec["status"] == "failed"


def test_a_table_to_score_means_what_the_inputs_are(p: Any) -> None:
    p.deploy("m", released(p, lambda t: t["x"].to_pylist(), x=pa.array([0.5, 0.1], pa.float32())))
    nearest = pa.scalar(0.1, pa.float32()).as_py()
    assert p.score("m", [{"x": 0.1}, {"x": None}]).to_pylist() == [nearest, None]
    with pytest.raises(SchemaMismatch, match="'x' holds doubles that float32 would round"):
        p.score("m", pa.table({"x": [0.1]}))
