"""Every record store passes the records' contract."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from tests.postgresql_servers import Server

from stook.testing.contracts import Opening
from stook.testing.contracts.records import DurableRecordsContract, RecordsContract


class TestMemoryRecords(RecordsContract):
    __test__ = True
    factory, url = "stook.backends.memory.records:open_records", "memory:"


class TestSqliteRecords(DurableRecordsContract):
    __test__ = True
    factory, url = "stook.backends.sqlite.records:open_records", "sqlite:///deep/er/records.db"


class TestPostgresqlRecords(DurableRecordsContract):
    __test__ = True
    factory = "stook.backends.sql.records:open_records"

    @pytest.fixture
    def opening(self, tmp_path: Path, postgresql_server: Server) -> Opening:
        return Opening(self.factory, postgresql_server.url(f"schema=s{uuid4().hex}"), tmp_path)


class TestSqlOnSqlite(DurableRecordsContract):
    """The statements that PostgreSQL gets, on a second dialect."""

    __test__ = True
    factory, url = "stook.backends.sql.records:open_on_sqlite", "sqlite:///deep/er/records.db"
