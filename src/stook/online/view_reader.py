"""One view's stored values into answered columns, with their statuses and event times.

It is a file of its own because this is where a stored row becomes an answer: tombstones, ttl, long keys and rows
of older schemas are decided here, once for few rows and once for many. The read path calls it for each view of
a plan. It must never ask a store or a clock: values and the time are arguments.

Few rows are read one by one into Python lists, many by whole columns into Arrow; both answer alike.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from stook.core import dtypes
from stook.core.arrow import to_arrow
from stook.core.errors import Conflict, CorruptStore, NewerStore
from stook.core.ports.keyvalue import UNREAD
from stook.core.rows import FORMAT, HEADER_BYTES, ORDER_BYTES, SIGN, TOMBSTONE, Header, unpack_header
from stook.core.specs import Column, Schema, ViewSpec
from stook.core.statuses import NO_TIME, Status
from stook.online.cells import RowReader
from stook.online.codec import Picker, RowCodec, Rows

_PRESENT: Final = int(Status.PRESENT)
_NULL_VALUE: Final = int(Status.NULL_VALUE)
_NOT_FOUND: Final = int(Status.NOT_FOUND)
_OUTSIDE: Final = int(Status.OUTSIDE_MAX_AGE)
_ERROR: Final = int(Status.ERROR)
_HEADERS: Final = np.dtype(
    [("event", ">u8"), ("rest", "V16"), ("revision", "<u4"), ("flags", "u1"), ("format", "u1"), ("key_bytes", "<u2")]
)
assert _HEADERS.itemsize == HEADER_BYTES
_NO_LIMIT: Final = NO_TIME


class Answer(NamedTuple):
    """One view's columns: for each feature its values and statuses, and the rows' event times."""

    values: list[Any]
    statuses: list[Any]
    event_us: Any


class _Decoder(NamedTuple):
    """Decodes whole columns of rows under one schema."""

    codec: RowCodec
    picker: Picker
    casts: list[tuple[int, pa.DataType]]


class ViewReader:
    """Reads these features of a view's stored values."""

    def __init__(self, view: ViewSpec, features: Sequence[Column]) -> None:
        self._view = view
        self._where = f"feature view {view.name!r}"
        # in the order of storage, so that a row's struct gives them as they are wanted
        place = {column.name: number for number, column in enumerate(view.features)}
        self._wanted = sorted(features, key=lambda column: place[column.name])
        self._positions = [self._wanted.index(column) for column in features]
        self._is_straight = self._positions == list(range(len(features)))
        self._absent = (None,) * (len(features) + 1)
        self._readers: dict[bytes, RowReader] = {}  # by the header's last 8 bytes: one per schema
        self._decoders: dict[int, _Decoder] = {}  # by schema revision

    def few(self, values: Sequence[bytes | None], full_keys: Mapping[int, bytes], now_us: int) -> Answer:
        """Columns as lists. `full_keys` holds, by row, the keys too long for the store; UNREAD is answered as ERROR.

        Raises CorruptStore, NewerStore, or Conflict for a row written under a schema not known here.
        """
        rows: list[Sequence[Any]] = []
        statuses: list[int] = []
        events: list[int] = []
        with_nulls = False
        oldest_us = self._oldest_us(now_us)
        for number, value in enumerate(values):
            row: Sequence[Any] = self._absent
            status, event_us = (_ERROR if value == UNREAD else _NOT_FOUND), NO_TIME
            found = self._find(value, full_keys.get(number)) if value else None
            if value and found is not None:
                event_us = int.from_bytes(value[:8], "big") - SIGN
                if event_us < oldest_us:
                    status = _OUTSIDE
                else:
                    status = _PRESENT
                    row = self._read(found[0], value, found[1])
                    with_nulls = with_nulls or isinstance(row, list)
            rows.append(row)
            statuses.append(status)
            events.append(event_us)
        columns = [[cell] for cell in rows[0]] if len(rows) == 1 else [list(c) for c in zip(*rows, strict=True)]
        if not columns:
            columns = [[] for _ in self._absent]
        shared = [statuses] * len(self._wanted)
        if with_nulls:
            shared = [_with_nulls(column, statuses) for column in columns[1:]]
        return self._answer(columns[1:], shared, events)

    def _answer(self, columns: list[Any], statuses: list[Any], event_us: Any) -> Answer:
        """Columns in the order wanted, from the order of storage."""
        if self._is_straight:
            return Answer(columns, statuses, event_us)
        return Answer([columns[p] for p in self._positions], [statuses[p] for p in self._positions], event_us)

    def _oldest_us(self, now_us: int) -> int:
        ttl_us = self._view.ttl_us
        return _NO_LIMIT if ttl_us is None else now_us - ttl_us

    def _find(self, value: bytes, full_key: bytes | None) -> tuple[RowReader, int] | None:
        """The reader of a stored value and where its body begins; None for a tombstone or another key's row."""
        reader = self._readers.get(value[ORDER_BYTES:HEADER_BYTES])
        if reader is not None:
            return reader, HEADER_BYTES
        try:
            header = unpack_header(value)
        except struct.error:
            raise self._corrupt() from None
        if value[29] != FORMAT:
            raise self._newer()
        at = HEADER_BYTES + header.key_bytes
        if header.deleted or (header.key_bytes and value[HEADER_BYTES:at] != full_key):
            return None
        return self._reader(header), at

    def _reader(self, header: Header) -> RowReader:
        tail = struct.pack("<IBBH", header.schema_revision, header.flags, FORMAT, 0)
        reader = self._readers.get(tail)
        if reader is None:
            reader = self._readers[tail] = RowReader(self._schema(header.schema_revision), self._wanted)
        return reader

    def _read(self, reader: RowReader, value: bytes, at: int) -> Sequence[Any]:
        try:
            return reader.read(value, at)
        except (struct.error, ValueError, TypeError, IndexError, OverflowError):
            raise self._corrupt() from None

    def many(self, values: Sequence[bytes | None], full_keys: Mapping[int, bytes], now_us: int) -> Answer:
        """Columns as Arrow arrays, statuses and event times as NumPy arrays; raises as `few`."""
        count = len(values)
        found: list[bytes] = list(filter(None, values))  # neither absent nor UNREAD
        joined, width = self._joined(found)
        heads = self._headers(found, joined, width)
        times = (heads["event"].astype(np.uint64) ^ np.uint64(SIGN)).view(np.int64)
        fresh = times >= self._oldest_us(now_us)
        if len(found) == count and fresh.all() and (reader := self._alike(found, heads)) is not None:
            arrays = self._decode(reader, Rows(found, HEADER_BYTES, joined, width))
            statuses, events = np.full(count, _PRESENT, np.uint8), times
        else:
            statuses, events = np.full(count, _NOT_FOUND, np.uint8), np.full(count, NO_TIME, np.int64)
            rows = np.array([row for row, value in enumerate(values) if value], np.int64)
            statuses[[row for row, value in enumerate(values) if value == UNREAD]] = _ERROR
            live = self._live(heads, found, rows, full_keys)
            events[rows[live]] = times[live]
            statuses[rows[live]] = np.where(fresh[live], _PRESENT, _OUTSIDE)
            arrays = self._columns(found, heads, np.flatnonzero(live & fresh), rows, count)
        shared = [_array_statuses(array, statuses) for array in arrays]
        return self._answer(arrays, shared, events)

    def _joined(self, found: Sequence[bytes]) -> tuple[bytes | None, int]:
        """All values in one piece and their width, where they have one width."""
        widths = set(map(len, found))
        if min(widths, default=HEADER_BYTES) < HEADER_BYTES:
            raise self._corrupt()
        return (b"".join(found), widths.pop()) if len(widths) == 1 else (None, 0)

    def _headers(self, found: Sequence[bytes], joined: bytes | None, width: int) -> Any:
        if joined is not None:
            heads = np.ndarray(len(found), _HEADERS, joined, 0, (width,))
        else:
            heads = np.frombuffer(b"".join([value[:HEADER_BYTES] for value in found]), _HEADERS)
        if (heads["format"] != FORMAT).any():
            raise self._newer()
        return heads

    @staticmethod
    def _alike(found: Sequence[bytes], heads: Any) -> int | None:
        """The one schema revision of rows that are no tombstones and have no key of their own; None for others."""
        if not found or heads["flags"].any() or heads["key_bytes"].any():
            return None
        revision = heads["revision"]
        return int(revision[0]) if (revision == revision[0]).all() else None

    @staticmethod
    def _live(heads: Any, found: Sequence[bytes], rows: Any, full_keys: Mapping[int, bytes]) -> Any:
        """Which found values are no tombstones, and stand under their own key."""
        live = (heads["flags"] & TOMBSTONE) == 0
        for number in np.flatnonzero(heads["key_bytes"]).tolist():
            end = HEADER_BYTES + int(heads["key_bytes"][number])
            live[number] &= found[number][HEADER_BYTES:end] == full_keys.get(int(rows[number]))
        return live

    def _columns(self, found: Sequence[bytes], heads: Any, present: Any, rows: Any, count: int) -> list[Any]:
        """The wanted features in the current types, null in rows that are not present."""
        revisions = heads["revision"][present]
        groups: list[list[Any]] = []
        places: list[Any] = []
        for revision in np.unique(revisions).tolist():
            members = present[revisions == revision]
            starts: Any = HEADER_BYTES
            if heads["key_bytes"][members].any():
                starts = (heads["key_bytes"][members].astype(np.int64) + HEADER_BYTES).tolist()
            chosen = found if len(members) == len(found) else [found[n] for n in members.tolist()]
            groups.append(self._decode(revision, Rows(chosen, starts)))
            places.append(rows[members])
        if not groups:
            return [pa.nulls(count, to_arrow(column.dtype)) for column in self._wanted]
        if len(groups) == 1 and len(present) == count:
            return groups[0]
        where = np.full(count, -1, np.int64)
        placed = np.concatenate(places)
        where[placed] = np.arange(len(placed))
        index = pa.array(where, mask=where < 0)
        return [pa.concat_arrays(parts).take(index) for parts in zip(*groups, strict=True)]

    def _decode(self, revision: int, rows: Rows) -> list[Any]:
        decoder = self._decoders.get(revision)
        if decoder is None:
            decoder = self._decoders[revision] = self._compile(revision)
        codec, picker, casts = decoder
        try:
            arrays = codec.decode(rows, picker)
        except (ValueError, TypeError, IndexError, OverflowError):
            raise self._corrupt() from None
        for number, arrow in casts:
            array = arrays[number]
            arrays[number] = pa.nulls(len(rows.values), arrow) if array is None else array.cast(arrow)
        return arrays

    def _compile(self, revision: int) -> _Decoder:
        """What decodes the wanted features of rows under a schema, and which columns are then cast, or null."""
        codec = RowCodec(self._schema(revision), self._where)
        stored = {column.name: column.dtype for column in codec.schema.features}
        there = [column.name in stored and dtypes.widens(stored[column.name], column.dtype) for column in self._wanted]
        names = [column.name if found else "" for column, found in zip(self._wanted, there, strict=True)]
        casts = [
            (number, to_arrow(column.dtype))
            for number, column in enumerate(self._wanted)
            if not there[number] or to_arrow(stored[column.name]) != to_arrow(column.dtype)
        ]
        return _Decoder(codec, codec.picker(names), casts)

    def _schema(self, revision: int) -> Schema:
        schema = self._view.schema_of(revision)
        if schema is None:
            raise Conflict(
                f"{self._where}: a stored row has schema revision {revision}, which these definitions do not know",
                hint="repeat the call; definitions are read again when the registry changes",
            )
        return schema

    def _corrupt(self) -> CorruptStore:
        return CorruptStore(
            f"{self._where}: a stored row does not read back as written",
            hint="materialize the view again with replace",
        )

    def _newer(self) -> NewerStore:
        return NewerStore(
            f"{self._where}: a stored row has a format this stook does not know",
            hint="it was written by a newer stook: upgrade this one",
        )


def _with_nulls(column: list[Any], statuses: list[int]) -> list[int]:
    """The column's own statuses; the very same list where none of its values is null."""
    if None not in column:
        return statuses
    return [
        _NULL_VALUE if cell is None and status == _PRESENT else status
        for cell, status in zip(column, statuses, strict=True)
    ]


def _array_statuses(array: Any, statuses: Any) -> Any:
    """As `_with_nulls`, for arrays."""
    if not array.null_count:
        return statuses
    nulls = np.asarray(array.is_null()) & (statuses == _PRESENT)
    if not nulls.any():
        return statuses
    own = statuses.copy()
    own[nulls] = _NULL_VALUE
    return own
