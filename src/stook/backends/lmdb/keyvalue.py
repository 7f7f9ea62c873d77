"""The KeyValue port on LMDB.

It is a file of its own, apart from the environment and the records, so that the port's promises can be read in one
place. The app opens it by entry point from `online = "lmdb:///path?map_gib=1024"`. A space's overlay is the newest
of all upserts, a generation the newest of its load's rows, a read the newest of both; no write to one looks at the
other, so switching generations loses nothing. It must never hold the write lock while its caller works.
"""

from __future__ import annotations

import operator
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, NoReturn

import lmdb

from stook.backends.lmdb import records
from stook.backends.lmdb.environment import Handles, SharedEnvironment, acquire, release
from stook.backends.lmdb.failures import explain
from stook.backends.lmdb.records import GenerationRecord, SpaceRecord, prefix_of
from stook.core.errors import Conflict, InvalidArgument, InvalidSettings, UnknownObject
from stook.core.ports.keyvalue import (
    KEY_BYTES_MAX,
    READ_AT_ONCE,
    Generation,
    GenerationState,
    KeyValue,
    KeyValueAbility,
    Lifetimes,
    Load,
    Row,
    spend,
)
from stook.core.rows import newer
from stook.core.settings import EngineUrl

MAP_GIB_DEFAULT: Final = "1024"
MAP_GIB_MAX: Final = 65_536
SWEEP_ROWS: Final = 10_000  # rows deleted per transaction
YIELD_S: Final = 0.001  # pause between them: waiting writers got the lock 1.1 to 2.5 times as often, at no cost
FORKS_MAX: Final = 100  # times a read begins again because its environment was closed under it, as by a fork


def open_keyvalue(url: EngineUrl, root: Path) -> KeyValue:
    """The store at the URL's path, made when absent; `map_gib` bounds its size and is sparse on disk.

    Raises InvalidSettings, CorruptStore, NewerStore, EngineUnavailable.
    """
    if url.path is None:
        raise InvalidSettings(f"engines.online is {url.text!r}, without a path", hint="lmdb:///.stook/online")
    text = url.option("map_gib", MAP_GIB_DEFAULT)
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAP_GIB_MAX):
        raise InvalidSettings(f"engines.online: map_gib is {text!r}", hint=f"a whole number, 1 to {MAP_GIB_MAX}")
    return LmdbKeyValue(root / url.path, map_bytes=int(text) << 30)


