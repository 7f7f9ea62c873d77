"""Locks between the threads of one process.

It is a file of its own because one backend is one class behind one factory. Tests, and projects kept in memory,
open it. It must never be used where another process opens the same engines.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from stook.core.errors import Busy
from stook.core.settings import EngineUrl


class MemoryLocks:
    """`Locks` between threads; see the port for what `hold` promises."""

    def __init__(self) -> None:
        self._locks: dict[str, Lock] = {}

    @contextmanager
    def hold(self, name: str, *, wait_s: float) -> Iterator[None]:
        lock = self._locks.setdefault(name, Lock())
        if not lock.acquire(timeout=max(wait_s, 0.0)):
            raise Busy(f"lock {name!r} is held by another thread", hint="wait for it to end, then repeat")
        try:
            yield
        finally:
            lock.release()


def open_locks(url: EngineUrl, root: Path) -> MemoryLocks:
    """Locks, all free; neither the URL nor the project matters."""
    del url, root
    return MemoryLocks()
