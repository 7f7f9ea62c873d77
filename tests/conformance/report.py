"""The conformance report: what the cases showed, as a page for those who have to trust it.

It is a file of its own because it only tells. `test_report` calls it with the records of a run. It must never say
more than was recorded in that run, nor anything that changes from run to run.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from stook.testing.cases.case import Case
from stook.testing.cases.catalogue import CATALOGUE

from .record import Caught, Record

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "conformance.md"
NOTES = {
    "redis": "Online rows stand in a Redis Cluster of three masters and three replicas, the rest is embedded; history, which\n"
    "does not know where online rows are, is asked above. Rows two ttls old (at least a ttl and a day) have left it: they\n"
    "are answered as NOT_FOUND where other engines say OUTSIDE_MAX_AGE for ever.\n",
}
MARKED = ("tests", "src/stook/testing")
HEAD = """# Conformance

What stook was shown to do in the hard cases of feature stores. This page is written by the tests (`make conformance`),
and `make test` fails when it is not what they show. Every case says what stood in a view's history, what was asked, and
what must come back; its answers were written down by hand and agree with oracles of a few dozen lines
(`stook.testing.oracles`). Answers are compared to the bit: minus zero is not zero, NaN is not null, 1 is not 1.0.
"""


def marked_tests() -> dict[int, list[str]]:
    """The tests that bear each number, read from their `@pytest.mark.case(...)`, without running them."""
    found: dict[int, list[str]] = defaultdict(list)
    for folder in MARKED:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    for number in _numbers(node):
                        found[number].append(f"`{path.relative_to(ROOT)}::{node.name}`")
    return found


def _numbers(node: ast.FunctionDef | ast.ClassDef) -> list[int]:
    return [
        argument.value
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.case"
        for argument in decorator.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, int)
    ]


def render(
    cases: Sequence[Case], records: Iterable[Record], caught: Iterable[Caught], ways: Mapping[str, Sequence[str]]
) -> str:
    """The page. `ways` names the ways in that each set of engines was asked for."""
    by_place: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for record in records:
        by_place[record.engines, record.feed, record.case].append(record)
    parts = [HEAD, _catalogue(cases), *(_matrix(cases, by_place, engines, feeds) for engines, feeds in ways.items())]
    return "\n".join([*parts, _left_out(cases), _doors(by_place), _mutants(caught)])


def _catalogue(cases: Sequence[Case]) -> str:
    tests = marked_tests()
    lines = ["## The hard cases, and what shows each\n", "| | case | shown by |", "| --- | --- | --- |"]
    for number, entry in CATALOGUE.items():
        shown = [f"`{case.name}`" for case in cases if number in case.numbers] + tests.get(number, [])
        told = f"*waits for {entry.later}*" if entry.later else ", ".join(shown)
        lines.append(f"| {number} | {entry.asks} | {told} |")
    return "\n".join([*lines, ""])


def _matrix(
    cases: Sequence[Case], by_place: Mapping[tuple[str, str, str], list[Record]], engines: str, feeds: Sequence[str]
) -> str:
    lines = [
        f"## Every case on the {engines} engines\n",
        "By the way in: through how many ways out the answer was the one expected. `refused` is expected there too.\n",
        *([NOTES[engines]] if engines in NOTES else []),
        f"| case | what it shows | {' | '.join(feeds)} |",
        f"| --- | --- | {' | '.join('---' for _ in feeds)} |",
    ]
    for case in cases:
        cells = [_cell(case, feed, by_place.get((engines, feed, case.name), [])) for feed in feeds]
        lines.append(f"| `{case.name}` | {case.shows} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _cell(case: Case, feed: str, records: list[Record]) -> str:
    if feed in case.without:
        return "–"
    if not all(record.equal for record in records) or not records:
        return "**differs**"
    return "refused" if feed in case.refused else str(len(records))


def _left_out(cases: Sequence[Case]) -> str:
    lines = ["## What is not asked, and why\n"]
    reasons: dict[tuple[str, str], list[str]] = defaultdict(list)
    for case in cases:
        for place, why in (*case.without.items(), *case.doors_without.items()):
            reasons[place, why].append(f"`{case.name}`")
        for place, refusal in case.refused.items():
            reasons[place, f"refused with {refusal.error.__name__}, nothing stored"].append(f"`{case.name}`")
    for (place, why), names in sorted(reasons.items()):
        lines.append(f"- *{place}*: {why} ({', '.join(names)})")
    return "\n".join([*lines, ""])


def _doors(by_place: Mapping[tuple[str, str, str], list[Record]]) -> str:
    counts: dict[str, int] = defaultdict(int)
    for records in by_place.values():
        for record in records:
            counts[record.door] += record.equal
    lines = ["## Ways out\n", "| way out | answers compared |", "| --- | --- |"]
    lines += [f"| {door} | {count} |" for door, count in sorted(counts.items())]
    return "\n".join([*lines, ""])


def _mutants(caught: Iterable[Caught]) -> str:
    lines = [
        "## Planted bugs\n",
        "Each of these was planted in a copy of the product; the test named failed of a wrong answer.\n",
        "| bug | noticed by |",
        "| --- | --- |",
    ]
    lines += [f"| {one.bug} | `{one.test}` |" for one in sorted(caught, key=lambda c: c.bug)]
    return "\n".join([*lines, ""])
