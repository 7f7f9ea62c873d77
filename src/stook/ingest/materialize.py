"""Materialization: the newest row of each entity, from history into the online store.

It is a file of its own because it ties windows, history, codec and store together, in an order that survives
being killed anywhere. The app calls it. It must never move a watermark before the rows it speaks of are online,
and never hold more than two chunks of rows: the one that is written, and the next.

Order of acts: pin and record the file numbers; load chunks (each durable, each remembered); switch the
generation; drop old generations; move the watermark by compare-and-set. A run killed between any two of them is
repeated by calling it again: loads resume behind their last chunk, or begin anew where a query is the source, since
nothing tells whether it gives the same rows again; upserts are harmless when repeated.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final, Literal, NamedTuple

import pyarrow as pa

from stook.core.errors import Conflict, InvalidArgument, StookError
from stook.core.outcomes import Materialized
from stook.core.plans import SourceSnapshot, Window
from stook.core.ports.clock import Clock
from stook.core.ports.engine import Engine
from stook.core.ports.keyvalue import GenerationState, KeyValue, Lifetimes, Row
from stook.core.ports.locks import Locks
from stook.core.ports.records import ABSENT, ANY, Change, Delete, Put, Records
from stook.core.settings import Limits
from stook.core.specs import ViewSpec
from stook.ingest.ahead import ahead
from stook.ingest.histories import PinnedHistory, pin_history
from stook.ingest.pushes import Pushes
from stook.ingest.windows import (
    Sight,
    Watermark,
    after_full,
    after_incremental,
    definition_of,
    full_window,
    incremental_window,
    known_through,
)
from stook.online.write import encode_rows, lifetimes_ms, space
from stook.registry.catalogue import VIEW

WATERMARK: Final = "watermark"
PINNED: Final = "pinned-source"
PROGRESS: Final = "materialization"
LOCK_WAIT_S: Final = 3_600.0
TOKEN_BYTES: Final = 16
NOW_WITHIN_US: Final = 60_000_000  # an end this close before now was meant as now: the call itself takes a moment

Progress = Callable[[str, int, int], None]
Mode = Literal["load", "upsert"]


@dataclass(frozen=True)
class MaterializePorts:
    """The doors that a materialization goes through."""

    engine: Engine
    online: KeyValue
    records: Records
    locks: Locks
    clock: Clock


@dataclass(frozen=True)
class _Asked:
    """What the caller asked for; `end_us` as given, perhaps later than now."""

    start_us: int | None
    end_us: int
    incremental: bool
    replace_all: bool = False


@dataclass(frozen=True)
class _Run:
    """One decided run: what is read, how it is written, and what an interrupted one had done already."""

    view: ViewSpec
    pinned: PinnedHistory
    window: Window
    mode: Mode
    token: str
    live: int | None
    done_rows: int


class _Done(NamedTuple):
    """What a run wrote, and how many of the rows it read had a time rounded up."""

    rows: int
    generation: int | None
    rounded: int


class Materializer:
    """Runs materializations, one view at a time under the view's lock."""

    def __init__(self, ports: MaterializePorts, pushes: Pushes, limits: Limits) -> None:
        self._ports = ports
        self._pushes = pushes
        self._limits = limits

    def full(
        self, view: ViewSpec, start_us: int | None, end_us: int, *, replace_all: bool, progress: Progress
    ) -> Materialized:
        """`materialize(start, end)`: upserts, or a new generation with `replace_all` or where nothing is loaded yet.

        Raises InvalidArgument, SourceUnreadable, SchemaMismatch, Conflict, Busy, DiskFull, EngineUnavailable.
        """
        return self._locked(view, _Asked(start_us, end_us, False, replace_all), progress)

    def incremental(self, view: ViewSpec, end_us: int, *, progress: Progress) -> Materialized:
        """`materialize_incremental(end)`: what is new since the last run, and what arrived late. Raises as `full`."""
        asked = _Asked(None, end_us, True)
        wanted_us = min(end_us, self._ports.clock.now_us())
        first = self._locked(view, asked, progress)
        if first.end_us >= wanted_us:
            return first
        # an interrupted run was finished, through its own "now"; what came since is read by another
        second = self._locked(view, asked, progress)
        return replace(
            first,
            rows=first.rows + second.rows,
            seconds=first.seconds + second.seconds,
            end_us=second.end_us,
            rounded_rows=first.rounded_rows + second.rounded_rows,
        )

    def _locked(self, view: ViewSpec, asked: _Asked, progress: Progress) -> Materialized:
        if not view.online:
            raise InvalidArgument(f"feature view {view.name!r} is not online", hint="define it with online=True")
        if not asked.incremental:
            # a wrong call fails before it waits for the lock
            full_window(asked.start_us, asked.end_us, now_us=self._ports.clock.now_us())
        with self._ports.locks.hold(f"materialize-{view.uid}", wait_s=LOCK_WAIT_S):
            try:
                return self._run(view, asked, progress)
            except StookError as error:
                if self._is_declared(view):
                    raise
                self._bury(view)
                raise _deleted(view) from error

    def _run(self, view: ViewSpec, asked: _Asked, progress: Progress) -> Materialized:
        started = self._ports.clock.monotonic_s()
        self._pushes.catch_up()
        mark, mark_revision = self._watermark(view)
        if self._live(view) is None:
            mark = None  # nothing is loaded: a watermark then speaks of a store that is gone
        made = (view.uid, definition_of(view))
        valid = mark if mark is not None and mark.definition == made[1] else None
        run = self._decide(view, asked, valid if asked.incremental else mark)
        sight, done = self._carry_out(run, progress)
        if asked.incremental:
            after: Watermark | None = after_incremental(mark, run.window, made, sight)
        else:
            after = after_full(mark, run.window, made, sight, fresh=run.mode == "load")
        if not self._is_declared(view):  # deleted after this, whoever deletes it clears what was written
            raise _deleted(view)
        changes: list[Change] = [Delete(PROGRESS, view.uid)]
        if after is not None:
            changes.append(Put(WATERMARK, view.name, after.to_spec(), mark_revision))
        self._ports.records.commit(changes)
        seconds = self._ports.clock.monotonic_s() - started
        bounds = (run.window.start_us, run.window.end_us)
        return Materialized(
            view.name, done.rows, seconds, run.mode, done.generation, *bounds,
            resumed_rows=run.done_rows, rounded_rows=done.rounded,
        )  # fmt: skip

    def _is_declared(self, view: ViewSpec) -> bool:
        """Whether this very view is still stored; another may have its name."""
        record = self._ports.records.get(VIEW, view.name)
        return record is not None and record.spec["uid"] == view.uid

    def _bury(self, view: ViewSpec) -> None:
        """Takes away what a run brought of a view that was deleted beside it: whoever deleted it has cleared before."""
        self._ports.online.clear(space(view))
        changes: list[Change] = [Delete(PROGRESS, view.uid), Delete(PINNED, view.uid)]
        mark, revision = self._watermark(view)
        if mark is not None:
            changes.append(Delete(WATERMARK, view.name, revision))
        self._ports.records.commit(changes)

    def _live(self, view: ViewSpec) -> int | None:
        generations = self._ports.online.generations(space(view))
        return next((g.number for g in generations if g.state is GenerationState.LIVE), None)

    def _watermark(self, view: ViewSpec) -> tuple[Watermark | None, int]:
        record = self._ports.records.get(WATERMARK, view.name)
        if record is None:
            return None, ABSENT
        mark = Watermark.from_spec(record.spec)
        return (mark if mark.uid == view.uid else None), record.revision

    def _decide(self, view: ViewSpec, asked: _Asked, mark: Watermark | None) -> _Run:
        pinned = self._pin(view, mark)
        now_us = self._ports.clock.now_us()
        token = _token(view, pinned, asked, mark, now_us=now_us)
        record = self._ports.records.get(PROGRESS, view.uid)
        unfinished = record.spec if record is not None and record.spec["token"] == token else None
        if unfinished is not None:  # the same call, interrupted: "now" stays what it was then
            now_us = unfinished["now_us"]
        else:
            spec = {"token": token, "now_us": now_us, "rows": 0}
            self._ports.records.commit([Put(PROGRESS, view.uid, spec, ANY)])
        if asked.incremental:
            window = incremental_window(mark, pinned.history.source, asked.end_us, now_us=now_us)
        else:
            window = full_window(asked.start_us, max(asked.end_us, asked.start_us or asked.end_us), now_us=now_us)
        live = self._live(view)
        mode: Mode = "load" if asked.replace_all or live is None else "upsert"
        done = 0
        if mode == "load":
            load = self._ports.online.begin_load(space(view), token=token, now_us=now_us)
            done = load.rows
        elif unfinished is not None:
            done = unfinished["rows"]
        return _Run(view, pinned, window, mode, token, live, done)

    def _pin(self, view: ViewSpec, mark: Watermark | None) -> PinnedHistory:
        """Pins the history and records the file numbers before any row with them is written."""
        record = self._ports.records.get(PINNED, view.uid)
        previous = None if record is None else SourceSnapshot.from_spec(record.spec)
        if previous is None and mark is not None:
            previous = mark.seen
        pinned = pin_history(view, self._ports.engine, self._pushes, previous=previous, digests=True)
        source = pinned.history.source
        if source is not None and source != previous:
            self._ports.records.commit([Put(PINNED, view.uid, source.to_spec(), ANY)])
        return pinned

    def _carry_out(self, run: _Run, progress: Progress) -> tuple[Sight, _Done]:
        history = run.pinned.history
        counted = self._ports.engine.counts(history, run.window)
        known = known_through(history.source, counted.knowledge_us, run.window)
        sight = Sight(history.source, known, run.pinned.push_position)
        total = min(counted.rows, counted.keys)
        progress(run.view.name, run.done_rows, total)
        carry = self._load if run.mode == "load" else self._upsert
        rows, generation = carry(run, total, progress)
        return sight, _Done(rows, generation, counted.rounded)

    def _batches(self, run: _Run) -> Iterator[pa.RecordBatch]:
        """The run's batches behind those done: the same inputs give the same rows in the same order."""
        skip = run.done_rows
        for batch in self._ports.engine.newest(run.pinned.history, run.window, batch_rows=self._limits.chunk_rows):
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            yield batch.slice(skip) if skip else batch
            skip = 0

    def _encoded(self, run: _Run) -> Generator[tuple[list[Row], int], None, None]:
        """The batches as the store takes them, each with the number of rows read."""
        for batch in self._batches(run):
            yield encode_rows(run.view, batch).rows, batch.num_rows

    def _load(self, run: _Run, total: int, progress: Progress) -> tuple[int, int | None]:
        online, name = self._ports.online, space(run.view)
        generation = online.begin_load(name, token=run.token, now_us=self._ports.clock.now_us()).generation
        done = run.done_rows
        for rows, count in ahead(self._encoded(run)):
            online.load(name, generation, rows, lifetimes_ms=self._lifetimes(run.view, rows))
            done += count
            progress(run.view.name, done, max(total, done))
        online.activate(name, generation, expected=run.live)
        self._drop_old(name, keep=run.live)
        return done, generation

    def _upsert(self, run: _Run, total: int, progress: Progress) -> tuple[int, int | None]:
        done = run.done_rows
        for rows, count in ahead(self._encoded(run)):
            self._ports.online.put_newest([(space(run.view), rows)], lifetimes_ms=[self._lifetimes(run.view, rows)])
            done += count
            record = self._ports.records.get(PROGRESS, run.view.uid)
            if record is not None:
                self._ports.records.commit(
                    [Put(PROGRESS, run.view.uid, {**record.spec, "rows": done}, record.revision)]
                )
            progress(run.view.name, done, max(total, done))
        return done, None

    def _lifetimes(self, view: ViewSpec, rows: Sequence[Row]) -> Lifetimes:
        return lifetimes_ms(view, rows, self._ports.clock.now_us(), self._ports.online.abilities)

    def _drop_old(self, name: str, *, keep: int | None) -> None:
        """Keeps the live generation, the one that was live before, and the newest others, as many as the setting says."""
        generations = self._ports.online.generations(name)
        ready = [g.number for g in generations if g.state is GenerationState.READY]
        ready.sort(key=lambda number: (number == keep, number))
        others = self._limits.generations_kept - 1
        for number in ready[: max(len(ready) - others, 0)]:
            self._ports.online.drop(name, number)

    def activate(self, view: ViewSpec, generation: int, *, expected: int | None) -> None:
        """Switches to another generation. The watermark goes first: it spoke of the one before, so that the next
        incremental run looks at everything. Raises Conflict, UnknownObject."""
        with self._ports.locks.hold(f"materialize-{view.uid}", wait_s=LOCK_WAIT_S):
            self._ports.records.commit([Delete(WATERMARK, view.name)])
            self._ports.online.activate(space(view), generation, expected=expected)


