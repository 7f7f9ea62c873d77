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
from .acts import (
    NOW,
    OPERATIONS,
    SAVE,
    Operation,
    begin,
    check_no_orphans,
    check_survived,
    observe,
    perform,
    script,
)
from .processes import KILLS, choices, copy_project, sizes, start
from .stage import Stage, require_strace

pytestmark = pytest.mark.kill
EACH = max(KILLS // 10, 1)  # points struck in each operation
FILES_LEFT_BY_A_KILL = 4  # of a table that no manifest names: two commits, rows, and one half written


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    require_strace()
    found = Stage("signal=SIGKILL")
    yield found
    found.close()


@pytest.fixture(scope="module")
def opening(base: Path, stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many calls opening the project makes: the same before every operation, so the operations' own are struck."""
    root = copy_project(base, tmp_path_factory.mktemp("opening") / "root")
    return len(stage.points(f"p = stook.open(root, clock={NOW!r})", root))


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
def test_killed_at_a_system_call(operation: Operation, base: Path, stage: Stage, opening: int, tmp_path: Path) -> None:
    before = begin(base, tmp_path / "start", operation)
    body = script(operation.body)
    complete = copy_project(before, tmp_path / "complete")
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


@pytest.fixture(scope="module")
def linking() -> Iterator[Stage]:
    require_strace()
    found = Stage("signal=SIGKILL", calls=("linkat",), number=1)
    yield found
    found.close()


LINKS = [operation for operation in OPERATIONS if operation.name in ("fold", "dataset save")]


@pytest.mark.parametrize("operation", LINKS, ids=lambda operation: operation.name)
def test_killed_where_a_table_is_made(operation: Operation, base: Path, linking: Stage, tmp_path: Path) -> None:
    """A commit of a table is a file that gets its name by a link, from a thread of the table's library."""
    before = begin(base, tmp_path / "start", operation)
    complete = copy_project(before, tmp_path / "complete")
    perform(operation.body, complete)
    old, new = observe(copy_project(before, tmp_path / "old")), observe(complete)
    for number in range(max(EACH // 2, 1)):
        root = copy_project(before, tmp_path / str(number))
        assert linking.run(script(operation.body), root).struck
        processes.killed[f"{operation.name}, at a table's commit"] += 1
        check_survived(operation, root, old, new, "linkat")


AGAIN_AND_AGAIN = {
    "materialize, replace": 'p.materialize(None, NOW, ["balance"], replace=True)',
    "push and fold": 'p.push("events", [{"account_id": n, "number": n} for n in range(7)])\np.fold()',
    "dataset save": SAVE.replace("COUNT", "90"),
}


@pytest.mark.parametrize("name", AGAIN_AND_AGAIN)
def test_what_kills_leave_on_the_disk_is_bounded(name: str, base: Path, stage: Stage, tmp_path: Path) -> None:
    """One project is killed again and again, and then finishes: loads leave nothing, tables at most one try a kill."""
    body = script(AGAIN_AND_AGAIN[name], clock=None)
    once = copy_project(base, tmp_path / "once")
    points, root = stage.points(body, once), copy_project(base, tmp_path / "root")
    choose = choices(name)
    kills = sum(stage.run(body, root, at=choose.choice(points)).struck for _ in range(KILLS // 6))
    processes.killed[f"{name}, one project again and again"] += kills
    assert stage.run(body, root).code == 0
    left = unnamed_files(root)
    print(f"{kills} kills left {len(left)} files of {sum(left.values())} bytes that nothing names: {sorted(left)[:5]}")
    assert len(left) <= FILES_LEFT_BY_A_KILL * kills
    if name == "materialize, replace":
        assert sizes(root / ".stook").keys() == sizes(once / ".stook").keys() and not left
        assert (root / ".stook/online/data.mdb").stat().st_size <= 2 * (once / ".stook/online/data.mdb").stat().st_size


def unnamed_files(root: Path) -> dict[str, int]:
    """The files below `.stook` that belong to no table that a view or dataset names, with their lengths."""
    named: set[str] = set()
    with stook.open(root) as p:
        tables = p._parts.wiring.tables
        assert all(g.state.value != "loading" for g in p.generations("balance"))
        pushed = tables.names("push/")
        saved = [r.spec["table"] for r in p.list("dataset")]
        saved += [past["table"] for r in p.list("dataset") for past in r.spec["past"]]
        for name in (*pushed, *saved):
            snapshot = tables.pin(name)
            assert snapshot is not None
            named |= {str(Path(file).relative_to(root / ".stook")) for file in snapshot.files}
            named |= {f"tables/{name}/_delta_log/{commit:020d}.json" for commit in range(snapshot.commit + 1)}
    return {
        file: size for file, size in sizes(root / ".stook").items() if file.startswith("tables/") and file not in named
    }
