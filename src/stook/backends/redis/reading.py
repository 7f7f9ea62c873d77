"""Reads: rows and what says which rows count, in one round trip.

It is a file of its own because it is the hot path, and because what a read may answer while servers are missing is
decided here. `keyvalue` calls it. It must never answer that nothing is stored where it could not ask.

A read guesses each space's generation from the last read, asks for the rows and for what is true in the same round
trip, and begins again when the guess was wrong. One server answers all with one MGET, so all is from one state. In a
cluster, what is true is asked of the space's own slot; a generation that is live was never deleted, so values stand,
but where a row is missing the space is asked once more behind it: the generation may have been dropped in between.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from stook.backends.redis.fleet import Command, Failed, Fleet, call, command
from stook.backends.redis.layout import NOWHERE, Names, Seen, slot_of, unpack_seen
from stook.backends.redis.scripts import READ_WITHIN
from stook.core.errors import EngineUnavailable, StookError
from stook.core.ports.keyvalue import UNREAD, over_limit, spend
from stook.core.rows import newer

GUESSES_MAX: Final = 20  # times a read begins again because a generation was switched under it
SPACES_KEPT_MAX: Final = 10_000
OLD_GUESS_S: Final = 60.0  # how long reads go on by what was last seen of a space whose own server is missing
UNMEASURED_KEYS_MAX: Final = 256  # one MGET of so many is not measured while it is read; more go through a script
SEEN_BYTES: Final = 64  # what is read to know a space, at most
FIRST_SHARE: Final = 0.6  # of a read's time for its first round trip in a cluster: the rest is for going on without
LAYERS: Final = 2  # overlay and live generation

Value = bytes | None


class _Guess(NamedTuple):
    stored: Value
    seen: Seen
    known_s: float


class _Part(NamedTuple):
    """Where the values of one (space, keys) stand among all: of distinct keys, so that a repeated one comes once."""

    space: str
    distinct: int
    live_at: int | None
    over_at: int | None
    places: list[int] | None  # for each key its distinct one; None where all are distinct


_UNKNOWN: Final = _Guess(None, NOWHERE, float("-inf"))


class Reader:
    """Answers `get_many`."""

    def __init__(self, fleet: Fleet, names: Names) -> None:
        self._fleet = fleet
        self._names = names
        self._guesses: dict[str, _Guess] = {}

    def get_many(self, reads: Sequence[tuple[str, Sequence[bytes]]], bytes_max: int | None) -> list[list[Value]]:
        """As the port says. What could not be asked is UNREAD; EngineUnavailable where that is everything."""
        deadline_s = time.monotonic() + self._fleet.address.timeout_s
        spaces = list(dict.fromkeys(space for space, _ in reads))
        lost: dict[str, StookError] = {}  # spaces that cannot be asked what is true
        for _ in range(GUESSES_MAX):
            guesses = {space: self._guess(space, lost) for space in spaces}
            asked = [space for space in spaces if space not in lost]
            names = [self._names.seen(space) for space in asked]
            parts = [self._part(space, keys, guesses[space], names, blind=space in lost) for space, keys in reads]
            values, failure = self._fetch(names, bytes_max, deadline_s)
            lost_before = len(lost)
            if failure is not None:
                lost |= {space: failure for space, found in zip(asked, values, strict=False) if found == UNREAD}
            if self._learn(asked, values, guesses) or len(lost) > lost_before:
                continue
            answers = [_answer(part, values, blind=part.space in lost) for part in parts]
            if self._fleet.address.cluster and not self._still(parts, answers, guesses, lost, deadline_s):
                continue
            _check(answers, failure or next(iter(lost.values()), None), bytes_max)
            return answers
        raise EngineUnavailable(f"generations were switched under a read {GUESSES_MAX} times", retry_after_s=0.1)

    def _guess(self, space: str, lost: dict[str, StookError]) -> _Guess:
        guess = self._guesses.get(space, _UNKNOWN)
        if space in lost and time.monotonic() - guess.known_s > OLD_GUESS_S:
            return _UNKNOWN
        return guess

    def _part(self, space: str, keys: Sequence[bytes], guess: _Guess, names: list[bytes], *, blind: bool) -> _Part:
        """Adds the names of a read's rows to all that are asked for, and says where they stand."""
        distinct, places = keys, None
        if len(set(keys)) < len(keys):
            distinct = list(dict.fromkeys(keys))
            number = {key: at for at, key in enumerate(distinct)}
            places = [number[key] for key in keys]
        uid, has_overlay, live = guess.seen
        live_at = over_at = None
        if live:
            live_at = len(names)
            names += self._names.rows(live, distinct)
        if has_overlay or (blind and uid):  # upserts may have begun since it was last seen
            over_at = len(names)
            names += self._names.rows(uid, distinct)
        return _Part(space, len(distinct), live_at, over_at, places)

    def _fetch(
        self, names: Sequence[bytes], bytes_max: int | None, deadline_s: float
    ) -> tuple[list[Value], StookError | None]:
        """The values of keys, UNREAD where a server could not be asked, and why. Raises what asking again cannot mend."""
        if not names:
            return [], None
        limit = None if bytes_max is None else LAYERS * bytes_max + SEEN_BYTES * len(names)
        if not self._fleet.address.cluster:
            if limit is None or len(names) <= UNMEASURED_KEYS_MAX:
                one = Command(0, ("MGET", *names))
            else:
                one = call(READ_WITHIN, names, [limit])
            (found,) = self._fleet.run([one], deadline_s)
            if isinstance(found, Failed):
                raise found.error
            return found, None
        by_slot: dict[int, list[int]] = {}
        for number, name in enumerate(names):
            by_slot.setdefault(slot_of(name), []).append(number)
        commands = [
            Command(slot, ("GET", names[numbers[0]]) if len(numbers) == 1 else ("MGET", *[names[n] for n in numbers]))
            for slot, numbers in by_slot.items()
        ]
        now_s = time.monotonic()
        first_s = now_s + max(deadline_s - now_s, 0) * FIRST_SHARE
        received = None if limit is None else _Measure(limit)
        return _spread(by_slot, self._fleet.run(commands, first_s, received=received), len(names))

    def _learn(self, asked: Sequence[str], values: Sequence[Value], guesses: dict[str, _Guess]) -> bool:
        """Notes what was found of the spaces; whether a guess was wrong."""
        wrong = False
        now_s = time.monotonic()
        if len(self._guesses) > SPACES_KEPT_MAX:
            self._guesses.clear()
        for space, stored in zip(asked, values, strict=False):
            if stored == UNREAD:
                continue
            guess = guesses[space]
            if stored != guess.stored:
                wrong = True
                guess = _Guess(stored, unpack_seen(stored), now_s)
            self._guesses[space] = guess._replace(known_s=now_s)
        return wrong

    def _still(
        self,
        parts: Sequence[_Part],
        answers: Sequence[list[Value]],
        guesses: dict[str, _Guess],
        lost: dict[str, StookError],
        deadline_s: float,
    ) -> bool:
        """Whether the generations in which rows were missing were live until those had been asked for."""
        doubted = list(
            dict.fromkeys(
                part.space
                for part, answer in zip(parts, answers, strict=True)
                if part.live_at is not None and part.space not in lost and None in answer
            )
        )
        if not doubted:
            return True
        found = self._fleet.run([command("GET", self._names.seen(space)) for space in doubted], deadline_s)
        for space, stored in zip(doubted, found, strict=True):
            if isinstance(stored, Failed):
                lost[space] = stored.error
                return False
            if stored != guesses[space].stored:
                return False
        return True


