"""Parity: the same values online and offline, compared one by one.

It is a file of its own because it is the proof users run, and must not share code with what it proves beyond the
two reads. The app hands it both answers. It must never read anything itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stook.core.instants import to_rfc3339

SHOWN_MAX: Final = 100


@dataclass(frozen=True)
class ParityDifference:
    """One value that differs: entity row, feature, and what either side says."""

    row: int
    entity: dict[str, Any]
    feature: str
    online: Any
    offline: Any


@dataclass(frozen=True)
class ParityReport:
    """What was compared at one instant; `differences` holds the first hundred, `differing` counts all."""

    at_us: int
    entities: int
    values: int
    differing: int
    differences: tuple[ParityDifference, ...]

    def __bool__(self) -> bool:
        return self.differing == 0

    def __str__(self) -> str:
        head = f"{self.values} values of {self.entities} entities at {to_rfc3339(self.at_us)}: {self.differing} differ"
        lines = [f"  {d.entity} {d.feature}: online {d.online!r}, offline {d.offline!r}" for d in self.differences]
        return "\n".join([head, *lines])


def compare(
    online: pa.Table, offline: pa.Table, *, keys: Sequence[str], features: Sequence[str], at_us: int
) -> ParityReport:
    """Compares the features' columns of two tables with the same rows in the same order, bit by bit.

    Null equals null, NaN equals the same NaN, -0.0 differs from 0.0.
    """
    assert online.num_rows == offline.num_rows
    found: list[ParityDifference] = []
    differing = 0
    for name in features:
        left, right = online.column(name), offline.column(name)
        rows = _differing_rows(left, right)
        differing += len(rows)
        for row in rows[: SHOWN_MAX - len(found)]:
            entity = {key: offline.column(key)[int(row)].as_py() for key in keys}
            found.append(ParityDifference(int(row), entity, name, left[int(row)].as_py(), right[int(row)].as_py()))
    return ParityReport(at_us, online.num_rows, online.num_rows * len(features), differing, tuple(found))


def _differing_rows(left: pa.ChunkedArray, right: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    if left.type != right.type:
        right = right.cast(left.type)
    nulls = pc.xor(pc.is_null(left), pc.is_null(right))
    if pa.types.is_floating(left.type):
        bits = np.uint32 if left.type.bit_width == 32 else np.uint64
        a = left.fill_null(0).to_numpy().astype(left.type.to_pandas_dtype()).view(bits)
        b = right.fill_null(0).to_numpy().astype(left.type.to_pandas_dtype()).view(bits)
        return np.flatnonzero(nulls.to_numpy() | (a != b))
    if pa.types.is_nested(left.type):
        pairs = zip(left.to_pylist(), right.to_pylist(), strict=True)
        return np.flatnonzero([repr(a) != repr(b) for a, b in pairs])
    unequal = pc.fill_null(pc.not_equal(left, right), False)
    return np.flatnonzero(pc.or_(nulls, unequal).to_numpy())
