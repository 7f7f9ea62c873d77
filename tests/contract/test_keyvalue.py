"""Every online store passes the KeyValue contract."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import redis_servers

from stook.testing.contracts import Opening
from stook.testing.contracts.keyvalue import KeyValueContract
from stook.testing.contracts.keyvalue_durable import DurableKeyValueContract


class TestMemoryKeyValue(KeyValueContract):
    __test__ = True
    factory, url = "stook.backends.memory.keyvalue:open_keyvalue", "memory:"


class TestLmdbKeyValue(DurableKeyValueContract):
    __test__ = True
    factory, url = "stook.backends.lmdb.keyvalue:open_keyvalue", "lmdb:///deep/er/online"


class TestRedisKeyValue(DurableKeyValueContract):
    __test__ = True
    factory = "stook.backends.redis.keyvalue:open_keyvalue"

    @pytest.fixture
    def opening(self, tmp_path: Path) -> Opening:
        place, prefix = redis_servers.shared_server().place, redis_servers.new_prefix()
        return Opening(self.factory, f"redis://{place}/0?timeout_ms=10000&prefix={prefix}", tmp_path)


class TestRedisClusterKeyValue(DurableKeyValueContract):
    __test__ = True
    factory = "stook.backends.redis.keyvalue:open_cluster"

    @pytest.fixture
    def opening(self, tmp_path: Path) -> Opening:
        url, prefix = redis_servers.shared_cluster().url, redis_servers.new_prefix()
        return Opening(self.factory, f"{url}?timeout_ms=10000&prefix={prefix}", tmp_path)
