"""Hypothesis strategies for histories, labels and windows, made to collide.

It is a file of its own because times must be coarse and keys few, so that ties, boundaries and re-used keys are the
common case: on evenly spread data every wrong tie-breaker passes. Property tests of engines draw from it. It must
never draw what no source could hold.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from stook.core import dtypes
from stook.core.dtypes import DType
from stook.core.plans import Late, Window
from stook.core.rows import file_arrival, push_arrival
from stook.testing.oracles.pointintime import HistoryRow, Key, Label

T = TypeVar("T")
TICK_US = 1_000_000
TICKS = 8  # distinct event times, more or less
ORIGIN_US = -3 * TICK_US  # some times before 1970

INTEGER_KEYS: tuple[object, ...] = (1, 11, 111, -1, 0)
TEXT_KEYS: tuple[object, ...] = ("", "a", "ab", "bc", "c", "é", "e\u0301", "A", "a\x00b", "😀", "\uffff")
KEY_SHAPES: tuple[tuple[tuple[DType, tuple[object, ...]], ...], ...] = (
    (),
    ((dtypes.Int64, INTEGER_KEYS),),
    ((dtypes.String, TEXT_KEYS),),
    ((dtypes.Int64, (1, 11)), (dtypes.Int64, (1, 11))),  # (1, 11) and (11, 1) must stay apart
    ((dtypes.String, TEXT_KEYS), (dtypes.Bool, (False, True))),
    ((dtypes.Bytes, (b"", b"\x00", b"\xff", b"a")), (dtypes.UInt64, (0, 2**63, 2**64 - 1))),
)


@dataclass(frozen=True)
class Case:
    """A view's past as the oracle sees it, by where its rows stand.

    `files` are rows of source files in order, `pushed` files of our table, `tail` the log's tail. `created`: the
    source has a created column. `pool` holds the few keys that its rows bear.
    """

    keys: tuple[DType, ...]
    pool: tuple[Key, ...]
    created: bool
    files: tuple[tuple[HistoryRow, ...], ...]
    pushed: tuple[tuple[HistoryRow, ...], ...]
    tail: tuple[HistoryRow, ...]

    @property
    def rows(self) -> list[HistoryRow]:
        """All rows."""
        return [row for part in (*self.files, *self.pushed, self.tail) for row in part]


def times() -> SearchStrategy[int]:
    """Instants that often coincide, now and then a microsecond beside each other."""
    ticks = st.integers(0, TICKS - 1).map(lambda tick: ORIGIN_US + tick * TICK_US)
    return st.builds(lambda tick, beside: tick + beside, ticks, st.sampled_from((0, 0, 0, 0, 1, -1)))


def seldom_null(values: SearchStrategy[T]) -> SearchStrategy[T | None]:
    """The values, one in ten replaced by None (`one_of` would count equal branches once)."""
    return st.tuples(st.integers(0, 9), values).map(lambda drawn: None if drawn[0] == 9 else drawn[1])


def keys(shape: tuple[tuple[DType, tuple[object, ...]], ...]) -> SearchStrategy[Key]:
    """Keys of a shape, now and then with a null."""
    parts = [seldom_null(st.sampled_from(values)) for _, values in shape]
    return st.tuples(*parts)


@st.composite
def cases(draw: DrawFn, *, pushes: bool = True) -> Case:
    """A view's past in several source files, pushed files and a tail, with its arrivals numbered."""
    shape = draw(st.sampled_from(KEY_SHAPES))
    pool = draw(st.lists(keys(shape), min_size=1, max_size=4))
    created = draw(st.booleans())
    files = draw(st.lists(_source_rows(pool, created=created), min_size=0 if pushes else 1, max_size=3))
    pushed = draw(st.lists(_pushed_rows(pool), max_size=2)) if pushes else []
    tail = draw(_pushed_rows(pool)) if pushes else []
    numbered = [
        tuple(replace(r, arrival=file_arrival(2 * ordinal, i)) for i, r in enumerate(rows))
        for ordinal, rows in enumerate(files)
    ]
    entries = [
        tuple(replace(r, arrival=push_arrival(position, i)) for i, r in enumerate(rows))
        for position, rows in enumerate((*pushed, tail), start=1)
    ]
    types = tuple(dtype for dtype, _ in shape)
    return Case(types, tuple(pool), created, tuple(numbered), tuple(entries[:-1]), entries[-1])


