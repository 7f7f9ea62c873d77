"""Which nodes are started again, and when: from how they are seen and how often that was done already.

It is a file of its own because it is the keeper's one decision, and pure. The app's keeper calls it once a second. It must
never start what cannot be seen, nor one that somebody took down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from stook.core.ports.launcher import Observed, WorkState

PAUSE_FIRST_S: Final = 1.0
PAUSE_MAX_S: Final = 30.0
STEADY_S: Final = 60.0  # a node that ran this long is started at once when it ends


@dataclass(frozen=True)
class Past:
    """A node's last start by the keeper, and how many followed each other quickly."""

    started_s: float
    quick: int = 0


def due(
    observed: Sequence[Observed], wanted: frozenset[str], past: Mapping[str, Past], *, now_s: float
) -> tuple[list[str], dict[str, Past]]:
    """The names to start now, and the past as it is then. `now_s`: a monotonic time.

    A node that is gone is started again at once the first time, then after a second, two, four, up to PAUSE_MAX_S; one
    that ran for STEADY_S in between begins anew.
    """
    start, after = [], dict(past)
    for node in observed:
        before = past.get(node.name)
        if node.state is not WorkState.GONE or node.name not in wanted:
            continue
        if before is None or now_s - before.started_s >= STEADY_S:
            start.append(node.name)
            after[node.name] = Past(now_s)
        elif now_s - before.started_s >= min(PAUSE_FIRST_S * 2**before.quick, PAUSE_MAX_S):
            start.append(node.name)
            after[node.name] = replace(before, started_s=now_s, quick=min(before.quick + 1, 10))
    return start, after
