"""The hard cases by number: what each asks of a feature store, and which are still to come.

It is a file of its own because numbers outlive the tests that bear them: tests say `@pytest.mark.case(29)`, cases say
`numbers=(29,)`, and the conformance report joins both with these words. A number without a test fails the suite,
unless it says here what it waits for. It must never say that something works: tests do.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Entry(NamedTuple):
    """One hard case. `later` names the part that it waits for, where it concerns something that does not exist yet."""

    area: str
    asks: str
    later: str = ""


POINT_IN_TIME: Final = "Point in time"
TIME: Final = "Time"
LATE: Final = "Late and out of order"
TTL: Final = "Age online"
TYPES: Final = "Types"
ONLINE: Final = "Online reads"
WINDOWS: Final = "Windows"
OPERATIONS: Final = "Registry and operations"
WAITS_FOR_WINDOWS: Final = "windowed aggregates"
WAITS_FOR_BACKUP: Final = "backup and restore"

CATALOGUE: Final[dict[int, Entry]] = {
    1: Entry(POINT_IN_TIME, "a row at exactly the label time counts"),
    2: Entry(POINT_IN_TIME, "a microsecond before the label counts, a microsecond after does not"),
    3: Entry(POINT_IN_TIME, "a label whose only rows come later is kept, with nulls"),
    4: Entry(POINT_IN_TIME, "no match, an unknown key, an empty history, no labels"),
    5: Entry(POINT_IN_TIME, "age equal to the ttl, one microsecond more, no ttl, a ttl of zero (refused)"),
    6: Entry(POINT_IN_TIME, "age is measured from the label, not from today"),
    7: Entry(
        POINT_IN_TIME, "ties in event time, in created time, in both, in everything: one row, the same one every time"
    ),
    8: Entry(POINT_IN_TIME, "what was not known at the label does not leak where a limit of knowledge is asked for"),
    9: Entry(POINT_IN_TIME, "an old training set is rebuilt byte for byte after a backfill"),
    10: Entry(POINT_IN_TIME, "equal labels are each answered"),
    11: Entry(POINT_IN_TIME, "rows come back in the order of the labels"),
    12: Entry(POINT_IN_TIME, "views with different keys, without keys, and one view twice"),
    13: Entry(POINT_IN_TIME, "composite keys never collide, whatever they hold and whatever the hash seed"),
    14: Entry(POINT_IN_TIME, "columns with awkward names, renamed keys, names taken twice"),
    15: Entry(POINT_IN_TIME, "keys of other types on the two sides: an exact cast or a clear error, the same online"),
    16: Entry(POINT_IN_TIME, "null keys match nothing"),
    17: Entry(POINT_IN_TIME, "rows and labels without a time"),
    18: Entry(POINT_IN_TIME, "NaN is not null"),
    19: Entry(POINT_IN_TIME, "skewed keys and long histories stay within memory"),
    20: Entry(POINT_IN_TIME, "labels far outside the range of the history, and the reverse"),
    21: Entry(TIME, "naive times, mixed zones, daylight saving, another TZ at reading than at writing"),
    22: Entry(TIME, "seconds, milliseconds, microseconds and nanoseconds joined with each other"),
    23: Entry(TIME, "times before 1970, beyond 2106 and 2262, up to the year 9999"),
    24: Entry(TIME, "rows dated in the future wait for their time"),
    25: Entry(TIME, "the leap day"),
    26: Entry(LATE, "an older event that comes later changes nothing online, and stands in history"),
    27: Entry(LATE, "the same event time with a newer created time replaces"),
    28: Entry(LATE, "a row older than the last end is loaded by the next incremental run"),
    29: Entry(LATE, "materializing twice, killed anywhere, or two at once ends in the same state"),
    30: Entry(LATE, "applying definitions keeps the progress of incremental runs"),
    31: Entry(LATE, "an end in the far future does not block later runs"),
    32: Entry(LATE, "disorder within a batch, and two writers on one key"),
    33: Entry(LATE, "a deleted entity stays deleted when an older write arrives"),
    34: Entry(LATE, "what is pushed during a load survives the switch"),
    35: Entry(LATE, "one batch read sees one load, the old or the new"),
    36: Entry(LATE, "back to the load before"),
    37: Entry(TTL, "an expired value is withheld and said to be expired, over every door"),
    38: Entry(TTL, "a changed ttl takes effect on what is stored"),
    39: Entry(TTL, "one view's expiry leaves another's values alone"),
    40: Entry(TTL, "the clock moves"),
    41: Entry(TTL, "a failed load leaves the last good one in place"),
    42: Entry(TYPES, "signed integers at their limits and beyond a double's reach, with and without nulls"),
    43: Entry(TYPES, "unsigned integers, decimals, bits of floats, minus zero, infinities, NaN payloads"),
    44: Entry(TYPES, "booleans beside nulls"),
    45: Entry(TYPES, "text and bytes: zeros, empty against null, a megabyte, emoji, normal forms"),
    46: Entry(TYPES, "lists, nested lists, structs, maps: empty against null, nulls inside"),
    47: Entry(TYPES, "dates, times of day, timestamps; durations and other types without a counterpart are refused"),
    48: Entry(TYPES, "vectors keep their length; another length is refused"),
    49: Entry(TYPES, "tables in chunks, slices, dictionaries and without rows"),
    50: Entry(TYPES, "columns missing, added, in another order, or wider from load to load"),
    51: Entry(TYPES, "every type through every way in and out"),
    52: Entry(
        ONLINE,
        "no entities, a missing key, columns of unequal length, nulls, duplicates, ten thousand keys, unknown features",
    ),
    53: Entry(ONLINE, "a store that fails says so; never silent nulls"),
    54: Entry(ONLINE, "a row that is missing does not shift the others"),
    55: Entry(ONLINE, "present, null, missing, expired and failed are told apart"),
    56: Entry(WINDOWS, "aggregates over windows against a naive oracle", WAITS_FOR_WINDOWS),
    57: Entry(WINDOWS, "edges on tiles, empty windows, late events, deletes, overflow", WAITS_FOR_WINDOWS),
    58: Entry(WINDOWS, "tiled equals untiled, stepped equals at once, online equals offline", WAITS_FOR_WINDOWS),
    59: Entry(OPERATIONS, "two applies at once: both kept or one refused"),
    60: Entry(OPERATIONS, "an apply that is killed leaves the old or the new"),
    61: Entry(OPERATIONS, "a removed view leaves nothing to its successor, and other projects alone"),
    62: Entry(OPERATIONS, "an older client with a newer registry is refused, and the reverse works"),
    63: Entry(OPERATIONS, "rows stored under an older schema stay readable"),
    64: Entry(OPERATIONS, "a backup under load, restored, reads the same; the erased stay erased", WAITS_FOR_BACKUP),
    65: Entry(OPERATIONS, "registry, history and online store restored to one point in time", WAITS_FOR_BACKUP),
}
