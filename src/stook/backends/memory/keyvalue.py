"""The KeyValue port in this process's memory.

It is a file of its own because it is the fake that other rooms' tests run on, so it is the port's promises in their
plainest form. The app opens it by entry point from `online = "memory:"`. Rows live in one dict per overlay and
generation under one lock. It must never promise more than the port does, nor outlive its process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stook.core.errors import Conflict, InvalidArgument, UnknownObject
from stook.core.ports.keyvalue import (
    KEY_BYTES_MAX,
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


def open_keyvalue(url: EngineUrl, root: Path) -> KeyValue:  # noqa: ARG001 (all engines are opened alike)
    """A new, empty store."""
    return MemoryKeyValue()


@dataclass
class _Loaded:
    created_us: int
    token: str
    loading: bool = True
    rows: dict[bytes, bytes] = field(default_factory=dict)
    last_key: bytes | None = None


@dataclass
class _Space:
    overlay: dict[bytes, bytes] = field(default_factory=dict)
    generations: dict[int, _Loaded] = field(default_factory=dict)
    live: int | None = None

    def live_rows(self) -> dict[bytes, bytes]:
        return {} if self.live is None else self.generations[self.live].rows


class MemoryKeyValue:
    """Rows in dicts. Every call is atomic; threads of one process share it."""

    abilities = frozenset({KeyValueAbility.SNAPSHOT, KeyValueAbility.STEADY_SCAN})

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._spaces: dict[str, _Space] = {}
        self._positions: dict[str, int] = {}
        self._last_generation = 0
        self._closed = False

    def get_many(
        self, reads: Sequence[tuple[str, Sequence[bytes]]], *, bytes_max: int | None = None
    ) -> list[list[bytes | None]]:
        with self._lock:
            answers: list[list[bytes | None]] = []
            for space, keys in reads:
                found = self._space(space)
                answers.append([_winner(found, key) for key in keys])  # no copies: checked when all are found
                if bytes_max is not None:
                    bytes_max = spend(answers[-1], bytes_max)
            return answers

    def put_newest(
        self,
        writes: Sequence[tuple[str, Sequence[Row]]],
        *,
        position: tuple[str, int] | None = None,
        lifetimes_ms: Sequence[Lifetimes] | None = None,  # noqa: ARG002 (nothing expires here)
    ) -> int:
        for space, rows in writes:
            _check_keys(space, rows)
        replaced = 0
        with self._lock:
            for space, rows in writes:
                found = self._space(space)
                for key, value in rows:
                    replaced += newer(value, _winner(found, key))
                    _keep_newest(found.overlay, key, value)
            if position is not None:
                stream, n = position
                self._positions[stream] = max(n, self._positions.get(stream, 0))
        return replaced

    def position(self, stream: str) -> int:
        with self._lock:
            return self._positions.get(stream, 0)

    def begin_load(self, space: str, *, token: str, now_us: int) -> Load:
        with self._lock:
            generations = self._space(space).generations
            for number, loaded in list(generations.items()):
                if loaded.loading and loaded.token == token:
                    return Load(number, len(loaded.rows), loaded.last_key)
                if loaded.loading:
                    del generations[number]
            self._last_generation += 1
            generations[self._last_generation] = _Loaded(now_us, token)
            return Load(self._last_generation, 0, None)

    def load(
        self,
        space: str,
        generation: int,
        rows: Sequence[Row],
        *,
        lifetimes_ms: Lifetimes = None,  # noqa: ARG002 (nothing expires here)
    ) -> None:
        _check_keys(space, rows)
        with self._lock:
            loaded = self._space(space).generations.get(generation)
            if loaded is None or not loaded.loading:
                why = "there is no such generation" if loaded is None else "it is complete"
                raise InvalidArgument(
                    f"generation {generation} of {space!r} takes no rows: {why}", hint="begin a new load"
                )
            for key, value in rows:
                _keep_newest(loaded.rows, key, value)
                loaded.last_key = key

    def activate(self, space: str, generation: int, *, expected: int | None) -> None:
        with self._lock:
            found = self._space(space)
            if generation not in found.generations:
                there = ", ".join(map(str, found.generations))
                raise UnknownObject(
                    f"{space!r} has no generation {generation}",
                    hint=f"there is: {there}" if there else "load one first",
                )
            if found.live != expected:
                raise Conflict(
                    f"the live generation of {space!r} is {found.live}, not {expected}",
                    hint="look at the generations and decide again",
                )
            found.live = generation
            found.generations[generation].loading = False

    def generations(self, space: str) -> list[Generation]:
        with self._lock:
            found = self._space(space)
            return [
                Generation(number, len(loaded.rows), _state(found, number), loaded.created_us)
                for number, loaded in sorted(found.generations.items())
            ]

    def drop(self, space: str, generation: int) -> None:
        with self._lock:
            found = self._space(space)
            if generation == found.live:
                raise InvalidArgument(
                    f"generation {generation} of {space!r} is live", hint="activate another one, then drop it"
                )
            found.generations.pop(generation, None)

    def scan(self, space: str) -> Iterator[Row]:
        with self._lock:
            found = self._space(space)
            rows = dict(found.live_rows())
            for key, value in found.overlay.items():
                _keep_newest(rows, key, value)
        yield from sorted(rows.items())

    def clear(self, space: str) -> None:
        with self._lock:
            self._space(space)
            del self._spaces[space]

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._spaces.clear()

    def _space(self, space: str) -> _Space:
        if self._closed:
            raise InvalidArgument("the online store in memory was closed", hint="open a new one")
        return self._spaces.setdefault(space, _Space())


def _winner(space: _Space, key: bytes) -> bytes | None:
    upserted, loaded = space.overlay.get(key), space.live_rows().get(key)
    return upserted if upserted is not None and newer(upserted, loaded) else loaded


def _keep_newest(rows: dict[bytes, bytes], key: bytes, value: bytes) -> None:
    if newer(value, rows.get(key)):
        rows[key] = value


def _check_keys(space: str, rows: Sequence[Row]) -> None:
    longest = max((len(key) for key, _ in rows), default=0)
    if longest > KEY_BYTES_MAX:
        raise InvalidArgument(
            f"{space!r}: a key has {longest} bytes", hint=f"at most {KEY_BYTES_MAX}; shorten longer ones"
        )


def _state(space: _Space, number: int) -> GenerationState:
    if number == space.live:
        return GenerationState.LIVE
    return GenerationState.LOADING if space.generations[number].loading else GenerationState.READY
