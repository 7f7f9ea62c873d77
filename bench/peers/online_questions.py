"""Hard questions about online values, each with its right answer written beside it.

It is a file of its own because the questions are data, apart from how stores are asked. `feast_cases.py` asks them.
An expected answer must never be computed. `cases` are the numbers of the hard cases that a question touches.
"""

from __future__ import annotations

from typing import Any

from words import DAY, REFUSED, YEAR, either, join, offline, online, read, rows, view

PLAIN = "driver_id event_timestamp trips"
CREATED = "driver_id event_timestamp created trips"
ONE = rows(PLAIN, (1, "2024-01-10", 5), (2, "2024-01-10", 6))
LOAD = {"do": "materialize", **YEAR}
RECENT = {"do": "materialize", "start": "now-100d", "end": "now-0s"}
MANY = 10_000
FEAST = ["feast file", "feast duckdb"]
HTTP = {"do": "http", "features": ["stats:trips"]}
TTL_RULE = (
    "Feast documents ttl as [a window of training sets](https://docs.feast.dev/getting-started/concepts/"
    "point-in-time-joins), counted from each label's time and not from now, and the [matrix of its online stores]"
    "(https://docs.feast.dev/reference/online-stores/overview) says that SQLite does not apply it when reading (Redis is "
    "said to). stook applies it in both places."
)
FOUR = rows(PLAIN, (1, "now-1h", 5), (2, "now-1h", None), (4, "now-10d", 8))


