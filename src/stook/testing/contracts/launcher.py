"""The suite of the `Launcher` port that everything that runs programs passes.

It is a file of its own because there is one suite per port. Backends' tests subclass it. It must never leave a program
behind, nor find out by waiting what it can be told: programs say in files where they stand.
"""

# ruff: noqa: D102 - the name of a test says what it tests

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pytest

from stook.core.errors import InvalidArgument
from stook.core.ports.launcher import Launcher, Work, WorkState
from stook.testing.contracts import PATIENCE_S, Contract, Opening, child, in_threads

RUNNING, GONE = WorkState.RUNNING, WorkState.GONE
GRACE_S: Final = 0.3
SHELL: Final = "/bin/sh"
# A program that says that it began, starts a descendant in a session of its own, and ends well when it is asked to.
KIND: Final = """
import os, pathlib, signal, subprocess, sys, time
def end(*_):
    pathlib.Path("ended").write_text("well")
    os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in sys.argv else end)
if "child" in sys.argv:
    code = "import os, pathlib, time; pathlib.Path('child').write_text(str(os.getpid())); time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    while not (os.path.exists("child") and os.path.getsize("child")):
        time.sleep(0.01)
print("begun", flush=True)
with open("begun", "a") as file:
    file.write(f"{os.getpid()}\\n")
time.sleep(600)
"""


