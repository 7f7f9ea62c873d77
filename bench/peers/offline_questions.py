"""Hard questions about training sets, each with its right answer written beside it.

It is a file of its own because the questions are data, apart from how stores are asked. `feast_cases.py` asks them.
An expected answer must never be computed. `cases` are the numbers of the hard cases that a question touches.
"""

from __future__ import annotations

from typing import Any

from words import DAY, REFUSED, either, join, offline, rows, view

LABELS = "driver_id event_timestamp label"
JANUARY = rows("driver_id event_timestamp trips", (1, "2024-01-10", 5), (2, "2024-01-10", 6))
SEEDS = [{"PYTHONHASHSEED": str(seed)} for seed in range(4)]
PAIRS = rows(
    "left right event_timestamp trips", (1, 11, "2024-01-10", 111), (11, 1, "2024-01-10", 222)
)  # fmt: skip
WORDS = rows(
    "left right event_timestamp trips", ("a", "bc", "2024-01-10", 111), ("ab", "c", "2024-01-10", 222)
)  # fmt: skip
CREATED = "driver_id event_timestamp created trips"

QUESTIONS: list[dict[str, Any]] = [
    {
        "id": "future-only",
        "cases": [3],
        "title": "The only candidate lies in the future",
        "asked": "Two label rows; for the second, the only feature row comes a day later. It must stay, without a value.",
        "views": [view(JANUARY)],
        "steps": [join(rows(LABELS, (1, "2024-01-11", 10), (2, "2024-01-09", 11)))],
        "expected": [offline([10, 5], [11, None])],
    },
    {
        "id": "outside-ttl",
        "cases": [5, 6],
        "title": "The only candidate is older than the ttl",
        "asked": "ttl of one day; the second label row comes three days after the feature row. It must stay, without a value.",
        "views": [view(JANUARY, ttl_s=DAY)],
        "steps": [join(rows(LABELS, (1, "2024-01-10 12:00:00", 10), (2, "2024-01-13", 11)))],
        "expected": [offline([10, 5], [11, None])],
    },
    {
        "id": "unknown-key",
        "cases": [4],
        "title": "A key that the features do not know",
        "asked": "The second label row is about driver 9, of whom there is nothing.",
        "views": [view(JANUARY)],
        "steps": [join(rows(LABELS, (1, "2024-01-11", 10), (9, "2024-01-11", 11)))],
        "expected": [offline([10, 5], [11, None])],
    },
    {
        "id": "null-key",
        "cases": [16],
        "title": "A null key in a label row, and one in the features",
        "asked": "Null is nobody: the label row stays and meets nothing, not even the feature row whose key is null.",
        "views": [view(rows("driver_id event_timestamp trips", (1, "2024-01-10", 5), (None, "2024-01-10", 7)))],
        "steps": [join(rows(LABELS, (1, "2024-01-11", 10), (None, "2024-01-11", 11)))],
        "expected": [offline([10, 5], [11, None])],
    },
    {
        "id": "duplicates-exact",
        "cases": [10],
        "title": "Two label rows that are equal in everything",
        "asked": "Two rows in, so two rows out.",
        "views": [view(JANUARY)],
        "steps": [join(rows(LABELS, (1, "2024-01-11", 10), (1, "2024-01-11", 10)))],
        "expected": [offline([10, 5], [10, 5])],
    },
    {
        "id": "duplicates-label",
        "cases": [10],
        "title": "Two label rows that differ in the label alone",
        "asked": "One driver, one time, two outcomes: both are training rows.",
        "views": [view(JANUARY)],
        "steps": [join(rows(LABELS, (1, "2024-01-11", 10), (1, "2024-01-11", 11)))],
        "expected": [offline([10, 5], [11, 5])],
    },
    {
        "id": "two-views",
        "cases": [12],
        "title": "Two views with different keys",
        "asked": "Drivers and customers; one driver meets two customers at the same time.",
        "views": [
            view(JANUARY),
            view(
                rows("customer_id event_timestamp orders", (5, "2024-01-10", 50), (6, "2024-01-10", 60)),
                name="customers",
                keys={"customer_id": "Int64"},
                features={"orders": "Int64"},
            ),
        ],
        "steps": [
            join(
                rows("driver_id customer_id event_timestamp", (2, 5, "2024-01-11"), (2, 6, "2024-01-11")),
                "driver_id customer_id trips orders",
                features=["stats:trips", "customers:orders"],
            )
        ],
        "expected": [offline([2, 5, 6, 50], [2, 6, 6, 60])],
    },
    {
        "id": "order",
        "cases": [11],
        "title": "Order of the rows",
        "asked": "Label rows not sorted by anything, one of an unknown driver; the answer should come in their order.",
        "ordered": True,
        "views": [view(JANUARY)],
        "steps": [
            join(
                rows(
                    LABELS,
                    (2, "2024-01-13", 10),
                    (1, "2024-01-11", 11),
                    (9, "2024-01-12", 12),
                    (2, "2024-01-11", 13),
                    (1, "2024-01-14", 14),
                )
            )
        ],
        "expected": [offline([10, 6], [11, 5], [12, None], [13, 6], [14, 5])],
    },
    {
        "id": "composite-numbers",
        "cases": [13],
        "title": "Composite keys (1, 11) and (11, 1)",
        "asked": "Same time, digits that read the same when put side by side. In four processes, with PYTHONHASHSEED 0 to 3.",
        "envs": SEEDS,
        "views": [view(PAIRS, keys={"left": "Int64", "right": "Int64"})],
        "steps": [
            join(
                rows("left right event_timestamp", (1, 11, "2024-01-11"), (11, 1, "2024-01-11")),
                "left right trips",
            )
        ],
        "expected": [offline([1, 11, 111], [11, 1, 222])],
        "note": "Feast 0.66 mixed the two up with DuckDB, under some of the seeds; 0.67 builds its row id otherwise.",
    },
    {
        "id": "composite-texts",
        "cases": [13],
        "title": "Composite keys ('a', 'bc') and ('ab', 'c')",
        "asked": "The same with text, again in four processes.",
        "envs": SEEDS,
        "views": [view(WORDS, keys={"left": "String", "right": "String"})],
        "steps": [
            join(
                rows("left right event_timestamp", ("a", "bc", "2024-01-11"), ("ab", "c", "2024-01-11")),
                "left right trips",
            )
        ],
        "expected": [offline(["a", "bc", 111], ["ab", "c", 222])],
    },
    {
        "id": "full-tie",
        "cases": [7],
        "title": "A tie in event time and in created time",
        "asked": "Two feature rows tie in everything but the value. Either may win; the label row must come back once.",
        "views": [view(rows(CREATED, (1, "2024-01-10", "2024-01-10", 1), (1, "2024-01-10", "2024-01-10", 2)))],
        "steps": [join(rows(LABELS, (1, "2024-01-11", 10)))],
        "expected": [either(offline([10, 1]), offline([10, 2]))],
    },
    {
        "id": "ttl-edge",
        "cases": [2, 5],
        "title": "Exactly as old as the ttl, and a microsecond older",
        "asked": "What is exactly as old as the ttl still counts; what is a microsecond older does not.",
        "views": [view(JANUARY, ttl_s=DAY)],
        "steps": [
            join(
                rows(LABELS, (1, "2024-01-11", 10), (2, "2024-01-11 00:00:00.000001", 11), (1, "2024-01-10", 12)),
            )
        ],
        "expected": [offline([10, 5], [11, None], [12, 5])],
        "or": [[offline([10, 5], [12, 5])]],
        "note": "That a row without a value is lost has been counted above; this is about the edge.",
    },
    {
        "id": "newer-created",
        "cases": [7],
        "title": "Same event time, newer created time",
        "asked": "A row and two corrections: the one created last counts, wherever it stands in the file.",
        "views": [
            view(
                rows(
                    CREATED,
                    (1, "2024-01-10", "2024-01-10 01:00:00", 2),
                    (1, "2024-01-10", "2024-01-10 02:00:00", 3),
                    (1, "2024-01-10", "2024-01-10 00:00:00", 1),
                )
            )
        ],
        "steps": [join(rows(LABELS, (1, "2024-01-11", 10)))],
        "expected": [offline([10, 3])],
    },
    {
        "id": "leak",
        "cases": [8],
        "title": "A correction created after the label time",
        "asked": (
            "The row of 10 January is corrected on the 20th; the label is of the 11th. First as the stores do it unasked "
            "(both say: the newest knowledge counts), then with what each offers against the leak: "
            '`filter_by_created_timestamp=True`, `as_known_at="event_timestamp"`.'
        ),
        "views": [view(rows(CREATED, (1, "2024-01-10", "2024-01-10", 1), (1, "2024-01-10", "2024-01-20", 2)))],
        "steps": [
            join(rows(LABELS, (1, "2024-01-11", 10))),
            join(rows(LABELS, (1, "2024-01-11", 10)), known=True),
        ],
        "expected": [offline([10, 2]), offline([10, 1])],
    },
    {
        "id": "leak-all-too-new",
        "cases": [8],
        "title": "Nothing was known yet",
        "asked": "With the same guard: every candidate of driver 1 was created after its label time. The row stays, empty.",
        "views": [view(rows(CREATED, (1, "2024-01-10", "2024-01-20", 1), (2, "2024-01-10", "2024-01-10", 2)))],
        "steps": [join(rows(LABELS, (1, "2024-01-11", 10), (2, "2024-01-11", 11)), known=True)],
        "expected": [offline([10, None], [11, 2])],
    },
    {
        "id": "nanoseconds",
        "cases": [22],
        "title": "Nanoseconds",
        "asked": (
            "Feature rows at 10:00 and one nanosecond later, label rows at 10:00 and two nanoseconds later. The first "
            "must not see the later row; the second should."
        ),
        "views": [
            view(
                rows(
                    "driver_id event_timestamp trips",
                    (1, "2024-01-10 10:00:00", 1),
                    (1, "2024-01-10 10:00:00.000000001", 2),
                ),
                time="Timestamp[ns]",
            )
        ],
        "steps": [
            join(rows(LABELS, (1, "2024-01-10 10:00:00", 10)), types={"event_timestamp": "Timestamp[ns]"}),
            join(rows(LABELS, (1, "2024-01-10 10:00:00.000000002", 11)), types={"event_timestamp": "Timestamp[ns]"}),
        ],
        "expected": [offline([10, 1]), offline([11, 2])],
        "design": [
            {
                "of": ["stook"],
                "answers": [offline([10, 1]), offline([11, 1])],
                "rule": (
                    "stook keeps times in microseconds. It rounds feature times up and label times down, so that nothing "
                    "leaks; what lies closer together than that is not seen ([known limits](known-limits.md#data))."
                ),
            }
        ],
    },
    {
        "id": "before-1970",
        "cases": [23],
        "title": "Times before 1970",
        "asked": "Feature row of 1960, label row of 1961.",
        "views": [view(rows("driver_id event_timestamp trips", (1, "1960-01-10", 5)))],
        "steps": [join(rows(LABELS, (1, "1961-01-11", 10)))],
        "expected": [offline([10, 5])],
    },
    {
        "id": "name-clash",
        "cases": [14],
        "title": "A label column named like the feature",
        "asked": "The label table has a column `trips` of its own. Neither may silently take the other's place.",
        "views": [view(JANUARY)],
        "steps": [join(rows("driver_id event_timestamp trips", (1, "2024-01-11", 777)), "driver_id trips")],
        "expected": [REFUSED],
    },
    {
        "id": "unknown-feature-offline",
        "cases": [52],
        "title": "A feature that does not exist, in a training set",
        "asked": "`stats:tripz` instead of `stats:trips`.",
        "views": [view(JANUARY)],
        "steps": [join(rows(LABELS, (1, "2024-01-11", 10)), features=["stats:tripz"])],
        "expected": [REFUSED],
    },
    {
        "id": "empty-labels",
        "cases": [4],
        "title": "No label rows at all",
        "asked": "An empty table with the right columns; an empty answer with the feature's column.",
        "views": [view(JANUARY)],
        "steps": [join(rows(LABELS), types={"label": "Int64"})],
        "expected": [offline()],
    },
    {
        "id": "ttl-zero",
        "cases": [5],
        "title": "A ttl of zero",
        "asked": "Feast documents that zero means forever. Read literally it means never. Right are forever or a refusal.",
        "views": [view(JANUARY, ttl_s=0)],
        "steps": [join(rows(LABELS, (1, "2024-03-11", 10)))],
        "expected": [either(offline([10, 5]), REFUSED)],
    },
    {
        "id": "range",
        "cases": [],
        "title": "All rows of a span of time, without label rows",
        "asked": "What is there of any driver between 1 and 31 January? Feast takes a start and an end instead of label rows.",
        "views": [view(JANUARY)],
        "steps": [
            {
                "do": "range",
                "features": ["stats:trips"],
                "start": "2024-01-01",
                "end": "2024-01-31",
                "show": ["driver_id", "trips"],
            }
        ],
        "expected": [offline([1, 5], [2, 6])],
    },
]
