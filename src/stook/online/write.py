"""The write path: a batch of rows as the (key, value) pairs that upserts and loads hand to the store.

It is a file of its own because materialize, push, delete and backfill must all write the same bytes. Ingest
calls it and gives the pairs to `KeyValue.put_newest` or `KeyValue.load`. It must never decide which rows to
write, nor resolve two rows of one key: that is the store's write rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from stook.core.arrow import as_table, conform, require_columns, to_arrow
from stook.core.errors import SchemaMismatch, did_you_mean
from stook.core.ports.keyvalue import KeyValueAbility, Row
from stook.core.rows import (
    ARRIVAL,
    DELETED,
    EVENT_US,
    HEADER_BYTES,
    KNOWLEDGE_US,
    ORDER_BYTES,
    ORDER_COLUMNS,
    SIGN,
    TOMBSTONE,
)
from stook.core.specs import Column, ViewSpec
from stook.online.codec import Orders, RowCodec
from stook.online.keys import Keys, encode_column, join_columns, one_array, shorten

_PART_BYTES_MAX = 1 << 29  # a batch is encoded in halves above this, well below Arrow's 2 GiB of 32-bit offsets
_KEY_LENGTH_AT = HEADER_BYTES - 2


DAY_US: Final = 86_400_000_000
_TTLS_KEPT: Final = 2  # a row is kept for so many ttls behind its event time, at least a ttl and a day


class Encoded(NamedTuple):
    """Rows ready to be written, in the order of the batch, and how many were left out for a null in their key."""

    rows: list[Row]
    null_keys: int


def space(view: ViewSpec) -> str:
    """The name of the view's space in the online store."""
    return view.uid


def lifetimes_ms(
    view: ViewSpec, rows: Sequence[Row], now_us: int, abilities: frozenset[KeyValueAbility]
) -> list[int | None] | None:
    """For how many milliseconds from now on the store must keep each encoded row; None where it keeps all for ever.

    A row outlives its ttl, so that it is answered as OUTSIDE_MAX_AGE for as long again, and a ttl that is raised a little
    finds it. A tombstone never ends: what it deletes may live longer, having been written under a longer ttl.
    """
    if view.ttl_us is None or KeyValueAbility.EXPIRY not in abilities or not rows:
        return None
    kept_us = max(_TTLS_KEPT * view.ttl_us, view.ttl_us + DAY_US)
    heads = np.frombuffer(b"".join([value[:HEADER_BYTES] for _, value in rows]), np.uint8).reshape(-1, HEADER_BYTES)
    event_us = (heads[:, :8].copy().view(">u8")[:, 0].astype(np.uint64) ^ np.uint64(SIGN)).view(np.int64)
    left_ms: list[int | None] = (event_us // 1_000 + (kept_us - now_us) // 1_000).tolist()
    for row in np.flatnonzero(heads[:, ORDER_BYTES + 4] & TOMBSTONE).tolist():
        left_ms[row] = None
    return left_ms


def encode_rows(view: ViewSpec, batch: pa.RecordBatch | pa.Table) -> Encoded:
    """The batch's rows under the view's current schema; rows whose `__deleted` is true become tombstones.

    The batch has the view's key columns and the four order columns of `core.rows`, without nulls; features that
    it lacks are null. Rows with a null key are left out and counted. Sorted rows stay sorted by encoded key, but
    for keys over 400 bytes. Raises SchemaMismatch for missing, unknown or wrongly typed columns and for nulls
    among the order columns.
    """
    table = as_table(batch, f"rows of feature view {view.name!r}")
    _check_columns(view, table)
    if table.nbytes > _PART_BYTES_MAX and table.num_rows > 1:
        half = table.num_rows // 2
        first, second = encode_rows(view, table.slice(0, half)), encode_rows(view, table.slice(half))
        return Encoded(first.rows + second.rows, first.null_keys + second.null_keys)
    where = f"feature view {view.name!r}"
    keys = encode_keys(view, table)
    orders = Orders(*(_order(table, name, where) for name in ORDER_COLUMNS))
    arrays = [_column(table, feature, where) for feature in view.features]
    values = RowCodec(view.schema, where).encode(orders, arrays)
    for row, key in keys.full.items():
        head, body = values[row][:_KEY_LENGTH_AT], values[row][HEADER_BYTES:]
        values[row] = head + len(key).to_bytes(2, "little") + key + body
    if None not in keys.stored:
        return Encoded(list(zip(keys.stored, values, strict=True)), 0)  # type: ignore[arg-type]
    rows = [(key, value) for key, value in zip(keys.stored, values, strict=True) if key is not None]
    return Encoded(rows, len(values) - len(rows))


def encode_keys(view: ViewSpec, table: pa.Table) -> Keys:
    """The rows' keys as the store knows them; None for a key with a null.

    Raises SchemaMismatch for a missing or wrongly typed key column, or a key over 65 535 bytes.
    """
    where = f"feature view {view.name!r}"
    require_columns(table, view.key_names, f"rows of {where}")
    parts = [encode_column(_column(table, key, where), key.dtype) for key in view.keys]
    return shorten(join_columns(parts, table.num_rows), where, [key.dtype for key in view.keys])


def _check_columns(view: ViewSpec, table: pa.Table) -> None:
    what = f"rows of feature view {view.name!r}"
    known = [*view.key_names, *(f.name for f in view.features), *ORDER_COLUMNS]
    for name in table.column_names:
        if name not in known:
            raise SchemaMismatch(f"{what} have an unknown column {name!r}", hint=did_you_mean(name, known))
    require_columns(table, [n for n in known if n in (*ORDER_COLUMNS, *table.column_names)], what)


def _column(table: pa.Table, column: Column, where: str) -> Any:
    if column.name not in table.column_names:
        return pa.nulls(table.num_rows, to_arrow(column.dtype))
    values = conform(table.column(column.name), column.dtype, f"{where}: column {column.name!r}")
    return one_array(values)


_ORDER_TYPES = {EVENT_US: pa.int64(), KNOWLEDGE_US: pa.int64(), ARRIVAL: pa.int64(), DELETED: pa.bool_()}


def _order(table: pa.Table, name: str, where: str) -> Any:
    values = table.column(name)
    if values.null_count or values.type != _ORDER_TYPES[name]:
        raise SchemaMismatch(
            f"rows of {where}: column {name!r} is {values.type} with {values.null_count} nulls",
            hint=f"it must be {_ORDER_TYPES[name]} without nulls",
        )
    return np.asarray(values)
