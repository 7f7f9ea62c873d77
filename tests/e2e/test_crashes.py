"""Killed at a system call: every operation leaves the old or the new state, never half, and a rerun ends in the new one.

Where `test_kills` kills at random times, these kill right before a chosen call that would change the disk, so that the
moments between two writes, which random times hardly ever meet, are met on purpose. `STOOK_TEST_KILLS` says how many
of an operation's calls are struck: a few of each here, most in `make test-long`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import processes
from .acts import NOW, OPERATIONS, Operation, begin, check_survived, make_base, observe, script
from .processes import KILLS, choices, copy_project
from .stage import Stage, require_strace

pytestmark = pytest.mark.kill
EACH = max(KILLS // 6, 2)  # points struck in each operation


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("crashes") / "base")


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    require_strace()
    found = Stage("signal=SIGKILL")
    yield found
    found.close()


@pytest.mark.case(29, 35, 60)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_killed_at_a_system_call(operation: Operation, base: Path, stage: Stage, tmp_path: Path) -> None:
    start = begin(base, tmp_path / "start", operation)
    body = script(operation.body)
    complete = copy_project(start, tmp_path / "complete")
    opening = len(stage.points(f"p = stook.open(root, clock={NOW!r})", copy_project(start, tmp_path / "opened")))
    points = stage.points(body, complete)[opening:]
    old, new = observe(copy_project(start, tmp_path / "old")), observe(complete)
    chosen = choices(operation.name).sample(points, min(EACH, len(points)))
    for number, at in enumerate(chosen):
        root = copy_project(start, tmp_path / str(number))
        ended = stage.run(body, root, at=at)
        if not ended.struck:  # another thread made the call this time
            assert ended.code == 0, ended.said
            continue
        processes.killed[f"{operation.name}, at a call"] += 1
        check_survived(operation, root, old, new, at)
        shutil.rmtree(root)
