"""The records of the `meta` database: which spaces and generations there are, and how far streams have come.

It is a file of its own because readers, writers and a recovery after a kill must agree on these bytes. `keyvalue`
reads and writes them, always in the transaction of the rows they speak of. It must never touch a row.

Layout 1::

    database  key                                  value
    meta      "layout"                             "1"
    meta      "counters"                           last space number, last generation number
    meta      "space:" name                        SpaceRecord
    meta      "generation:" space number, number   GenerationRecord
    meta      "position:" stream                   the largest position, 8 bytes big-endian
    meta      "garbage:" "overlay" | "rows" ":" 4-byte prefix    empty; rows under the prefix await deletion
    overlay   space number, key                    row
    rows      generation number, key               row

Numbers in keys are 4 bytes, big-endian, and never used twice, so that what awaits deletion meets no new row.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

LAYOUT: Final = 1
LAYOUT_KEY: Final = b"layout"
COUNTERS_KEY: Final = b"counters"
SPACE: Final = b"space:"
GENERATION: Final = b"generation:"
POSITION: Final = b"position:"
GARBAGE: Final = b"garbage:"

_SPACE: Final = struct.Struct(">IIQ")
_GENERATION: Final = struct.Struct(">QqBHH")
_COUNTERS: Final = struct.Struct(">II")
_POSITION: Final = struct.Struct(">Q")
_PREFIX: Final = struct.Struct(">I")
_NO_KEY: Final = 0xFFFF

prefix_of = _PREFIX.pack
"""The 4 bytes that a space's overlay rows, or a generation's rows, begin with."""

unpack_space = _SPACE.unpack
"""(number, live, overlay_rows) of a stored SpaceRecord; a plain tuple, for the read path."""


class SpaceRecord(NamedTuple):
    """A space: its number, its live generation's (0: none), and how many rows its overlay holds."""

    number: int
    live: int = 0
    overlay_rows: int = 0


class GenerationRecord(NamedTuple):
    """A generation: rows it holds, and while it is loading the load's token and the last row's key."""

    rows: int
    created_us: int
    loading: bool
    token: str
    last_key: bytes | None


def read_space(txn: Any, meta: Any, name: str) -> SpaceRecord | None:
    """The space's record; None when nothing was ever written to it."""
    found = txn.get(SPACE + name.encode(), None, meta)
    return None if found is None else SpaceRecord(*_SPACE.unpack(found))


def write_space(txn: Any, meta: Any, name: str, record: SpaceRecord) -> None:
    """Stores the space's record."""
    txn.put(SPACE + name.encode(), _SPACE.pack(*record), db=meta)


def next_space(txn: Any, meta: Any) -> int:
    """A space number never used before."""
    return _count(txn, meta, 0)


def next_generation(txn: Any, meta: Any) -> int:
    """A generation number never used before, larger than all others."""
    return _count(txn, meta, 1)


def read_generation(txn: Any, meta: Any, space: int, number: int) -> GenerationRecord | None:
    """The generation's record; None when the space has no such generation."""
    if not 0 < number < 1 << 32:
        return None
    found = txn.get(GENERATION + _COUNTERS.pack(space, number), None, meta)
    return None if found is None else _decode(found)


def write_generation(txn: Any, meta: Any, space: int, number: int, *, record: GenerationRecord) -> None:
    """Stores the generation's record."""
    token, key = record.token.encode(), record.last_key
    head = _GENERATION.pack(
        record.rows, record.created_us, record.loading, len(token), _NO_KEY if key is None else len(key)
    )
    txn.put(GENERATION + _COUNTERS.pack(space, number), head + token + (key or b""), db=meta)


def delete_generation(txn: Any, meta: Any, space: int, number: int) -> None:
    """Forgets the generation; its rows become garbage in the same transaction."""
    txn.delete(GENERATION + _COUNTERS.pack(space, number), db=meta)
    txn.put(GARBAGE + b"rows:" + prefix_of(number), b"", db=meta)


def delete_space(txn: Any, meta: Any, name: str, number: int) -> None:
    """Forgets the space, whose generations are forgotten already; its overlay becomes garbage."""
    txn.delete(SPACE + name.encode(), db=meta)
    txn.put(GARBAGE + b"overlay:" + prefix_of(number), b"", db=meta)


def list_generations(txn: Any, meta: Any, space: int) -> list[tuple[int, GenerationRecord]]:
    """The space's generations, by number."""
    prefix = GENERATION + prefix_of(space)
    return [(_PREFIX.unpack(key[-4:])[0], _decode(value)) for key, value in under(txn, meta, prefix)]


def first_garbage(txn: Any, meta: Any) -> tuple[bytes, str, bytes] | None:
    """(record key, database, prefix) of some rows that await deletion; None when there are none."""
    for key, _ in under(txn, meta, GARBAGE):
        return key, key[len(GARBAGE) : -5].decode(), key[-4:]
    return None


def read_position(txn: Any, meta: Any, stream: str) -> int:
    """The largest position stored for the stream; 0 when none."""
    found = txn.get(POSITION + stream.encode(), None, meta)
    return 0 if found is None else _POSITION.unpack(found)[0]


def write_position(txn: Any, meta: Any, stream: str, position: int) -> None:
    """Stores the position, unless a larger one is there."""
    if position > read_position(txn, meta, stream):
        txn.put(POSITION + stream.encode(), _POSITION.pack(position), db=meta)


def under(txn: Any, db: Any, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values whose key begins with the prefix, in key order, as the transaction sees them."""
    with txn.cursor(db) as cursor:
        if not cursor.set_range(prefix):
            return
        for key, value in cursor.iternext():
            if not key.startswith(prefix):
                return
            yield key, value


def _count(txn: Any, meta: Any, which: int) -> int:
    counters = list(_COUNTERS.unpack(txn.get(COUNTERS_KEY, _COUNTERS.pack(0, 0), meta)))
    counters[which] += 1
    txn.put(COUNTERS_KEY, _COUNTERS.pack(*counters), db=meta)
    return counters[which]


def _decode(value: bytes) -> GenerationRecord:
    rows, created_us, loading, token_bytes, key_bytes = _GENERATION.unpack_from(value)
    token_end = _GENERATION.size + token_bytes
    token = value[_GENERATION.size : token_end].decode()
    last_key = None if key_bytes == _NO_KEY else value[token_end : token_end + key_bytes]
    return GenerationRecord(rows, created_us, bool(loading), token, last_key)
