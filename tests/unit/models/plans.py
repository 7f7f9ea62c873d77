"""Read plans made by hand, as the registry would resolve them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from stook.core import dtypes
from stook.core.definitions import Projection, PushSource
from stook.core.plans import ReadPlan, ViewRead
from stook.core.results import OnlineResult
from stook.core.specs import Column, Schema, ViewSpec
from stook.core.statuses import NO_TIME, OnlineColumn, Status
from stook.models.releases import Lookup

KEY = Column("driver_id", dtypes.Int64)
SPEED, TRIPS = Column("speed", dtypes.Float64), Column("trips", dtypes.Int64)
PROJECTIONS = (Projection("stats", ("speed", "trips")),)
NOW = 10_000_000


def plan(features: tuple[Column, ...] = (SPEED, TRIPS), *, uid: str = "u1", revision: int = 1) -> ReadPlan:
    view = ViewSpec("stats", uid, ("driver",), (KEY,), (Schema(revision, features),), PushSource("s"), None)
    outputs = tuple((f.name, f.name) for f in features)
    return ReadPlan((ViewRead(view, (("driver_id", "driver_id"),), outputs),), (KEY,), tuple(n for n, _ in outputs), 7)


def lookup(**kwargs: Any) -> Lookup:
    return Lookup.of_plan(plan(**kwargs), PROJECTIONS, service="ranking")


def online(speed: Any = (0.5, None), trips: Any = (30, 4), *, arrow: bool = False) -> OnlineResult:
    """Two rows; the second driver's speed was not found."""
    statuses: Any = [Status.PRESENT if v is not None else Status.NOT_FOUND for v in speed]
    times: Any = [NOW - 2_000_000 if v is not None else NO_TIME for v in speed]
    columns = [list(speed), list(trips)]
    keys: Any = [7, 8][: len(speed)]
    if arrow:
        statuses, times = np.array(statuses, np.uint8), np.array(times, np.int64)
        columns, keys = [pa.array(c) for c in columns], pa.array(keys)
    return OnlineResult(
        [("driver_id", dtypes.Int64, keys)],
        [
            OnlineColumn("speed", dtypes.Float64, columns[0], statuses, times),
            OnlineColumn("trips", dtypes.Int64, columns[1], statuses, times),
        ],
        now_us=NOW,
    )
