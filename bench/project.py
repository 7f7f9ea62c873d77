"""The data and the project that everything is measured on: users, and random doubles about them.

It is a file of its own because all families measure the same project. It must never be tuned to what is measured:
keys are drawn at random, values do not compress, times are spread over a hundred days.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DAY_US = 86_400_000_000
START_US = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1e6)
CLOCK = "2024-06-01T00:00:00Z"
NOW_US = int(datetime(2024, 6, 1, tzinfo=UTC).timestamp() * 1e6)

FEATURES = """
from datetime import timedelta
from stook import Entity, FeatureService, FeatureView, Field, FileSource, Float64, Int64, PushSource
user = Entity("user", join_keys={"user_id": Int64})
def view(name, file, prefix, features):
    return FeatureView(name, entities=[user], source=FileSource(file), ttl=timedelta(days=400),
                       schema=[Field(f"{prefix}{i}", Float64) for i in features])
ten = view("ten", "ten.parquet", "t", range(10))
fifty = view("fifty", "wide.parquet", "f", range(50))
wide = view("wide", "wide.parquet", "f", range(250))
tens = [view(f"ten{n}", "wide.parquet", "f", range(n * 10, n * 10 + 10)) for n in range(5)]
twos = [view(f"two{n}", "wide.parquet", "f", range(n * 2, n * 2 + 2)) for n in range(5)]
fifties = [view(f"fifty{n}", "wide.parquet", "f", range(n * 50, n * 50 + 50)) for n in range(5)]
ten0, ten1, ten2, ten3, ten4 = tens
two0, two1, two2, two3, two4 = twos
fifty0, fifty1, fifty2, fifty3, fifty4 = fifties
pushed = FeatureView("pushed", entities=[user], source=PushSource("clicks"), schema=[Field("clicks", Int64)])
pushed50 = FeatureView("pushed50", entities=[user], source=PushSource("wide_clicks"),
                       schema=[Field(f"f{i}", Float64) for i in range(50)])
s10x1 = FeatureService("s10x1", [wide[[f"f{i}" for i in range(10)]]])
s50x1 = FeatureService("s50x1", [fifty])
s250x1 = FeatureService("s250x1", [wide])
s10x5 = FeatureService("s10x5", twos)
s50x5 = FeatureService("s50x5", tens)
s250x5 = FeatureService("s250x5", fifties)
"""
WIDE_VIEWS = ("fifty", "wide", *(f"{name}{n}" for name in ("ten", "two", "fifty") for n in range(5)))


def users(rows: int, prefix: str, features: int, *, days: tuple[int, int] = (0, 100)) -> pa.Table:
    """A row for each of so many users: doubles, at times within the days."""
    random = np.random.default_rng(rows + features + days[0])
    times = START_US + random.integers(days[0] * DAY_US, days[1] * DAY_US, rows)
    columns: dict[str, Any] = {
        "user_id": np.arange(rows),
        "event_timestamp": pa.array(times).cast(pa.timestamp("us", tz="UTC")),
    }
    return pa.table(columns | {f"{prefix}{i}": random.normal(size=rows) for i in range(features)})


def make(root: Path, *, entities: int, rows: int) -> None:
    """A project with `entities` users of 250 doubles, and `rows` of ten."""
    root.mkdir(parents=True)
    (root / "stook.toml").write_text('[project]\nname = "bench"\n')
    (root / "features.py").write_text(FEATURES)
    pq.write_table(users(rows, "t", 10), root / "ten.parquet")
    pq.write_table(users(entities, "f", 250), root / "wide.parquet")
