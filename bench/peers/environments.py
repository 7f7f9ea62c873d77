"""The peers, each in an environment or a process of its own: Feast from the package index, Redis from Debian.

It is a file of its own because the hard cases and the benchmark ask the same Feast, and both must leave stook's own
environment alone. It must never time anything.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FEAST = ROOT / ".peers" / "feast"
FEAST_PYTHON = FEAST / "bin" / "python"
FEAST_NEEDS = ("feast[duckdb,redis]",)
START_S = 90


def prepare_feast(*, upgrade: bool = False) -> None:
    """Feast in an environment of its own, `.peers/feast`."""
    if FEAST_PYTHON.exists() and not upgrade:
        return
    print(
        f"installing {', '.join(FEAST_NEEDS)} into {FEAST.relative_to(ROOT)} (some minutes, about 700 MB)", flush=True
    )
    if not FEAST_PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", str(FEAST)], check=True)
    pip = [str(FEAST_PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
    subprocess.run([*pip, *FEAST_NEEDS], check=True)


def feast_surroundings() -> dict[str, str]:
    """Environment variables for Feast's interpreter."""
    around = {**os.environ, "FEAST_USAGE": "False"}
    around.pop("PYTHONPATH", None)
    return around


class Child:
    """A script in another interpreter that answers one JSON line for each it is sent."""

    def __init__(self, python: str | Path, script: Path, surroundings: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [str(python), str(script)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=surroundings,
        )  # fmt: skip

    def ask(self, what: str, **details: Any) -> Any:
        """Its answer. Raises RuntimeError with what it said last, where it ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": what, **details}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            assert self._process.stderr is not None
            raise RuntimeError(f"the peer ended: {self._process.stderr.read()[-2_000:]}")
        return json.loads(line)

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(START_S)


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def redis_installed() -> bool:
    """Whether Debian's redis-server is there; as root it is installed now where it is not."""
    if shutil.which("redis-server") is None and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        subprocess.run(["apt-get", "install", "-y", "-qq", "redis-server"], check=False, stdout=subprocess.DEVNULL)
    return shutil.which("redis-server") is not None


@contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """The port of a Redis of its own, without persistence, ended behind the block."""
    port = free_port()
    options = ["--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder), "--bind", "127.0.0.1"]
    process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    try:
        await_port(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(START_S)


def await_port(port: int, process: subprocess.Popen[Any] | None = None) -> None:
    """Waits until something listens there, for as long as the process that is to do it lives."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return
        except OSError:
            if (process is not None and process.poll() is not None) or time.monotonic() > deadline:
                raise RuntimeError(f"nothing listens on {port}") from None
            time.sleep(0.05)
