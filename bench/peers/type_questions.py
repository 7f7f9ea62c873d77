"""Hard questions about types: each value is asked for in a training set, then online after a materialization.

It is a file of its own because the questions are data, and these all have one shape. `feast_cases.py` asks them. An
expected answer must never be computed.
"""

from __future__ import annotations

from typing import Any

from words import YEAR, join, offline, online, read, rows, view


def typed(name: str, title: str, kind: str, values: list[Any], answers: list[Any], **more: Any) -> dict[str, Any]:
    """A question about the values of one feature `value`, of drivers 1, 2, ..."""
    data = rows("driver_id event_timestamp value", *[(n, "2024-01-10", v) for n, v in enumerate(values, 1)])
    drivers = list(range(1, len(values) + 1))
    labels = rows("driver_id event_timestamp", *[(n, "2024-01-11") for n in drivers])
    asks: list[dict[str, Any]] = [
        join(labels, "driver_id value", features=["stats:value"]),
        {"do": "materialize", **YEAR},
        read(*drivers, features=["stats:value"]),
    ]
    expected = [offline(*[[n, a] for n, a in zip(drivers, answers, strict=True)])]
    if more.pop("frame", False):
        asks.insert(1, {**asks[0], "frame": True})
        expected *= 2
    return {
        "id": name,
        "title": title,
        "views": [view(data, features={"value": kind})],
        "steps": asks,
        "expected": [*expected, online(answers, name="value")],
        "strict": True,
        **more,
    }


QUESTIONS: list[dict[str, Any]] = [
    typed(
        "int64-null", "2^53 + 1 in a column with a null", "Int64",
        [9007199254740993, None], [9007199254740993, None],
        frame=True, cases=[42, 51],
        asked="As an Arrow table, as a DataFrame, and online. A double cannot hold this number.",
    ),
    typed(
        "bool-null", "Booleans with a null", "Bool", [True, False, None], [True, False, None],
        frame=True, cases=[44, 51], asked="As an Arrow table, as a DataFrame, and online.",
    ),
    typed(
        "float32", "float32", "Float32",
        [0.1, 16777216.0], [0.10000000149011612, 16777216.0],
        cases=[43, 51], asked="The exact float32, widened to a double: 0.1 is 0.10000000149011612.",
    ),
    typed(
        "nan", "NaN beside null", "Float64", [float("nan"), None, 1.5], ["NaN", None, 1.5],
        cases=[18, 51], asked="NaN is a value, null is none.",
    ),
    typed(
        "negative-zero", "-0.0, infinity", "Float64",
        [-0.0, float("inf"), 1.5], ["-0.0", "inf", 1.5], cases=[43, 51], asked="Sign and infinity stay.",
    ),
    typed(
        "empty-string", "Empty text beside null", "String", ["", None, "é\U0001f600"], ["", None, "é\U0001f600"],
        cases=[45, 51], asked="Empty is not null.",
    ),
    typed(
        "bytes-zero", "Bytes with zero bytes", "Bytes",
        ["00ff00", "", None], ["bytes 00ff00", "bytes ", None],
        cases=[45, 51], asked="`00 ff 00`, no bytes at all, and null.",
    ),
    typed(
        "list-nulls", "A list with a null inside", "Array(Int64)", [[1, None, 3], [4]], [[1, None, 3], [4]],
        cases=[46, 51], asked="The null keeps its place.",
    ),
    typed(
        "list-empty", "An empty list beside null", "Array(String)", [[], None, ["a"]], [[], None, ["a"]],
        cases=[46, 51], asked="Empty is not null.",
    ),
    typed(
        "decimal", "Decimals", "Decimal(20, 10)",
        ["1234567890.0123456789", None], ["decimal 1234567890.0123456789", None],
        cases=[43, 51], asked="Twenty digits: more than a double holds.",
    ),
]  # fmt: skip
