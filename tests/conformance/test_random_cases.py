"""Random cases, judged by the oracles, through the same ways in and out as the written ones.

Times are coarse, so that ties and boundaries are the common case, and keys few. `STOOK_TEST_SEED` repeats a failing run.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from stook.core import dtypes
from stook.testing.cases.case import HOUR, NOW, Case, CaseView, Fact
from stook.testing.strategies import KEY_SHAPES

from .doors import DOORS
from .test_cases import NOT_ASKED, ONCE, judge
from .worlds import EMBEDDED, MEMORY, world

SEED = int(os.environ.get("STOOK_TEST_SEED", str(random.SystemRandom().randrange(1 << 30))))
CASES_EACH = int(os.environ.get("STOOK_TEST_RANDOM_CASES", "15"))
TICKS = 7
BESIDE = (0, 0, 0, 0, 1, -1)
TTLS = (None, HOUR, HOUR - 1, 2 * HOUR, 2 * HOUR + 1)
WORDS = (None, "", "a", "é", "\U0001f600")


def instant(choose: random.Random) -> int:
    """On the hour mostly, an hour or more from now, so that no row is a little later than now."""
    return NOW + choose.choice([1, 2, *range(-TICKS, 0)]) * HOUR + choose.choice(BESIDE)


def drawn(choose: random.Random, name: str) -> Case:
    """A view, its past, and every key of a small pool asked at many instants."""
    shape = choose.choice(KEY_SHAPES[1:])
    keys = tuple((f"k{i}", dtype) for i, (dtype, _) in enumerate(shape))
    pool = [tuple(choose.choice(values) for _, values in shape) for _ in range(choose.randrange(1, 4))]
    created = choose.random() < 0.5

    def fact() -> Fact:
        value = choose.choice([None, 2**53 + 1, *range(9)])
        known = instant(choose) if created else None
        return Fact(choose.choice(pool), instant(choose), (value, choose.choice(WORDS)), known)

    files = tuple(tuple(fact() for _ in range(choose.randrange(1, 9))) for _ in range(choose.randrange(1, 4)))
    ttl = choose.choice(TTLS)
    view = CaseView(
        name, keys, (("x", dtypes.Int64), ("word", dtypes.String)), files,
        None if ttl is None else timedelta(microseconds=ttl), created,
    )  # fmt: skip
    asked = [(key, NOW + tick * HOUR + beside) for key in pool for tick in range(-TICKS, 3) for beside in (-1, 0, 1)]
    choose.shuffle(asked)
    entities: dict[str, Any] = {column: [key[i] for key, _ in asked] for i, (column, _) in enumerate(keys)}
    known_by = [instant(choose) for _ in asked] if created and choose.random() < 0.5 else None
    case = Case(name, (), "", (view,), entities, [at for _, at in asked], {}, {}, {}, known_by=known_by)
    values, statuses, _ = case.oracle_now()
    return replace(case, past=case.oracle_past(), now=values, statuses=statuses)


@pytest.mark.parametrize(
    ("engines", "feed"),
    [(EMBEDDED, "parquet"), (EMBEDDED, "delta"), (EMBEDDED, "push"), (EMBEDDED, "folded"), (MEMORY, "parquet"), (MEMORY, "folded")],
    ids=["files", "delta", "pushes", "folded", "memory files", "memory folded"],
)  # fmt: skip
def test_random_cases_equal_the_oracles(tmp_path: Path, engines: Mapping[str, str], feed: str) -> None:
    print(f"STOOK_TEST_SEED={SEED}")
    choose = random.Random(f"{SEED} {feed} {engines is MEMORY}")
    cases = [drawn(choose, f"random_{number}") for number in range(CASES_EACH)]
    passed_over = {*ONCE, *NOT_ASKED["memory" if engines is MEMORY else "embedded"]}
    with world(tmp_path, engines, feed, cases) as made:
        for case in cases:
            for name in DOORS:
                if name not in passed_over:
                    judge(case, name, DOORS[name], made)
