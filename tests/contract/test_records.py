"""Every record store passes the records' contract."""

from __future__ import annotations

from stook.testing.contracts.records import DurableRecordsContract, RecordsContract


class TestMemoryRecords(RecordsContract):
    __test__ = True
    factory, url = "stook.backends.memory.records:open_records", "memory:"


class TestSqliteRecords(DurableRecordsContract):
    __test__ = True
    factory, url = "stook.backends.sqlite.records:open_records", "sqlite:///deep/er/records.db"
