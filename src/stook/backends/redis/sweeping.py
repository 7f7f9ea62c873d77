"""What is deleted for good: rows of dropped generations and cleared spaces, and keys of rows that have ended.

It is a file of its own because a clean-up may be killed anywhere and is carried on by whoever cleans next. `keyvalue`
and `loading` call it. It must never delete what a state still names: states forget first, rows go behind.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import Final

from stook.backends.redis.fleet import Fleet, command
from stook.backends.redis.index import MEMBERS_AT_ONCE, Index
from stook.backends.redis.layout import BUCKETS, Names
from stook.backends.redis.states import Garbage, State, States
from stook.core.errors import TryAgain

TIDY_EVERY_ROWS: Final = 1_000  # upserted rows between two looks at a bucket for keys of rows that have ended
TIDY_STEPS_MAX: Final = 10  # looks at a bucket in a row


class Sweeper:
    """Deletes garbage in short steps."""

    def __init__(self, fleet: Fleet, names: Names, states: States, index: Index) -> None:
        self._fleet = fleet
        self._names = names
        self._states = states
        self._index = index
        self._untidied: dict[str, int] = {}  # rows upserted since the last look, by overlay; bounded by the views
        self._bucket = secrets.randbelow(BUCKETS)  # processes that end soon look at different ones

    def sweep(self) -> None:
        """Deletes all garbage there is, of any space, also what a killed process left."""
        (spaces,) = self._fleet.do([command("SMEMBERS", self._names.unclean)])
        for space in spaces:
            self._sweep_space(space.decode())
            self._fleet.do([command("SREM", self._names.unclean, space)])
            if self._states.read(space.decode()).garbage:  # somebody added some meanwhile
                self._fleet.do([command("SADD", self._names.unclean, space)])

    def _sweep_space(self, space: str) -> None:
        for garbage in self._states.read(space).garbage:
            if garbage.lists:
                self._index.drop(garbage.uid, garbage.lists)
            else:
                self._index.clear(garbage.uid)

            def forget(state: State, done: Garbage = garbage) -> None:
                state.garbage = [other for other in state.garbage if other != done]

            self._states.change(space, forget)

    def discard(self, space: str, garbage: Garbage) -> None:
        """Deletes rows that were written to a generation or overlay which was dropped meanwhile."""

        def note(state: State) -> None:
            if garbage not in state.garbage:
                state.garbage.append(garbage)

        self._states.change(space, note)
        self.sweep()

    def tidy(self, uid: str, rows: int) -> None:
        """Looks after upserts for keys of rows that have ended: as many as came, in one bucket after the other.

        A process looks at its first upserts too, since it may not live to see many. The upserts are written already, so
        that a look which cannot be had now is left to a later one.
        """
        due = self._untidied.get(uid, TIDY_EVERY_ROWS) + rows
        steps = min(due // TIDY_EVERY_ROWS, TIDY_STEPS_MAX)
        self._untidied[uid] = due % TIDY_EVERY_ROWS
        with suppress(TryAgain):
            for _ in range(steps):
                self._bucket = (self._bucket + 1) % BUCKETS
                self._index.forget_ended(uid, self._bucket)

    def tidy_all(self, uid: str) -> None:
        """Takes out all keys of an overlay whose rows have ended."""
        for number in range(BUCKETS):
            for _ in range(TIDY_STEPS_MAX):
                if self._index.forget_ended(uid, number) < MEMBERS_AT_ONCE:
                    break