class LmdbKeyValue:
    """Rows in one LMDB environment, shared with other threads and processes.

    A read is one LMDB transaction and sees one committed state; it waits for nobody. Writers wait for each other.
    """

    abilities = frozenset({KeyValueAbility.SNAPSHOT, KeyValueAbility.PROCESSES, KeyValueAbility.STEADY_SCAN})

    def __init__(self, path: Path, *, map_bytes: int) -> None:
        self._path = path
        self._shared: SharedEnvironment | None = acquire(path, map_bytes)

    def get_many(
        self, reads: Sequence[tuple[str, Sequence[bytes]]], *, bytes_max: int | None = None
    ) -> list[list[bytes | None]]:
        for _ in range(FORKS_MAX):
            shared = self._environment()
            handles = shared.handles or shared.open()
            try:
                with handles.env.begin(db=handles.rows) as txn:
                    get = txn.get
                    if bytes_max is None or _are_small(txn, handles, reads, bytes_max):
                        return [_read(get, handles, space, keys) for space, keys in reads]
                    return _read_within(get, handles, reads, bytes_max)
            except (lmdb.Error, struct.error) as error:
                if isinstance(error, lmdb.PanicError):
                    shared.give_up(handles)
                if shared.handles is handles:
                    raise explain(error, self._path) from error
        raise explain(lmdb.Error("reads are interrupted by forks again and again"), self._path)

    def put_newest(
        self,
        writes: Sequence[tuple[str, Sequence[Row]]],
        *,
        position: tuple[str, int] | None = None,
        lifetimes_ms: Sequence[Lifetimes] | None = None,  # noqa: ARG002 (nothing expires here)
    ) -> int:
        for space, rows in writes:
            _check_keys(space, rows)
        with self._write() as (handles, txn):
            replaced = sum(_upsert(handles, txn, space, rows) for space, rows in writes)
            if position is not None:
                records.write_position(txn, handles.meta, *position)
        return replaced

    def position(self, stream: str) -> int:
        with self._read() as (handles, txn):
            return records.read_position(txn, handles.meta, stream)

    def begin_load(self, space: str, *, token: str, now_us: int) -> Load:
        with self._write() as (handles, txn):
            handles.env.reader_check()
            load = _begin_load(handles, txn, space, GenerationRecord(0, now_us, True, token, None))
        self._sweep()
        return load

    def load(
        self,
        space: str,
        generation: int,
        rows: Sequence[Row],
        *,
        lifetimes_ms: Lifetimes = None,  # noqa: ARG002 (nothing expires here)
    ) -> None:
        _check_keys(space, rows)
        prefix = prefix_of(generation) if 0 < generation < 1 << 32 else b""
        items = [(prefix + key, value) for key, value in rows]
        with self._write() as (handles, txn):
            number, record = _find_generation(handles, txn, space, generation)
            if record is None or not record.loading:
                why = "there is no such generation" if record is None else "it is complete"
                raise InvalidArgument(
                    f"generation {generation} of {space!r} takes no rows: {why}", hint="begin a new load"
                )
            if items:
                added = _add_rows(txn, handles.rows, prefix, items)
                record = record._replace(rows=record.rows + added, last_key=rows[-1][0])
                records.write_generation(txn, handles.meta, number, generation, record=record)

    def activate(self, space: str, generation: int, *, expected: int | None) -> None:
        with self._write() as (handles, txn):
            found = records.read_space(txn, handles.meta, space)
            record = found and records.read_generation(txn, handles.meta, found.number, generation)
            if not (found and record):
                raise UnknownObject(
                    f"{space!r} has no generation {generation}", hint=_known(handles, txn, space, "there is")
                )
            if (found.live or None) != expected:
                raise Conflict(
                    f"the live generation of {space!r} is {found.live or None}, not {expected}",
                    hint="look at the generations and decide again",
                )
            records.write_space(txn, handles.meta, space, found._replace(live=generation))
            done = record._replace(loading=False, token="", last_key=None)
            records.write_generation(txn, handles.meta, found.number, generation, record=done)

    def generations(self, space: str) -> list[Generation]:
        with self._read() as (handles, txn):
            found = records.read_space(txn, handles.meta, space)
            if found is None:
                return []
            return [
                Generation(number, record.rows, _state(found, number, record), record.created_us)
                for number, record in records.list_generations(txn, handles.meta, found.number)
            ]

    def drop(self, space: str, generation: int) -> None:
        with self._write() as (handles, txn):
            found = records.read_space(txn, handles.meta, space)
            if found is not None and found.live == generation:
                raise InvalidArgument(
                    f"generation {generation} of {space!r} is live", hint="activate another one, then drop it"
                )
            if found is not None and records.read_generation(txn, handles.meta, found.number, generation):
                records.delete_generation(txn, handles.meta, found.number, generation)
        self._sweep()

    def scan(self, space: str) -> Iterator[Row]:
        """As the port says. The state is that of the first `next`, and LMDB keeps every page of it until the
        iterator is exhausted or closed, so a scan left open lets the file grow. A fork ends it with
        EngineUnavailable."""
        with self._read() as (handles, txn):
            found = records.read_space(txn, handles.meta, space)
            if found is None:
                return
            live = records.under(txn, handles.rows, prefix_of(found.live)) if found.live else iter(())
            yield from _newest(records.under(txn, handles.overlay, prefix_of(found.number)), live)

    def clear(self, space: str) -> None:
        with self._write() as (handles, txn):
            found = records.read_space(txn, handles.meta, space)
            if found is not None:
                for number, _ in records.list_generations(txn, handles.meta, found.number):
                    records.delete_generation(txn, handles.meta, found.number, number)
                records.delete_space(txn, handles.meta, space, found.number)
        self._sweep()

    def close(self) -> None:
        shared, self._shared = self._shared, None
        if shared is not None:
            release(shared)

    def _environment(self) -> SharedEnvironment:
        if self._shared is None:
            _refuse_closed(self._path)
        return self._shared

    @contextmanager
    def _read(self) -> Iterator[tuple[Handles, Any]]:
        try:
            with self._environment().read() as (handles, txn):
                yield handles, txn
        except (lmdb.Error, struct.error) as error:
            raise explain(error, self._path) from error

    @contextmanager
    def _write(self) -> Iterator[tuple[Handles, Any]]:
        try:
            with self._environment().write() as (handles, txn):
                yield handles, txn
        except (lmdb.Error, struct.error) as error:
            raise explain(error, self._path) from error

    def _sweep(self) -> None:
        """Deletes rows of forgotten generations and overlays, also those that a killed process left."""
        more = True
        while more:  # ends: each round deletes up to SWEEP_ROWS rows, and numbers are never used again
            with self._write() as (handles, txn):
                more = _sweep_some(handles, txn)
            if more:
                time.sleep(YIELD_S)


