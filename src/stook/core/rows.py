"""The order of rows, and the header that carries it through every online store.

It is a file of its own, in `core`, because the write rule ("the larger (event time, knowledge time, arrival)
wins; of equal ones the larger schema revision, then the later written") must be the same bytes in every store and the
same numbers in every engine. The online codec writes
headers, stores compare them, ingest numbers arrivals. It must never know what a row's features are.

A stored value starts with a header of 32 bytes::

    offset  size  field
    0       24    order: event time, knowledge time, arrival; each a big-endian int64 with its sign bit flipped,
                  so that comparing the 24 bytes compares the three numbers
    24      4     schema revision, little-endian unsigned; it decides where the order is equal
    28      1     flags: 1 = tombstone (a deleted row)
    29      1     format of what follows (1)
    30      2     length of the full key that follows the header, 0 where the store's key is the full key
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

ORDER_BYTES: Final = 24
HEADER_BYTES: Final = 32
FORMAT: Final = 1
TOMBSTONE: Final = 1
SIGN: Final = 1 << 63
_REVISION: Final = slice(ORDER_BYTES + 3, ORDER_BYTES - 1, -1)  # its bytes, the greatest first: they compare as numbers
_HEADER: Final = struct.Struct(">QQQ")
_TAIL: Final = struct.Struct("<IBBH")

PUSH_ARRIVAL: Final = 1 << 62  # a push outranks a source row that ties on both times
PUSH_ROWS_MAX: Final = 1 << 20  # rows of one log entry
FILE_ROWS_MAX: Final = 1 << 40  # rows of one source file
FILE_ORDINALS_MAX: Final = 1 << 21  # distinct source files over a view's life

EVENT_US: Final = "__event_us"
KNOWLEDGE_US: Final = "__knowledge_us"
ARRIVAL: Final = "__arrival"
DELETED: Final = "__deleted"
ORDER_COLUMNS: Final = (EVENT_US, KNOWLEDGE_US, ARRIVAL, DELETED)


class Header(NamedTuple):
    """What a stored value says about itself."""

    event_us: int
    knowledge_us: int
    arrival: int
    schema_revision: int
    flags: int
    key_bytes: int

    @property
    def deleted(self) -> bool:
        """Whether this is a tombstone."""
        return bool(self.flags & TOMBSTONE)


def pack_header(header: Header) -> bytes:
    """The header's 32 bytes.

    >>> len(pack_header(Header(0, 0, 0, 1, 0, 0)))
    32
    """
    order = _HEADER.pack(header.event_us + SIGN, header.knowledge_us + SIGN, header.arrival + SIGN)
    return order + _TAIL.pack(header.schema_revision, header.flags, FORMAT, header.key_bytes)


def unpack_header(value: bytes | memoryview) -> Header:
    """The inverse of `pack_header`, from the start of a stored value. Raises struct.error when it is too short."""
    event, knowledge, arrival = _HEADER.unpack_from(value)
    revision, flags, _, key_bytes = _TAIL.unpack_from(value, ORDER_BYTES)
    return Header(event - SIGN, knowledge - SIGN, arrival - SIGN, revision, flags, key_bytes)


def newer(candidate: bytes | memoryview, stored: bytes | memoryview | None) -> bool:
    """The write rule: whether `candidate` replaces `stored`.

    Of equal orders the larger schema revision wins: the same row of history under the newer definition, wherever the one
    under the older stands, and whoever writes it last. Equal ones replace, so that a retry is harmless.

    >>> old, new = (pack_header(Header(5, 5, 0, revision, 0, 0)) for revision in (255, 256))
    >>> newer(new, old), newer(old, new), newer(old, old)
    (True, False, True)
    """
    if stored is None:
        return True
    mine, other = bytes(candidate[:ORDER_BYTES]), bytes(stored[:ORDER_BYTES])
    if mine != other:
        return mine > other
    return bytes(candidate[_REVISION]) >= bytes(stored[_REVISION])


def push_arrival(position: int, row: int) -> int:
    """The arrival of row `row` of log entry `position`; both count from 0 or 1 upwards.

    >>> push_arrival(2, 0) > push_arrival(1, PUSH_ROWS_MAX - 1) > file_arrival(7, 9)
    True
    """
    assert 0 <= row < PUSH_ROWS_MAX and 0 <= position < (1 << 42)
    return PUSH_ARRIVAL | position << 20 | row


def file_arrival(ordinal: int, row: int) -> int:
    """The arrival of row `row` of the source file with that ordinal."""
    assert 0 <= row < FILE_ROWS_MAX and 0 <= ordinal < FILE_ORDINALS_MAX
    return ordinal << 40 | row
