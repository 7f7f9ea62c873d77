"""The push path: log first, then the online store, later history.

It is a file of its own because it is the one place where "acknowledged" is given its meaning. The app calls it
for pushes, deletes and replay; histories read the log's tail through it. It must never apply a row online that is
not in the log, and never truncate the log before history and the online store both hold its rows.

Invariants
- A push returns only after its entries are in the log, which is durable, and all entries up to them are online.
- The online store's position only ever covers entries all of which it holds: whoever applies starts at the stored
  position, so an entry whose writer died between log and store is applied by the next one.
- A fold appends to each view's table with the log position it reaches, so that doing it twice is doing it once.
- A view that cannot be folded stops no other: its entries stay in the log, where history reads them, and with them
  whatever stands behind; the others' rows are folded beside.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from stook.core.arrow import arrow_schema, conform, to_arrow
from stook.core.dtypes import Bool, DType, Int64
from stook.core.errors import Conflict, InvalidArgument, StookError, TryAgain, first_line
from stook.core.outcomes import Acknowledgement
from stook.core.plans import TableSnapshot
from stook.core.ports.clock import Clock
from stook.core.ports.keyvalue import KeyValue, Row
from stook.core.ports.locks import Locks
from stook.core.ports.log import Log
from stook.core.ports.tables import Tables
from stook.core.rows import ARRIVAL, DELETED, EVENT_US, KNOWLEDGE_US
from stook.core.settings import Limits
from stook.core.specs import Column, ViewSpec
from stook.ingest.accept import accept_delete, accept_push, check_not_future, known_columns
from stook.ingest.entries import STREAM, EntryHeader, PushEntry, Target, decode_entry, encode_entries
from stook.online.write import encode_rows, lifetimes_ms, space
from stook.registry.catalogue import Catalogue

READ_ENTRIES_MAX: Final = 256
ENTRIES_UNFOLDED_MAX: Final = 1_000  # every point-in-time read goes through the log's tail
FOLD_LOCK: Final = "fold"
REPLAY_ATTEMPTS: Final = 5
TABLE_PREFIX: Final = "push/"
_log: Final = logging.getLogger("stook")
ORDER: Final = (Column(EVENT_US, Int64), Column(KNOWLEDGE_US, Int64), Column(ARRIVAL, Int64), Column(DELETED, Bool))


@dataclass(frozen=True)
class PushPorts:
    """The doors that pushes go through."""

    log: Log
    online: KeyValue
    tables: Tables
    locks: Locks
    clock: Clock


class FindCatalogue(Protocol):
    """How the catalogue is found."""

    def __call__(self, *, fresh: bool = False) -> Catalogue:
        """The catalogue, perhaps a moment old; not with `fresh`."""
        ...


class Pushes:
    """Pushes, deletes, replay and folding, over five ports. Safe from several threads and processes."""

    def __init__(self, ports: PushPorts, limits: Limits, catalogue: FindCatalogue) -> None:
        self._ports = ports
        self._limits = limits
        self._catalogue = catalogue
        self._rows_since_fold = 0
        self._folded_through = 0
        self._folded_s = ports.clock.monotonic_s()

    def push(self, name: str, data: Any, to: Target) -> Acknowledgement:
        """Pushes a table to a view, or to every view of a push source; durable and visible once it returns.

        All views' rows go into the log together. Raises UnknownObject, SchemaMismatch, InvalidArgument before
        anything is written; Conflict when a view was deleted meanwhile; EngineUnavailable, DiskFull.
        """
        now_us = self._ports.clock.now_us()
        through_us = now_us + self._limits.future_tolerance_ms * 1_000
        views = self._catalogue().pushed_views(name)
        payloads: list[bytes] = []
        rows = 0
        taken = {column for view in views for column in known_columns(view)}
        for view in views:
            accepted = accept_push(view, data, now_us=now_us, others=taken)
            if to is Target.ONLINE:
                if not view.online:
                    raise InvalidArgument(f"feature view {view.name!r} is not online", hint='push it with to="offline"')
                check_not_future(accepted, through_us, view.name)
            payloads += encode_entries(_header(view, to, now_us, through_us), accepted)
            _check_storable(view, accepted)
            rows = max(rows, accepted.num_rows)
        return self._append(payloads, rows, views)

    def delete_rows(self, view: ViewSpec, keys: Any) -> Acknowledgement:
        """Writes a tombstone dated now for each entity, online and in history; durable once it returns."""
        now_us = self._ports.clock.now_us()
        accepted = accept_delete(view, keys, now_us=now_us)
        _check_storable(view, accepted)
        payloads = encode_entries(_header(view, Target.BOTH, now_us, now_us), accepted)
        return self._append(payloads, accepted.num_rows, (view,))

    def _append(self, payloads: Sequence[bytes], rows: int, views: Sequence[ViewSpec]) -> Acknowledgement:
        names = tuple(view.name for view in views)
        if not payloads:
            return Acknowledgement(0, names, 0)
        position = self._ports.log.append(STREAM, payloads)
        _, seen = self._catch_up()
        there = seen or self._views_by_uid()  # the views were found in a catalogue that may be a moment old
        for view in views:
            if view.uid not in there:
                raise Conflict(
                    f"feature view {view.name!r} was deleted, or deleted and made anew, a moment ago, and keeps none of these"
                    " rows",
                    hint="repeat the call; rows of other views of the same push source may be pushed twice",
                )
        self._fold_when_due(rows)
        return Acknowledgement(rows, names, position)

    def catch_up(self) -> int:
        """Applies to the online store every entry it does not hold yet; returns the position reached. Idempotent.

        Entries of views that are gone are passed over. Raises EngineUnavailable, DiskFull, CorruptStore.
        """
        return self._catch_up()[0]

    def _catch_up(self) -> tuple[int, dict[str, ViewSpec]]:
        """As `catch_up`; also the views that it saw in the registry last, none where it had nothing to apply."""
        views: dict[str, ViewSpec] = {}
        online, log = self._ports.online, self._ports.log
        position = online.position(STREAM)
        end = log.end(STREAM)
        while position < end:
            try:
                entries = log.read(STREAM, after=position, limit=READ_ENTRIES_MAX)
            except Conflict:
                # Folded meanwhile, and so applied by whoever did. Or the store is younger than the log, having been
                # deleted or restored: what it lacks is in history, and the next materialization brings it.
                position = max(online.position(STREAM), log.base(STREAM))
                continue
            if not entries:
                break
            views = self._views_by_uid()
            writes: dict[str, list[Row]] = {}
            for entry in map(decode_entry, entries):
                view = views.get(entry.header.uid)
                if view is not None and view.online and entry.to.online:
                    for batch in align(_due(entry), view).to_batches():
                        writes.setdefault(space(view), []).extend(encode_rows(view, batch).rows)
            position = entries[-1].position
            now_us = self._ports.clock.now_us()
            by_space = {space(view): view for view in views.values()}
            lifetimes = [lifetimes_ms(by_space[name], rows, now_us, online.abilities) for name, rows in writes.items()]
            online.put_newest(list(writes.items()), position=(STREAM, position), lifetimes_ms=lifetimes)
        return position, views

    def _views_by_uid(self) -> dict[str, ViewSpec]:
        """All views, as declared at or after the moment entries were read: an entry's view is always among them,
        unless it was deleted, and its schema is never newer than the view's."""
        return {view.uid: view for view in self._catalogue(fresh=True).views.values()}

    def _fold_when_due(self, rows: int) -> None:
        """Folds when this process has pushed enough since its last fold, when enough entries of anybody's have
        gathered, or when it is long ago. The push is durable already, so that a fold which cannot be done now
        (somebody else folds, the disk is full) is left to a later one, and any other failure is said, not raised."""
        log, now_s = self._ports.log, self._ports.clock.monotonic_s()
        self._rows_since_fold += rows
        many = self._rows_since_fold >= self._limits.fold_rows
        old = now_s - self._folded_s >= self._limits.fold_after_s
        if many or old or log.end(STREAM) - max(log.base(STREAM), self._folded_through) >= ENTRIES_UNFOLDED_MAX:
            self._rows_since_fold, self._folded_s = 0, now_s
            try:
                self.fold(wait_s=0)
            except TryAgain:
                pass
            except StookError as error:
                _log.warning("pushes are safe in the log, but not folded into history: %s", error)

    def fold(self, *, wait_s: float = 60.0) -> int:
        """Moves the log's entries into each view's history table; returns the position through which the log is empty.

        The entries of a view that cannot be folded stay in the log, and all behind them, which are folded as well;
        a warning names the view. Raises Busy when another process folds now and does not end within `wait_s` seconds.
        """
        log = self._ports.log
        with self._ports.locks.hold(FOLD_LOCK, wait_s=wait_s):
            end = self.catch_up()
            base = position = log.base(STREAM)
            held: dict[str, str] = {}
            while position < end:
                entries = log.read(STREAM, after=position, limit=READ_ENTRIES_MAX)
                if not entries:
                    break
                position = entries[-1].position
                self._fold_entries([decode_entry(e) for e in entries], position, held)
                if not held:
                    log.truncate(STREAM, through=position)
                    base = position
            self._folded_through = position
        for why in held.values():
            _log.warning(
                "%s: what is pushed to it stays in the push log, which grows until it is mended or deleted", why
            )
        return base

    def _fold_entries(self, entries: Iterable[PushEntry], through: int, held: dict[str, str]) -> None:
        """Folds what is not yet folded; adds the views that cannot be to `held`, by uid, and passes those over."""
        views = self._views_by_uid()
        gathered: dict[str, list[PushEntry]] = {}
        for entry in entries:
            if entry.to.offline and entry.header.uid in views and entry.header.uid not in held:
                gathered.setdefault(entry.header.uid, []).append(entry)
        for uid, mine in gathered.items():
            try:
                self._fold_view(views[uid], mine, through)
            except TryAgain:
                raise
            except (StookError, pa.ArrowException) as error:
                held[uid] = f"feature view {views[uid].name!r} cannot be folded into history: {first_line(error)}"

    def _fold_view(self, view: ViewSpec, entries: Iterable[PushEntry], through: int) -> None:
        folded, columns = _folded(self._ports.tables, view), stored_columns(view)
        tables = [align(entry.rows, view, columns) for entry in entries if entry.position > folded]
        if tables:
            reader = pa.concat_tables(tables).to_reader()
            self._ports.tables.append(table_names(view)[-1], columns, reader, position=through)

    def history_of(self, view: ViewSpec) -> tuple[TableSnapshot | None, pa.Table | None, int]:
        """The view's folded pushes, those still in the log, and the position through which both reach.

        The tail is read before the table is pinned: what is folded in between stands in both, and is taken once.
        Rows of tables that engines do not read (of older schemas, or kept without files) join the tail.
        """
        log = self._ports.log
        for attempt in range(REPLAY_ATTEMPTS):
            base, end = log.base(STREAM), log.end(STREAM)
            try:
                entries = self._tail_entries(view.uid, base, end)
            except Conflict:  # somebody folded between the two calls
                if attempt == REPLAY_ATTEMPTS - 1:
                    raise
                continue
            *older, pushed = [self._ports.tables.pin(name) for name in table_names(view)]
            folded = max((t.position for t in (*older, pushed) if t is not None), default=0)
            kept = [align(e.rows, view) for e in entries if e.position > folded]
            read = [t for t in (*older, pushed) if t is not None and (t is not pushed or not t.files)]
            kept += [align(self._ports.tables.read(table), view) for table in read]
            return pushed, pa.concat_tables(kept) if kept else None, end
        raise AssertionError("unreachable")

    def _tail_entries(self, uid: str, base: int, end: int) -> list[PushEntry]:
        found: list[PushEntry] = []
        position = base
        while position < end:
            entries = self._ports.log.read(STREAM, after=position, limit=READ_ENTRIES_MAX)
            if not entries:
                break
            decoded = [decode_entry(e) for e in entries if e.position <= end]
            found += [e for e in decoded if e.header.uid == uid and e.to.offline]
            position = entries[-1].position
        return found

    def forget(self, view: ViewSpec) -> None:
        """Deletes a dropped view's online rows and pushed history. Idempotent."""
        self._ports.online.clear(space(view))
        for name in table_names(view):
            self._ports.tables.drop(name)


