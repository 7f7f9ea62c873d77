"""Case 19: keys of very different weight. A join must cost what goes in and comes out, never labels times history."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

HOT_ROWS = 1_000_000
COLD_KEYS = 200_000
LABELS = 20_000  # times the hot key's rows: twenty thousand million pairs
MEMORY_MIB = 256
PEAK_MIB_MAX = 650  # Python, Arrow and DuckDB with their code, the engine's limit, tables in and out
SECONDS_MAX = 120
SETTINGS = f'[project]\nname = "skew"\n[limits]\nmemory_mib = {MEMORY_MIB}\n'
FEATURES = """
from stook import Entity, FeatureView, Field, FileSource, Int64
key = Entity("key", join_keys={"key": Int64})
view = FeatureView("view", entities=[key], schema=[Field("x", Int64)],
                   source=FileSource("rows.parquet", created_timestamp_column="created"))
"""
JOIN = """
import json, sys, numpy as np, pyarrow as pa, pyarrow.parquet as pq, stook
labels = pq.read_table(sys.argv[2])
with stook.open(sys.argv[1], clock="2030-01-01") as p:
    p.apply()
    plain = p.get_historical_features(labels, ["view:x"]).to_arrow().column("x")
    known = p.get_historical_features(labels, ["view:x"], as_known_at="event_timestamp").to_arrow().column("x")
    (run,) = p.materialize(None, "2029-01-01")
    online = p.get_online_features(["view:x"], entities={"key": [0, 1, 200_000, 200_001]}).to_dict()["x"]
    report = p.parity(["view:x"], {"key": list(range(1000))})
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(json.dumps({"plain": plain.to_pylist(), "known": known.to_pylist(), "rows": run.rows, "online": online,
                  "parity": bool(report), "peak_mib": int(peak) // 1024}))
"""


@pytest.mark.case(19)
def test_one_heavy_key_among_many_light_ones(tmp_path: Path) -> None:
    (tmp_path / "stook.toml").write_text(SETTINGS)
    (tmp_path / "features.py").write_text(FEATURES)
    random = np.random.default_rng(19)
    # the hot key's row i happened at second i and holds i; it was known a second later
    keys = np.concatenate([np.zeros(HOT_ROWS, np.int64), np.arange(1, COLD_KEYS + 1)])
    seconds = np.concatenate([np.arange(HOT_ROWS), np.full(COLD_KEYS, 5)])
    shuffled = random.permutation(len(keys))
    keys, seconds = keys[shuffled], seconds[shuffled]
    micros = pa.array(seconds * 1_000_000)
    pq.write_table(
        pa.table({
            "key": keys, "event_timestamp": micros.cast(pa.timestamp("us", "UTC")), "x": seconds,
            "created": pa.array((seconds + 1) * 1_000_000).cast(pa.timestamp("us", "UTC")),
        }),
        tmp_path / "rows.parquet",
    )  # fmt: skip
    at = random.integers(1, HOT_ROWS, LABELS)
    asked = np.where(np.arange(LABELS) % 10 == 0, random.integers(1, COLD_KEYS + 1, LABELS), 0)
    labels = {"key": asked, "event_timestamp": pa.array(at * 1_000_000).cast(pa.timestamp("us", "UTC"))}
    pq.write_table(pa.table(labels), tmp_path / "labels.parquet")
    command = [sys.executable, "-c", JOIN, str(tmp_path), str(tmp_path / "labels.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX, check=True)
    found = json.loads(done.stdout)
    pairs = list(zip(asked.tolist(), at.tolist(), strict=True))
    assert found["plain"] == [(second if key == 0 else (5 if second >= 5 else None)) for key, second in pairs]
    assert found["known"] == [(second - 1 if key == 0 else (5 if second >= 6 else None)) for key, second in pairs]
    assert found["rows"] == COLD_KEYS + 1
    assert found["online"] == [HOT_ROWS - 1, 5, 5, None]
    assert found["parity"]
    assert found["peak_mib"] < PEAK_MIB_MAX, found["peak_mib"]
    print(f"peak {found['peak_mib']} MiB")
