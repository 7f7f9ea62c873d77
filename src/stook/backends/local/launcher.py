"""The Launcher port on this machine's processes.

It is a file of its own because it alone starts processes that outlive their starter. The app opens it by entry point;
`local:` keeps its files in the project's `.stook/launcher`, `local:///folder` elsewhere. It must never take a process for
one of its own by its number alone, since numbers are used again, nor take one for gone that it cannot see.

Each work has a file in which its own process says who it is before it becomes the program: its number and the time it was
born, as Linux has them. Both together name a process for as long as the machine is up; the boot's id names the rest. All
descendants carry the work's mark in their environment, so that those that left their session are found too.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stook.backends.local.locks import FileLocks
from stook.core.errors import EngineUnavailable, InvalidArgument
from stook.core.ports.launcher import Observed, Work, WorkState
from stook.core.settings import EngineUrl

FOLDER: Final = Path(".stook") / "launcher"
MARK: Final = "STOOK_WORK"
START_WAIT_S: Final = 10.0
GONE_WAIT_S: Final = 20.0
PAUSE_S: Final = 0.02
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
# The first shell leaves the second to init, so that nobody has to wait for it; the second says who it is and becomes the
# program. All files come open from the starter, since another user may not reach them by name: standard error is where it
# says who it is, and standard input a lock, so that what a killed starter began is not begun a second time.
_LEAVE: Final = '"$@" <&0 &'
_BECOME: Final = (
    'read -r stat <"/proc/$$/stat" && echo "$STOOK_BOOT $stat" >&2 && unset STOOK_BOOT && exec "$@" </dev/null 2>&1'
)


@dataclass(frozen=True)
class _Born:
    """A process for certain: its number and when it was born, in ticks since the machine was."""

    number: int
    ticks: int


class LocalLauncher:
    """Works as process groups of this machine, kept in files under one folder. Any number of processes may use it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EngineUnavailable(f"{folder} cannot be made: {error.strerror}", hint="make it writable") from None
        self._locks = FileLocks(folder / ".locks")

    def start(self, work: Work) -> bool:
        self._check(work.name)
        if not work.command or not Path(work.command[0]).is_absolute() or not os.access(work.command[0], os.X_OK):
            program = work.command[0] if work.command else ""
            raise InvalidArgument(f"work {work.name!r}: {program!r} is no program", hint="give its full path")
        with self._lock(work.name):
            if self._alive(work.name) is not None:
                return False
            self._await_starting(work.name)
            if self._alive(work.name) is not None:
                return False
            self._launch(work)
        return True

    def _launch(self, work: Work) -> None:
        own = self._folder / work.name
        own.mkdir(exist_ok=True)
        around = {**work.environment, MARK: self._mark(work.name), "STOOK_BOOT": boot_id()}
        account: dict[str, Any] = {}
        if work.user:
            found = _account(work)
            account = {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
        command = ["/bin/sh", "-c", _LEAVE, "sh", "/bin/sh", "-c", _BECOME, work.name, *work.command]
        with (own / "starting").open("w") as held, (own / "log").open("a") as log, (own / "born").open("w") as born:
            fcntl.flock(held, fcntl.LOCK_EX)
            try:
                subprocess.run(  # noqa: S603  it is what a launcher is for; no shell reads the work's words
                    command, cwd=work.folder, env=around, stdin=held, stdout=log, stderr=born,
                    start_new_session=True, check=True, **account,
                )  # fmt: skip
            except (OSError, subprocess.SubprocessError) as error:
                raise EngineUnavailable(
                    f"work {work.name!r} cannot be started: {error}", hint="see its program, folder and user"
                ) from None
        self._await_birth(work.name)

    def _await_birth(self, name: str) -> None:
        """Waits until the process has said who it is. A program that is not there is then gone at once."""
        deadline = time.monotonic() + START_WAIT_S
        while not (self._folder / name / "born").read_text().endswith("\n"):
            if time.monotonic() > deadline:
                said = " ".join(self.log(name, lines_max=3))
                raise EngineUnavailable(f"work {name!r} did not start: {said}", hint="see its folder and user")
            time.sleep(PAUSE_S)

    def observe(self, name: str) -> Observed:
        self._check(name)
        found = self._alive(name)
        return Observed(name, WorkState.GONE) if found is None else Observed(name, WorkState.RUNNING, found.number)

    def works(self) -> list[Observed]:
        names = sorted(path.parent.name for path in self._folder.glob("*/log"))
        return [self.observe(name) for name in names]

    def stop(self, name: str, *, grace_s: float) -> None:
        self._check(name)
        with self._lock(name):
            found = self._alive(name)
            if found is not None:
                _send(found, signal.SIGTERM)
                deadline = time.monotonic() + grace_s
                while time.monotonic() < deadline and _is_alive(found):
                    time.sleep(PAUSE_S)
            self._end(name)

    def kill(self, name: str) -> None:
        self._check(name)
        with self._lock(name):
            self._end(name)

    def forget(self, name: str) -> None:
        self._check(name)
        with self._lock(name):
            if self._alive(name) is not None:
                raise InvalidArgument(f"work {name!r} runs", hint="stop it first")
            shutil.rmtree(self._folder / name, ignore_errors=True)

    def log(self, name: str, *, lines_max: int) -> list[str]:
        self._check(name)
        try:
            with (self._folder / name / "log").open(encoding="utf-8", errors="replace") as lines:
                return [line.rstrip("\n") for line in deque(lines, lines_max)]
        except FileNotFoundError:
            return []

    def _end(self, name: str) -> None:
        """Kills all of a work's processes, again and again until none is left: some may be just being born."""
        deadline = time.monotonic() + GONE_WAIT_S
        while left := self._processes(name):
            for process in left:
                _send(process, signal.SIGKILL)
            if time.monotonic() > deadline:
                numbers = ", ".join(str(process.number) for process in left)
                raise EngineUnavailable(f"processes {numbers} of work {name!r} do not end", hint="end them by hand")
            time.sleep(PAUSE_S)

    def _processes(self, name: str) -> list[_Born]:
        """The work's own process, all that carry its mark, and all descendants of both."""
        alive = {born.number: (born, parent) for born, parent in _all_processes()}
        main, mark = self._alive(name), f"{MARK}={self._mark(name)}".encode()
        found = {main.number} if main is not None else set()
        found |= {number for number in alive if _carries(number, mark)}
        more = True
        while more:  # ends: each round adds at least one of a finite number
            children = {number for number, (_, parent) in alive.items() if parent in found} - found
            found |= children
            more = bool(children)
        return [alive[number][0] for number in found if number in alive]

    def _alive(self, name: str) -> _Born | None:
        """The work's own process, where it lives."""
        try:
            text = (self._folder / name / "born").read_text()
        except FileNotFoundError:
            return None
        if not text.endswith("\n"):
            return None
        boot, stat = text.split(" ", 1)
        born = _parse_stat(stat)[0]
        return born if boot == boot_id() and _is_alive(born) else None

    def _await_starting(self, name: str) -> None:
        """Waits for what a starter began that was killed before it saw it born."""
        try:
            with (self._folder / name / "starting").open() as held:
                deadline = time.monotonic() + START_WAIT_S
                while True:
                    try:
                        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        if time.monotonic() > deadline:
                            raise EngineUnavailable(
                                f"work {name!r} is being started by another process", hint="repeat it later"
                            ) from None
                        time.sleep(PAUSE_S)
                    else:
                        return
        except FileNotFoundError:
            return

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        with self._locks.hold(name, wait_s=GONE_WAIT_S + START_WAIT_S):
            yield

    def _mark(self, name: str) -> str:
        return f"{self._folder.resolve()}/{name}"

    @staticmethod
    def _check(name: str) -> None:
        if not _NAME.fullmatch(name):
            raise InvalidArgument(f"{name!r} is no name of a work", hint="letters, digits, - and _, at most 100")


def open_launcher(url: EngineUrl, root: Path) -> LocalLauncher:
    """The launcher over the URL's folder, `.stook/launcher` where it names none. Raises EngineUnavailable."""
    return LocalLauncher(root / FOLDER if url.path is None else url.path)


def boot_id() -> str:
    """What names this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _account(work: Work) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(work.user)
    except KeyError:
        raise EngineUnavailable(
            f"work {work.name!r}: there is no user {work.user!r}", hint=f"make it: useradd --system {work.user}"
        ) from None


def _parse_stat(text: str) -> tuple[_Born, int, str]:
    """Process, parent's number and state from a line of /proc/PID/stat; the program's name may hold anything."""
    number, rest = text.split(" ", 1)
    fields = rest[rest.rindex(")") + 2 :].split()
    return _Born(int(number), int(fields[19])), int(fields[1]), fields[0]


def _stat(number: int | str) -> tuple[_Born, int, str] | None:
    try:
        return _parse_stat(Path(f"/proc/{number}/stat").read_text(errors="replace"))
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None


def _is_alive(born: _Born) -> bool:
    """Whether this very process runs; one that ended and waits for its parent does not."""
    found = _stat(born.number)
    return found is not None and found[0] == born and found[2] not in "ZX"


def _all_processes() -> Iterator[tuple[_Born, int]]:
    for entry in os.listdir("/proc"):  # noqa: PTH208  names alone, hundreds of them
        if entry.isdigit():
            found = _stat(entry)
            if found is not None and found[2] not in "ZX":
                yield found[0], found[1]


def _carries(number: int, mark: bytes) -> bool:
    """Whether a process was started with the mark; one that may not be looked at is somebody else's."""
    try:
        return mark in Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _send(process: _Born, number: int) -> None:
    """A signal to this very process. Raises EngineUnavailable where that is not allowed."""
    if not _is_alive(process):
        return
    try:
        os.kill(process.number, number)
    except ProcessLookupError:
        return
    except PermissionError:
        raise EngineUnavailable(
            f"process {process.number} belongs to somebody else", hint="stop it as the user who started it"
        ) from None
