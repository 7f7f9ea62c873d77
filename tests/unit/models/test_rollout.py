"""Deployments as a state machine, against a plain model of what people expect."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stook.core.errors import InvalidArgument
from stook.models import rollout
from stook.models.rollout import Deployment, deploy, live_at, roll_back

RELEASES = st.sampled_from(["a-1", "a-2", "a-3", "b-1"])
ACTIONS = st.lists(st.one_of(RELEASES, st.none()), min_size=1, max_size=40)  # None: roll back


def play(actions: list[Any]) -> tuple[Deployment | None, list[str]]:
    """The state after the actions, and the stack of releases a person would keep on paper."""
    state, paper = None, []
    for now, action in enumerate(actions):
        if action is not None:
            state = deploy(state, action, now)
            if not paper or paper[-1] != action:
                paper.append(action)
        elif state is not None and len(paper) > 1:
            state = roll_back(state, now)
            paper.pop()
        elif state is not None:
            with pytest.raises(InvalidArgument, match="no release before"):
                roll_back(state, now)
    return state, paper


@given(ACTIONS)
def test_rollback_walks_the_stack_of_what_answered(actions: list[Any]) -> None:
    state, paper = play(actions)
    if state is None:
        assert not paper
        return
    assert [*state.past, state.release] == paper
    assert state.generation == state.steps[-1].generation == len(state.steps)
    assert [s.generation for s in state.steps] == list(range(1, len(state.steps) + 1))
    assert state.steps[-1].release == state.release
    assert Deployment.from_spec(state.to_spec()) == state


@given(ACTIONS, RELEASES)
def test_rollback_undoes_a_deploy(actions: list[Any], release: str) -> None:
    state, _ = play(actions)
    if state is None or state.release == release:
        return
    back = roll_back(deploy(state, release, 99), 99)
    assert (back.release, back.past) == (state.release, state.past)
    assert back.generation == state.generation + 2


@given(ACTIONS)
def test_the_diary_says_what_was_live_when(actions: list[Any]) -> None:
    """mlflow#2169: which one was live at a past time is a controls issue."""
    state, live = None, []
    for now, action in enumerate(actions):
        if action is not None:
            state = deploy(state, action, now)
        elif state is not None and state.past:
            state = roll_back(state, now)
        live.append(None if state is None else state.release)
    if state is not None:
        assert [live_at(state, now) for now in range(len(actions))] == live
        assert live_at(state, -1) is None


def test_rolling_back_twice_then_deploying() -> None:
    state, _ = play(["a-1", "a-2", "a-3", None, None, "b-1"])
    assert state is not None
    assert (state.release, state.past) == ("b-1", ("a-1",))
    assert roll_back(state, 9).release == "a-1"


def test_deploying_what_answers_changes_nothing() -> None:
    state = deploy(None, "a-1", 0)
    assert deploy(state, "a-1", 5) is state


def test_memories_are_bounded() -> None:
    state = None
    for n in range(rollout.STEPS_MAX + 10):
        state = deploy(state, f"a-{n}", n)
    assert state is not None
    assert (len(state.past), len(state.steps)) == (rollout.PAST_MAX, rollout.STEPS_MAX)
    assert state.generation == rollout.STEPS_MAX + 10
