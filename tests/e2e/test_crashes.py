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

import stook
from stook.online.write import space

from . import processes
from .acts import NOW, OPERATIONS, Operation, begin, check_no_orphans, check_survived, make_base, observe, script
from .processes import KILLS, choices, copy_project, start
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


DELETE = """
import os, sys, stook
p = stook.open(sys.argv[1], clock=sys.argv[2])
print("open", flush=True)
p._parts.registry.delete("feature-view", "note")
os._exit(1)
"""


@pytest.mark.case(61)
def test_a_delete_that_ended_half_way_is_finished_by_opening_the_project(base: Path, tmp_path: Path) -> None:
    """The view is gone from the registry, and its rows are still there: they must not stay for ever."""
    root = copy_project(base, tmp_path / "project")
    with stook.open(root, clock=NOW) as p:
        note = p._parts.view("note")
    start(DELETE, root, NOW).communicate(timeout=processes.PATIENCE_S)
    with stook.open(root, clock=NOW) as p:
        check_no_orphans(p)
        assert list(p._parts.wiring.online.scan(space(note))) == []


@pytest.mark.case(29, 35, 60)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_killed_at_a_system_call(operation: Operation, base: Path, stage: Stage, tmp_path: Path) -> None:
    before = begin(base, tmp_path / "start", operation)
    body = script(operation.body)
    complete = copy_project(before, tmp_path / "complete")
    opening = len(stage.points(f"p = stook.open(root, clock={NOW!r})", copy_project(before, tmp_path / "opened")))
    points = stage.points(body, complete)[opening:]
    old, new = observe(copy_project(before, tmp_path / "old")), observe(complete)
    chosen = choices(operation.name).sample(points, min(EACH, len(points)))
    for number, at in enumerate(chosen):
        root = copy_project(before, tmp_path / str(number))
        ended = stage.run(body, root, at=at)
        if not ended.struck:  # another thread made the call this time
            assert ended.code == 0, ended.said
            continue
        processes.killed[f"{operation.name}, at a call"] += 1
        check_survived(operation, root, old, new, at)
        shutil.rmtree(root)
