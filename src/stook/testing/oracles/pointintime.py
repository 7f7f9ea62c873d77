"""The point-in-time rule over lists of rows: slow, and obviously right.

It is a file of its own because every engine is judged by it, under Hypothesis, and so it must be read at one glance
beside the rule in `core.plans`. Property tests call it; so may the author of an engine. It must never share a line
with an engine, nor be made fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from stook.core.plans import Window
from stook.core.rows import PUSH_ARRIVAL

BY_COLUMN: Final = "by column"  # a limit of knowledge: each label's own
Key = tuple[object, ...]


@dataclass(frozen=True)
class HistoryRow:
    """One row of a view's history. A null in the key or the event time keeps it out of everything."""

    key: Key
    event_us: int | None
    knowledge_us: int
    arrival: int
    deleted: bool
    values: tuple[object, ...]

    @property
    def order(self) -> tuple[int, int, int]:
        """What decides which of two rows of a key is newer."""
        assert self.event_us is not None
        return self.event_us, self.knowledge_us, self.arrival


@dataclass(frozen=True)
class Label:
    """One label row: what to look for, as of when, and as known by when."""

    key: Key
    label_us: int | None
    known_us: int | None = None


def join(
    labels: Sequence[Label], rows: Sequence[HistoryRow], ttl_us: int | None, known: int | str | None
) -> list[tuple[object, ...] | None]:
    """Each label's values, None where nothing counts.

    `known`: only what was known by that instant counts; `BY_COLUMN`: by the label's own limit; None: no limit.

    >>> old, new = HistoryRow((1,), 5, 5, 0, False, ("a",)), HistoryRow((1,), 5, 9, 1, False, ("b",))
    >>> join([Label((1,), 7, 8)], [old, new], None, None), join([Label((1,), 7, 8)], [old, new], None, BY_COLUMN)
    ([('b',)], [('a',)])
    """
    return [_one(label, rows, ttl_us, label.known_us if known == BY_COLUMN else known, known) for label in labels]


def _one(
    label: Label, rows: Sequence[HistoryRow], ttl_us: int | None, limit: object, known: object
) -> tuple[object, ...] | None:
    if label.label_us is None or None in label.key or (known == BY_COLUMN and limit is None):
        return None
    candidates = [
        row
        for row in rows
        if row.key == label.key and row.event_us is not None and row.event_us <= label.label_us
        and (not isinstance(limit, int) or row.knowledge_us <= limit)
    ]  # fmt: skip
    if not candidates:
        return None
    winner = max(candidates, key=lambda row: row.order)
    too_old = ttl_us is not None and label.label_us - winner.order[0] > ttl_us
    return None if winner.deleted or too_old else winner.values


def qualifies(row: HistoryRow, window: Window) -> bool:
    """Whether a materialization window reads the row."""
    if None in row.key or row.event_us is None:
        return False
    if row.event_us > window.end_us or row.knowledge_us > window.known_by_us:
        return False
    if window.start_us is None or row.event_us > window.start_us:
        return True
    if row.event_us == window.start_us and not window.start_exclusive:
        return True
    late = window.late
    if late is None:
        return False
    is_push = row.arrival >= PUSH_ARRIVAL
    return (
        (not is_push and row.arrival >> 40 in late.ordinals)
        or (late.knowledge_after_us is not None and row.knowledge_us > late.knowledge_after_us)
        or (late.arrival_after is not None and is_push and row.arrival > late.arrival_after)
    )


def newest(rows: Sequence[HistoryRow], window: Window) -> list[HistoryRow]:
    """Each key's newest qualifying row, sorted by key; tombstones too, whose values are null."""
    best: dict[Key, HistoryRow] = {}
    for row in rows:
        if qualifies(row, window) and (row.key not in best or row.order > best[row.key].order):
            best[row.key] = row
    found = [best[key] for key in sorted(best, key=_sortable)]
    return [replace(row, values=(None,) * len(row.values)) if row.deleted else row for row in found]


def _sortable(key: Key) -> tuple[object, ...]:
    """Text sorts by its bytes."""
    return tuple(part.encode() if isinstance(part, str) else part for part in key)
