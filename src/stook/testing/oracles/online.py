"""A naive online store: it remembers every write and looks at all of them for every answer.

It is a file of its own, and public, so that the real read and write paths, and any backend, can be judged by
something a reader believes at sight. Property tests call it. It must never import the room it judges, nor be
clever: no encoding, no index, no arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from stook.core.statuses import NO_TIME, Status


class Write(NamedTuple):
    """One write. `order` is (event time, knowledge time, arrival); `features` is None for a delete. `revision` is the
    schema's that the view had then."""

    view: str
    key: tuple[Any, ...]
    order: tuple[int, int, int]
    features: Mapping[str, Any] | None
    revision: int = 1


class Cell(NamedTuple):
    """One answered value."""

    value: Any
    status: Status
    event_us: int


class NaiveOnline:
    """What an online store promises, in a dozen lines.

    >>> store = NaiveOnline()
    >>> store.write(Write("stats", (7,), (100, 100, 1), {"trips": 3}))
    >>> store.write(Write("stats", (7,), (90, 95, 2), {"trips": 2}))
    >>> store.read("stats", (7,), "trips", now_us=150, ttl_us=50)
    Cell(value=3, status=<Status.PRESENT: 0>, event_us=100)
    """

    def __init__(self) -> None:
        self.writes: list[Write] = []

    def write(self, write: Write) -> None:
        """Remembers a write; a key with a null names nobody and is forgotten."""
        if None not in write.key:
            self.writes.append(write)

    def winner(self, view: str, key: tuple[Any, ...]) -> Write | None:
        """The write with the largest order; of equal ones that of the largest revision, then the last."""
        best = None
        for write in self.writes:
            if (write.view, write.key) == (view, key) and (
                best is None or (write.order, write.revision) >= (best.order, best.revision)
            ):
                best = write
        return best

    def read(self, view: str, key: tuple[Any, ...], feature: str, *, now_us: int, ttl_us: int | None) -> Cell:
        """One feature of one entity, with its status and event time."""
        best = self.winner(view, key)
        if best is None or best.features is None:
            return Cell(None, Status.NOT_FOUND, NO_TIME)
        event_us = best.order[0]
        if ttl_us is not None and now_us - event_us > ttl_us:
            return Cell(None, Status.OUTSIDE_MAX_AGE, event_us)
        value = best.features.get(feature)
        return Cell(value, Status.NULL_VALUE if value is None else Status.PRESENT, event_us)
