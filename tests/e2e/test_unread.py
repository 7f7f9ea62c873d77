"""A store of which a server is gone, through every face: ERROR and null, never NOT_FOUND, and no silent comparison."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

import stook
from stook import Entity, FeatureView, Field, Int64, PushSource
from stook.backends.lmdb.keyvalue import LmdbKeyValue
from stook.client.arrowform import online_result, read_stream
from stook.core.errors import EngineUnavailable
from stook.core.ports.keyvalue import UNREAD
from stook.edge.http.door import Door
from stook.edge.http.routes import make_app

NOON = datetime(2024, 1, 10, 12, tzinfo=UTC)
driver = Entity("driver", join_keys={"driver_id": Int64})
stats = FeatureView("stats", entities=[driver], schema=[Field("trips", Int64)], source=PushSource("events"))
STATUSES = ["PRESENT", "ERROR", "NOT_FOUND", "ERROR"]


@pytest.fixture
def p(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "stook.toml").write_text('[project]\nname = "p"\n')
    with stook.open(tmp_path, clock=NOON) as platform:
        platform.apply([stats])
        at = [NOON - timedelta(hours=1)] * 2
        platform.push("events", pa.table({"driver_id": [1, 2], "event_timestamp": at, "trips": [10, 20]}))
        get_many = LmdbKeyValue.get_many

        def partly(
            store: LmdbKeyValue, reads: Sequence[tuple[str, Sequence[bytes]]], **named: Any
        ) -> list[list[bytes | None]]:
            found = get_many(store, reads, **named)
            return [
                [UNREAD if key[-1] % 2 == 0 else value for key, value in zip(keys, values, strict=True)]
                for (_, keys), values in zip(reads, found, strict=True)
            ]

        monkeypatch.setattr(LmdbKeyValue, "get_many", partly)
        yield platform


def test_the_sdk_http_and_the_remote_sdk(p: Any) -> None:
    ids = {"driver_id": [1, 2, 3, 4]}
    answer = p.get_online_features(["stats:trips"], entities=ids)
    assert answer.to_dict()["trips"] == [10, None, None, None]
    assert answer.statuses["trips"] == STATUSES
    door = Door(p)
    transport = httpx.ASGITransport(app=make_app(door))

    async def ask(accept: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            body = {"features": ["stats:trips"], "entities": ids}
            return await client.post("/get-online-features", json=body, headers={"accept": accept})

    told = asyncio.run(ask("application/json")).json()
    found = dict(zip(told["metadata"]["feature_names"], told["results"], strict=True))["trips"]
    assert (found["values"], found["statuses"]) == ([10, None, None, None], STATUSES)
    assert [at is None for at in found["event_timestamps"]] == [False, True, True, True]
    assert found["ages"] == [3600.0, None, None, None]
    table = read_stream(asyncio.run(ask("application/vnd.apache.arrow.stream")).content)
    assert table["trips__status"].to_pylist() == STATUSES
    remote = online_result(table)
    assert remote.to_dict()["trips"] == [10, None, None, None]
    assert (remote.statuses, remote.ages) == (answer.statuses, answer.ages)
    door.close()


def test_parity_compares_nothing_it_could_not_read(p: Any) -> None:
    assert p.parity(["stats:trips"], {"driver_id": [1, 3]})
    with pytest.raises(EngineUnavailable, match="1 online values could not be read"):
        p.parity(["stats:trips"], {"driver_id": [1, 2]})
