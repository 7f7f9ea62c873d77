"""What the cases showed, kept through one test run.

It is a file of its own because tests write it and the report reads it. It must never judge.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Record:
    """One case, asked of one set of engines, with rows come in by one way, through one door."""

    engines: str
    feed: str
    case: str
    door: str
    equal: bool


KEY: pytest.StashKey[set[Record]] = pytest.StashKey()


def record_of(config: pytest.Config) -> set[Record]:
    """The records of this run."""
    return config.stash.setdefault(KEY, set())


@dataclass(frozen=True)
class Caught:
    """A planted bug and the test that noticed it."""

    bug: str
    test: str


CAUGHT: pytest.StashKey[set[Caught]] = pytest.StashKey()


def caught_of(config: pytest.Config) -> set[Caught]:
    """The planted bugs that were noticed in this run."""
    return config.stash.setdefault(CAUGHT, set())
