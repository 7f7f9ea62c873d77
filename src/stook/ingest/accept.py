"""Checks what is pushed or deleted, and brings it into the form that is logged.

It is a file of its own because everything that can be wrong with a push must be found before it is made durable.
Pushes call it. It must never write, nor ask what time it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stook.core.arrow import arrow_schema, as_table, conform, event_micros, require_columns, require_valid, to_arrow
from stook.core.definitions import DEFAULT_TIMESTAMP
from stook.core.errors import InvalidArgument, SchemaMismatch, did_you_mean
from stook.core.instants import to_rfc3339
from stook.core.keycolumns import conform_key
from stook.core.rows import DELETED, EVENT_US, KNOWLEDGE_US
from stook.core.specs import ViewSpec

PUSH_ROWS_MAX: Final = 5_000_000


def accept_push(view: ViewSpec, data: Any, *, now_us: int, others: Iterable[str] = ()) -> pa.Table:
    """The pushed rows: keys, current features, event and knowledge time, no tombstones.

    An absent timestamp column means `now_us`; an absent feature column means null; an absent created column, or a
    null in it, means that the row is known since now. `others` are columns that other views of the same push source
    take. Raises SchemaMismatch naming view, column and mend for
    missing or null keys, unknown columns, null event times and values that cannot be kept exactly; TooLarge.
    """
    what = f"the table pushed to {view.name!r}"
    table = as_table(data, what, (*view.keys, *view.features))
    if table.num_rows > PUSH_ROWS_MAX:
        raise InvalidArgument(f"{what} has {table.num_rows} rows", hint=f"push at most {PUSH_ROWS_MAX} at a time")
    event_name, created_name = _time_columns(view, table)
    known = {*view.key_names, *(c.name for c in view.features), event_name}
    if created_name is not None:
        known.add(created_name)
    for name in table.column_names:
        if name not in known and name not in others:
            raise SchemaMismatch(f"{what} has column {name!r}, which the view has not", hint=did_you_mean(name, known))
    require_columns(table, [n for n in table.column_names if n in known], what)
    require_columns(table, view.key_names, what)
    for name in table.column_names:
        require_valid(table.column(name), f"{what}: column {name!r}")
    columns: dict[str, Any] = _keys(view, table, what)
    for column in view.features:
        if column.name in table.column_names:
            values = conform(table.column(column.name), column.dtype, f"{what}: column {column.name!r}")
        else:
            values = pa.nulls(table.num_rows, to_arrow(column.dtype))
        columns[column.name] = values
    event = _times(table, event_name, now_us, f"{what}: column {event_name!r}", nulls_mean_now=False)
    knowledge = _times(table, created_name, now_us, f"{what}: column {created_name!r}", nulls_mean_now=True)
    return _finish(view, columns, event, knowledge, deleted=False)


def known_columns(view: ViewSpec) -> set[str]:
    """The columns that a push to the view may have: keys, features, times."""
    return {*view.key_names, *(c.name for c in view.features), *time_columns(view)}


def time_columns(view: ViewSpec) -> tuple[str, ...]:
    """The columns that a push to the view may have for its times."""
    created = view.source.created_timestamp_column
    return (view.source.timestamp_field, DEFAULT_TIMESTAMP, *((created,) if created is not None else ()))


def accept_delete(view: ViewSpec, keys: Any, *, now_us: int) -> pa.Table:
    """Tombstones dated now for the entities in `keys`: a table, a list of dicts or, for a view with one key
    column, a list of values. Raises SchemaMismatch."""
    what = f"the keys to delete from {view.name!r}"
    plain = isinstance(keys, Sequence) and not isinstance(keys, str | bytes)
    if plain and len(view.keys) == 1 and not any(isinstance(k, Mapping) for k in keys):
        keys = {view.key_names[0]: list(keys)}
    table = as_table(keys, what, view.keys)
    require_columns(table, view.key_names, what)
    for name in table.column_names:
        require_valid(table.column(name), f"{what}: column {name!r}")
        if name not in view.key_names:
            raise SchemaMismatch(
                f"{what} has column {name!r}, which is no join key", hint=did_you_mean(name, view.key_names)
            )
    columns: dict[str, Any] = _keys(view, table, what)
    for column in view.features:
        columns[column.name] = pa.nulls(table.num_rows, to_arrow(column.dtype))
    now = pa.array(np.full(table.num_rows, now_us, dtype=np.int64))
    return _finish(view, columns, now, now, deleted=True)


def _time_columns(view: ViewSpec, table: pa.Table) -> tuple[str, str | None]:
    event = view.source.timestamp_field
    if event not in table.column_names and DEFAULT_TIMESTAMP in table.column_names:
        taken = {*view.key_names, *(c.name for c in view.features)}
        if DEFAULT_TIMESTAMP not in taken:
            event = DEFAULT_TIMESTAMP
    return event, view.source.created_timestamp_column


def _keys(view: ViewSpec, table: pa.Table, what: str) -> dict[str, Any]:
    columns = {}
    for key in view.keys:
        values = conform_key(table.column(key.name), key.dtype, f"{what}: join key {key.name!r}")
        if values.null_count:
            row = pc.index(pc.is_null(values), True).as_py()
            raise SchemaMismatch(f"{what}: join key {key.name!r} is null in row {row}", hint="leave such rows out")
        columns[key.name] = values
    return columns


def _times(table: pa.Table, name: str | None, now_us: int, what: str, *, nulls_mean_now: bool) -> Any:
    if name is None or name not in table.column_names:
        return pa.array(np.full(table.num_rows, now_us, dtype=np.int64))
    values = table.column(name)
    micros, _ = event_micros(values, what, round_up=True)
    if micros.null_count:
        if not nulls_mean_now:
            row = pc.index(pc.is_null(micros), True).as_py()
            raise SchemaMismatch(
                f"{what} is null in row {row}", hint="give each row its event time, or leave the column out"
            )
        micros = pc.fill_null(micros, now_us)
    return micros


def _finish(view: ViewSpec, columns: dict[str, Any], event: Any, knowledge: Any, *, deleted: bool) -> pa.Table:
    schema = arrow_schema((*view.keys, *view.features))
    rows = len(event)
    for name, values in ((EVENT_US, event), (KNOWLEDGE_US, knowledge)):
        columns[name] = values
        schema = schema.append(pa.field(name, pa.int64()))
    columns[DELETED] = pa.array(np.full(rows, deleted))
    return pa.table(columns, schema=schema.append(pa.field(DELETED, pa.bool_())))


def check_not_future(rows: pa.Table, online_through_us: int, view: str) -> None:
    """Raises InvalidArgument when a row is dated, or known, after `online_through_us`: for pushes that history would
    not keep until their time."""
    latest = pc.max(pc.max_element_wise(rows.column(EVENT_US), rows.column(KNOWLEDGE_US))).as_py()
    if latest is not None and latest > online_through_us:
        raise InvalidArgument(
            f"a row pushed to {view!r} is dated {to_rfc3339(latest)}, later than now by more than the tolerance",
            hint='push it with to="both": it comes online with the first materialize after its time',
        )
