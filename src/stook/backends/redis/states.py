"""A space's state: its overlay, its generations, and what awaits deletion.

It is a file of its own because every change of a space is decided here, in Python, and made by one compare-and-set in
the server. `keyvalue`, `loading` and `sweeping` call it. It must never touch a row, nor change a state in part.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from stook.backends.redis.fleet import Fleet, call, command
from stook.backends.redis.layout import UID_BYTES, Names, Seen, new_uid, pack_seen
from stook.backends.redis.scripts import COMPARE_AND_SET
from stook.core.errors import Conflict, CorruptStore
from stook.core.ports.keyvalue import Generation, GenerationState

CHANGES_MAX: Final = 100  # times a change is decided anew because somebody else made one first


@dataclass
class Loaded:
    """A generation. `lists` counts the packed lists begun, `listed` holds (first, count) of those that hold its keys;
    the last of them may belong to a chunk that is not complete, as `pending` says."""

    uid: str
    created_us: int
    rows: int = 0
    loading: bool = True
    token: str = ""
    last_key: str | None = None  # hexadecimal, as is `top`, the largest key
    top: str | None = None
    ordered: bool = True  # whether the lists follow each other in key order
    lists: int = 0
    listed: list[tuple[int, int]] = field(default_factory=list)
    pending: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Garbage:
    """Rows that await deletion: of a generation, whose keys stand in `lists` packed lists, or of an overlay (0)."""

    uid: str
    lists: int


@dataclass
class State:
    """All there is to know of a space. Without a uid it is not there, but for its garbage."""

    uid: str = ""
    has_overlay: bool = False
    live: int | None = None
    generations: dict[int, Loaded] = field(default_factory=dict)
    garbage: list[Garbage] = field(default_factory=list)
    change: str = ""  # names the last change, so that whoever lost its answer finds out that it was made

    @property
    def seen(self) -> Seen | None:
        """What reads must know of it."""
        if not self.uid:
            return None
        live = "" if self.live is None else self.generations[self.live].uid
        return Seen(self.uid, self.has_overlay, live)

    def make(self) -> None:
        """Gives the space a uid where it has none."""
        if not self.uid:
            self.uid = fresh_uid()

    def drop(self, number: int) -> None:
        """Forgets a generation; its rows become garbage."""
        gone = self.generations.pop(number)
        self.garbage.append(Garbage(gone.uid, gone.lists))

    def clear(self) -> None:
        """Forgets the space; all its rows become garbage."""
        for number in list(self.generations):
            self.drop(number)
        if self.has_overlay:
            self.garbage.append(Garbage(self.uid, 0))
        self.uid, self.has_overlay, self.live = "", False, None

    def told(self) -> list[Generation]:
        """The generations as the port tells them."""
        return [
            Generation(number, found.rows, self._state(number), found.created_us)
            for number, found in sorted(self.generations.items())
        ]

    def _state(self, number: int) -> GenerationState:
        if number == self.live:
            return GenerationState.LIVE
        return GenerationState.LOADING if self.generations[number].loading else GenerationState.READY


Decide = Callable[[State], Any]


class States:
    """The states of all spaces."""

    def __init__(self, fleet: Fleet, names: Names) -> None:
        self._fleet = fleet
        self._names = names

    def read(self, space: str) -> State:
        """The space's state; an empty one where there is none."""
        return self._read(space)[0]

    def change(self, space: str, decide: Decide) -> Any:
        """Applies `decide` to the state and stores the outcome in one step; its answer.

        It is called again when somebody else changed the state first, and what it raises leaves all as it was.
        """
        meta, seen = self._names.meta(space), self._names.seen(space)
        for _ in range(CHANGES_MAX):
            state, before = self._read(space)
            dirty = len(state.garbage)
            answer = decide(state)
            if len(state.garbage) > dirty:
                self._fleet.do([command("SADD", self._names.unclean, space.encode())], confirm=True)
            state.change = fresh_uid()
            after = encode(state) if state.uid or state.garbage else b""
            (made,) = self._fleet.do(
                [call(COMPARE_AND_SET, [meta, seen], [before, after, pack_seen(state.seen)])], confirm=True
            )
            # the answer of a first attempt may have been lost on its way, and the second have found it done
            if made or self._read(space)[0].change == state.change:
                return answer
        raise Conflict(f"{space!r} is changed by others all the time", hint="repeat the call")

    def _read(self, space: str) -> tuple[State, bytes]:
        (found,) = self._fleet.do([command("GET", self._names.meta(space))])
        return (decode(found, space), found) if found else (State(), b"")


def fresh_uid() -> str:
    """A uid that was never used before."""
    return new_uid(os.urandom(UID_BYTES))


def encode(state: State) -> bytes:
    """A state as JSON."""
    return json.dumps(asdict(state), separators=(",", ":")).encode()


def decode(found: bytes, space: str) -> State:
    """The inverse of `encode`. Raises CorruptStore."""
    try:
        spec = json.loads(found)
        spec["generations"] = {int(number): _loaded(loaded) for number, loaded in spec["generations"].items()}
        spec["garbage"] = [Garbage(**garbage) for garbage in spec["garbage"]]
        return State(**spec)
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptStore(
            f"the state of {space!r} in Redis does not read back: {error}",
            hint="delete the keys under this prefix, then materialize again",
        ) from None


def _loaded(spec: dict[str, Any]) -> Loaded:
    ranges = {name: [(first, count) for first, count in spec[name]] for name in ("listed", "pending")}
    return Loaded(**(spec | ranges))


def extended(ranges: Sequence[tuple[int, int]], first: int, count: int) -> list[tuple[int, int]]:
    """Ranges with one more, joined to the last where it follows it.

    >>> extended([(0, 2)], 2, 3), extended([(0, 2)], 4, 1), extended([], 0, 0)
    ([(0, 5)], [(0, 2), (4, 1)], [])
    """
    if not count:
        return list(ranges)
    if ranges and sum(ranges[-1]) == first:
        return [*ranges[:-1], (ranges[-1][0], ranges[-1][1] + count)]
    return [*ranges, (first, count)]
