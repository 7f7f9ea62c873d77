"""Cases of keys and names: composite keys, keys of every type, separators inside, renamed columns, awkward names.

They are a file of their own because a key that is glued, cast or folded mixes entities, which no type test sees.
`all_cases` gathers them. They must never hold two columns that differ by case alone: those are refused, and tested
where definitions are.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, Final

from stook.core import dtypes
from stook.core.definitions import Projection
from stook.core.dtypes import DType
from stook.testing.cases.case import Case, CaseView, Fact, at
from stook.testing.cases.exact_types import NO_BYTES

Key = tuple[Any, ...]


def keyed(
    name: str,
    keys: Sequence[tuple[str, DType]],
    pool: Sequence[Key],
    shows: str,
    *,
    strangers: Sequence[Key] = (),
    **others: Any,
) -> Case:
    """Every key of a pool has its own value, and keys that are no one's find nothing; asked in reverse order."""
    view = CaseView(
        name, tuple(keys), (("x", dtypes.Int64),), (tuple(Fact(k, at(9), (i,)) for i, k in enumerate(pool)),)
    )
    asked = [*reversed(pool), *strangers]
    found = [*reversed(range(len(pool))), *(None for _ in strangers)]
    return Case(
        name, (13,), shows, (view,),
        entities={column: [key[i] for key in asked] for i, (column, _) in enumerate(keys)},
        labels=[at(10)] * len(asked),
        past={"x": found},
        now={"x": found},
        statuses={"x": ["NOT_FOUND" if value is None else "PRESENT" for value in found]},
        **others,
    )  # fmt: skip


COMPOSITE: Final = (
    keyed(
        "key_pair", (("a", dtypes.Int64), ("b", dtypes.Int64)), [(1, 11), (11, 1), (1, 1), (11, 11), (111, 1), (1, 111)],
        "pairs of integers are never glued", strangers=[(111, 11), (1, None), (None, 1)],
    ),
    keyed(
        "key_text_pair", (("a", dtypes.String), ("b", dtypes.String)),
        [("a", "bc"), ("ab", "c"), ("abc", "x"), ("a_b", "c"), ("a", "b_c"), ("a|b", "c"), ("a", "b|c"), ("a:b", "c"), ("a", "b:c")],
        "pairs of text are never glued, whatever separator they hold", strangers=[("abc", "c"), ("A", "bc")],
    ),
    keyed(
        "key_text_zero", (("a", dtypes.String), ("b", dtypes.String)),
        [("a\x00", "b"), ("a", "\x00b"), ("a\x00b", "c"), ("a", "b")], "zero bytes inside keys do not end them",
        strangers=[("a\x00\x00", "b")],
        doors_without={"cli": "a process's arguments cannot hold a zero byte"},
    ),
    keyed(
        "key_empty_text", (("a", dtypes.String), ("b", dtypes.String)), [("", "a"), ("a", ""), ("", "")],
        "empty text is a key, and not null", strangers=[("a", "a"), (None, ""), ("", None)],
        doors_without={"cli": "an empty argument is the empty text, so that null cannot be said"},
    ),
    keyed(
        "key_reverse_definition", (("z", dtypes.Int64), ("a", dtypes.String)), [(1, "x"), (2, "x"), (1, "y")],
        "keys may be defined in any order", strangers=[(2, "y")],
    ),
    keyed(
        "key_three", (("k", dtypes.String), ("d", dtypes.Date), ("n", dtypes.Int32)),
        [("a", date(2024, 2, 29), 1), ("a", date(2024, 2, 29), -1), ("a", date(1969, 12, 31), 1), ("b", date(2024, 2, 29), 1)],
        "three keys of three types", strangers=[("b", date(1969, 12, 31), 1)],
    ),
)  # fmt: skip