def _deleted(view: ViewSpec) -> Conflict:
    return Conflict(
        f"feature view {view.name!r} was deleted while it was materialized", hint="apply it again if it is still wanted"
    )


def _token(view: ViewSpec, pinned: PinnedHistory, asked: _Asked, mark: Watermark | None, *, now_us: int) -> str:
    """Names a run by everything that decides its rows but the clock, so that only the very same run is resumed.

    Of an incremental run, an end about now or later means "now", whatever it says: an interrupted one keeps its own now, and
    what came since is read by the next. A full one has no next: with an end after now it is another run as now moves on. A query is named by its
    text alone, which says nothing of the rows it will give next time: a run over one never bears another's name.
    """
    source = pinned.history.source
    if source is not None and source.query is not None:
        return secrets.token_hex(TOKEN_BYTES)
    end: int | str = min(asked.end_us, now_us)
    if asked.incremental and asked.end_us >= now_us - NOW_WITHIN_US:
        end = "now"
    facts = {
        "uid": view.uid,
        "revision": view.schema.revision,
        "source": None if source is None else source.to_spec(),
        "pushes": pinned.push_position,
        "asked": asdict(asked) | {"end_us": end},
        "watermark": None if mark is None else mark.to_spec(),
    }
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=TOKEN_BYTES).hexdigest()
