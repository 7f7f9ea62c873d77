"""Instants and durations: int64 microseconds since 1970-01-01 UTC inside, datetimes and RFC 3339 text outside.

It is a file of its own because every room counts time and none may do so its own way. Everything that takes a
time from a user calls it. It must never ask what time it is: that is the `Clock` port's word.

Naive datetimes and texts without a zone mean UTC. Sub-microsecond digits are never dropped silently.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

from stook.core.errors import InvalidArgument

MICROS_PER_SECOND: Final = 1_000_000
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICRO: Final = timedelta(microseconds=1)
MIN_US: Final = -62_135_596_800_000_000  # 0001-01-01T00:00:00Z, the first instant a datetime can hold
MAX_US: Final = 253_402_300_799_999_999  # 9999-12-31T23:59:59.999999Z, the last
ABSENT: Final = ("NaTType", "NAType")
_TRAILING_ZEROS: Final = re.compile(r"([.,]\d{6})0+(?!\d)")
_LONG_FRACTION: Final = re.compile(r"[.,]\d{7}")  # ISO 8601 has both marks, and fractions of a zone's seconds too


def to_us(value: object, what: str = "time") -> int:
    """`value` as microseconds since the epoch, UTC.

    Accepts a datetime (naive means UTC), a date (its midnight UTC), RFC 3339 text, or an int that already is
    microseconds. Raises InvalidArgument naming `what` for anything else, or out of years 1 to 9999.

    >>> to_us("1970-01-01T00:00:01Z"), to_us(datetime(1970, 1, 1, 0, 0, 2))
    (1000000, 2000000)
    """
    if isinstance(value, bool) or value is None or is_absent(type(value)):
        raise InvalidArgument(f"{what} is {value!r}, not a time", hint="give a datetime or RFC 3339 text")
    if isinstance(value, int):
        return _bounded(value, what)
    if isinstance(value, str):
        value = _parse(value, what)
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        # pandas' Timestamp is a datetime that may carry nanoseconds
        if getattr(value, "nanosecond", 0):
            raise InvalidArgument(f"{what} {value} has digits below a microsecond", hint="round it to microseconds")
        return _bounded((aware - EPOCH) // MICRO, what)
    if isinstance(value, date):
        return _bounded((datetime(value.year, value.month, value.day, tzinfo=UTC) - EPOCH) // MICRO, what)
    raise InvalidArgument(f"{what} is {value!r}, not a time", hint="give a datetime or RFC 3339 text")


def is_absent(kind: type) -> bool:
    """Whether it is the type of one of pandas' own nulls, NA and NaT, the latter of which says that it is a datetime."""
    return kind.__name__ in ABSENT and kind.__module__.startswith("pandas.")


def _bounded(us: int, what: str) -> int:
    if not MIN_US <= us <= MAX_US:
        raise InvalidArgument(
            f"{what} {us} us is outside the years 1 to 9999", hint="give microseconds since 1970, UTC"
        )
    return us


def _parse(text: str, what: str) -> datetime:
    whole = whole_micros(text.strip(), what)
    try:
        return datetime.fromisoformat(whole)
    except ValueError:
        raise InvalidArgument(
            f"{what} {text!r} is not a time", hint="write it as 2013-10-15T12:00:00Z or 2013-10-15"
        ) from None


def whole_micros(text: str, what: str = "time") -> str:
    """ISO 8601 text of a time or time of day without zeros below a microsecond, which Python would cut off with
    whatever other digits stand there. Raises InvalidArgument naming `what` for such.

    >>> whole_micros("12:30:00.1234560")
    '12:30:00.123456'
    """
    trimmed = _TRAILING_ZEROS.sub(r"\1", text)
    if _LONG_FRACTION.search(trimmed):
        raise InvalidArgument(f"{what} {text!r} has digits below a microsecond", hint="round it to microseconds")
    return trimmed


def to_datetime(us: int) -> datetime:
    """The aware UTC datetime of `us` microseconds since the epoch.

    >>> to_datetime(0).isoformat()
    '1970-01-01T00:00:00+00:00'
    """
    return EPOCH + timedelta(microseconds=us)


def to_rfc3339(us: int) -> str:
    """RFC 3339 text in UTC, with a fraction only where there is one.

    >>> to_rfc3339(1_500_000)
    '1970-01-01T00:00:01.500000Z'
    """
    return to_datetime(us).isoformat().replace("+00:00", "Z")


def duration_us(value: timedelta) -> int:
    """A timedelta in whole microseconds.

    >>> duration_us(timedelta(days=1))
    86400000000
    """
    return value // MICRO


def duration_text(us: int) -> str:
    """A duration for people: the two largest units.

    >>> duration_text(90_000_000), duration_text(1_500)
    ('1m 30s', '1.5ms')
    """
    if us < MICROS_PER_SECOND:
        return f"{us / 1000:g}ms"
    seconds = us // MICROS_PER_SECOND
    parts = []
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])
