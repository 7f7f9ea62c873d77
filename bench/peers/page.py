"""Writes docs/beside-feast.md, and the same in short on the terminal.

It is a file of its own because wording is apart from asking and judging. `feast_cases.py` calls it. It must never
change a verdict.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import verdicts

STORES = {"feast file": "Feast, file store", "feast duckdb": "Feast, DuckDB store", "stook": "stook"}
SECTIONS = {
    "offline": "Training sets",
    "types": "Types, in training sets and online",
    "online": "The online store",
}
INTRO = """\
# Beside Feast

<!-- Written by `python bench/peers/feast_cases.py`. Change the questions there, not this page. -->

[Feast](https://feast.dev) is the feature store that most people know; stook keeps its words and its JSON. Both were
asked the same {count} hard questions, on one machine, through their own public interfaces: Feast with its file and
its DuckDB offline store and its SQLite online store, stook with its embedded engines. The right answer stands
literally in each question, and what each store answered was computed when this page was written:

```sh
python bench/peers/feast_cases.py   # installs the newest Feast into .peers/feast first
```

| | versions |
| --- | --- |
{versions}

How to read a verdict:

- **as expected**: the answer written in the question, or one of them.
- **differs by design**: another answer, which is what the store's documentation, or its interface, says it gives. The
  rule is told below the answers. It is a choice, not a mistake.
- **not offered**: there is no call for it.
- **refused**: an error was raised where an answer was expected. Nobody is misled by an error.
- **wrong**: an answer that is not the expected one, and no documented rule was found that says so.

What this page does not say: the questions were chosen by stook's authors, out of what users of feature stores report
as trouble, so they are where stook took care. They are about correctness on one machine, and about nothing else. Feast
runs on a dozen warehouses and some twenty-five online stores, serves on-demand transformations, and has been in
production for years; several of its other stores follow other rules than the two asked here, its Redis store for
instance about older rows. What stook does not have stands in its [README](../README.md#what-works-and-what-does-not-yet).

In the tables, `10 → 5` is the label row with label 10, and the value 5 that it got; `(1)`, `(2)` number the askings of
one question. An offline answer is taken as an Arrow table where nothing else is said; whether an integer came as
`5` or `5.0` counts only among the types, and the order of rows only in the question about it. The numbers of hard cases
are those of the `case` marks in the tests.

## In short

{totals}

The counts are no score: one habit, such as losing label rows, shows in several questions.

{summary}
"""


def write(questions: Sequence[Mapping[str, Any]], versions: Mapping[str, Mapping[str, str]]) -> str:
    """The whole page. Each question carries `answers` and `verdicts` by store."""
    listed = "\n".join(
        f"| {name} | {', '.join(f'{what} {number}' for what, number in found.items())} |"
        for name, found in versions.items()
    )
    parts = [
        INTRO.format(count=len(questions), versions=listed, totals=_totals(questions), summary=_summary(questions))
    ]
    for section, title in SECTIONS.items():
        parts.append(f"## {title}\n")
        parts += [_block(question) for question in questions if question["section"] == section]
    return "\n".join(parts).rstrip() + "\n"


def counts(questions: Sequence[Mapping[str, Any]], store: str) -> dict[str, int]:
    """How often each verdict fell."""
    found = [verdicts.worst(question["verdicts"][store]) for question in questions]
    return {verdict: found.count(verdict) for verdict in verdicts.ORDER}


def _totals(questions: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| | " + " | ".join(verdicts.ORDER) + " |", "| --- |" + " ---: |" * len(verdicts.ORDER)]
    for store, name in STORES.items():
        lines.append(f"| {name} | " + " | ".join(map(str, counts(questions, store).values())) + " |")
    return "\n".join(lines)


def _anchor(title: str) -> str:
    """Where a heading is found, by GitHub's rule."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _summary(questions: Sequence[Mapping[str, Any]]) -> str:
    head = ["question", *STORES.values()]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " --- |" * len(STORES)]
    for question in questions:
        title = f"[{question['title']}](#{_anchor(question['title'])})"
        found = [_emphasis(verdicts.worst(question["verdicts"][store])) for store in STORES]
        lines.append(f"| {title} | " + " | ".join(found) + " |")
    return "\n".join(lines)


def _emphasis(verdict: str) -> str:
    return f"**{verdict}**" if verdict == verdicts.WRONG else verdict


def _block(question: Mapping[str, Any]) -> str:
    """One question: what was asked, what is right, what came."""
    numbers = ", ".join(map(str, question["cases"]))
    where = f" *(hard case {numbers})*" if numbers else ""
    lines = [
        f"### {question['title']}\n",
        f"{question['asked']}{where}\n",
        "| | answer | verdict |",
        "| --- | --- | --- |",
        f"| right | {' — or — '.join(_right(question, way) for way in (question['expected'], *question.get('or', ())))} | |",
    ]
    groups: list[tuple[list[str], str, str]] = []
    for store, name in STORES.items():
        verdict = _verdict(question["verdicts"][store])
        answer = _runs(question, question["answers"][store])
        if groups and groups[-1][1:] == (answer, verdict):
            groups[-1][0].append(name)
        else:
            groups.append(([name], answer, verdict))
    for names, answer, verdict in groups:
        label = (
            "Feast, both"
            if len(names) == 2 and "stook" not in names
            else "all"
            if len(names) == 3
            else ", ".join(names)
        )
        lines.append(f"| {label} | {answer} | {verdict} |")
    lines += [
        f"\n{rule['rule']}"
        for rule in question.get("design", ())
        if any(verdicts.DESIGN in question["verdicts"][store] for store in rule["of"])
    ]
    if "note" in question:
        lines.append(f"\n{question['note']}")
    return "\n".join(lines) + "\n"


def _verdict(found: Sequence[str]) -> str:
    if len(set(found)) == 1:
        return _emphasis(found[0])
    return "<br>".join(f"({number}) {_emphasis(verdict)}" for number, verdict in enumerate(found, 1))


def _runs(question: Mapping[str, Any], runs: Sequence[Sequence[Any]]) -> str:
    """The answers of the processes a question was asked in; equal ones once."""
    shown = [_cell(question, answers) for answers in runs]
    if len(set(shown)) == 1:
        return shown[0]
    envs = question["envs"]
    return "<br>".join(
        f"{', '.join(f'{k}={v}' for k, v in env.items())}: {cell}" for env, cell in zip(envs, shown, strict=True)
    )


def _asks(question: Mapping[str, Any]) -> list[Any]:
    return [step for step in question["asks"] if step["do"] in {"join", "read", "http", "range"}]


def _right(question: Mapping[str, Any], expected: Sequence[Any]) -> str:
    """One of the right lists of answers."""
    return _numbered([_wanted(step, one) for step, one in zip(_asks(question), expected, strict=True)])


def _cell(question: Mapping[str, Any], answers: Sequence[Any]) -> str:
    """What a store answered, step by step; steps that failed before the first answer are its only one."""
    whole = [question["expected"], *question.get("or", ())]
    shown = [
        _answer(step, answer, _looked_at([way[number] for way in whole]))
        for number, (step, answer) in enumerate(zip(_asks(question), answers, strict=False))
    ]
    return _numbered(shown)


def _numbered(shown: Sequence[str]) -> str:
    if len(set(shown)) == 1:
        return shown[0]
    return "<br>".join(f"({number}) {text}" for number, text in enumerate(shown, 1))


def _wanted(step: Mapping[str, Any], wanted: Any) -> str:
    """A right answer in words."""
    if "any" in wanted:
        return " or ".join(_wanted(step, one) for one in wanted["any"])
    if "raised" in wanted:
        return "a refusal" if wanted["raised"] is True else f"a refusal that says `{wanted['raised']}`"
    return _answer(step, wanted, True)


def _looked_at(ways: Sequence[Any]) -> bool:
    """Whether any of these right answers says a status."""
    for wanted in ways:
        if "any" in wanted and _looked_at(wanted["any"]):
            return True
        if any(isinstance(column, Mapping) and "statuses" in column for column in wanted.values()):
            return True
    return False


def _answer(step: Mapping[str, Any], answer: Any, statuses: bool) -> str:
    """One answer in the shape of the question: `label → feature`, or values, with statuses where these matter."""
    if "absent" in answer:
        return f"no call for it: {_text(answer['absent'])}"
    if "raised" in answer:
        return f"`{_text(answer['raised'])}`"
    if "columns" in answer:
        return f"a table with the columns {', '.join(answer['columns'])}"
    if "sum" in answer:
        return f"{answer['rows']} rows, {answer['present']} present, sum {answer['sum']}"
    if "rows" in answer:
        return _rows(step, answer)
    return "; ".join(_column(name, column, statuses) for name, column in answer.items())


def _rows(step: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    features = len(step["features"])
    shown = []
    for row in answer["rows"]:
        own, found = row[:-features], row[-features:]
        shown.append(f"{_tuple(own)} → {_tuple(found)}")
    types = f", typed {answer['types'][-1]}" if "types" in answer else ""
    return f"`{_text(',  '.join(shown))}`{types}" if shown else "no rows"


def _tuple(values: Sequence[Any]) -> str:
    shown = ", ".join(map(_value, values))
    return shown if len(values) == 1 else f"({shown})"


def _column(name: str, column: Mapping[str, Any], statuses: bool) -> str:
    shown = [_value(value) for value in column["values"]]
    if statuses and "statuses" in column:
        shown = [f"{value} {status}" for value, status in zip(shown, column["statuses"], strict=True)]
    if "times" in column:
        shown = [f"{value} at {time}" for value, time in zip(shown, column["times"], strict=True)]
    return f"`{name}: {_text(', '.join(shown))}`" if shown else f"`{name}: (empty)`"


def _value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if value == "bytes ":
        return "no bytes"
    if isinstance(value, str):
        tagged = value.startswith(("bytes ", "decimal ")) or value in {"NaN", "-0.0", "inf", "-inf"}
        return value if tagged else f"'{value}'"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _text(text: str) -> str:
    """Text that does not end a table's cell or its code."""
    return text.replace("|", "\\|").replace("`", "'").replace("\n", " ")


def terminal(questions: Sequence[Mapping[str, Any]], stores: Sequence[str]) -> str:
    """A table for people at a terminal."""
    width = max(len(question["title"]) for question in questions)
    lines = [(" " * width + "".join(f"  {STORES[store]:20}" for store in stores)).rstrip()]
    for question in questions:
        found = "".join(f"  {verdicts.worst(question['verdicts'][store]):20}" for store in stores)
        lines.append(f"{question['title']:{width}}{found}".rstrip())
    lines.append("")
    lines += [
        f"{STORES[store]}: " + ", ".join(f"{n} {verdict}" for verdict, n in counts(questions, store).items() if n)
        for store in stores
    ]
    return "\n".join(lines)
