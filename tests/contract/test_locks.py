"""Every lock backend passes the locks' contract."""

from __future__ import annotations

from stook.testing.contracts.locks import LocksContract, ProcessLocksContract


class TestMemoryLocks(LocksContract):
    __test__ = True
    factory, url = "stook.backends.memory.locks:open_locks", "memory:"


class TestFileLocks(ProcessLocksContract):
    __test__ = True
    factory, url = "stook.backends.local.locks:open_locks", "local:"
