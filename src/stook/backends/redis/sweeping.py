"""What is deleted for good: rows of dropped generations and cleared spaces, and keys of rows that have ended.

It is a file of its own because a clean-up may be killed anywhere and is carried on by whoever cleans next. `keyvalue`
and `loading` call it. It must never delete what a state still names: states forget first, rows go behind.
"""

from __future__ import annotations

from typing import Final

from stook.backends.redis.fleet import Fleet, command
from stook.backends.redis.index import MEMBERS_AT_ONCE, Index
from stook.backends.redis.layout import BUCKETS, Names
from stook.backends.redis.states import Garbage, State, States

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
        self._bucket = 0

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
        """Looks after upserts for keys of rows that have ended: as many as came, in one bucket after the other."""
        due = self._untidied.get(uid, 0) + rows
        steps = 0
        while due >= TIDY_EVERY_ROWS and steps < TIDY_STEPS_MAX:
            self._bucket = (self._bucket + 1) % BUCKETS
            self._index.forget_ended(uid, self._bucket)
            due -= TIDY_EVERY_ROWS
            steps += 1
        self._untidied[uid] = due if steps < TIDY_STEPS_MAX else 0

    def tidy_all(self, uid: str) -> None:
        """Takes out all keys of an overlay whose rows have ended."""
        for number in range(BUCKETS):
            for _ in range(TIDY_STEPS_MAX):
                if self._index.forget_ended(uid, number) < MEMBERS_AT_ONCE:
                    break
