"""Which rows a materialization must read: watermarks and windows, decided without reading anything.

It is a file of its own because this is where late data is lost or caught. `materialize` calls it and keeps its
watermarks. It must never read: times, snapshots and positions are arguments.

A watermark says: every row with event time through `end_us` that had been *seen* is online, where seen means the
files of `seen`, created times through `knowledge_us`, and pushes through `push_position`. What arrives later is
found by those three, whatever its event time.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from stook.core.errors import InvalidArgument
from stook.core.instants import MIN_US, to_rfc3339
from stook.core.plans import Late, SourceSnapshot, Window
from stook.core.rows import PUSH_ROWS_MAX, push_arrival
from stook.core.specs import ViewSpec, source_to_spec


@dataclass(frozen=True)
class Watermark:
    """How far a view is materialized; `definition` names the schema and source that its rows were made with."""

    uid: str
    definition: str
    end_us: int
    seen: SourceSnapshot | None
    knowledge_us: int | None
    push_position: int

    def to_spec(self) -> dict[str, Any]:
        """JSON form, as the registry keeps it."""
        return {
            "uid": self.uid,
            "definition": self.definition,
            "end_us": self.end_us,
            "seen": None if self.seen is None else self.seen.to_spec(),
            "knowledge_us": self.knowledge_us,
            "push_position": self.push_position,
        }

    @staticmethod
    def from_spec(spec: dict[str, Any]) -> Watermark:
        """The inverse of `to_spec`."""
        seen = spec["seen"]
        return Watermark(**{**spec, "seen": None if seen is None else SourceSnapshot.from_spec(seen)})


@dataclass(frozen=True)
class Sight:
    """What a run sees: the pinned source, the largest created time in it, and the log position."""

    snapshot: SourceSnapshot | None
    knowledge_us: int | None
    push_position: int


def full_window(start_us: int | None, end_us: int, *, now_us: int) -> Window:
    """The window of `materialize(start, end)`: both inclusive; an end after now means now.

    Raises InvalidArgument when the end is before the start, or the start is later than now.
    """
    if start_us is not None and start_us > now_us:
        raise InvalidArgument(f"start {to_rfc3339(start_us)} is later than now", hint="nothing is known of it yet")
    if start_us is not None and end_us < start_us:
        raise InvalidArgument(
            f"end {to_rfc3339(end_us)} is before start {to_rfc3339(start_us)}", hint="swap them: start, then end"
        )
    return Window(start_us, min(end_us, now_us), now_us)


def incremental_window(mark: Watermark | None, snapshot: SourceSnapshot | None, end_us: int, *, now_us: int) -> Window:
    """The window of `materialize_incremental(end)`: (last end, end], and whatever arrived since the last run.

    Without a watermark, everything through `end`. An end before the last one still catches what arrived late,
    through the last end: going backwards never hides anything.
    """
    end = min(end_us, now_us)
    if mark is None:
        return Window(None, end, now_us)
    # A new file that sorts first may be given a number that another bore: only path and number together tell.
    seen = set() if mark.seen is None else {(f.path, f.ordinal) for f in mark.seen.files}
    files = () if snapshot is None else snapshot.files
    known = mark.knowledge_us
    if known is not None and snapshot is not None and snapshot.kind == "sql":
        known -= 1  # rows of the last created time may have come since, and no file tells: all of them are read again
    late = Late(
        ordinals=frozenset(f.ordinal for f in files if (f.path, f.ordinal) not in seen),
        knowledge_after_us=known,
        arrival_after=push_arrival(mark.push_position, PUSH_ROWS_MAX - 1),
    )
    return Window(mark.end_us, max(end, mark.end_us), now_us, start_exclusive=True, late=late)


def known_through(snapshot: SourceSnapshot | None, created_us: int | None, window: Window) -> int:
    """The knowledge time through which a run has seen everything: rows known later are late to the next one.

    Where the source has a created column, the largest one seen: rows may arrive with any larger one. Elsewhere
    only pushes can be known later than they are dated, and every push known by now was looked at.
    """
    if snapshot is None or snapshot.created_timestamp_column is None:
        return window.known_by_us
    return MIN_US if created_us is None else created_us


def definition_of(view: ViewSpec) -> str:
    """Names what decides a view's rows besides its data: a change of it makes everything late."""
    facts = json.dumps([view.schema.revision, source_to_spec(view.source)], sort_keys=True)
    return hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()


def after_full(
    mark: Watermark | None, window: Window, made: tuple[str, str], sight: Sight, *, fresh: bool
) -> Watermark | None:
    """The watermark after a full run; None when it stays as it is.

    One into a `fresh` generation starts anew. So does one into a live generation that no watermark speaks of, as after a
    switch to another, but only where its window reaches back to the beginning: nothing tells what that generation lacks
    before it. A later one moves the end forward where it leaves no
    gap behind the old one; what has been seen stays, since rows outside the window were not looked at. One under
    another definition changes nothing: what is outside its window still has the old one's rows. `made` is (uid,
    definition).
    """
    if fresh or (mark is None and window.start_us is None):
        return Watermark(*made, window.end_us, sight.snapshot, sight.knowledge_us, sight.push_position)
    if mark is None:
        return None
    no_gap = window.start_us is None or window.start_us <= mark.end_us
    if no_gap and window.end_us > mark.end_us and made == (mark.uid, mark.definition):
        return replace(mark, end_us=window.end_us)
    return None


def after_incremental(mark: Watermark | None, window: Window, made: tuple[str, str], sight: Sight) -> Watermark:
    """The watermark after an incremental run, of `made`: (uid, definition). Created times never move back."""
    before = None if mark is None else mark.knowledge_us
    known = [k for k in (before, sight.knowledge_us) if k is not None]
    return Watermark(*made, window.end_us, sight.snapshot, max(known) if known else None, sight.push_position)