class LauncherContract(Contract):
    """What was started runs once, on its own, and is all gone when it was ended."""

    @pytest.fixture
    def launcher(self, opening: Opening) -> Iterator[Launcher]:
        """The launcher under test; whatever it still runs is killed at the end."""
        opened: Launcher = opening.open()
        yield opened
        for work in opened.works():
            opened.kill(work.name)

    def test_nothing_was_started(self, launcher: Launcher) -> None:
        assert launcher.works() == []
        assert launcher.observe("a").state is GONE
        assert launcher.log("a", lines_max=5) == []
        launcher.stop("a", grace_s=0)
        launcher.kill("a")
        launcher.forget("a")

    @pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "-a", "x" * 101, "ä"])
    def test_a_name_is_plain(self, launcher: Launcher, name: str) -> None:
        with pytest.raises(InvalidArgument, match="no name of a work"):
            launcher.start(Work(name, (SHELL,), "/"))

    @pytest.mark.parametrize("command", [(), ("sh",), ("/no/such/program",), ("/etc/passwd",)])
    def test_a_program_is_named_in_full(self, launcher: Launcher, command: tuple[str, ...]) -> None:
        with pytest.raises(InvalidArgument, match="no program"):
            launcher.start(Work("a", command, "/"))
        assert launcher.observe("a").state is GONE

    def test_it_runs_in_its_folder_with_its_environment_alone(self, launcher: Launcher, tmp_path: Path) -> None:
        words = ("a b", "$HOME", "'", '"', "*", "ä")
        script = 'pwd; printf "%s\\n" "$@"; env; readlink /proc/self/fd/0; echo wrong >&2'
        work = Work("a", (SHELL, "-c", script, "sh", *words), str(tmp_path), {"ONE": "1 2"})
        assert launcher.start(work)
        until(lambda: launcher.observe("a").state is GONE)
        said = launcher.log("a", lines_max=100)
        assert said[: len(words) + 1] == [str(tmp_path), *words]
        names = {line.partition("=")[0] for line in said[len(words) + 1 :] if "=" in line}
        assert "ONE=1 2" in said and names - {"PWD", "SHLVL", "_", "OLDPWD", "LC_CTYPE"} == {"ONE", "STOOK_WORK"}
        assert said[-2:] == ["/dev/null", "wrong"]
        assert launcher.log("a", lines_max=1) == ["wrong"]

    def test_it_is_started_once(self, launcher: Launcher, tmp_path: Path) -> None:
        started: list[bool] = []
        in_threads(8, lambda _: started.append(launcher.start(kind(tmp_path))))
        assert sorted(started) == [False] * 7 + [True]
        until(lambda: begun(tmp_path))
        (seen,) = launcher.works()
        assert (seen.name, seen.state, [seen.number]) == ("kind", RUNNING, begun(tmp_path))
        assert launcher.log("kind", lines_max=9) == ["begun"]
        assert not launcher.start(kind(tmp_path))

    def test_it_ends_well_when_it_is_asked_to(self, launcher: Launcher, tmp_path: Path) -> None:
        launcher.start(kind(tmp_path))
        until(lambda: begun(tmp_path))
        launcher.stop("kind", grace_s=PATIENCE_S)
        assert (tmp_path / "ended").read_text() == "well"
        assert launcher.observe("kind").state is GONE
        assert [work.state for work in launcher.works()] == [GONE]
        assert launcher.start(kind(tmp_path))
        until(lambda: len(begun(tmp_path)) == 2)
        with pytest.raises(InvalidArgument, match="runs"):
            launcher.forget("kind")

    def test_the_deaf_are_killed_after_their_grace(self, launcher: Launcher, tmp_path: Path) -> None:
        launcher.start(kind(tmp_path, "deaf"))
        until(lambda: begun(tmp_path))
        asked = time.monotonic()
        launcher.stop("kind", grace_s=GRACE_S)
        assert time.monotonic() - asked >= GRACE_S
        assert launcher.observe("kind").state is GONE
        assert not (tmp_path / "ended").exists()

    @pytest.mark.parametrize("first", ["stopped", "killed", "ended by itself"])
    def test_descendants_of_other_sessions_end_with_it(self, launcher: Launcher, tmp_path: Path, first: str) -> None:
        launcher.start(kind(tmp_path, "child"))
        until(lambda: begun(tmp_path))
        descendant = int((tmp_path / "child").read_text())
        assert is_there(descendant)
        if first == "stopped":
            launcher.stop("kind", grace_s=PATIENCE_S)
        elif first == "ended by itself":
            os.kill(begun(tmp_path)[0], 15)
            until(lambda: launcher.observe("kind").state is GONE)
            assert is_there(descendant)
        launcher.kill("kind")
        assert not is_there(descendant)
        launcher.forget("kind")
        assert launcher.works() == []

    def test_others_are_left_alone(self, launcher: Launcher, tmp_path: Path) -> None:
        for name in ("a", "ab", "a-b"):
            (tmp_path / name).mkdir()
            launcher.start(Work(name, kind(tmp_path).command, str(tmp_path / name)))
            until(partial(begun, tmp_path / name))
        launcher.kill("a")
        assert [(work.name, work.state) for work in launcher.works()] == [
            ("a", GONE),
            ("a-b", RUNNING),
            ("ab", RUNNING),
        ]

    def test_it_outlives_who_started_it(self, opening: Opening, launcher: Launcher, tmp_path: Path) -> None:
        with child(_start_and_wait, opening, str(tmp_path)) as starter:
            assert starter.receive() is True
            until(lambda: begun(tmp_path))
            starter.kill()
        assert launcher.observe("kind").state is RUNNING
        assert not launcher.start(kind(tmp_path))
        launcher.stop("kind", grace_s=PATIENCE_S)
        assert (tmp_path / "ended").read_text() == "well"

    def test_a_starter_killed_at_any_moment_starts_it_at_most_once(
        self, opening: Opening, launcher: Launcher, tmp_path: Path
    ) -> None:
        for number in range(12):
            folder = tmp_path / str(number)
            folder.mkdir()
            with child(_start_and_wait, opening, str(folder)) as starter:
                time.sleep(0.002 * number)  # a moment, not a condition: each round strikes at another
                starter.kill()
            launcher.start(kind(folder))
            until(partial(begun, folder))
            assert begun(folder) == [launcher.observe("kind").number]
            launcher.kill("kind")
            assert len(begun(folder)) == 1


def kind(folder: Path, *how: str) -> Work:
    """A work that runs until it is ended."""
    return Work("kind", (sys.executable, "-c", KIND, *how), str(folder))


def begun(folder: Path) -> list[int]:
    """The numbers of the processes that began."""
    try:
        return [int(line) for line in (folder / "begun").read_text().splitlines()]
    except FileNotFoundError:
        return []


def is_there(number: int) -> bool:
    """Whether a process lives."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(holds: Callable[[], object]) -> None:
    """Waits for a condition; fails when it does not come."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.005)


def _start_and_wait(pipe: Connection, opening: Opening, folder: str) -> None:
    pipe.send(opening.open().start(kind(Path(folder))))
    pipe.recv()
