"""The engine contract on every engine, on one thread and on two."""

from __future__ import annotations

from stook.testing.contracts.engine import EngineContract


class TestDuckEngine(EngineContract):
    __test__ = True
    factory = "stook.backends.duckdb.engine:open_engine"
    url = "duckdb:?threads=2"


class TestDuckEngineAlone(EngineContract):
    __test__ = True
    factory = "stook.backends.duckdb.engine:open_engine"
    url = "duckdb:?threads=1&memory_mib=256"
