"""A new project that works: settings, definitions, and a little data.

It is a file of its own because its texts are a user's first sight of stook. `stook init` calls it. It must never
write into a folder that holds anything.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from stook.core.errors import InvalidArgument
from stook.core.names import check_name

DRIVERS: Final = range(1001, 1006)
DAYS: Final = 30
SEED: Final = 7

SETTINGS: Final = """\
[project]
name = "{name}"
definitions = ["features.py"]           # scanned by `stook apply`

# Engines, limits and the server have defaults; `stook doctor` shows them.
"""

FEATURES: Final = '''\
"""The features of this project. `stook plan` shows what `stook apply` would change."""

from datetime import timedelta

from stook import Entity, FeatureService, FeatureView, Field, FileSource, Float64, Int64

driver = Entity("driver", join_keys={"driver_id": Int64})

driver_stats = FeatureView(
    "driver_stats",
    entities=[driver],
    ttl=timedelta(days=3650),  # how long a value counts after its event time
    schema=[
        Field("conv_rate", Float64, description="trips taken of trips offered, that day"),
        Field("trips", Int64, description="trips driven that day"),
    ],
    source=FileSource(
        "data/driver_stats.parquet",
        timestamp_field="event_timestamp",  # when it was so
        created_timestamp_column="created",  # when it became known
    ),
)

ranking = FeatureService("ranking", features=[driver_stats])
'''

IGNORED: Final = ".stook/\n"


def write_project(name: str, parent: str | Path = ".") -> Path:
    """Writes the project NAME below `parent`; returns its folder.

    Raises InvalidArgument for a name that cannot be, or a folder that is there already and holds anything.
    """
    folder = Path(name)
    project = re.sub(r"_+", "_", check_name("project", folder.name))
    root = (Path(parent) / folder).resolve()
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InvalidArgument(f"{root} is there already and is not empty", hint="choose another name")
    (root / "data").mkdir(parents=True, exist_ok=True)
    (root / "stook.toml").write_text(SETTINGS.format(name=project), encoding="utf-8")
    (root / "features.py").write_text(FEATURES, encoding="utf-8")
    (root / ".gitignore").write_text(IGNORED, encoding="utf-8")
    pyarrow.parquet.write_table(driver_stats(), root / "data" / "driver_stats.parquet")
    labels = pa.table(
        {
            "driver_id": [1001, 1002, 1001, 1009],
            "event_timestamp": [datetime(2024, 1, day, 12, tzinfo=UTC) for day in (5, 10, 20, 20)],
            "completed": [True, False, True, False],
        }
    )
    pyarrow.parquet.write_table(labels, root / "data" / "labels.parquet")
    return root


def driver_stats() -> pa.Table:
    """Thirty days of five drivers, the same on every machine: 150 rows."""
    random = np.random.default_rng(SEED)
    days = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(DAYS)]
    pairs = [(driver, day) for day in days for driver in DRIVERS]
    return pa.table(
        {
            "driver_id": pa.array([driver for driver, _ in pairs], pa.int64()),
            "event_timestamp": pa.array([day for _, day in pairs], pa.timestamp("us", tz="UTC")),
            "created": pa.array([day + timedelta(hours=2) for _, day in pairs], pa.timestamp("us", tz="UTC")),
            "conv_rate": np.round(random.uniform(0.2, 0.9, len(pairs)), 3),
            "trips": random.integers(5, 40, len(pairs)),
        }
    )
