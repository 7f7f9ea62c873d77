"""Every hard case, through every way in and out, on every set of engines; `docs/conformance.md` is what it showed.

The cases and their answers stand in `stook.testing.cases`; a case is asked here of each world that can carry it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from stook.core.arrow import to_arrow
from stook.core.statuses import NO_TIME
from stook.testing.cases.case import FEEDS, NOW, Case
from stook.testing.cases.every import CASES as EVERY

from .doors import DOORS, NOW_DOORS, PAST, Answer, Door
from .record import Record, record_of
from .spelling import exact
from .worlds import EMBEDDED, MEMORY, ON_REDIS, World, engines_on_postgresql, engines_on_redis, world

DAY_US = 86_400_000_000
CHOSEN = os.environ.get("STOOK_TEST_CASES", "").split()  # a world of a few cases is soon made
CASES = [case for case in EVERY if not CHOSEN or case.name in CHOSEN]
ENGINES: dict[str, Callable[[pytest.FixtureRequest], Mapping[str, str]]] = {
    "embedded": lambda _: EMBEDDED,
    "memory": lambda _: MEMORY,
    "postgresql": lambda request: engines_on_postgresql(request.getfixturevalue("postgresql_server")),
    ON_REDIS: lambda _: engines_on_redis(),
}
WAYS_IN = {
    "embedded": FEEDS,
    "memory": ("parquet", "push", "folded"),
    "postgresql": ("parquet", "push"),
    ON_REDIS: ("parquet", "push"),
}
NOT_ASKED = {  # ways out that are asked in some worlds only
    "memory": ("cli training", "remote", "remote json", "remote arrow", "cli"),  # its stores live in one process
    "embedded": (),
    "postgresql": ("cli training", "cli"),  # a process a case: what it shows of records is shown by the others
    ON_REDIS: ("training", "cli training", "saved", "polars"),  # history does not know where online rows are
}
ONCE = ("cli", "cli training", "saved", "polars")  # these stand behind others: asked where rows come from Parquet files
WORLDS = [(engines, feed) for engines, ways in WAYS_IN.items() for feed in ways]
ASKED = [
    pytest.param(at, case, id=f"{at[0]}-{at[1]}-{case.name}".replace(" ", "_"))
    for at in WORLDS
    for case in CASES
    if at[1] not in case.without and at[1] not in case.refused
]


@pytest.fixture(scope="module")
def fed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    engines, feed = request.param
    cases = [case for case in CASES if feed not in case.without and feed not in case.refused]
    with world(tmp_path_factory.mktemp("world"), ENGINES[engines](request), feed, cases) as made:
        yield made


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_written_answers_are_the_oracles(case: Case) -> None:
    values, statuses, _ = case.oracle_now()
    assert same(case.past, case.oracle_past())
    assert same(case.now, values)
    assert same(case.statuses, statuses)


@pytest.mark.parametrize(("fed", "case"), ASKED, indirect=["fed"], scope="module")
def test_a_case(fed: World, case: Case, request: pytest.FixtureRequest) -> None:
    engines, feed = request.node.callspec.params["fed"]
    record, wrong = record_of(request.config), []
    for name, door in DOORS.items():
        if name in NOT_ASKED[engines] or name in case.doors_without or (name in ONCE and feed != "parquet"):
            continue
        try:
            judge(case, name, door, fed)
        except (AssertionError, Exception) as error:  # noqa: BLE001  every door is asked, and all that differ are told
            wrong.append(f"{name}: {type(error).__name__}: {error}")
        record.add(Record(engines, feed, case.name, name, equal=not wrong or not wrong[-1].startswith(f"{name}:")))
    assert not wrong, "\n".join(wrong)


REFUSED = [
    pytest.param(engines, feed, case, id=f"{engines}-{feed}-{case.name}")
    for engines, feed in WORLDS
    for case in CASES
    if feed in case.refused
]


@pytest.mark.parametrize(("engines", "feed", "case"), REFUSED)
def test_a_refused_case(tmp_path: Path, engines: str, feed: str, case: Case, request: pytest.FixtureRequest) -> None:
    """What cannot be kept exactly is refused where it comes in, by an error that names it, and nothing is stored."""
    refusal = case.refused[feed]
    with pytest.raises(refusal.error) as caught, world(tmp_path, ENGINES[engines](request), feed, [case]):
        pass
    assert all(word in str(caught.value) for word in refusal.words)
    record_of(request.config).add(Record(engines, feed, case.name, f"refused: {refusal.error.__name__}", equal=True))


def judge(case: Case, name: str, door: Door, made: World) -> None:
    """Asks a case through a door and compares all that it answers, to the bit."""
    found = door(case, made)
    expected, types = case.past if name in PAST else case.now, case.feature_types()
    values = {column: [exact(value, dtype) for value in found.values[column]] for column, dtype in types.items()}
    wanted = {column: [exact(value, dtype) for value in expected[column]] for column, dtype in types.items()}
    assert values == wanted, f"answers {str(values)[:1000]}, not {str(wanted)[:1000]}"
    if found.types is not None:
        assert found.types == {n: to_arrow(t) for n, t in case.feature_types().items()}
    if name in NOW_DOORS:
        _judge_now(case, found, expires=made.expires)


def _judge_now(case: Case, found: Answer, *, expires: bool) -> None:
    statuses, event_us = {n: list(case.statuses[n]) for n in case.statuses}, case.oracle_now()[2]
    if expires:
        _let_expire(case, statuses, event_us)
    assert found.statuses is not None and found.event_us is not None
    assert same(found.statuses, statuses), f"statuses {dict(found.statuses)}, not {statuses}"
    assert same(found.event_us, event_us), f"event times {dict(found.event_us)}, not {event_us}"
    if found.ages is not None:
        ages = {n: [None if us == NO_TIME else (NOW - us) / 1e6 for us in times] for n, times in event_us.items()}
        assert same(found.ages, ages), f"ages {dict(found.ages)}, not {ages}"


def _let_expire(case: Case, statuses: dict[str, list[str]], event_us: dict[str, list[int]]) -> None:
    """Two ttls behind its event time, and a ttl and a day, a row that was too old is not there any more."""
    for name, view, *_ in case.reads():
        for row, us in enumerate(event_us[name]):
            ttl_us = view.ttl_us or 0
            if statuses[name][row] == "OUTSIDE_MAX_AGE" and us + max(2 * ttl_us, ttl_us + DAY_US) <= NOW:
                statuses[name][row], event_us[name][row] = "NOT_FOUND", NO_TIME


def same(found: Mapping[str, Sequence[Any]], expected: Mapping[str, Sequence[Any]]) -> bool:
    """Equal in what is written, so that NaN is NaN and 1 is not 1.0."""
    return all(repr(list(found.get(name, ()))) == repr(list(values)) for name, values in expected.items())