class _Measure:
    """Adds up what is received, and ends a read that holds too much."""

    def __init__(self, left: int) -> None:
        self._left = left

    def __call__(self, answer: Any) -> None:
        self._left -= len(answer or b"") if not isinstance(answer, list) else sum(map(len, filter(None, answer)))
        if self._left < 0:
            raise over_limit()


def _spread(by_slot: dict[int, list[int]], answers: Sequence[Any], count: int) -> tuple[list[Value], StookError | None]:
    values: list[Value] = [UNREAD] * count
    failure: StookError | None = None
    for numbers, answer in zip(by_slot.values(), answers, strict=True):
        if isinstance(answer, Failed):
            failure = answer.error
            if not isinstance(failure, EngineUnavailable):
                raise failure
        elif len(numbers) == 1:
            values[numbers[0]] = answer
        else:
            for number, value in zip(numbers, answer, strict=True):
                values[number] = value
    return values, failure


def _answer(part: _Part, values: Sequence[Value], *, blind: bool) -> list[Value]:
    """One read's values, in the order of its keys."""
    nothing: Value = UNREAD if blind else None
    if part.live_at is None:
        found: list[Value] = [None] * part.distinct
    else:
        found = list(values[part.live_at : part.live_at + part.distinct])
    if part.over_at is not None:
        for at in range(part.distinct):
            upserted, loaded = values[part.over_at + at], found[at]
            if UNREAD in (upserted, loaded):
                found[at] = UNREAD
            elif upserted is not None and newer(upserted, loaded):
                found[at] = upserted
    if blind:
        found = [nothing if value is None else value for value in found]
    return found if part.places is None else [found[place] for place in part.places]


def _check(answers: Sequence[list[Value]], failure: StookError | None, bytes_max: int | None) -> None:
    """Raises the failure where nothing was read at all, TooLarge where what was read is too much."""
    if failure is not None and any(answers) and all(value == UNREAD for answer in answers for value in answer):
        raise failure
    if bytes_max is not None:
        for answer in answers:
            bytes_max = spend(answer, bytes_max)
