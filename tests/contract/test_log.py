"""Every log passes the log's contract."""

from __future__ import annotations

from stook.testing.contracts.log import DurableLogContract, LogContract


class TestMemoryLog(LogContract):
    __test__ = True
    factory, url = "stook.backends.memory.log:open_log", "memory:"


class TestLocalLog(DurableLogContract):
    __test__ = True
    factory, url = "stook.backends.sqlite.log:open_log", "local:///deep/er/log"
