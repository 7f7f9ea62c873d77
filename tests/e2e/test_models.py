"""Models in an open project: what deploys, what answers, and what is refused with the deployment left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import stook
from stook import Entity, FeatureView, Field, Int64, PushSource
from stook.core.errors import IncompatibleChange

thing = Entity("thing", join_keys={"k": Int64})


def view(name: str, feature: str) -> FeatureView:
    return FeatureView(name, entities=[thing], schema=[Field(feature, Int64)], source=PushSource(f"{name}_rows"))


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
