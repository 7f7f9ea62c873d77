"""Times Feast at what it is told, one JSON line in, one out: in its own interpreter, through its public calls alone.

It is a file of its own because stook is not installed there. The benchmark starts it. It must never import stook.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import feast
import feast.types
import pyarrow.parquet as pq

SETTINGS = """
project: bench
provider: local
registry: registry.db
offline_store:
  type: {offline}
online_store:
{online}
entity_key_serialization_version: 3
"""
ONLINE = {
    "sqlite": "  type: sqlite\n  path: online.db",
    "redis": '  type: redis\n  connection_string: "localhost:{port}"',
}
stores: dict[str, Any] = {}


def open_store(ask: dict[str, Any]) -> Any:
    """A repository over a Parquet file, declared."""
    folder = Path(ask["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    online = ONLINE[ask["online"]].format(port=ask.get("port", 0))
    (folder / "feature_store.yaml").write_text(SETTINGS.format(offline=ask["offline"], online=online))
    user = feast.Entity(name="user", join_keys=["user_id"], value_type=feast.ValueType.INT64)
    source = feast.FileSource(name="src", path=ask["file"], timestamp_field="event_timestamp")
    view = feast.FeatureView(
        name="view", entities=[user], ttl=timedelta(days=ask["ttl_days"]), source=source,
        schema=[feast.Field(name=name, dtype=feast.types.Float64) for name in ask["features"]],
    )  # fmt: skip
    store = feast.FeatureStore(repo_path=str(folder))
    store.apply([user, view])
    stores[ask["name"]] = (store, [f"view:{name}" for name in ask["features"]])
    return True


def materialize(ask: dict[str, Any]) -> float:
    """Seconds to bring all rows online."""
    store, _ = stores[ask["name"]]
    started = time.perf_counter()
    store.materialize(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC))
    return time.perf_counter() - started


def read(ask: dict[str, Any]) -> float:
    """Median seconds of a read until `.to_dict()` has returned."""
    store, features = stores[ask["name"]]
    spent = []
    for ids in ask["ids"]:
        rows = [{"user_id": number} for number in ids]
        started = time.perf_counter()
        store.get_online_features(features=features, entity_rows=rows).to_dict()
        spent.append(time.perf_counter() - started)
    return statistics.median(spent)


def join(ask: dict[str, Any]) -> list[float]:
    """Seconds of a point-in-time join until its rows are in hand, and the process's peak memory in MiB."""
    store, features = stores[ask["name"]]
    labels = pq.read_table(ask["labels"]).to_pandas()
    started = time.perf_counter()
    store.get_historical_features(entity_df=labels, features=features).to_arrow()
    seconds = time.perf_counter() - started
    (peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return [seconds, int(peak.split()[1]) / 1024]


def serve(ask: dict[str, Any]) -> bool:
    """Starts `feast serve` on a port, in a process that lives until this one ends."""
    command = [str(Path(sys.executable).parent / "feast"), "serve", "--port", str(ask["port"]), "--workers", "1"]
    stores["server"] = subprocess.Popen(
        command, cwd=ask["folder"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return True


def versions(_: dict[str, Any]) -> dict[str, str]:
    """Of what is measured."""
    return {"feast": version("feast"), "redis-py": version("redis")}


def main() -> None:
    """Answers until its input ends."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not mix with answers
    todo = {
        "open": open_store,
        "materialize": materialize,
        "read": read,
        "join": join,
        "serve": serve,
        "versions": versions,
    }
    for line in sys.stdin:
        ask = json.loads(line)
        out.write(json.dumps(todo[ask["do"]](ask)) + "\n")
        out.flush()
    server = stores.get("server")
    if server is not None:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main()