def _refuse_closed(path: Path) -> NoReturn:
    raise InvalidArgument(f"the online store {path} was closed by this process", hint="open it again")


def _check_keys(space: str, rows: Sequence[Row]) -> None:
    longest = max(map(len, map(operator.itemgetter(0), rows)), default=0)
    if longest > KEY_BYTES_MAX:
        raise InvalidArgument(
            f"{space!r}: a key has {longest} bytes", hint=f"at most {KEY_BYTES_MAX}; shorten longer ones"
        )


def _read(get: Callable[..., bytes | None], handles: Handles, space: str, keys: Sequence[bytes]) -> list[bytes | None]:
    found = get(records.SPACE + space.encode(), None, handles.meta)
    if found is None:
        return [None] * len(keys)
    number, live, overlay_rows = records.unpack_space(found)
    values: list[bytes | None]
    if live:
        prefix = prefix_of(live)
        values = [get(prefix + key) for key in keys]
    else:
        values = [None] * len(keys)
    if overlay_rows:
        prefix, overlay = prefix_of(number), handles.overlay
        for i, key in enumerate(keys):
            upserted = get(prefix + key, None, overlay)
            if upserted is not None and newer(upserted, values[i]):
                values[i] = upserted
    return values


def _are_small(txn: Any, handles: Handles, reads: Sequence[tuple[str, Sequence[bytes]]], bytes_max: int) -> bool:
    """Whether the values cannot be over `bytes_max`, which spares adding them up: LMDB keeps none over half a page
    in its tree, and says whether it keeps any elsewhere."""
    loaded, upserted = txn.stat(handles.rows), txn.stat(handles.overlay)
    if loaded["overflow_pages"] or upserted["overflow_pages"]:
        return False
    return sum([len(keys) for _, keys in reads]) * loaded["psize"] // 2 <= bytes_max


def _read_within(
    get: Callable[..., bytes | None], handles: Handles, reads: Sequence[tuple[str, Sequence[bytes]]], bytes_max: int
) -> list[list[bytes | None]]:
    answers: list[list[bytes | None]] = []
    for space, keys in reads:
        values: list[bytes | None] = []
        for start in range(0, len(keys), READ_AT_ONCE):
            some = _read(get, handles, space, keys[start : start + READ_AT_ONCE])
            bytes_max = spend(some, bytes_max)
            values += some
        answers.append(values)
    return answers


def _upsert(handles: Handles, txn: Any, space: str, rows: Sequence[Row]) -> int:
    if not rows:
        return 0
    found = _make_space(handles, txn, space)
    prefix, live = prefix_of(found.number), prefix_of(found.live) if found.live else None
    get, put, overlay = txn.get, txn.put, handles.overlay
    added = replaced = 0
    for key, value in rows:
        stored = get(prefix + key, None, overlay)
        if newer(value, stored):
            put(prefix + key, value, db=overlay)
            added += stored is None
            replaced += live is None or newer(value, get(live + key, None, handles.rows))
    records.write_space(txn, handles.meta, space, found._replace(overlay_rows=found.overlay_rows + added))
    return replaced


def _make_space(handles: Handles, txn: Any, space: str) -> SpaceRecord:
    found = records.read_space(txn, handles.meta, space)
    if found is None:
        found = SpaceRecord(records.next_space(txn, handles.meta))
        records.write_space(txn, handles.meta, space, found)
    return found


