"""The KeyValue port on Redis.

It is a file of its own so that the port's promises can be read in one place; `layout` says how rows lie. The app opens
it by entry point from `online = "redis://host:6379/0"` or `"redis+cluster://host1:7001,host2:7002"`. It must never
write a row before its key is indexed, nor answer for a server that it could not ask.

An acknowledged write is as durable as the servers are told to make it: see `docs/guides/redis.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge
from pathlib import Path
from typing import Final

from stook.backends.redis.address import Address, parse_address
from stook.backends.redis.fleet import Fleet, call, command
from stook.backends.redis.index import Index
from stook.backends.redis.layout import LAYOUT, Names
from stook.backends.redis.loading import Loader
from stook.backends.redis.reading import Reader
from stook.backends.redis.rows import RowWriter, pieces
from stook.backends.redis.scripts import SET_LARGER
from stook.backends.redis.states import Garbage, Loaded, State, States, fresh_uid
from stook.backends.redis.sweeping import Sweeper
from stook.core.errors import Conflict, CorruptStore, InvalidArgument, NewerStore, UnknownObject
from stook.core.ports.keyvalue import (
    KEY_BYTES_MAX,
    Generation,
    KeyValue,
    KeyValueAbility,
    Lifetimes,
    Load,
    Row,
)
from stook.core.rows import newer
from stook.core.settings import EngineUrl

SCAN_KEYS: Final = 1_000  # keys whose rows a scan asks for at once


def open_keyvalue(url: EngineUrl, root: Path) -> KeyValue:  # noqa: ARG001 (all engines are opened alike)
    """The store in one server. Raises InvalidSettings, NotSupported, NewerStore, EngineUnavailable."""
    return RedisKeyValue(parse_address(url, cluster=False))


def open_cluster(url: EngineUrl, root: Path) -> KeyValue:  # noqa: ARG001 (all engines are opened alike)
    """The store in a cluster. Raises as `open_keyvalue`."""
    return RedisKeyValue(parse_address(url, cluster=True))


class RedisKeyValue:
    """Rows in Redis, shared with other threads and processes.

    Reads of one server are from one state. In a cluster each key is, and all keys of a space are of one generation.
    """

    def __init__(self, address: Address) -> None:
        abilities = {KeyValueAbility.PROCESSES, KeyValueAbility.EXPIRY}
        self.abilities = frozenset(abilities if address.cluster else abilities | {KeyValueAbility.SNAPSHOT})
        self._names = Names(address.prefix)
        self._fleet = Fleet(address)
        self._fleet.open()
        self._check_layout()
        self._rows = RowWriter(self._fleet, self._names)
        self._index = Index(self._fleet, self._names, self._rows)
        self._states = States(self._fleet, self._names)
        self._sweeper = Sweeper(self._fleet, self._names, self._states, self._index)
        self._loader = Loader(self._states, self._index, self._rows, self._sweeper)
        self.get_many_of = Reader(self._fleet, self._names).get_many

    def _check_layout(self) -> None:
        key = self._names.layout
        self._fleet.do([command("SET", key, LAYOUT, "NX")])
        (found,) = self._fleet.do([command("GET", key)])
        if found != LAYOUT:
            if found is None or not found.isdigit():
                raise CorruptStore(
                    f"{self._fleet.address.shown}: what stands under {key.decode()} is not stook's",
                    hint="give this project a prefix of its own in engines.online",
                )
            raise NewerStore(
                f"{self._fleet.address.shown} has layout {int(found)}; this stook reads up to {int(LAYOUT)}",
                hint="upgrade stook",
            )

    def get_many(
        self, reads: Sequence[tuple[str, Sequence[bytes]]], *, bytes_max: int | None = None
    ) -> list[list[bytes | None]]:
        return self.get_many_of(reads, bytes_max)

    def put_newest(
        self,
        writes: Sequence[tuple[str, Sequence[Row]]],
        *,
        position: tuple[str, int] | None = None,
        lifetimes_ms: Sequence[Lifetimes] | None = None,
    ) -> int:
        for space, rows in writes:
            _check_keys(space, rows)
        lifetimes = [None] * len(writes) if lifetimes_ms is None else lifetimes_ms
        replaced = sum(
            self._upsert(space, rows, lives) for (space, rows), lives in zip(writes, lifetimes, strict=True) if rows
        )
        if position is not None:
            stream, n = position
            self._fleet.do([call(SET_LARGER, [self._names.position(stream)], [b"%020d" % n])], confirm=True)
        return replaced

    def _upsert(self, space: str, rows: Sequence[Row], lifetimes_ms: Lifetimes) -> int:
        state = self._states.read(space)
        if not state.has_overlay:

            def begin(state: State) -> State:
                state.make()
                state.has_overlay = True
                return state

            state = self._states.change(space, begin)
        keys = [key for key, _ in rows]
        self._index.add(state.uid, keys, lifetimes_ms)
        live = "" if state.live is None else state.generations[state.live].uid
        replaced = self._rows.keep_newest(state.uid, rows, lifetimes_ms, live=live)
        if self._states.read(space).uid != state.uid:  # cleared meanwhile: these rows came before, and went with it
            self._rows.delete(state.uid, keys)
            self._sweeper.discard(space, Garbage(state.uid, 0))
        elif lifetimes_ms is not None:
            self._sweeper.tidy(state.uid, len(rows))
        return replaced

    def position(self, stream: str) -> int:
        (found,) = self._fleet.do([command("GET", self._names.position(stream))])
        return int(found or 0)

    def begin_load(self, space: str, *, token: str, now_us: int) -> Load:
        (number,) = self._fleet.do([command("INCR", self._names.numbers)], confirm=True)
        new = Loaded(fresh_uid(), now_us, token=token)

        def begin(state: State) -> Load:
            state.make()
            for there, found in list(state.generations.items()):
                if found.loading and found.token == token:
                    return Load(there, found.rows, None if found.last_key is None else bytes.fromhex(found.last_key))
                if found.loading:
                    state.drop(there)
            largest = max([number, *(known + 1 for known in state.generations)])
            state.generations[largest] = new
            return Load(largest, 0, None)

        load: Load = self._states.change(space, begin)
        self._sweeper.sweep()
        state = self._states.read(space)
        if state.has_overlay:
            self._sweeper.tidy_all(state.uid)
        return load

    def load(self, space: str, generation: int, rows: Sequence[Row], *, lifetimes_ms: Lifetimes = None) -> None:
        _check_keys(space, rows)
        self._loader.load(space, generation, rows, lifetimes_ms)

    def activate(self, space: str, generation: int, *, expected: int | None) -> None:
        def switch(state: State) -> None:
            found = state.generations.get(generation)
            if found is None:
                there = ", ".join(map(str, sorted(state.generations)))
                raise UnknownObject(
                    f"{space!r} has no generation {generation}",
                    hint=f"there is: {there}" if there else "load one first",
                )
            if state.live != expected:
                raise Conflict(
                    f"the live generation of {space!r} is {state.live}, not {expected}",
                    hint="look at the generations and decide again",
                )
            state.live = generation
            found.loading, found.token, found.last_key = False, "", None

        self._states.change(space, switch)

    def generations(self, space: str) -> list[Generation]:
        return self._states.read(space).told()

    def drop(self, space: str, generation: int) -> None:
        def forget(state: State) -> None:
            if generation == state.live:
                raise InvalidArgument(
                    f"generation {generation} of {space!r} is live", hint="activate another one, then drop it"
                )
            if generation in state.generations:
                state.drop(generation)

        self._states.change(space, forget)
        self._sweeper.sweep()

    def scan(self, space: str) -> Iterator[Row]:
        """As the port says. The overlay's keys, not its rows, are held in memory until the scan ends."""
        state = self._states.read(space)
        live = None if state.live is None else state.generations[state.live]
        upserted = self._index.members(state.uid) if state.has_overlay else []
        keys = merge(upserted, *self._runs(live))
        for some in pieces(_distinct(keys), SCAN_KEYS):
            loaded = self._rows.ask("GET", live.uid, some) if live else [None] * len(some)
            over = self._rows.ask("GET", state.uid, some) if upserted else [None] * len(some)
            won = [
                second if second is not None and newer(second, first) else first
                for first, second in zip(loaded, over, strict=True)
            ]
            if None in won and not self._is_there(space, state):
                raise Conflict(f"the rows of {space!r} were dropped while it was scanned", hint="scan again")
            yield from ((key, value) for key, value in zip(some, won, strict=True) if value is not None)

    def _is_there(self, space: str, before: State) -> bool:
        """Whether what was live in the space is still stored."""
        now = self._states.read(space)
        return now.uid == before.uid and (before.live is None or before.live in now.generations)

    def _runs(self, live: Loaded | None) -> list[Iterator[bytes]]:
        """The keys of a generation as sorted runs: one where it was loaded in key order, else one for each list."""
        if live is None:
            return []
        runs = [(live.uid, live.listed)] if live.ordered else _each(live.uid, live.listed)
        return [self._keys_of(uid, ranges) for uid, ranges in runs + _each(live.uid, live.pending)]

    def _keys_of(self, uid: str, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        for some in self._index.read_lists(uid, ranges):
            yield from some

    def clear(self, space: str) -> None:
        self._states.change(space, State.clear)
        self._sweeper.sweep()

    def close(self) -> None:
        self._fleet.close()


def _each(uid: str, ranges: Sequence[tuple[int, int]]) -> list[tuple[str, list[tuple[int, int]]]]:
    """A run of its own for every list."""
    return [(uid, [(number, 1)]) for first, count in ranges for number in range(first, first + count)]


def _distinct(keys: Iterator[bytes]) -> Iterator[bytes]:
    last: bytes | None = None
    for key in keys:
        if key != last:
            yield key
        last = key


def _check_keys(space: str, rows: Sequence[Row]) -> None:
    longest = max((len(key) for key, _ in rows), default=0)
    if longest > KEY_BYTES_MAX:
        raise InvalidArgument(
            f"{space!r}: a key has {longest} bytes", hint=f"at most {KEY_BYTES_MAX}; shorten longer ones"
        )
