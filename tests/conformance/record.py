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
