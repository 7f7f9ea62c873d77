"""Plans as SQL.

It is a file of its own because it is pure: parts and plans in, text out, so that the rules of ties, knowledge, ttl
and windows can be read in one place. The engine runs what it writes. It must never touch a connection or a file.

Every history is first brought to one normal form, the relation `history` with columns `key0 ...`, `feature0 ...`,
`event_us`, `created_us`, `knowledge_us`, `arrival`, `deleted` and `rounded` (a time had digits below a microsecond); labels are `labels` with `row_id`, `label_us`,
`known_us` and `key0 ...`. Names of the user's appear only where parts are read.

A point-in-time join goes in three steps, each narrow until the last: an ASOF join finds the newest event time; an
aggregate over the rows of exactly that key and time finds the largest (knowledge time, arrival), packed into one
128-bit number; the row that bears it is fetched. Ties are never left to the engine, and no step's state is larger
than the labels (the sort behind ASOF spills).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from stook.backends.duckdb.sqltypes import Held, event_us, exact, is_rounded, sql_type, within_years
from stook.core import dtypes
from stook.core.errors import SchemaMismatch, did_you_mean
from stook.core.plans import Late, SourceSnapshot, Window
from stook.core.rows import ARRIVAL, DELETED, EVENT_US, KNOWLEDGE_US, PUSH_ARRIVAL
from stook.core.specs import Column, ViewSpec

HISTORY: Final = "history"
LABELS: Final = "labels"
RESUME: Final = "resume"
_BIAS: Final = 1 << 62  # lifts any time above zero
_LOW: Final = (1 << 64) - 1
_ORDER: Final = ("event_us", "created_us", "knowledge_us", "arrival")
_FLAGS: Final = ("deleted", "rounded")


@dataclass(frozen=True)
class Part:
    """Rows of one shape.

    `relation` is a FROM item, `columns` what the user's columns are called in it. `arrival` is SQL; None in rows of
    ours, which carry their order. `ranked`: the rows have no order, so content decides among ties.
    """

    relation: str
    columns: Mapping[str, Held]
    arrival: str | None
    ranked: bool = False


def names(prefix: str, count: int, qualifier: str = "") -> list[str]:
    """`prefix0`, `prefix1` ..., perhaps of one relation."""
    return [f"{qualifier}{prefix}{i}" for i in range(count)]


def history_sql(
    view: ViewSpec, source: SourceSnapshot | None, parts: Sequence[Part], features: Sequence[Column]
) -> str:
    """The normal form of a history with the features named.

    Rows with a null key or event time are left out. Raises SchemaMismatch for a column that is missing, or whose
    type cannot hold what is declared.
    """
    _require(view, source, parts, features)
    if not parts:
        return _empty(view, features)
    return "\nUNION ALL ".join(_part_sql(view, source, part, features) for part in parts)


def _require(view: ViewSpec, source: SourceSnapshot | None, parts: Sequence[Part], features: Sequence[Column]) -> None:
    """Keys and times must stand in every part of the source, a feature in one of them at least."""
    of_source = [p for p in parts if p.arrival is not None]
    if source is None or not of_source:
        return
    every = [*view.key_names, source.timestamp_field]
    if source.created_timestamp_column is not None:
        every.append(source.created_timestamp_column)
    known = {name for part in of_source for name in part.columns}
    missing = [n for n in every if any(n not in p.columns for p in of_source)]
    missing += [c.name for c in features if c.name not in known]
    if missing:
        where = "" if missing[0] not in known else " in some of its files"
        raise SchemaMismatch(
            f"the source of feature view {view.name!r} has no column {missing[0]!r}{where}",
            hint=did_you_mean(missing[0], known - {missing[0]}),
        )


def _part_sql(view: ViewSpec, source: SourceSnapshot | None, part: Part, features: Sequence[Column]) -> str:
    asked = [c.name for c in features]
    carried = list(view.features) if part.ranked else list(features)
    columns = [f"{_column(view, part, c)} AS key{i}" for i, c in enumerate(view.keys)]
    columns += [f"{_column(view, part, c)} AS carried{i}" for i, c in enumerate(carried)]
    if part.arrival is None:
        columns += _own_order(part)
    else:
        assert source is not None
        columns += _source_order(view, source, part, part.arrival)
    inner = f"SELECT {', '.join(columns)} FROM {part.relation}"
    where = " AND ".join(f"{c} IS NOT NULL" for c in (*names("key", len(view.keys)), "event_us"))
    position = {c.name: i for i, c in enumerate(carried)}
    chosen = [f"carried{position[n]} AS feature{i}" for i, n in enumerate(asked)]
    arrival = _rank(view, carried) if part.ranked else "arrival"
    event, created = "event_us", "created_us"
    if part.arrival is not None:
        event = within_years("event_us", f"feature view {view.name!r}: the timestamp column")
        created = within_years("created_us", f"feature view {view.name!r}: the created column")
    out = [
        *names("key", len(view.keys)), *chosen, f"{event} AS event_us", f"{created} AS created_us",
        "knowledge_us", f"{arrival} AS arrival", *_FLAGS,
    ]  # fmt: skip
    return f"SELECT {', '.join(out)} FROM ({inner}) WHERE {where}"


def _source_order(view: ViewSpec, source: SourceSnapshot, part: Part, arrival: str) -> list[str]:
    what = f"feature view {view.name!r}: column "
    held = part.columns[source.timestamp_field]
    event, rounded = event_us(held, what + repr(source.timestamp_field)), is_rounded(held)
    created = "CAST(NULL AS BIGINT)"
    if source.created_timestamp_column is not None:
        held = part.columns[source.created_timestamp_column]
        created = event_us(held, what + repr(source.created_timestamp_column))
        rounded = f"({rounded} OR {is_rounded(held)})"
    return [
        f"{event} AS event_us", f"{created} AS created_us", f"coalesce({created}, {event}) AS knowledge_us",
        f"{arrival} AS arrival", "false AS deleted", f"{rounded} AS rounded",
    ]  # fmt: skip


def _own_order(part: Part) -> list[str]:
    event, knowledge, arrival, deleted = (part.columns[n].expr for n in (EVENT_US, KNOWLEDGE_US, ARRIVAL, DELETED))
    return [
        f"CAST({event} AS BIGINT) AS event_us", "CAST(NULL AS BIGINT) AS created_us",
        f"CAST({knowledge} AS BIGINT) AS knowledge_us", f"CAST({arrival} AS BIGINT) AS arrival",
        f"coalesce({deleted}, false) AS deleted", "false AS rounded",
    ]  # fmt: skip


def _column(view: ViewSpec, part: Part, column: Column) -> str:
    held = part.columns.get(column.name)
    if held is None:
        return f"CAST(NULL AS {sql_type(column.dtype)})"
    return exact(held, column.dtype, f"feature view {view.name!r}: column {column.name!r}")


def _rank(view: ViewSpec, carried: Sequence[Column]) -> str:
    """The arrival of rows without order: their rank among full ties, by content, column by column, nulls first.

    Rows equal in every feature may swap ranks: it makes no difference. Zeros of different sign do differ.
    """
    order = []
    for i, column in enumerate(carried):
        order.append(f"carried{i} NULLS FIRST")
        if column.dtype in dtypes.FLOATS:
            order.append(f"signbit(carried{i}) DESC")
    tied = ", ".join([*names("key", len(view.keys)), "event_us", "knowledge_us"])
    return f"row_number() OVER (PARTITION BY {tied} ORDER BY {', '.join(order)}) - 1"


def _empty(view: ViewSpec, features: Sequence[Column]) -> str:
    columns = [f"CAST(NULL AS {sql_type(c.dtype)}) AS key{i}" for i, c in enumerate(view.keys)]
    columns += [f"CAST(NULL AS {sql_type(c.dtype)}) AS feature{i}" for i, c in enumerate(features)]
    columns += [f"CAST(NULL AS BIGINT) AS {n}" for n in _ORDER]
    columns += [f"false AS {n}" for n in _FLAGS]
    return f"SELECT {', '.join(columns)} WHERE false"


def pack(high: str, low: str) -> str:
    """SQL of one 128-bit number that orders as (high, low) do; both must be above -2^62, low not below zero."""
    return f"((CAST({high} + {_BIAS} AS HUGEINT) << 64) + {low})"


def unpack_high(packed: str) -> str:
    """SQL of the first number packed."""
    return f"(CAST({packed} >> 64 AS BIGINT) - {_BIAS})"


def unpack_low(packed: str) -> str:
    """SQL of the second number packed."""
    return f"CAST({packed} & {_LOW} AS BIGINT)"


def known_by(limit_us: int | None) -> str:
    """A WHERE clause for what was known by an instant."""
    return "" if limit_us is None else f"WHERE knowledge_us <= {limit_us}"


def newest_event(keys: int, ttl_us: int | None, known_by_us: int | None, *, limit: str = "label_us") -> str:
    """Candidates (row_id, keys, event_us): the newest event time at or before `limit`, an expression over labels."""
    key = names("key", keys)
    on = [f"l.{k} = h.{k}" for k in key] + ["l.limit_us >= h.event_us"]
    ttl = "" if ttl_us is None else f"WHERE l.label_us - h.event_us <= {ttl_us}"
    out = ", ".join(["l.row_id", *names("key", keys, "h."), "h.event_us"])
    narrow = ", ".join([*key, "event_us"])
    return f"""
        SELECT {out}
        FROM (SELECT *, {limit} AS limit_us FROM {LABELS} WHERE limit_us IS NOT NULL) AS l
        ASOF JOIN (SELECT {narrow} FROM {HISTORY} {known_by(known_by_us)}) AS h ON {" AND ".join(on)}
        {ttl}"""


def newest_known(keys: int, ttl_us: int | None, *, limits_differ: bool) -> str:
    """Candidates (row_id, keys, event_us, knowledge_us) where each label has its own limit of knowledge.

    A row counts from `greatest(event_us, knowledge_us)` on. Where the limit is the label's own time, the running
    maximum of the order over that instant is the answer, and an ASOF join finds it. Other labels meet every row of
    their key, streamed into an aggregate as large as the labels.
    """
    key = names("key", keys)
    order = pack("event_us", f"(knowledge_us + {_BIAS})")
    partition = f"PARTITION BY {', '.join(key)} " if keys else ""
    on = [f"l.{k} = h.{k}" for k in key] + ["l.label_us >= h.available_us"]
    running = f"max({order}) OVER ({partition}ORDER BY greatest(event_us, knowledge_us) RANGE UNBOUNDED PRECEDING)"
    found = f"""
        SELECT {", ".join(["l.row_id", "l.label_us", *names("key", keys, "h."), "h.top"])}
        FROM (SELECT * FROM {LABELS} WHERE known_us = label_us) AS l
        ASOF JOIN (
            SELECT {", ".join([*key, "greatest(event_us, knowledge_us) AS available_us", f"{running} AS top"])}
            FROM {HISTORY}
        ) AS h ON {" AND ".join(on)}"""
    if limits_differ:
        on = [f"l.{k} = h.{k}" for k in key] + ["h.event_us <= l.label_us", "h.knowledge_us <= l.known_us"]
        grouped = ", ".join(["l.row_id", "l.label_us", *names("key", keys, "l.")])
        found += f"""
        UNION ALL
        SELECT {grouped}, max({order}) AS top
        FROM (SELECT * FROM {LABELS} WHERE known_us <> label_us) AS l JOIN {HISTORY} AS h ON {" AND ".join(on)}
        GROUP BY {grouped}"""
    knowledge = f"({unpack_low('top')} - {_BIAS})"
    ttl = "" if ttl_us is None else f"WHERE label_us - event_us <= {ttl_us}"
    out = ", ".join(["row_id", *key, f"{unpack_high('top')} AS event_us", f"{knowledge} AS knowledge_us", "label_us"])
    return f"SELECT * EXCLUDE (label_us) FROM (SELECT {out} FROM ({found})) {ttl}"


def fetch_sql(
    candidates: str, tied_on: Sequence[str], outputs: Iterable[str], *, known_by_us: int | None, unique_arrival: bool
) -> str:
    """Steps two and three: the winner among the rows tied with each candidate, then its columns, by row_id.

    Deleted winners are left out, as are labels that nothing matched.
    """
    tied = ", ".join(tied_on)
    where = known_by(known_by_us)
    found = ["row_id", *tied_on, f"{unpack_low('top')} AS arrival"]
    on = ["h.arrival = w.arrival"]
    if not unique_arrival:
        found += [] if "knowledge_us" in tied_on else [f"{unpack_high('top')} AS knowledge_us"]
        on += [f"h.{n} = w.{n}" for n in dict.fromkeys((*tied_on, "knowledge_us"))]
    return f"""
    WITH candidate AS MATERIALIZED ({candidates}),
    tie AS MATERIALIZED (SELECT DISTINCT {tied} FROM candidate),
    best AS MATERIALIZED (
        SELECT {tied}, max({pack("knowledge_us", "arrival")}) AS top
        FROM (SELECT {", ".join(dict.fromkeys((*tied_on, "knowledge_us", "arrival")))} FROM {HISTORY} {where})
        JOIN tie USING ({tied}) GROUP BY {tied}
    ),
    winner AS (SELECT {", ".join(found)} FROM candidate JOIN best USING ({tied}))
    SELECT w.row_id, {", ".join(f"h.{n}" for n in outputs)}
    FROM {HISTORY} AS h JOIN winner AS w ON {" AND ".join(on)}
    WHERE NOT h.deleted ORDER BY w.row_id"""


def qualifies(window: Window, *, ranked: bool) -> str:
    """A condition on `history`: the row is in the window, or late."""
    always = f"event_us <= {window.end_us} AND knowledge_us <= {window.known_by_us}"
    if window.start_us is None:
        return always
    either = [f"event_us {'>' if window.start_exclusive else '>='} {window.start_us}"]
    either += _late(window.late, ranked) if window.late is not None else []
    return f"{always} AND ({' OR '.join(either)})"


def _late(late: Late, ranked: bool) -> list[str]:
    conditions = []
    if late.ordinals and not ranked:
        # rows of ours have the bit of pushes set, far above any ordinal
        conditions.append(f"(arrival >> 40) IN ({', '.join(str(o) for o in sorted(late.ordinals))})")
    if late.knowledge_after_us is not None:
        conditions.append(f"knowledge_us > {late.knowledge_after_us}")
    if late.arrival_after is not None:
        conditions.append(f"arrival > {max(late.arrival_after, PUSH_ARRIVAL - 1)}")
    return conditions


def newest_sql(keys: int, features: int, window: Window, *, ranked: bool, resume: bool) -> str:
    """All rows that qualify, by key and order, so that the last of each key's run is the newest."""
    key = names("key", keys)
    where = qualifies(window, ranked=ranked)
    if resume:
        where += f" AND ({_behind(key)})"
    order = ", ".join([*key, "event_us", "knowledge_us", "arrival"])
    value = [f"CASE WHEN NOT deleted THEN {f} END AS {f}" for f in names("feature", features)]
    columns = ", ".join([*key, *value, "event_us", "knowledge_us", "arrival", "deleted"])
    return f"SELECT {columns} FROM {HISTORY} WHERE {where} ORDER BY {order}"


def _behind(key: Sequence[str]) -> str:
    """A condition: the key stands behind the one in `resume`."""
    either = []
    for i, name in enumerate(key):
        equal = [f"{k} = (SELECT {k} FROM {RESUME})" for k in key[:i]]
        either.append(" AND ".join([*equal, f"{name} > (SELECT {name} FROM {RESUME})"]))
    return " OR ".join(f"({e})" for e in either) or "false"


def counts_sql(keys: int, window: Window, *, ranked: bool) -> str:
    """One row: how many qualify, about how many keys they have, the largest created time by `known_by_us`, and how many
    of those that qualify had a time rounded up."""
    inside = qualifies(window, ranked=ranked)
    distinct = f"approx_count_distinct(hash({', '.join(names('key', keys))}))" if keys else "max(1)"
    return f"""
    SELECT count(*) FILTER (WHERE {inside}), coalesce({distinct} FILTER (WHERE {inside}), 0),
           max(created_us) FILTER (WHERE created_us <= {window.known_by_us}),
           count(*) FILTER (WHERE rounded AND {inside})
    FROM {HISTORY}"""