def _header(view: ViewSpec, to: Target, now_us: int, through_us: int) -> EntryHeader:
    return EntryHeader(view.uid, view.name, to.value, view.schema.revision, now_us, through_us)


def _due(entry: PushEntry) -> pa.Table:
    """The entry's rows that may be online: neither dated nor known later than the entry allows."""
    limit = entry.header.online_through_us
    dated, known = (pc.less_equal(entry.rows.column(name), limit) for name in (EVENT_US, KNOWLEDGE_US))
    return entry.rows.filter(pc.and_(dated, known))


def table_names(view: ViewSpec) -> list[str]:
    """The tables of a view's folded pushes, oldest first; the last one takes new rows.

    A table's column keeps its type, so a schema that widens one starts another table. Added and dropped features
    do not: they are null in rows without them.
    """
    types: dict[str, DType] = {}
    starts = [view.schemas[0].revision]
    for schema in view.schemas:
        if any(types.get(c.name, c.dtype) != c.dtype for c in schema.features):
            starts.append(schema.revision)
        types |= {c.name: c.dtype for c in schema.features}
    return [f"{TABLE_PREFIX}{view.uid}/{revision}" for revision in starts]


def _folded(tables: Tables, view: ViewSpec) -> int:
    """The log position through which the view's entries are in its tables."""
    pinned = [tables.pin(name) for name in table_names(view)]
    return max((table.position for table in pinned if table is not None), default=0)


