"""Bodies that are right, and ways to make them wrong: strategies over requests that reach real code.

It is a file of its own because data drawn from a schema alone hardly ever names a view that is there. It must never
send what `json.loads` cannot say by Python's own means: such numbers and text are spelled as marks, which `spell`
replaces in the bytes.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from . import served

Json = Any
MARKS = {
    b'"@huge@"': b"9" * 5_000,
    b'"@minus-huge@"': b"-" + b"9" * 5_000,
    b'"@1e999@"': b"1e999",
    b'"@tiny@"': b"1e-999",
    b'"@long-fraction@"': b"0." + b"1" * 5_000,
    b'"@nan@"': b"NaN",
    b'"@lone@"': b'"\\ud800"',
    b'"@nul@"': b'"\\u0000"',
    b'"@raw@"': b'"\xff"',
}
TYPED = {
    "driver_id": [1],
    "flag": [True],
    "tiny": [-128],
    "short": [-(2**15)],
    "whole": [2**31 - 1],
    "octet": [255],
    "big": [2**64 - 1],
    "single": ["Infinity"],
    "text": ["città"],
    "blob": ["AP8="],
    "money": ["12.5000"],
    "day": ["2024-05-01"],
    "tod": ["12:30:00"],
    "at": ["2024-05-01T00:00:00.000001Z"],
    "list": [[1.5, None, "NaN"]],
    "texts": [["a", None]],
    "grid": [[[1], [], None]],
    "vector": [[0.5, 1]],
    "place": [{"lat": "-Infinity", "name": None, "when": "2024-05-01T00:00:00Z", "cost": "1.25"}],
    "counts": [[["a", 2**62], ["b", None]]],
    "days": [[["2024-05-01", ["AP8="]]]],
    "event_timestamp": ["2024-05-01T11:00:00Z"],
}
TENSORS = [
    {"name": "flag", "datatype": "BOOL", "shape": [1], "data": [True]},
    {"name": "tiny", "datatype": "INT8", "shape": [1], "data": [1]},
    {"name": "big", "datatype": "UINT64", "shape": [1], "data": [2**64 - 1]},
    {"name": "single", "datatype": "FP32", "shape": [1], "data": ["NaN"]},
    {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]},
    {"name": "blob", "datatype": "BYTES", "shape": [1, 1], "data": ["AP8="]},
    {"name": "money", "datatype": "BYTES", "shape": [1], "data": ["1.5"]},
    {"name": "day", "datatype": "BYTES", "shape": [1], "data": ["2024-05-01"]},
    {"name": "at", "datatype": "BYTES", "shape": [1], "data": ["2024-05-01T00:00:00Z"]},
    {"name": "vector", "datatype": "FP32", "shape": [1, 2], "data": [[0.5, 1]]},
]
TWO = [
    {"name": "trips", "datatype": "INT64", "shape": [2], "data": [1, 299]},
    {"name": "speed", "datatype": "FP64", "shape": [2], "data": [0.5, None]},
]
EVERY_FEATURE = [f"types:{name}" for name in served.FIELDS]
PROJECTED = {"view": "stats", "features": ["trips"], "name": "home", "join_key_map": {"driver_id": "home_id"}}
PLACES = {"city": ["a"], "at": ["2024-05-01T00:00:00Z"], "cell": [2**64 - 1], "open": [True], "level": [-1]}
VALID: dict[str, list[Json]] = {
    "/get-online-features": [
        {"features": ["stats:trips", "stats:rate"], "entities": {"driver_id": [2, 3, 9999, None]}},
        {"features": EVERY_FEATURE, "entities": {"driver_id": [1]}},
        {"features": ["types:big", "types:counts"], "entities": {"driver_id": ["1"]}, "int64": "string"},
        {"feature_service": "ranking", "entities": {"driver_id": [1]}, "full_feature_names": True},
        {"features": ["stats:trips", PROJECTED], "entity_rows": [{"driver_id": 1, "home_id": 2}]},
        {"features": ["tagged:score"], "entities": {"tag": ["AP8=", "AA=="], "day": ["2024-05-01"] * 2}},
        {"features": ["placed:score"], "entities": PLACES},
        {"features": ["placed:score"], "entity_rows": [{name: cells[0] for name, cells in PLACES.items()}]},
        {"features": ["stats:city"], "entities": {"driver_id": list(range(100))}},
    ],
    "/push": [
        {"push_source_name": "typed", "df": TYPED},
        *({"view": "types", "df": {"driver_id": [1], name: TYPED[name]}} for name in served.FIELDS),
        {"view": "types", "df": {"driver_id": ["1", 2], "big": ["7", None]}, "to": "online"},
        {"view": "stats", "df": {"driver_id": [500], "trips": [7]}, "to": "both"},
        {"view": "stats", "df": {"driver_id": [501], "event_timestamp": ["2024-05-01T11:00:00Z"]}, "to": "offline"},
        {"view": "tagged", "df": {"tag": ["AP8="], "day": ["2024-05-01"], "score": [5]}},
        {"view": "placed", "df": {**PLACES, "score": ["NaN"]}},
    ],
    "/materialize": [
        {"start": "2024-05-01", "end": served.NOW, "views": ["stats"]},
        {"start_ts": "2024-05-01T00:00:00+02:00", "end_ts": served.NOW, "feature_views": ["tagged", "placed"]},
        {"end": served.NOW, "replace": True, "views": ["stats"]},
    ],
    "/materialize-incremental": [
        {"end": served.NOW},
        {"end_ts": served.NOW, "feature_views": ["stats"]},
    ],
    "/predict/{deployment}": [
        {"entities": {"driver_id": [1, 299]}, "request": {"speed": [0.1, 0.2]}},
        {"entity_rows": [{"driver_id": 1}], "request": {"speed": 0.1}, "int64": "string"},
        {"request": {"trips": [1, 299], "speed": [0.1, "NaN"]}},
        {"request": {tensor["name"]: tensor["data"] for tensor in TENSORS}},
    ],
    "/v2/models/{deployment}/infer": [
        {"inputs": TENSORS},
        {"id": "a", "inputs": TWO, "outputs": [{"name": "predictions"}]},
        {"inputs": [{"name": "all", "datatype": "FP64", "shape": [2, 2], "data": [[1, 2], [3, 4]]}]},
    ],
}
WORDS = [
    "stats", "types", "tagged", "placed", "typed", "tags", "ranking", "late", "every", "pair", "broken", "demo",
    "stats:trips", "types:blob", "types:days", "stats:", ":", "a:b:c", "driver_id", "tag", "day", "event_timestamp",
    "created", "trips", *served.FIELDS, "both", "online", "offline", "online_and_offline", "number", "string",
    "2024-05-01", "2024-02-30", "0001-01-01", "9999-12-31T23:59:59.999999Z", "0000-01-01T00:00:00Z",
    "-292277-01-01T00:00:00Z", "+10000-01-01", "2024-05-01T24:00:00Z", "2024-05-01T11:00:00.0000001Z",
    "2024-05-01T11:00:00+99:99", "2024-W18-3", "20240501", "12:60:00", "23:59:59.9999999", "now", "AP8=", "AP8", "====",
    "NaN", "nan", "Infinity", "-inf", "1e400", "1E+999999999", "-1", "1_0", "٣", "0x10", " 1 ", "1.5", "9" * 400, "-0",
    "BOOL", "INT8", "UINT64", "FP32", "FP64", "BYTES", "predictions", "__proto__", "../../etc/passwd", "%s%n",
    "{0.__class__}", "'; drop table x; --", '"', "\\", "\n", "\x7f", "\u2028", "\U0001f600", "a" * 300, "é" * 70_000,
    "x" * 1_000, "e\u0301", "\ufeffdriver_id", "STATS", "Driver_ID",
]  # fmt: skip
NUMBERS = [
    0, -0.0, 1, -1, 2, 127, 128, -129, 255, 256, 2**15, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**62, 2**63 - 1, 2**63,
    -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, 2**64 + 1, -(2**64), 10**30, 10**38, 10**309, 1.5, 1e-308, 5e-324, 1e308, -1e308,
    1e39, 0.1, 253402300799999999, 253402300800000000, -62135596800000001, 4_102_444_800,
]  # fmt: skip
MARK_TEXTS = [mark.decode()[1:-1] for mark in MARKS]

SCALARS = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(NUMBERS),
    st.sampled_from([None, True, False]),
    st.sampled_from(MARK_TEXTS),
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(WORDS), inner, max_size=3),
        st.lists(st.tuples(inner, inner).map(list), max_size=3),
    ),
    max_leaves=8,
)


@dataclass(frozen=True)
class Place:
    """Where in a body: the keys and indices that lead there."""

    steps: tuple[str | int, ...]


def places(body: Json, before: tuple[str | int, ...] = ()) -> list[Place]:
    """All places in a body, but its root."""
    items = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    found = []
    for step, inner in items:
        found.append(Place((*before, step)))
        found += places(inner, (*before, step))
    return found


def at(body: Json, place: Place) -> Json:
    """What is at a place."""
    for step in place.steps:
        body = body[step]
    return body


ALL_PIECES = [
    json.loads(text)
    for text in {
        json.dumps(inner)
        for bodies in VALID.values()
        for body in bodies
        for inner in [body, *([body[key] for key in body])]
    }
]


KINDS = ["number", "number", "number", "replace", "replace", "replace", "splice", "remove", "double", "rename", "wrap"]


@st.composite
def spoiled(draw: st.DrawFn, body: Json, changes_max: int = 3) -> Json:
    """A right body with up to so many places replaced, removed, doubled, renamed, or taken from another body."""
    body = copy.deepcopy(body)
    for _ in range(draw(st.sampled_from([0, 1, 1, changes_max - 1, changes_max]))):
        there = places(body)
        if not there:
            break
        leaves = [place for place in there if not isinstance(at(body, place), dict | list)]
        *way, last = draw(st.sampled_from(leaves or there) | st.sampled_from(there)).steps
        owner = at(body, Place(tuple(way)))
        match draw(st.sampled_from(KINDS)):
            case "number":
                owner[last] = draw(st.sampled_from(NUMBERS))
            case "replace":
                owner[last] = draw(VALUES)
            case "splice":
                owner[last] = draw(st.sampled_from(ALL_PIECES))
            case "remove":
                del owner[last]
            case "double" if isinstance(owner, list):
                owner.insert(last, copy.deepcopy(owner[last]))  # type: ignore[arg-type]
            case "rename" if isinstance(owner, dict):
                owner[draw(st.sampled_from(WORDS))] = owner.pop(last)
            case _:
                owner[last] = [owner[last]]
        body = copy.deepcopy(body)  # what was spliced twice must not change twice
    return body


def spell(body: Json) -> bytes:
    """A body as JSON bytes, with marks replaced by what Python's own encoder would not write."""
    text = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    for mark, bytes_ in MARKS.items():
        text = text.replace(mark, bytes_)
    return text
