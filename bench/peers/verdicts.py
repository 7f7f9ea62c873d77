"""Compares answers with the expected ones written in the questions, and says what to call the difference.

It is a file of its own because the judgement is pure and the same for every store. `feast_cases.py` calls it, before
the page is written. It must never look at who answered, but for the rule that a question grants a store by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

EXPECTED = "as expected"
DESIGN = "differs by design"
ABSENT = "not offered"
REFUSED = "refused"
WRONG = "wrong"
ORDER = (EXPECTED, DESIGN, ABSENT, REFUSED, WRONG)


def judge(question: Mapping[str, Any], store: str, answers: Sequence[Any]) -> list[str]:
    """One verdict per asking step; `store` is `feast file`, `feast duckdb` or `stook`."""
    ways = [_along(question, store, expected, answers) for expected in (question["expected"], *question.get("or", ()))]
    return min(ways, key=lambda verdicts: ORDER.index(worst(verdicts)))


def _along(question: Mapping[str, Any], store: str, expected: Sequence[Any], answers: Sequence[Any]) -> list[str]:
    """The verdicts by one of the right lists of answers."""
    design = next((rule for rule in question.get("design", ()) if store in rule["of"]), None)
    verdicts = []
    for number, wanted in enumerate(expected):
        answer = answers[min(number, len(answers) - 1)]  # what ended the steps answers the rest of them too
        verdict = _one(question, wanted, answer)
        if verdict in {WRONG, REFUSED} and design and matches(question, design["answers"][number], answer):
            verdict = DESIGN
        verdicts.append(verdict)
    return verdicts


def worst(verdicts: Sequence[str]) -> str:
    """The one that a reader must know of."""
    return max(verdicts, key=ORDER.index)


def _one(question: Mapping[str, Any], wanted: Any, answer: Any) -> str:
    if "absent" in answer:
        return ABSENT
    if matches(question, wanted, answer):
        return EXPECTED
    return REFUSED if "raised" in answer else WRONG


def matches(question: Mapping[str, Any], wanted: Any, answer: Any) -> bool:
    """Whether `answer` says what is wanted; parts that are not wanted are not looked at."""
    if "any" in wanted:
        return any(matches(question, one, answer) for one in wanted["any"])
    if "raised" in wanted:
        said = answer.get("raised")
        return said is not None and (wanted["raised"] is True or wanted["raised"] in said)
    strict = question.get("strict", False)
    for name, part in wanted.items():
        if name not in answer:
            return False
        if name == "rows" and isinstance(part, list) and not question.get("ordered"):
            if not _same_rows(part, answer[name], strict):
                return False
        elif not same(part, answer[name], strict):
            return False
    return True


def _same_rows(wanted: list[Any], found: list[Any], strict: bool) -> bool:
    """The same rows, equally often, in any order: order has a question of its own."""
    left = list(found)
    for row in wanted:
        place = next((at for at, other in enumerate(left) if same(row, other, strict)), None)
        if place is None:
            return False
        left.pop(place)
    return not left


def same(wanted: Any, found: Any, strict: bool) -> bool:
    """Equal values; 5 and 5.0 are only told apart where the question is about types."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return all(name in found and same(part, found[name], strict) for name, part in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return len(wanted) == len(found) and all(map(same, wanted, found, [strict] * len(found)))
    if isinstance(wanted, bool) or isinstance(found, bool) or strict:
        return type(wanted) is type(found) and bool(wanted == found)
    return bool(wanted == found)