def history_columns(view: ViewSpec) -> tuple[Column, ...]:
    """What history knows of a row: keys, current features, order."""
    return (*view.keys, *view.features, *ORDER)


def stored_columns(view: ViewSpec) -> tuple[Column, ...]:
    """What is kept of a row: every feature the view ever had, in its newest type, so that one which is dropped and
    comes back finds its old values again, as it does online."""
    features = {c.name: c for schema in view.schemas for c in schema.features}
    return (*view.keys, *features.values(), *ORDER)


def align(rows: pa.Table, view: ViewSpec, asked: Sequence[Column] | None = None) -> pa.Table:
    """Rows of any schema of the view with the columns asked for (those of `history_columns`): features of old are
    widened, absent ones null, others left out."""
    wanted = history_columns(view) if asked is None else asked
    columns: dict[str, Any] = {}
    for column in wanted:
        if column.name in rows.column_names:
            columns[column.name] = conform(
                rows.column(column.name), column.dtype, f"a row pushed to {view.name!r}: column {column.name!r}"
            )
        else:
            columns[column.name] = pa.nulls(rows.num_rows, to_arrow(column.dtype))
    return pa.table(columns, schema=arrow_schema(wanted))


def _check_storable(view: ViewSpec, accepted: pa.Table) -> None:
    """Encodes the rows as the online store would hold them: what it cannot hold must not reach the log, where it
    would stop everybody. Raises SchemaMismatch, TooLarge."""
    if view.online:
        for batch in accepted.append_column(ARRIVAL, pa.nulls(accepted.num_rows, pa.int64()).fill_null(0)).to_batches():
            encode_rows(view, batch)
