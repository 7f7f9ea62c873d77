"""A chunk of a bulk load: its keys, then its rows, then the note that it is complete.

It is a file of its own because the order of these steps is what makes a killed load resume without losing or counting
a row twice. `keyvalue` calls it. It must never note a chunk before all its rows are written.

A chunk is claimed in the state (so that its lists are deleted whatever happens), its lists are written, then its rows,
then it is recorded. A chunk that was interrupted left some of its rows behind. Its keys stand in the lists claimed for
it, so that the next attempt knows which of the keys it finds are its own, and counts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from stook.backends.redis.index import Index
from stook.backends.redis.layout import LIST_KEYS, is_ascending
from stook.backends.redis.rows import RowWriter
from stook.backends.redis.states import Garbage, Loaded, State, States, extended
from stook.backends.redis.sweeping import Sweeper
from stook.core.errors import Conflict, InvalidArgument
from stook.core.ports.keyvalue import Lifetimes, Row


class _Chunk(NamedTuple):
    """A chunk's keys that the generation lacks, and those that an interrupted one before it left and this one lacks."""

    new: list[bytes]
    left: list[bytes]

    @property
    def lists(self) -> tuple[int, int]:
        return -(-len(self.new) // LIST_KEYS), -(-len(self.left) // LIST_KEYS)


class Loader:
    """Loads chunks. One process at a time loads a generation; a second one is told so by Conflict."""

    def __init__(self, states: States, index: Index, rows: RowWriter, sweeper: Sweeper) -> None:
        self._states = states
        self._index = index
        self._rows = rows
        self._sweeper = sweeper

    def load(self, space: str, generation: int, rows: Sequence[Row], lifetimes_ms: Lifetimes) -> None:
        """As the port says, but that a chunk's rows may be there, unseen, when it fails half way."""
        found = loading(self._states.read(space), space, generation)
        if not rows:
            return
        last_key = rows[-1][0]
        if lifetimes_ms is not None:  # what has ended already need not come
            kept = [(row, life) for row, life in zip(rows, lifetimes_ms, strict=True) if life is None or life > 0]
            rows, lifetimes_ms = [row for row, _ in kept], [life for _, life in kept]
        chunk = self._chunk(found, rows)
        first, (new, left) = found.lists, chunk.lists

        def claim(state: State) -> None:
            claimed = loading(state, space, generation)
            if claimed.lists != first:
                raise Conflict(
                    f"generation {generation} of {space!r} is loaded by somebody else", hint="repeat the load"
                )
            claimed.pending = extended(claimed.pending, first, new + left)
            claimed.lists += new + left

        if new + left:
            self._states.change(space, claim)
            self._index.write_lists(found.uid, first, chunk.new)
            self._index.write_lists(found.uid, first + new, chunk.left)
        self._rows.keep_newest(found.uid, rows, lifetimes_ms)

        def record(state: State) -> None:
            done = loading(state, space, generation)
            if done.lists != first + new + left:
                raise Conflict(
                    f"generation {generation} of {space!r} is loaded by somebody else", hint="repeat the load"
                )
            done.listed = extended(done.listed, first, new)
            done.pending = extended([], first + new, left)
            done.rows += len(chunk.new)
            done.ordered = done.ordered and (done.top is None or chunk.new[:1] > [bytes.fromhex(done.top)] or not new)
            done.last_key = last_key.hex()
            done.top = max([*chunk.new[-1:], bytes.fromhex(done.top or "")]).hex() if chunk.new else done.top

        try:
            self._states.change(space, record)
        except InvalidArgument:  # dropped while its rows were written, perhaps behind whoever deleted its lists
            self._rows.delete(found.uid, [key for key, _ in rows])
            self._sweeper.discard(space, Garbage(found.uid, first + new + left))
            raise

    def _chunk(self, found: Loaded, rows: Sequence[Row]) -> _Chunk:
        keys = [key for key, _ in rows]
        if not found.pending and is_ascending(keys) and (found.top is None or keys[:1] > [bytes.fromhex(found.top)]):
            return _Chunk(keys, [])
        keys = sorted(set(keys))
        begun = {key for some in self._index.read_lists(found.uid, found.pending) for key in some}
        there = self._rows.ask("EXISTS", found.uid, keys)
        new = [key for key, exists in zip(keys, there, strict=True) if not exists or key in begun]
        return _Chunk(new, sorted(begun - set(keys)))


def loading(state: State, space: str, generation: int) -> Loaded:
    """The generation, which must take rows. Raises InvalidArgument."""
    found = state.generations.get(generation)
    if found is None or not found.loading:
        why = "there is no such generation" if found is None else "it is complete"
        raise InvalidArgument(f"generation {generation} of {space!r} takes no rows: {why}", hint="begin a new load")
    return found
