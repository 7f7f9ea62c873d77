"""Every table store passes the tables' contract."""

from __future__ import annotations

from stook.testing.contracts.tables import DurableTablesContract, TablesContract


class TestMemoryTables(TablesContract):
    __test__ = True
    factory, url = "stook.backends.memory.tables:open_tables", "memory:"


class TestDeltaTables(DurableTablesContract):
    __test__ = True
    factory, url = "stook.backends.delta.tables:open_tables", "delta:///deep/er/tables"
