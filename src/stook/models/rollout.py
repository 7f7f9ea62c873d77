"""A deployment's life as a pure state machine: which release answers, and which answered before.

It is a file of its own because these decisions must be provable without a store. `models.deployments` reads a
state, calls `deploy` or `roll_back`, and writes the next state by compare-and-set. It must never look at a clock,
a store or a model.

Two memories are kept apart. `past` is the stack that rollback walks: the releases before the present one, oldest
first. `steps` is the diary: everything that ever happened, so that "what was live then" has an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from stook.core.errors import InvalidArgument

if TYPE_CHECKING:
    from stook.core.specs import JsonObject

PAST_MAX: Final = 100
STEPS_MAX: Final = 1_000
Action = Literal["deploy", "rollback"]


@dataclass(frozen=True)
class Step:
    """One change: from `generation` on, `release` answers."""

    generation: int
    action: Action
    release: str
    at_us: int


@dataclass(frozen=True)
class Deployment:
    """What a name answers with. `generation` grows by one with each change."""

    release: str
    generation: int
    past: tuple[str, ...]
    steps: tuple[Step, ...]

    def to_spec(self) -> JsonObject:
        """JSON form, as recorded."""
        return {
            "release": self.release,
            "generation": self.generation,
            "past": list(self.past),
            "steps": [[s.generation, s.action, s.release, s.at_us] for s in self.steps],
        }

    @staticmethod
    def from_spec(spec: Mapping[str, Any]) -> Deployment:
        """The inverse of `to_spec`."""
        steps = tuple(Step(*step) for step in spec["steps"])
        return Deployment(spec["release"], spec["generation"], tuple(spec["past"]), steps)


def deploy(state: Deployment | None, release: str, now_us: int) -> Deployment:
    """The state in which `release` answers. Deploying what already answers changes nothing.

    >>> deploy(deploy(None, "delay-1", 0), "delay-2", 5).past
    ('delay-1',)
    """
    if state is None:
        return Deployment(release, 1, (), (Step(1, "deploy", release, now_us),))
    if state.release == release:
        return state
    return _moved(replace(state, past=(*state.past, state.release)[-PAST_MAX:]), "deploy", release, now_us)


def roll_back(state: Deployment, now_us: int) -> Deployment:
    """The state in which the release before answers again; a second rollback goes further back.

    Raises InvalidArgument when there is none (the oldest are forgotten after PAST_MAX).

    >>> roll_back(deploy(deploy(None, "delay-1", 0), "delay-2", 5), 9).release
    'delay-1'
    """
    if not state.past:
        raise InvalidArgument(
            f"there is no release before {state.release!r} to roll back to", hint="deploy the release you want by name"
        )
    return _moved(replace(state, past=state.past[:-1]), "rollback", state.past[-1], now_us)


def live_at(state: Deployment, at_us: int) -> str | None:
    """The release that answered at that time; None before the first step still remembered (STEPS_MAX are)."""
    live = [step.release for step in state.steps if step.at_us <= at_us]
    return live[-1] if live else None


def _moved(state: Deployment, action: Action, release: str, now_us: int) -> Deployment:
    generation = state.generation + 1
    step = Step(generation, action, release, now_us)
    return replace(state, release=release, generation=generation, steps=(*state.steps, step)[-STEPS_MAX:])
