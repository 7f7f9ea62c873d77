"""Cases of the point-in-time rule: boundaries, ttl, ties, knowledge, rows kept and their order.

They are a file of their own because they are the heart of the catalogue and change only with the rule itself.
`all_cases` gathers them. They must never rest on how rows come in: where a way in has no order, the case says so.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from stook.core import dtypes
from stook.core.definitions import Projection
from stook.testing.cases.case import FILES, HOUR, NOW, PUSHES, SECOND, Case, CaseView, Fact, at, facts, simple

LATER_WINS_BY_ORDER: Final = {"sql": "a query's rows have no order; content decides among full ties"}
NO_ROWS: Final = dict.fromkeys(PUSHES, "a push without rows leaves nothing to show")
REFUSED_BY_PUSHES: Final = dict.fromkeys(PUSHES, "a push refuses such a row; see the tests of pushes")
PUSH_KNOWN_NOW: Final = dict.fromkeys(PUSHES, "a push without a created time is known since its acceptance")
TTL: Final = timedelta(hours=2)

BOUNDARIES: Final = (
    simple(
        "at_label_time", (1,), "a row at exactly the label time counts",
        facts((1, at(10), 7)),
        asks=[(1, at(10), 7, 7)],
    ),
    simple(
        "beside_label_time", (2,), "one microsecond before the label counts, one after does not",
        facts((1, at(10), 1), (1, at(10, us=2), 3)),
        asks=[(1, at(10, us=-1), None, 3), (1, at(10, us=1), 1, 3), (1, at(10, us=2), 3, 3)],
    ),
    simple(
        "only_future", (3,), "a label with only later rows is kept, with nulls",
        facts((1, at(11), 1), (2, at(9), 2)),
        asks=[(1, at(10), None, 1), (2, at(10), 2, 2)],
    ),
    simple(
        "unknown_key", (4,), "a key without history is kept, with nulls, and does not borrow from others",
        facts((1, at(9), 1), (3, at(9), 3)),
        asks=[(2, at(10), None, "NOT_FOUND"), (1, at(10), 1, 1), (2, at(11), None, "NOT_FOUND")],
    ),
    simple(
        "no_history", (4,), "a view without rows answers null for every label",
        (),
        asks=[(1, at(10), None, "NOT_FOUND")],
        without=NO_ROWS,
    ),
    simple("no_labels", (4, 52), "no label gives no row, with its columns and types", facts((1, at(9), 1)), asks=[],
        doors_without={"cli": "a command line without entities asks for one row of nulls, as for a view without keys"}),
    simple(
        "ranges_apart", (20,), "labels may lie far before and far after all rows",
        facts((1, at(1), 1), (1, at(2), 2)),
        asks=[(1, at(-24 * 9000), None, 2), (1, at(1.5), 1, 2), (1, at(24 * 9000), 2, 2)],
    ),
)  # fmt: skip

TTLS: Final = (
    simple(
        "ttl_boundary", (5, 37), "an age of exactly the ttl counts, one microsecond more does not",
        facts((1, NOW - 2 * HOUR, 1), (2, NOW - 2 * HOUR - 1, 2), (3, at(1), 3)),
        asks=[
            (1, NOW, 1, 1), (2, NOW, None, "OUTSIDE_MAX_AGE"),
            (3, at(3), 3, "OUTSIDE_MAX_AGE"), (3, at(3, us=1), None, "OUTSIDE_MAX_AGE"),
        ],
        ttl=TTL,
    ),
    simple(
        "ttl_from_label", (6,), "age is measured from the label, not from today",
        facts((1, at(-240), 1)),
        asks=[(1, at(-239), 1, "OUTSIDE_MAX_AGE"), (1, at(-237), None, "OUTSIDE_MAX_AGE")],
        ttl=TTL,
    ),
    simple(
        "ttl_none", (5,), "without a ttl a value counts for ever",
        facts((1, at(-24 * 4000), 1)),
        asks=[(1, NOW, 1, 1)],
    ),
    simple(
        "ttl_smallest", (5,), "the smallest ttl is a microsecond",
        facts((1, at(10), 1)),
        asks=[(1, at(10, us=1), 1, "OUTSIDE_MAX_AGE"), (1, at(10, us=2), None, "OUTSIDE_MAX_AGE")],
        ttl=timedelta(microseconds=1),
    ),
    simple(
        "expired_not_replaced", (6, 37), "an older row never stands in for an expired one",
        facts((1, at(5), 1), (1, at(6), 2)),
        asks=[(1, at(9), None, "OUTSIDE_MAX_AGE"), (1, at(5.5), 1, "OUTSIDE_MAX_AGE")],
        ttl=TTL,
    ),
    simple(
        "null_is_not_old_value", (55,), "a newest row with a null answers null, not the value before it",
        facts((1, at(9), 1), (1, at(10), None)),
        asks=[(1, at(11), None, "NULL_VALUE"), (1, at(9), 1, "NULL_VALUE")],
    ),
    simple(
        "five_statuses", (55, 37), "present, null, missing and expired are told apart",
        facts((1, at(11), 1), (2, at(11), None), (3, at(1), 3)),
        asks=[
            (1, NOW, 1, 1), (2, NOW, None, "NULL_VALUE"), (3, NOW, None, "OUTSIDE_MAX_AGE"), (4, NOW, None, "NOT_FOUND"),
        ],
        ttl=TTL,
    ),
)  # fmt: skip

TIES: Final = (
    simple(
        "tie_by_created", (7, 27), "of equal event times the one known later wins, wherever it stands",
        facts((1, at(9), 1, at(11)), (1, at(9), 2, at(10)), (2, at(9), 3, at(10)), (2, at(9), 4, at(11))),
        asks=[(1, at(11), 1, 1), (2, at(11), 4, 4)],
        created=True,
    ),
    simple(
        "tie_by_row", (7,), "of rows equal in both times the later one wins, whatever it holds",
        facts((1, at(9), 9), (1, at(9), 5), (2, at(9), 5), (2, at(9), 9), (3, at(9), 5), (3, at(9), None)),
        asks=[(1, at(10), 5, 5), (2, at(10), 9, 9), (3, at(10), None, "NULL_VALUE")],
        without=LATER_WINS_BY_ORDER,
    ),
    simple(
        "tie_by_file", (7,), "between files the later one wins, whatever it holds",
        facts((1, at(9), 9), (2, at(9), 1)), facts((1, at(9), 5), (2, at(9), 8)), facts((3, at(9), 1)),
        asks=[(1, at(10), 5, 5), (2, at(10), 8, 8), (3, at(10), 1, 1)],
        without=LATER_WINS_BY_ORDER,
    ),
    simple(
        "tie_of_many", (7,), "a hundred rows equal in both times give one row",
        facts(*((1, at(9), value) for value in range(100))),
        asks=[(1, at(9), 99, 99), (1, at(10), 99, 99)],
    ),
    simple(
        "tie_of_all", (7,), "rows equal in everything give one row",
        facts((1, at(9), 3), (1, at(9), 3)), facts((1, at(9), 3)),
        asks=[(1, at(10), 3, 3)],
    ),
    simple(
        "older_event_later_row", (26, 32), "an older event that arrives later changes nothing now, and counts in the past",
        facts((1, at(10), 10), (1, at(8), 8), (1, at(9), 9)),
        asks=[(1, at(10), 10, 10), (1, at(9), 9, 10), (1, at(8), 8, 10)],
    ),
    simple(
        "older_event_later_file", (26,), "the same across files",
        facts((1, at(10), 10)), facts((1, at(8), 8)), facts((1, at(9), 9)),
        asks=[(1, at(10), 10, 10), (1, at(9), 9, 10), (1, at(8), 8, 10)],
    ),
)  # fmt: skip

KNOWLEDGE: Final = (
    simple(
        "created_after_label", (8,), "with a limit of knowledge, what was not known yet does not leak",
        facts((1, at(8), 1, at(8)), (1, at(8), 2, at(10)), (1, at(9), 3, at(11))),
        asks=[(1, at(9), 1, 3), (1, at(10), 2, 3), (1, at(11), 3, 3)],
        created=True, known_by=[at(9), at(10), at(11)],
    ),
    simple(
        "newest_knowledge", (8, 27), "without a limit the correction counts, also where it came after the label",
        facts((1, at(8), 1, at(8)), (1, at(8), 2, at(11))),
        asks=[(1, at(9), 2, 2)],
        created=True,
    ),
    simple(
        "nothing_known_yet", (8,), "a label by whose time nothing was known is null, not another entity's value",
        facts((1, at(8), 1, at(11)), (2, at(8), 2, at(8))),
        asks=[(1, at(9), None, 1), (2, at(9), 2, 2)],
        created=True, known_by=[at(9), at(9)],
    ),
    simple(
        "null_created", (8,), "a row without a created time is known since its event",
        facts((1, at(8), 1, None), (1, at(8), 2, at(10)), (2, at(9), 3, None)),
        asks=[(1, at(9), 1, 2), (1, at(10), 2, 2), (2, at(9), 3, 3), (2, at(8), None, 3)],
        created=True, known_by=[at(9), at(10), at(9), at(9)], without=PUSH_KNOWN_NOW,
    ),
    simple(
        "limit_apart", (8, 9), "the limit may lie before or after the label, each row has its own",
        facts((1, at(8), 1, at(8)), (1, at(8), 2, at(9)), (1, at(8), 3, at(10))),
        asks=[(1, at(8), 1, 3), (1, at(8), 2, 3), (1, at(8), 3, 3), (1, at(11), 1, 3), (1, at(8), None, 3)],
        created=True, known_by=[at(8), at(9), at(10), at(8), at(7)],
    ),
    simple(
        "no_limit_no_match", (8,), "a label whose limit is null matches nothing",
        facts((1, at(8), 1, at(8))),
        asks=[(1, at(9), None, 1)],
        created=True, known_by=[None],
    ),
)  # fmt: skip

LABELS: Final = (
    simple(
        "duplicate_labels", (10, 52), "each of several equal rows gets its answer",
        facts((1, at(9), 1), (2, at(9), 2)),
        asks=[(1, at(10), 1, 1), (2, at(10), 2, 2), (1, at(10), 1, 1), (1, at(10), 1, 1)],
    ),
    simple(
        "order_kept", (11,), "rows come back in the order in which they were asked",
        facts(*((key, at(9), key * 10) for key in range(50))),
        asks=[(key, at(9 + key % 3), key * 10, key * 10) for key in (31, 2, 49, 2, 0, 17, 30, 48, 1)],
    ),
    simple(
        "null_key", (16, 52), "a null key is kept and matches nothing, not even a null key of history",
        facts((None, at(9), 9), (1, at(9), 1)),
        asks=[(None, at(10), None, "NOT_FOUND"), (1, at(10), 1, 1), (None, at(10), None, "NOT_FOUND")],
        without=REFUSED_BY_PUSHES,
    ),
    simple(
        "null_key_asked", (16, 52), "a null key is kept and matches nothing",
        facts((1, at(9), 1)),
        asks=[(None, at(10), None, "NOT_FOUND"), (1, at(10), 1, 1)],
    ),
    simple(
        "null_label_time", (17,), "a label without a time matches nothing and is kept",
        facts((1, at(9), 1)),
        asks=[(1, None, None, 1), (1, at(9), 1, 1)],
    ),
    simple(
        "null_event_time", (17,), "a row of history without a time never counts",
        facts((1, None, 9), (1, at(9), 1), (2, None, 2)),
        asks=[(1, at(10), 1, 1), (2, at(10), None, "NOT_FOUND")],
        without=REFUSED_BY_PUSHES,
    ),
    simple(
        "future_row", (24,), "a row dated after now stays in history, and is not online before its time",
        facts((1, at(9), 1), (1, NOW + HOUR, 2), (2, NOW + HOUR, 3)),
        asks=[(1, NOW, 1, 1), (1, NOW + HOUR, 2, 1), (2, NOW + 2 * HOUR, 3, "NOT_FOUND")],
    ),
    simple(
        "epoch_edges", (23,), "times before 1970, at 0, after 2106 and 2262, in the years 1 and 9999",
        facts(
            (1, -62_135_596_800_000_000, 1), (2, -1, 2), (3, 0, 3), (4, 4_294_967_296 * SECOND, 4),
            (5, 9_300_000_000 * SECOND, 5), (6, 253_402_300_799_999_999, 6),
        ),
        asks=[
            (1, -62_135_596_800_000_000, 1, 1), (2, -1, 2, 2), (2, -2, None, 2), (3, 0, 3, 3), (3, -1, None, 3),
            (4, 4_294_967_296 * SECOND, 4, "NOT_FOUND"), (5, 9_300_000_000 * SECOND, 5, "NOT_FOUND"),
            (6, 253_402_300_799_999_999, 6, "NOT_FOUND"), (6, 253_402_300_799_999_998, None, "NOT_FOUND"),
        ],
    ),
    simple(
        "leap_day", (25,), "the leap day is a day like others",
        facts((1, at(-24 * 62), 229), (1, at(-24 * 61), 301)),
        asks=[(1, at(-24 * 62), 229, 301), (1, at(-24 * 61, us=-1), 229, 301), (1, at(-24 * 61), 301, 301)],
    ),
)  # fmt: skip

_DRIVERS: Final = CaseView("several_views.driver", (("driver", dtypes.Int64),), (("trips", dtypes.Int64),), (
    (Fact((2,), at(9), (20,)), Fact((3,), at(9), (30,)), Fact((2,), at(10), (21,))),
))  # fmt: skip
_CUSTOMERS: Final = CaseView("several_views.customer", (("customer", dtypes.Int64),), (("spent", dtypes.Float64),), (
    (Fact((5,), at(9), (0.5,)), Fact((6,), at(10, us=1), (0.25,))),
))  # fmt: skip
_WORLD: Final = CaseView("several_views.world", (), (("rate", dtypes.Float64),), ((Fact((), at(9), (1.5,)),),))
_CITIES: Final = CaseView("twice.city", (("city_id", dtypes.Int64),), (("people", dtypes.Int64),), (
    (Fact((1,), at(9), (100,)), Fact((2,), at(9), (200,))),
))  # fmt: skip
_SAME_NAME: Final = tuple(
    CaseView(f"same_name.{side}", (("id", dtypes.Int64),), (("x", dtypes.Int64),), ((Fact((1,), at(9), (value,)),),))
    for side, value in (("a", 1), ("b", 2))
)
_TTLS: Final = tuple(
    CaseView(
        f"ttl_each.{name}", (("id", dtypes.Int64),), ((name, dtypes.Int64),), ((Fact((1,), at(9), (value,)),),), ttl
    )
    for name, value, ttl in (("short", 1, timedelta(hours=1)), ("long", 2, timedelta(hours=3)), ("never", 3, None))
)

SEVERAL: Final = (
    Case(
        "several_views", (12, 54), "views with different keys, and one with none, each answer every row",
        (_DRIVERS, _CUSTOMERS, _WORLD),
        entities={"driver": [2, 2, 3, 9, 2], "customer": [5, 6, 6, 5, None]},
        labels=[at(9), at(10), at(11), at(8), at(10)],
        past={"trips": [20, 21, 30, None, 21], "spent": [0.5, None, 0.25, None, None], "rate": [1.5, 1.5, 1.5, None, 1.5]},
        now={"trips": [21, 21, 30, None, 21], "spent": [0.5, 0.25, 0.25, 0.5, None], "rate": [1.5] * 5},
        statuses={
            "trips": ["PRESENT", "PRESENT", "PRESENT", "NOT_FOUND", "PRESENT"],
            "spent": ["PRESENT"] * 4 + ["NOT_FOUND"],
            "rate": ["PRESENT"] * 5,
        },
    ),
    Case(
        "one_view_twice", (12, 14), "one view under two names, found by two columns",
        (_CITIES,),
        entities={"home": [1, 2, 1], "work": [2, 2, 3]},
        labels=[at(10)] * 3,
        past={"home_city__people": [100, 200, 100], "work_city__people": [200, 200, None]},
        now={"home_city__people": [100, 200, 100], "work_city__people": [200, 200, None]},
        statuses={"home_city__people": ["PRESENT"] * 3, "work_city__people": ["PRESENT", "PRESENT", "NOT_FOUND"]},
        features=[
            Projection("twice.city", None, "home_city", (("city_id", "home"),)),
            Projection("twice.city", None, "work_city", (("city_id", "work"),)),
        ],
        full_feature_names=True,
        doors_without={
            "cli": "the command line names features by reference", "cli training": "the command line names features by reference",
        },
    ),
    Case(
        "same_feature_name", (52,), "one feature name in two views is told apart by full names",
        _SAME_NAME,
        entities={"id": [1, 2]}, labels=[at(10)] * 2,
        past={"same_name.a__x": [1, None], "same_name.b__x": [2, None]},
        now={"same_name.a__x": [1, None], "same_name.b__x": [2, None]},
        statuses={"same_name.a__x": ["PRESENT", "NOT_FOUND"], "same_name.b__x": ["PRESENT", "NOT_FOUND"]},
        full_feature_names=True,
    ),
    Case(
        "ttl_each", (39,), "each view's ttl is its own: what expires in one stays in the others",
        _TTLS,
        entities={"id": [1, 1]}, labels=[at(10), at(12, us=1)],
        past={"short": [1, None], "long": [2, None], "never": [3, 3]},
        now={"short": [None, None], "long": [2, 2], "never": [3, 3]},
        statuses={"short": ["OUTSIDE_MAX_AGE"] * 2, "long": ["PRESENT"] * 2, "never": ["PRESENT"] * 2},
    ),
)  # fmt: skip

CASES: Final = (*BOUNDARIES, *TTLS, *TIES, *KNOWLEDGE, *LABELS, *SEVERAL)
assert set(NO_ROWS) | set(FILES) == {*PUSHES, *FILES}