TYPED: Final = (
    keyed(
        "key_int64", (("id", dtypes.Int64),), [(2**53,), (2**53 + 1,), (-(2**63),), (2**63 - 1,), (0,), (-1,)],
        "large integer keys stay apart", strangers=[(2**53 + 2,), (1,)],
    ),
    keyed("key_int8", (("id", dtypes.Int8),), [(-128,), (127,), (0,), (-1,)], "narrow keys", strangers=[(1,)]),
    keyed(
        "key_uint64", (("id", dtypes.UInt64),), [(0,), (2**63,), (2**64 - 1,), (2**53 + 1,)], "unsigned keys",
        strangers=[(2**53,)],
    ),
    keyed(
        "key_text", (("id", dtypes.String),),
        [("é",), ("e\u0301",), ("A",), ("a",), ("😀",), (" a",), ("a ",), ("1",), ("1.0",), ("01",), ("null",), ("a,b",), ('"',)],
        "text keys are compared by code points: case, normal form and spaces count", strangers=[("E\u0301",), ("b",)],
    ),
    keyed(
        "key_long_text", (("id", dtypes.String),), [("k" * 399,), ("k" * 400,), ("k" * 401,), ("k" * 5000 + "a",), ("k" * 5000 + "b",)],
        "long keys stay apart", strangers=[("k" * 402,)],
    ),
    keyed(
        "key_bytes", (("id", dtypes.Bytes),), [(b"\x00",), (b"\x00\x00",), (b"\xff",), (b"a",)], "keys of bytes",
        strangers=[(b"\xff\x00",)], without=NO_BYTES, doors_without={"cli": "a process's arguments are text"},
    ),
    keyed("key_bool", (("id", dtypes.Bool),), [(True,), (False,)], "booleans as keys", strangers=[(None,)]),
    keyed("key_date", (("id", dtypes.Date),), [(date(1, 1, 1),), (date(9999, 12, 31),)], "dates as keys", strangers=[(date(2, 1, 1),)]),
    keyed(
        "key_timestamp", (("id", dtypes.Timestamp),),
        [(datetime(2024, 1, 1, tzinfo=UTC),), (datetime(2024, 1, 1, 0, 0, 0, 1, UTC),), (datetime(1, 1, 1, tzinfo=UTC),)],
        "instants as keys, to the microsecond", strangers=[(datetime(2024, 1, 1, 0, 0, 1, tzinfo=UTC),)],
    ),
)  # fmt: skip

AWKWARD: Final = (
    "it's", 'say "x"', "a.b", "with space", "SELECT", "order", "CamelCase", "ünïcode", "a-b", "a:b", "100%", "$1", "x;--", "`tick`",
    "row_id", "label_us", "event_us", "arrival", "deleted", "key0", "feature0", "f0_0", "k0_0", "history", "labels", "h", "l",
    "value", "values", "index", "c0", "file_row_number", "filename", "event", "created_us", "knowledge_us", "status", "position",
)  # fmt: skip


def _awkward_features() -> Case:
    features = tuple((name, dtypes.Int64) for name in AWKWARD)
    rows = (Fact((1,), at(9), tuple(range(len(AWKWARD)))), Fact((2,), at(9), tuple(-n for n in range(len(AWKWARD)))))
    view = CaseView("names_of_features", (("id", dtypes.Int64),), features, (rows,))
    answers = {name: [-i, i] for i, name in enumerate(AWKWARD)}
    return Case(
        "names_of_features", (14,), "features may bear quotes, dots, spaces, reserved words, and names that engines use",
        (view,), {"id": [2, 1]}, [at(10)] * 2, answers, answers, {name: ["PRESENT"] * 2 for name in AWKWARD},
    )  # fmt: skip


def _awkward_keys() -> Case:
    names = (*AWKWARD[:14], "row_id", "key0", "label_us")
    keys = tuple((name, dtypes.Int64) for name in names)
    rows = (Fact(tuple(range(len(names))), at(9), (1,)), Fact(tuple(range(1, len(names) + 1)), at(9), (2,)))
    view = CaseView("names_of_keys", keys, (("x", dtypes.Int64),), (rows,))
    entities = {name: [i + 1, i, 99] for i, name in enumerate(names)}
    return Case(
        "names_of_keys", (14,), "so may join keys", (view,), entities, [at(10)] * 3,
        {"x": [2, 1, None]}, {"x": [2, 1, None]}, {"x": ["PRESENT", "PRESENT", "NOT_FOUND"]},
    )  # fmt: skip


_HOME: Final = CaseView("key_renamed.city", (("city_id", dtypes.Int64),), (("people", dtypes.Int64),), (
    (Fact((1,), at(9), (100,)), Fact((2,), at(9), (200,))),
))  # fmt: skip
RENAMED: Final = Case(
    "key_renamed", (14,), "a key may be found by another column, whatever the column is called", (_HOME,),
    {"the home's \"id\"": [2, 1, 3]}, [at(10)] * 3,
    {"people": [200, 100, None]}, {"people": [200, 100, None]}, {"people": ["PRESENT", "PRESENT", "NOT_FOUND"]},
    features=[Projection("key_renamed.city", ("people",), None, (("city_id", "the home's \"id\""),))],
    doors_without={
        "cli": "the command line names features by reference", "cli training": "the command line names features by reference",
    },
)  # fmt: skip

CASES: Final = (*COMPOSITE, *TYPED, _awkward_features(), _awkward_keys(), RENAMED)
