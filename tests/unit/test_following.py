"""Requests go on by what was seen last while records do not answer, and see what is new within a second when they do."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.servers import await_true

import stook
from stook import Entity, FeatureView, Field, Int64, PushSource
from stook.app.parts import Parts
from stook.backends.memory.records import MemoryRecords
from stook.core.errors import EngineUnavailable, StookError, UnknownFeature
from stook.core.ports.records import ANY, Change, Delete

user = Entity("user", join_keys={"user_id": Int64})
clicks = FeatureView("clicks", entities=[user], schema=[Field("n", Int64)], source=PushSource("clicked"))


class Distant(MemoryRecords):
    """Records a network away: while `away`, each call waits until it is over, as for a failover, and then fails."""

    abilities = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.back = threading.Event()
        self.back.set()
        self.asked: set[str] = set()

    def _travel(self) -> None:
        self.asked.add(threading.current_thread().name)
        if not self.back.is_set():
            self.back.wait(30)
            raise EngineUnavailable("the records do not answer", hint="wait")

    def revision(self) -> int:
        self._travel()
        return super().revision()

    def get(self, kind: str, name: str) -> Any:
        self._travel()
        return super().get(kind, name)

    def list(self, kind: str | None = None) -> Any:
        self._travel()
        return super().list(kind)

    def commit(self, changes: Sequence[Change], *, expected_revision: int = ANY) -> int:
        self._travel()
        return super().commit(changes, expected_revision=expected_revision)


@pytest.fixture
def distant() -> Distant:
    return Distant()


@pytest.fixture
def platform(tmp_path: Path, distant: Distant, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "stook.toml").write_text(
        '[project]\nname = "far"\n[engines]\nonline = "memory:"\nlog = "memory:"\n'
        'tables = "memory+memory:"\nrecords = "memory:"\n'
    )
    monkeypatch.setattr("stook.backends.memory.records.open_records", lambda _, __: distant)
    with stook.open(tmp_path) as p:
        p.apply([user, clicks])
        p.push("clicks", [{"user_id": 1, "n": 7}])
        yield p
        distant.back.set()


def deploy(p: Any, slope: int) -> Any:
    data = pa.table({"user_id": [1, 2], "n": [1, 2], "y": [1.0, 2.0]})
    run = p.train(
        "m", lambda table, params, run: Line(slope), data=data.drop_columns(["user_id"]), label="y", allow_pickle=True
    )
    return p.deploy("m", p.release("m", run, features=["clicks:n"]))


class Line:
    """A model that multiplies."""

    def __init__(self, slope: int) -> None:
        self.slope = slope

    def predict(self, inputs: Any) -> Any:
        return [self.slope * float(n) for n in inputs["n"].to_pylist()]


def predicted(p: Any) -> float:
    answer = p.predict("m", entities={"user_id": [1]}, allow_pickle=True)
    return float(answer.predictions[0])


def test_no_request_waits_for_records_that_are_away(platform: Any, distant: Distant) -> None:
    read = platform.prepare(["clicks:n"])
    deploy(platform, 2)
    assert predicted(platform) == 14.0
    assert read(entities={"user_id": [1]}).to_dict()["n"] == [7]
    distant.back.clear()
    started = time.monotonic()
    while time.monotonic() - started < 1.0:  # four looks of the follower fall into it
        assert read(entities={"user_id": [1]}).to_dict()["n"] == [7]
        assert platform.get_online_features(["clicks:n"], entities={"user_id": [1]}).to_dict()["n"] == [7]
        assert predicted(platform) == 14.0
        assert time.monotonic() - started < 10.0, "a request waited for the records"
    distant.back.set()


def test_what_another_process_does_is_seen_within_a_second(platform: Any, distant: Distant) -> None:
    deploy(platform, 2)
    assert predicted(platform) == 14.0
    with pytest.raises(UnknownFeature):
        platform.get_online_features(["more:n"], entities={"user_id": [1]})
    other = stook.open(platform.settings.root)
    try:
        other.apply([FeatureView("more", entities=[user], schema=[Field("n", Int64)], source=PushSource("clicked"))])
        moved = other.list("deployment")[0]
        assert moved.name == "m"
        deploy(other, 3)
        await_true(lambda: _knows(platform, "more:n"), "the new view", 1.0)
        await_true(lambda: predicted(platform) == 21.0, "the new release", 1.0)
    finally:
        other.close()


def test_what_a_process_does_itself_it_sees_at_once(platform: Any) -> None:
    for slope in range(2, 6):
        deploy(platform, slope)
        assert predicted(platform) == 7.0 * slope
        platform.rollback("m") if slope > 2 else None
        assert predicted(platform) == 7.0 * (slope - 1 if slope > 2 else slope)
        deploy(platform, slope)


def test_a_deployment_that_is_gone_is_told(platform: Any, distant: Distant) -> None:
    deploy(platform, 2)
    predicted(platform)

    MemoryRecords.commit(distant, [Delete("deployment", "m")])

    def gone() -> bool:
        try:
            predicted(platform)
        except StookError as error:
            return error.code == "unknown_object"
        return False

    await_true(gone, "the end of the deployment", 1.0)


def test_records_at_hand_are_followed_by_nobody(tmp_path: Path) -> None:
    (tmp_path / "stook.toml").write_text('[project]\nname = "near"\n')
    with stook.open(tmp_path) as p:
        parts: Parts = p._parts
        p.apply([user, clicks])
        assert parts.following is None
        assert not [thread for thread in threading.enumerate() if thread.name == "stook-follow"]


def test_closing_ends_the_thread(platform: Any) -> None:
    platform.prepare(["clicks:n"])
    assert [thread for thread in threading.enumerate() if thread.name == "stook-follow"]
    platform.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "stook-follow"]


def _knows(p: Any, feature: str) -> bool:
    try:
        p.get_online_features([feature], entities={"user_id": [1]})
    except UnknownFeature:
        return False
    return True
