"""One suite per port, passed by every backend behind it; `Contract` is what the suites share.

A suite tests what its port's docstrings promise, and nothing more. A backend's test is a subclass that says how
the backend is opened::

    class TestMyLog(DurableLogContract):
        __test__ = True
        factory = "my_package.log:open_log"   # as in the entry point
        url = "mylog:///log"                  # as in stook.toml; relative to a folder made for each test

`Durable...` suites add what holds for backends that outlive a process and serve several at once; their tests
start real processes and kill some. What tests one backend's own files may not live here.

Whoever tests features rather than a backend needs none of this: every port has a backend in memory, and a project
whose `stook.toml` names them (`tables = "memory+memory:"` and so on) runs whole within one process.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest

from stook.core.settings import parse_url

PATIENCE_S: Final = 60.0  # how long a child process may take before its test fails


@dataclass(frozen=True)
class Opening:
    """How any process opens the backend under test; equal openings open the same store."""

    factory: str
    url: str
    root: Path

    def open(self) -> Any:
        """The port, as the app would open it."""
        module, _, name = self.factory.partition(":")
        return getattr(import_module(module), name)(parse_url(self.url, self.root, "the contract"), self.root)


class Contract:
    """The base of every suite.

    `known_gaps` maps a test's name to the error it fails with today; such a test is a strict expected failure, so
    that the build says when the gap is closed.
    """

    __test__ = False
    known_gaps: ClassVar[dict[str, type[BaseException]]] = {}
    factory = ""
    url = ""

    @pytest.fixture
    def opening(self, tmp_path: Path) -> Opening:
        """How this test's store is opened; empty at first."""
        return Opening(self.factory, self.url, tmp_path)

    @pytest.fixture(autouse=True)
    def _gaps(self, request: pytest.FixtureRequest) -> None:
        if (raises := self.known_gaps.get(request.function.__name__)) is not None:
            request.applymarker(pytest.mark.xfail(raises=raises, strict=True))


class Child:
    """A child process and what it sends."""

    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        self._process, self._pipe = process, pipe

    def receive(self) -> Any:
        """The next thing the child sends. Raises EOFError when it ended without, AssertionError when it is late."""
        assert self._pipe.poll(PATIENCE_S), "the child process sent nothing in time"
        return self._pipe.recv()

    def send(self, thing: object) -> None:
        """Sends something to the child."""
        self._pipe.send(thing)

    def received(self) -> list[Any]:
        """All that the child sends until it ends."""
        things = []
        while True:
            try:
                things.append(self.receive())
            except (EOFError, ConnectionResetError):
                return things

    def kill(self) -> None:
        """Kills the child with SIGKILL and waits until it is gone."""
        self._process.kill()
        self._process.join(PATIENCE_S)

    def join(self) -> None:
        """Waits for the child's end. Raises AssertionError when it failed or is late."""
        self._process.join(PATIENCE_S)
        assert self._process.exitcode == 0, f"the child process ended with {self._process.exitcode}"


@contextmanager
def child(target: Callable[..., None], *arguments: object) -> Iterator[Child]:
    """Runs `target(pipe, *arguments)` in a freshly started Python; killed at the end of the block at the latest."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
    with ours:
        with theirs:
            process.start()
        started = Child(process, ours)
        try:
            yield started
        finally:
            started.kill()
            process.close()


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Runs `work(0)` to `work(count - 1)`, each in a thread of its own; raises the first error of any."""
    pool = ThreadPoolExecutor(count)
    try:
        for running in [pool.submit(work, number) for number in range(count)]:
            running.result(PATIENCE_S)
    finally:
        pool.shutdown(wait=False)  # a stuck thread must not hide that it is stuck
