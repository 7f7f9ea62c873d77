"""Every online store passes the KeyValue contract."""

from __future__ import annotations

from stook.testing.contracts.keyvalue import KeyValueContract
from stook.testing.contracts.keyvalue_durable import DurableKeyValueContract


class TestMemoryKeyValue(KeyValueContract):
    __test__ = True
    factory, url = "stook.backends.memory.keyvalue:open_keyvalue", "memory:"


class TestLmdbKeyValue(DurableKeyValueContract):
    __test__ = True
    factory, url = "stook.backends.lmdb.keyvalue:open_keyvalue", "lmdb:///deep/er/online"