def push(data: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Writes rows online."""
    return {"do": "push", "view": "stats", "rows": data, **more}


QUESTIONS: list[dict[str, Any]] = [
    {
        "id": "older-after-newer",
        "cases": [26],
        "title": "An older row is written after a newer one",
        "asked": "Materialize a row of February, then push one of January. February stays.",
        "views": [view(rows(PLAIN, (1, "2024-02-01", 2)))],
        "steps": [LOAD, push(rows(PLAIN, (1, "2024-01-15", 1))), read(1)],
        "expected": [online([2])],
        "note": "Feast's Redis store compares event times before it writes; its SQLite store, asked here, does not.",
    },
    {
        "id": "correction-online",
        "cases": [27],
        "title": "Same event time, newer created time, then an older one",
        "asked": "Push a row, its correction (created later), then the first again, as a retry does. The correction stays.",
        "views": [view(rows(CREATED, (9, "2024-01-10", "2024-01-10", 0)))],
        "steps": [
            push(rows(CREATED, (1, "2024-01-10", "2024-01-10 01:00:00", 1))),
            push(rows(CREATED, (1, "2024-01-10", "2024-01-10 02:00:00", 2))),
            read(1),
            push(rows(CREATED, (1, "2024-01-10", "2024-01-10 01:00:00", 1))),
            read(1),
        ],
        "expected": [online([2]), online([2])],
    },
    {
        "id": "ttl-online",
        "cases": [37],
        "title": "A value older than the ttl",
        "asked": "ttl of one day, a value of 4000 days ago.",
        "views": [view(rows(PLAIN, (1, "now-4000d", 5)), ttl_s=DAY)],
        "steps": [{"do": "materialize", "start": "now-5000d", "end": "now-0s"}, read(1)],
        "expected": [online([None], "O")],
        "design": [{"of": FEAST, "answers": [online([5], "P")], "rule": TTL_RULE}],
    },
    {
        "id": "future-online",
        "cases": [24],
        "title": "A value dated in the future",
        "asked": "A row of yesterday and one dated in thirty days; materialize up to in sixty days. Yesterday's is served.",
        "views": [view(rows(PLAIN, (1, "now-1d", 1), (1, "now+30d", 2)))],
        "steps": [{"do": "materialize", "start": "now-10d", "end": "now+60d"}, read(1)],
        "expected": [online([1], "P")],
        "design": [
            {
                "of": FEAST,
                "answers": [online([2], "P")],
                "rule": (
                    "Feast's `materialize` is described as loading the span it is given, whatever the clock says, and the "
                    "span given here reaches into the future. stook brings a row online once its time has come."
                ),
            }
        ],
    },
    {
        "id": "microseconds",
        "cases": [22],
        "title": "Microseconds of the event time",
        "asked": "A row of 00:00:00.123456, and its event time as the answer tells it.",
        "views": [view(rows(PLAIN, (1, "2024-01-10 00:00:00.123456", 5)))],
        "steps": [LOAD, read(1, times=True)],
        "expected": [{"trips": {"values": [5], "times": ["2024-01-10T00:00:00.123456+00:00"]}}],
    },
    {
        "id": "time-zones",
        "cases": [21],
        "title": "Written under TZ=UTC, read under TZ=Asia/Tokyo",
        "asked": "Two processes. The event time must be the same moment.",
        "views": [view(ONE)],
        "parts": [
            {"env": {"TZ": "UTC"}, "steps": [LOAD]},
            {"env": {"TZ": "Asia/Tokyo"}, "steps": [read(1, times=True)]},
        ],
        "expected": [{"trips": {"values": [5], "times": ["2024-01-10T00:00:00+00:00"]}}],
    },
    {
        "id": "odd-entity-rows",
        "cases": [52],
        "title": "A null key, a row without the key, no rows",
        "asked": (
            "`[{driver_id: None}]`, `[{}]`, `[]`. Right are: not found; not found or a refusal that says what is missing; "
            "an empty answer or a refusal that says so."
        ),
        "views": [view(ONE)],
        "steps": [LOAD, read(None), read(entity_rows=[{}]), read(entity_rows=[])],
        "expected": [
            online([None], "F"),
            either(online([None], "F"), {"raised": "driver_id"}),
            either(online([]), {"raised": "empty"}, {"raised": "no entit"}),
        ],
    },
    {
        "id": "key-text",
        "cases": [15],
        "title": "Text where the key is an integer",
        "asked": "Driver `'1'`, in a label row, then in an online read. Right are two clear refusals, or driver 1 twice.",
        "views": [view(ONE)],
        "steps": [
            join(rows("driver_id event_timestamp label", ("1", "2024-01-11", 10)), types={"driver_id": "String"}),
            LOAD,
            read("1"),
        ],
        "expected": [REFUSED, REFUSED],
        "or": [[offline([10, 5]), online([5], "P")]],
    },
    {
        "id": "key-float",
        "cases": [15],
        "title": "A float where the key is an integer",
        "asked": "The same with `1.0`: a column of doubles in the label table, a Python float in the online read.",
        "views": [view(ONE)],
        "steps": [
            join(rows("driver_id event_timestamp label", (1.0, "2024-01-11", 10)), types={"driver_id": "Float64"}),
            LOAD,
            read(1.0),
        ],
        "expected": [REFUSED, REFUSED],
        "or": [[offline([10, 5]), online([5], "P")]],
    },
    {
        "id": "chunks",
        "cases": [49],
        "title": "A pushed Arrow table of several chunks",
        "asked": "Five rows in five chunks; all five arrive.",
        "views": [view(rows(PLAIN, (9, "2024-01-10", 0)))],
        "steps": [
            push(rows(PLAIN, *[(n, "2024-01-10", 10 * n) for n in range(1, 6)]), chunks=True),
            read(1, 2, 3, 4, 5),
        ],
        "expected": [online([10, 20, 30, 40, 50], "PPPPP")],
        "note": "Feast's push takes DataFrames, so it was given one made of the same table.",
    },
    {
        "id": "late-row",
        "cases": [28],
        "title": "A late row and the next incremental run",
        "asked": (
            "Materialize incrementally up to two days ago. Then a row dated five days ago arrives in the source, created "
            "yesterday. Does the next incremental run bring it online?"
        ),
        "views": [view(rows(CREATED, (1, "now-10d", "now-10d", 5)))],
        "steps": [
            {"do": "incremental", "end": "now-2d"},
            {
                "do": "source",
                "view": "stats",
                "rows": rows(CREATED, (1, "now-10d", "now-10d", 5), (2, "now-5d", "now-1d", 6)),
            },
            {"do": "incremental", "end": "now-1h"},
            read(1, 2),
        ],
        "expected": [online([5, 6])],
        "design": [
            {
                "of": FEAST,
                "answers": [online([5, None])],
                "rule": (
                    "Feast's `materialize_incremental` is described as starting where the last run ended, in event time; "
                    "what arrives late is brought in by `materialize` over its span. stook also looks for what arrived since."
                ),
            }
        ],
    },
    {
        "id": "far-future-end",
        "cases": [31],
        "title": "An incremental run up to a date far ahead, then an ordinary one",
        "asked": "The first run ends in ten years. Then a new row arrives, dated an hour ago; the second run ends now.",
        "views": [view(rows(PLAIN, (1, "now-10d", 5)))],
        "steps": [
            {"do": "incremental", "end": "now+3650d"},
            {"do": "source", "view": "stats", "rows": rows(PLAIN, (1, "now-10d", 5), (1, "now-1h", 6))},
            {"do": "incremental", "end": "now-0s"},
            read(1),
        ],
        "expected": [online([6])],
        "design": [
            {
                "of": FEAST,
                "answers": [online([5])],
                "rule": (
                    "Feast's `materialize_incremental` is described as starting at the last run's end, here in ten years. "
                    "stook never counts further than the clock."
                ),
            }
        ],
    },
    {
        "id": "ttl-to-none",
        "cases": [38],
        "title": "The ttl is changed to none",
        "asked": (
            "A row of January is loaded under a ttl of one day. Then the view is applied without a ttl, and a label of "
            "March and an online read ask for it, without loading again."
        ),
        "views": [view(ONE, ttl_s=DAY)],
        "steps": [
            LOAD,
            {"do": "ttl", "view": "stats", "ttl_s": None},
            join(rows("driver_id event_timestamp label", (1, "2024-03-01", 10), (1, "2024-01-10", 11))),
            read(1),
        ],
        "expected": [offline([10, 5], [11, 5]), online([5], "P")],
    },
    {
        "id": "delete",
        "cases": [33],
        "title": "One entity is deleted, then an older row arrives",
        "asked": "It stays deleted, and its neighbour stays.",
        "views": [view(ONE)],
        "steps": [
            LOAD,
            {"do": "delete", "view": "stats", "keys": [{"driver_id": 1}]},
            read(1, 2),
            push(rows(PLAIN, (1, "2024-01-05", 4))),
            read(1, 2),
        ],
        "expected": [online([None, 6], "FP"), online([None, 6], "FP")],
    },
    {
        "id": "unequal-lengths",
        "cases": [52],
        "title": "Entity columns of unequal lengths",
        "asked": "Two drivers, one customer, in one request for two views.",
        "views": [
            view(ONE),
            view(
                rows("customer_id event_timestamp orders", (5, "2024-01-10", 50)),
                name="customers",
                keys={"customer_id": "Int64"},
                features={"orders": "Int64"},
            ),
        ],
        "steps": [
            LOAD,
            read(entities={"driver_id": [1, 2], "customer_id": [5]}, features=["stats:trips", "customers:orders"]),
        ],
        "expected": [REFUSED],
    },
    {
        "id": "unknown-feature-online",
        "cases": [52],
        "title": "A feature that does not exist, online",
        "asked": "`stats:tripz` instead of `stats:trips`.",
        "views": [view(ONE)],
        "steps": [LOAD, read(1, features=["stats:tripz"])],
        "expected": [REFUSED],
    },
    {
        "id": "same-key-twice",
        "cases": [52, 54],
        "title": "The same key several times in one request",
        "asked": "Drivers 1, 2, 1, 9, 1: one answer per row asked, in order.",
        "views": [view(ONE)],
        "steps": [LOAD, read(1, 2, 1, 9, 1)],
        "expected": [online([5, 6, 5, None, 5], "PPPFP")],
    },
    {
        "id": "many-keys",
        "cases": [52],
        "title": "10 000 keys in one request",
        "asked": "Drivers 0 to 9999, each with its own number as value.",
        "views": [view(rows(PLAIN, *[(n, "2024-01-10", n) for n in range(MANY)]))],
        "steps": [LOAD, read(entities={"driver_id": list(range(MANY))}, count=True)],
        "expected": [{"rows": 10_000, "present": 10_000, "sum": 49_995_000}],
    },
    {
        "id": "statuses",
        "cases": [55],
        "title": "Present, null, not found: told apart?",
        "asked": (
            "Driver 1 has a value, driver 2 a null, driver 3 nothing. (1) through the SDK, (2) through each store's own "
            "HTTP server."
        ),
        "views": [view(FOUR)],
        "steps": [RECENT, read(1, 2, 3), {**HTTP, "entities": {"driver_id": [1, 2, 3]}}],
        "expected": [online([5, None, None], "PNF"), online([5, None, None], "PNF")],
        "note": "Feast's message knows a status NULL_VALUE: found, of the right age, but without a value. Its Python reader did not give it.",
    },
    {
        "id": "expired",
        "cases": [37, 55],
        "title": "Present and expired: told apart, over every door?",
        "asked": (
            "ttl of one day; driver 1 has a value of an hour ago, driver 4 one of ten days ago. (1) through the SDK, "
            "(2) through each store's own HTTP server."
        ),
        "views": [view(FOUR, ttl_s=DAY)],
        "steps": [RECENT, read(1, 4), {**HTTP, "entities": {"driver_id": [1, 4]}}],
        "expected": [online([5, None], "PO"), online([5, None], "PO")],
        "design": [{"of": FEAST, "answers": [online([5, 8], "PP"), online([5, 8], "PP")], "rule": TTL_RULE}],
    },
]
