"""A real server in processes of its own, for the tests that talk to one.

It is a file of its own because the end-to-end tests and the fuzzers start it alike. It must never hide what a server
says: every line is kept.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

WAIT_S = 30.0
RUN = "import sys, json; from stook.edge.http.server import serve; serve(sys.argv[1], **json.loads(sys.argv[2]))"


@dataclass
class Running:
    """A server: its main process, its address, and every line it said."""

    process: subprocess.Popen[str]
    url: str
    port: int
    lines: list[str] = field(default_factory=list)

    def workers(self) -> list[int]:
        listing = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listing.split()]

    def rss_mib(self) -> dict[int, int]:
        """Resident memory of each worker in MiB."""
        return {pid: rss_mib(pid) for pid in self.workers()}

    def log(self) -> str:
        """What it said beside its greeting."""
        return "".join(line for line in self.lines if not line.startswith("serving "))


def rss_mib(pid: int) -> int:
    return status_mib(pid, "VmRSS")


def status_mib(pid: int, name: str) -> int:
    """A line of a process's memory, such as VmRSS, in MiB."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None, (pid, name)
    return int(found[1]) >> 10


def await_true(condition: Callable[[], object], what: str, within_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.01)


@contextmanager
def serving(root: Path, **options: Any) -> Iterator[Running]:
    """A server over a project on a free port, with the options of `serve`; ended behind the block."""
    options = {"port": 0, "workers": 1, **options}
    command = [sys.executable, "-c", RUN, str(root), json.dumps(options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()))
    reader.start()
    try:
        await_true(lambda: process.poll() is not None or any(line.startswith("serving ") for line in lines), "start")
        found = re.search(r"http://127\.0\.0\.1:(\d+)", "".join(lines))
        if found is None:
            pytest.fail("".join(lines))
        yield Running(process, found[0], int(found[1]), lines)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(WAIT_S)
        reader.join(WAIT_S)
        process.stdout.close()