def _source_rows(pool: list[Key], *, created: bool) -> SearchStrategy[list[HistoryRow]]:
    event = seldom_null(times())
    knowledge = st.one_of(st.none(), times()) if created else st.none()  # a null created time: the event time

    def build(key: Key, event_us: int | None, created_us: int | None, values: tuple[object, ...]) -> HistoryRow:
        known = event_us if created_us is None else created_us
        return HistoryRow(key, event_us, 0 if known is None else known, 0, deleted=False, values=values)

    return st.lists(st.builds(build, st.sampled_from(pool), event, knowledge, _values()), min_size=3, max_size=12)


def _pushed_rows(pool: list[Key]) -> SearchStrategy[list[HistoryRow]]:
    def build(key: Key, event_us: int, known_us: int, deleted: bool, values: tuple[object, ...]) -> HistoryRow:
        return HistoryRow(key, event_us, known_us, 0, deleted=deleted, values=values)

    return st.lists(st.builds(build, st.sampled_from(pool), times(), times(), _seldom(), _values()), max_size=8)


def _seldom() -> SearchStrategy[bool]:
    return st.sampled_from((False, False, False, True))


def _values() -> SearchStrategy[tuple[object, ...]]:
    """An Int64 and a String feature; large integers show any detour through doubles."""
    return st.tuples(
        st.one_of(st.none(), st.integers(0, 9), st.just(2**53 + 1)), st.one_of(st.none(), st.sampled_from("xyz"))
    )


@st.composite
def labels(draw: DrawFn, case: Case, *, equal_limits: bool) -> list[Label]:
    """Labels for a case: every key of its pool at, just before and just after every tick, and some at random.

    Each one's limit of knowledge is its own time, or drawn apart from it. Some are equal; some hold a null.
    """
    shape = next(s for s in KEY_SHAPES if tuple(d for d, _ in s) == case.keys)
    ticks = [ORIGIN_US + tick * TICK_US + beside for tick in range(TICKS + 1) for beside in (-1, 0, 1)]
    found: list[tuple[Key, int | None]] = [(key, at) for key in case.pool for at in ticks]
    found += draw(st.lists(st.tuples(keys(shape), seldom_null(times())), max_size=5))
    draw(st.randoms(use_true_random=False)).shuffle(found)
    if equal_limits:
        return [Label(key, at, at) for key, at in found]
    limits = draw(st.lists(seldom_null(times()), min_size=3, max_size=7))
    return [Label(key, at, limits[i % len(limits)]) for i, (key, at) in enumerate(found)]


def ttls() -> SearchStrategy[int | None]:
    """Times to live at, just above and just below distances that times often have."""
    return st.one_of(st.none(), st.sampled_from((TICK_US, TICK_US - 1, 2 * TICK_US, 2 * TICK_US + 1)))


@st.composite
def windows(draw: DrawFn) -> Window:
    """Materialization windows, some with late rows."""
    late = Late(
        ordinals=draw(st.frozensets(st.integers(0, 4), max_size=2)),
        knowledge_after_us=draw(st.one_of(st.none(), times())),
        arrival_after=draw(st.one_of(st.none(), st.just(0), st.just(push_arrival(1, 2)))),
    )
    return Window(
        start_us=draw(st.one_of(st.none(), times())),
        end_us=draw(times()),
        known_by_us=draw(times()),
        start_exclusive=draw(st.booleans()),
        late=draw(st.sampled_from((None, late))),
    )
