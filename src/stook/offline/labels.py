"""From a user's label table to the plan and the typed labels that an engine takes.

It is a file of its own because every promise about rows (all, once, in order), keys and label times is kept or
broken here, in pure code. Retrieval calls it. It must never read a source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from stook.core.arrow import as_table, event_micros, require_columns, require_valid
from stook.core.errors import InvalidArgument, SchemaMismatch
from stook.core.instants import to_us
from stook.core.keycolumns import ROUNDED_HINT, conform_key
from stook.core.plans import KNOWN_US, LABEL_US, ROW, History, PointInTimePlan, ViewJoin, ViewRead

WHAT: Final = "entity_df"
LABEL_ROWS_MAX: Final = 1 << 31


@dataclass(frozen=True)
class HistoricalRequest:
    """What is asked: resolved reads with the pinned history of each, and how label rows are to be understood.

    `names` are the answered features in the order asked. `as_known_at` is None, a time, or a column of the label
    table. `push_positions` says through which log position each history reaches; `stamp` names the catalogue.
    """

    reads: tuple[ViewRead, ...]
    names: tuple[str, ...]
    histories: tuple[History, ...]
    push_positions: tuple[int, ...]
    timestamp_field: str
    as_known_at: Any = None


@dataclass(frozen=True)
class Prepared:
    """A plan, the labels it runs on, the user's own table, and each answered name's column in the engine's result.

    `rounded` counts label times whose sub-microsecond digits were rounded down.
    """

    own: pa.Table
    labels: pa.Table
    plan: PointInTimePlan
    outputs: tuple[tuple[str, str], ...]
    label_times: tuple[str, ...]
    rounded: int


def prepare(request: HistoricalRequest, entity_df: Any) -> Prepared:
    """Checks the label table and builds the plan.

    Raises SchemaMismatch for a missing key or time column and for values that are no keys of the declared type,
    InvalidArgument where an answered feature has the name of an input column.
    """
    own = as_table(entity_df, WHAT)
    time = request.timestamp_field
    require_columns(own, [time, *dict.fromkeys(column for read in request.reads for _, column in read.keys)], WHAT)
    clashes = sorted(set(own.column_names) & set(request.names))
    if clashes:
        raise InvalidArgument(
            f"{WHAT} already has {', '.join(map(repr, clashes))}, which would be a feature's column too",
            hint="use full_feature_names=True, or rename the column",
        )
    label_us, rounded = event_micros(own.column(time), f"{WHAT}: column {time!r}", round_up=False)
    columns: dict[str, Any] = {ROW: pa.array(np.arange(own.num_rows, dtype=np.int64)), LABEL_US: label_us}
    known_by_us, known_column = _known(request.as_known_at, own)
    if known_column is not None:
        limit, _ = event_micros(own.column(known_column), f"{WHAT}: column {known_column!r}", round_up=False)
        columns[KNOWN_US] = limit
    joins = []
    outputs: dict[str, str] = {}
    for number, (read, history) in enumerate(zip(request.reads, request.histories, strict=True)):
        keys = _key_columns(number, read, own, columns)
        chosen = tuple((feature, f"f{number}_{index}") for index, (feature, _) in enumerate(read.outputs))
        outputs |= {name: column for (_, name), (_, column) in zip(read.outputs, chosen, strict=True)}
        joins.append(ViewJoin(history, keys, chosen, read.view.ttl_us))
    plan = PointInTimePlan(tuple(joins), known_by_us, known_column is not None)
    times = tuple(dict.fromkeys((time, *([known_column] if known_column else []))))
    return Prepared(own, pa.table(columns), plan, tuple((n, outputs[n]) for n in request.names), times, rounded)


def _known(as_known_at: Any, own: pa.Table) -> tuple[int | None, str | None]:
    """The knowledge limit: one instant, or a column; text that names a column means the column."""
    if as_known_at is None:
        return None, None
    if isinstance(as_known_at, str) and as_known_at in own.column_names:
        return None, as_known_at
    try:
        return to_us(as_known_at, "as_known_at"), None
    except InvalidArgument:
        if not isinstance(as_known_at, str):
            raise
        raise InvalidArgument(
            f"as_known_at={as_known_at!r} is neither a time nor a column of {WHAT}",
            hint=f"columns: {', '.join(own.column_names[:12])}",
        ) from None


def _key_columns(number: int, read: ViewRead, own: pa.Table, columns: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Adds the read's keys in the view's types to `columns`; a value that is no key of that type is refused."""
    keys = []
    for index, ((key, column), declared) in enumerate(zip(read.keys, read.view.keys, strict=True)):
        what = f"{WHAT}: join key {column!r}"
        try:
            values = columns[f"k{number}_{index}"] = conform_key(own.column(column), declared.dtype, what)
            require_valid(values, what)
        except SchemaMismatch as error:
            keyed = f"feature view {read.view.name!r} is keyed by {declared.dtype}"
            hint = f"{keyed}: {error.hint}" if error.hint == ROUNDED_HINT else keyed
            raise SchemaMismatch(error.message, hint=hint) from None
        keys.append((key, f"k{number}_{index}"))
    return tuple(keys)
