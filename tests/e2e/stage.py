"""A process under strace that runs scripts in children of its own and strikes them at a chosen system call.

It is a file of its own because it is both a program and what starts it: `Stage` is the test's side, `serve` runs in
the process. Forking from a process that has everything imported makes a kill cost a fifth of a second, so that every
call that changes the disk can be struck, one after another. The tests of crashes and of full disks call it. It must
never be struck itself: only children make the calls that are counted.

strace counts each thread's calls by name and strikes the one whose number is `NUMBER`, chosen when strace starts. A
child that is to be struck at its third `fsync` therefore first makes NUMBER - 3 that do nothing. What other threads
call is not counted so; a stage with `number=1` reaches those, for calls that the main thread does not make.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

NUMBER = 400  # more calls of one name than any script here makes in its main thread
CALLS = ("fsync", "fdatasync", "pwrite64", "writev", "ftruncate", "mkdir", "rename", "linkat", "unlink")
PRELOADED = (
    "stook.app", "duckdb", "deltalake", "pyarrow.parquet", "pyarrow.compute",
    "stook.backends.lmdb.keyvalue", "stook.backends.sqlite.records", "stook.backends.sqlite.log",
    "stook.backends.delta.tables", "stook.backends.duckdb.engine", "stook.backends.files.blobs",
    "stook.backends.local.locks", "stook.backends.local.clock", "stook.edge.cli.session",
)  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How a child ended: by which signal, with which exit code, and what it had said."""

    signal: int
    code: int
    said: str

    @property
    def struck(self) -> bool:
        """Whether it was killed."""
        return self.signal == 9


class Stage:
    """Runs scripts in children of one process; strikes them where `run` says.

    `effect` is strace's word for what happens: `signal=SIGKILL`, or `error=ENOSPC`; without one there is no strace, and
    nothing can be struck. `calls` is what can be.
    """

    def __init__(self, effect: str | None, *, calls: tuple[str, ...] = CALLS, number: int = NUMBER) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._number = number
        command = [sys.executable, "-W", "ignore", __file__]
        if effect is not None:
            names = ",".join("?" + name for name in calls)
            trace = str(Path(self._folder.name) / "trace")
            strace = ["strace", "-f", "-ff", "-qq", "-o", trace, "-e", f"trace={names}"]
            command = [*strace, "-e", f"inject={names}:{effect}:when={number}", *command]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def run(self, script: str, root: Path, *, at: tuple[str, int] | None = None) -> Ended:
        """Runs the script with `root`, and `stook` at hand; struck at its `at[1]`-th call of `at[0]`."""
        idle = [] if at is None else [at[0], self._number - at[1]]
        answer = self._ask({"script": script, "root": str(root), "idle": idle})
        return Ended(answer["signal"], answer["code"], answer["said"])

    def points(self, script: str, root: Path) -> list[tuple[str, int]]:
        """Runs the script to its end; returns every call of its main thread where it can be struck, in order."""
        answer = self._ask({"script": script, "root": str(root), "idle": []})
        assert (answer["signal"], answer["code"]) == (0, 0), answer["said"]
        found: list[tuple[str, int]] = []
        seen: dict[str, int] = {}
        for line in (Path(self._folder.name) / f"trace.{answer['process']}").read_text().splitlines():
            name = line.partition("(")[0]
            if name in CALLS:
                seen[name] = seen.get(name, 0) + 1
                found.append((name, seen[name]))
        assert max(seen.values(), default=0) < self._number
        return found

    def close(self) -> None:
        """Ends the process."""
        with suppress(BrokenPipeError):
            self._process.communicate(timeout=60)
        self._folder.cleanup()

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def require_strace() -> None:
    """Skips the test, saying why, where calls cannot be struck."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not there: apt-get install strace")
    tried = subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"strace may not trace here: {tried.stderr.strip()}")


def serve() -> None:
    """Forks a child for every order on standard input, and says how it ended."""
    for module in PRELOADED:
        __import__(module)
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        with tempfile.TemporaryFile() as said:
            process = os.fork()
            if process == 0:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                os._exit(_act(order))
            _, status = os.waitpid(process, 0)
            said.seek(0)
            answer = {"process": process, "said": said.read().decode("utf-8", "replace")}
            answer |= {"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}
            answer |= {"code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else -1}
        print(json.dumps(answer), flush=True)


def _act(order: dict[str, Any]) -> int:
    import stook  # loaded already; the test's side does not need it

    code = 0
    try:
        if order["idle"]:
            _idle(*order["idle"])
        exec(compile(order["script"], "<script>", "exec"), {"root": order["root"], "stook": stook})
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except stook.errors.StookError as error:
        print(f"{type(error).__name__}: {error}")
        code = 2
    except BaseException:  # noqa: BLE001  whatever the script raises is the test's to see
        traceback.print_exc(file=sys.stdout)
        code = 3
    sys.stdout.flush()
    return code


def _idle(name: str, times: int) -> None:
    """Calls that change nothing, most of them refused by the kernel."""
    null = os.open(os.devnull, os.O_RDWR)
    calls = {
        "fsync": lambda: os.fsync(null),
        "fdatasync": lambda: os.fdatasync(null),
        "pwrite64": lambda: os.pwrite(null, b"x", 0),
        "writev": lambda: os.writev(null, [b"x"]),
        "ftruncate": lambda: os.ftruncate(null, 0),
        "mkdir": lambda: os.mkdir("/"),  # noqa: PTH102  the bare call
        "rename": lambda: os.rename("/nowhere/a", "/nowhere/b"),  # noqa: PTH104
        "linkat": lambda: os.link("/nowhere/a", "/nowhere/b"),
        "unlink": lambda: os.unlink("/nowhere/a"),  # noqa: PTH108
    }
    for _ in range(times):
        with suppress(OSError):
            calls[name]()
    os.close(null)


if __name__ == "__main__":
    serve()
