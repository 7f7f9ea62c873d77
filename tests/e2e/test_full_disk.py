"""A disk without space: a clear error, nothing acknowledged lost, and a rerun converges once there is space again.

Two ways: a small filesystem that really fills up at random levels, where mounting is allowed; and single system calls
that fail with ENOSPC, one after another, in a process that then goes on. A third, by the limit on file sizes, is in
`test_cli`.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .acts import NOW, OPERATIONS, Operation, begin, check_survived, observe, script
from .processes import KILLS, choices, copy_project
from .stage import CALLS, Stage, require_strace

DISK_MIB = 24
EACH = max(KILLS // 20, 1)
FREE_KIB_MAX = 700
GROWING = tuple(name for name in CALLS if name not in ("unlink", "rename"))
MANY_KILLS = 100
BROADEST = ("push", "fold", "materialize, replace")  # between them they write to every store
STRUCK = [operation for operation in OPERATIONS if KILLS >= MANY_KILLS or operation.name in BROADEST]
AGAIN = """
try:
    act()
except stook.errors.StookError as error:
    print(type(error).__name__)
    found = p.get_online_features(["balance:moves"], [{"account_id": 1}]).to_dict()
    assert found["moves"] == [2001], found
    act()
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty filesystem of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
    if shutil.which("mount") is None:
        pytest.skip("a filesystem cannot be mounted here: there is no mount command")
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a filesystem cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def plain() -> Iterator[Stage]:
    stage = Stage(None)
    yield stage
    stage.close()


@pytest.fixture(scope="module")
def failing() -> Iterator[Stage]:
    require_strace()
    stage = Stage("error=ENOSPC", calls=GROWING)
    yield stage
    stage.close()


def fill(disk: Path, free_kib: int) -> Path:
    """Takes all of the disk's space but so much; the file to delete to get it back."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        size = shutil.disk_usage(disk).free - free_kib * 1024
        file.write(bytes(max(size, 0)))
    return filler


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_a_disk_that_fills_up(operation: Operation, base: Path, plain: Stage, disk: Path, tmp_path: Path) -> None:
    start = begin(base, tmp_path / "start", operation)
    complete = copy_project(start, tmp_path / "complete")
    assert plain.run(script(operation.body), complete).code == 0
    old, new = observe(copy_project(start, tmp_path / "old")), observe(complete)
    choose = choices(operation.name)
    refused = 0
    for number in range(EACH):
        root = copy_project(start, disk / f"{number}")
        free_kib = choose.choice([0, choose.randrange(64), choose.randrange(FREE_KIB_MAX)])
        filler = fill(disk, free_kib)
        ended = plain.run(script(operation.body), root)
        filler.unlink()
        assert ended.signal == 0 and ended.code in (0, 2), (free_kib, ended)
        if ended.code:
            refused += 1
            assert ended.said.startswith("DiskFull: "), (free_kib, ended.said)
        check_survived(operation, root, old, new, free_kib)
        shutil.rmtree(root)
    print(refused, "refused")


@pytest.mark.parametrize("operation", STRUCK, ids=lambda operation: operation.name)
def test_a_call_that_finds_no_space(operation: Operation, base: Path, failing: Stage, tmp_path: Path) -> None:
    start = begin(base, tmp_path / "start", operation)
    body = script(operation.body)
    complete = copy_project(start, tmp_path / "complete")
    points = [point for point in failing.points(body, complete) if point[0] in GROWING]
    old, new = observe(copy_project(start, tmp_path / "old")), observe(complete)
    for number, at in enumerate(choices(operation.name).sample(points, min(EACH, len(points)))):
        root = copy_project(start, tmp_path / str(number))
        ended = failing.run(body, root, at=at)
        assert ended.signal == 0 and ended.code in (0, 2), (at, ended)
        check_survived(operation, root, old, new, at)
        shutil.rmtree(root)


@pytest.mark.parametrize("act", ["push", "materialize"])
def test_a_process_goes_on_once_there_is_space_again(act: str, base: Path, failing: Stage, tmp_path: Path) -> None:
    """What a server does: the same process reads on, and repeats the call that failed, with the same stores open."""
    calls = {
        "push": 'p.push("events", [{"account_id": n, "number": 100 + n} for n in range(7)])',
        "materialize": 'p.materialize(None, NOW, ["balance"], replace=True)',
    }
    body = script(f"def act():\n    {calls[act]}\n{AGAIN}")
    start = copy_project(base, tmp_path / "start")
    opening = len(failing.points(f"p = stook.open(root, clock={NOW!r})", copy_project(start, tmp_path / "opened")))
    complete = copy_project(start, tmp_path / "complete")
    points = [point for point in failing.points(body, complete)[opening:] if point[0] in GROWING]
    new = observe(complete)
    failed = []
    chosen = choices(act).sample(points, min(EACH, len(points)))
    for number, at in enumerate([last_write_of_a_commit(points), *chosen]):
        root = copy_project(start, tmp_path / str(number))
        ended = failing.run(body, root, at=at)
        assert ended.code == 0, (at, ended.said)
        failed.append(bool(ended.said))
        seen = observe(root)
        for view in ("balance", "event", "twin", "note"):
            assert seen[f"online {view}"] == new[f"online {view}"], at
    assert failed[0]
    print(sum(failed), "of", len(failed), "failed once")


def last_write_of_a_commit(points: list[tuple[str, int]]) -> tuple[str, int]:
    """The write of LMDB's meta page, which makes a commit: pages by `writev`, a sync, then this."""
    names = [name for name, _ in points]
    synced = names.index("fdatasync", names.index("writev"))
    return points[names.index("pwrite64", synced)]