def _begin_load(handles: Handles, txn: Any, space: str, new: GenerationRecord) -> Load:
    found = _make_space(handles, txn, space)
    load = None
    for number, record in records.list_generations(txn, handles.meta, found.number):
        if record.loading and record.token == new.token:
            load = Load(number, record.rows, record.last_key)
        elif record.loading:
            records.delete_generation(txn, handles.meta, found.number, number)
    if load is None:
        load = Load(records.next_generation(txn, handles.meta), 0, None)
        records.write_generation(txn, handles.meta, found.number, load.generation, record=new)
    return load


def _find_generation(handles: Handles, txn: Any, space: str, generation: int) -> tuple[int, GenerationRecord | None]:
    found = records.read_space(txn, handles.meta, space)
    if found is None:
        return 0, None
    return found.number, records.read_generation(txn, handles.meta, found.number, generation)


def _add_rows(txn: Any, rows: Any, prefix: bytes, items: list[Row]) -> int:
    """Puts rows, whose keys carry the generation's prefix, under the write rule; returns how many keys are new."""
    keys = [key for key, _ in items]
    ascending = all(map(operator.lt, keys, islice(keys, 1, None)))
    with txn.cursor(rows) as cursor:
        if ascending and keys[0] > _last_key(cursor, prefix):
            at_end = not cursor.last() or keys[0] > cursor.key()
            added: int = cursor.putmulti(items, append=at_end)[1]
            return added
        added = 0
        for key, value in sorted(items, key=operator.itemgetter(0)):  # stable: of equal rows the later one wins
            stored = cursor.get(key)
            if newer(value, stored):
                cursor.put(key, value)
                added += stored is None
        return added


def _last_key(cursor: Any, prefix: bytes) -> bytes:
    """The generation's largest key, with its prefix; empty where the generation holds none."""
    after = prefix_of(int.from_bytes(prefix, "big") + 1)
    there = cursor.prev() if cursor.set_range(after) else cursor.last()
    key: bytes = cursor.key() if there else b""
    return key if key.startswith(prefix) else b""


def _newest(overlay: Iterator[Row], live: Iterator[Row]) -> Iterator[Row]:
    """Merges two runs of prefixed rows, each in key order, into the winners, without prefixes."""
    upserted, loaded = next(overlay, None), next(live, None)
    while upserted is not None or loaded is not None:
        if loaded is None or (upserted is not None and upserted[0][4:] < loaded[0][4:]):
            assert upserted is not None
            yield upserted[0][4:], upserted[1]
            upserted = next(overlay, None)
        elif upserted is None or loaded[0][4:] < upserted[0][4:]:
            yield loaded[0][4:], loaded[1]
            loaded = next(live, None)
        else:
            winner = upserted if newer(upserted[1], loaded[1]) else loaded
            yield winner[0][4:], winner[1]
            upserted, loaded = next(overlay, None), next(live, None)


def _sweep_some(handles: Handles, txn: Any) -> bool:
    """Deletes up to SWEEP_ROWS rows that await it; whether any may be left."""
    garbage = records.first_garbage(txn, handles.meta)
    if garbage is None:
        return False
    record_key, database, prefix = garbage
    with txn.cursor(handles.rows if database == "rows" else handles.overlay) as cursor:
        there = cursor.set_range(prefix)
        for _ in range(SWEEP_ROWS):
            if not (there and cursor.key().startswith(prefix)):
                txn.delete(record_key, db=handles.meta)
                break
            there = cursor.delete() and bool(cursor.key())
    return True


def _state(space: SpaceRecord, number: int, record: GenerationRecord) -> GenerationState:
    if number == space.live:
        return GenerationState.LIVE
    return GenerationState.LOADING if record.loading else GenerationState.READY


def _known(handles: Handles, txn: Any, space: str, words: str) -> str:
    found = records.read_space(txn, handles.meta, space)
    numbers = [n for n, _ in records.list_generations(txn, handles.meta, found.number)] if found else []
    return f"{words}: {', '.join(map(str, numbers))}" if numbers else "load one first"
