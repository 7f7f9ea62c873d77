"""Real processes of these tests: started, awaited, killed, counted.

It is a file of its own because kills, crash points, full disks and concurrency start processes alike. The tests of
this folder call it. It must never wait for a time where a process can say how far it is.

`STOOK_TEST_KILLS` sets how often tests kill (20, and 200 in `make test-long`); `STOOK_TEST_SEED` repeats a run's
choices, and is printed by every test that makes some.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

KILLS = int(os.environ.get("STOOK_TEST_KILLS", "20"))
SEED = int(os.environ.get("STOOK_TEST_SEED", str(random.SystemRandom().randrange(1 << 30))))
PATIENCE_S = 120.0
killed: Counter[str] = Counter()
"""How many processes were killed in the middle of each operation, for the summary of the run."""


def choices(salt: str = "") -> random.Random:
    """The random choices of one test, repeated by `STOOK_TEST_SEED`."""
    print(f"STOOK_TEST_SEED={SEED}")
    return random.Random(f"{SEED} {salt}")


def moments(kills: int, longest_s: float) -> Iterator[float]:
    """Random spans up to `longest_s` seconds."""
    choose = choices()
    return (choose.uniform(0, longest_s) for _ in range(kills))


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Starts a script that says `open` once it has opened its project, and waits for that word."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "open\n"
    return process


def tell(process: subprocess.Popen[str], line: str = "go") -> None:
    """Sends a line to a script that waits for one."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    """The next line that a script says."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def kill_after(process: subprocess.Popen[str], seconds: float, what: str, how: int = signal.SIGKILL) -> str:
    """Kills the process unless it ends within the time; returns what it had printed."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(how)
        output, _ = process.communicate(timeout=PATIENCE_S)
        if process.returncode == -how:
            killed[f"{what}, {signal.Signals(how).name} at a random time"] += 1
    return output


def finish(process: subprocess.Popen[str]) -> str:
    """Waits for a process that must succeed; returns what it printed."""
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    return output


def wait_until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Waits until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.01)


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def start_server(project: Path, port: int, *, workers: int = 2) -> subprocess.Popen[str]:
    """`stook serve`, once it says that it serves."""
    command = [sys.executable, "-m", "stook", "-C", str(project), "serve", "--workers", str(workers)]
    deadline = time.monotonic() + 60
    while True:
        process = subprocess.Popen(
            [*command, "--port", str(port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        if process.stdout.readline().startswith("serving"):
            return process
        _, said = process.communicate()
        assert "in use" in said and time.monotonic() < deadline, said  # workers of a killed server take a moment to end
        time.sleep(0.1)


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The server's worker processes."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children]


def copy_project(source: Path, target: Path) -> Path:
    """The project at `source`, which nobody has open, as it is, under another name."""
    shutil.copytree(source, target)
    return target


def sizes(folder: Path) -> dict[str, int]:
    """Every file below the folder with its length in bytes."""
    return {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}
