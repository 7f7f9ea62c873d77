"""The case format: facts, views over them, one question, and its answers in the past and now.

It is a file of its own because backends and doors come and go while the questions stay. Modules of cases fill it in;
`tests/conformance` carries each case through every way in and out. It must never know a backend, a file format or
a door, but by the names under which a case may leave one out.

Times are microseconds since 1970, UTC. A case's answers are written down by hand, and the oracles must agree with
them, so that neither a slip of the pen nor a wrong oracle passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from stook.core import dtypes
from stook.core.definitions import Entity, FeatureView, Field, Projection, Source
from stook.core.dtypes import DType
from stook.core.errors import StookError
from stook.core.instants import MICRO, MICROS_PER_SECOND, to_us
from stook.core.rows import file_arrival
from stook.core.specs import Column
from stook.core.statuses import Status
from stook.testing.oracles.online import NaiveOnline, Write
from stook.testing.oracles.pointintime import BY_COLUMN, HistoryRow, Label, join

NOW: Final = to_us("2024-05-01T12:00:00Z")
SECOND: Final = MICROS_PER_SECOND
HOUR: Final = 3600 * SECOND
DAY: Final = 24 * HOUR
KNOWN_COLUMN: Final = "known_by"
LABEL_COLUMN: Final = "event_timestamp"

# the ways in, by which a case may say that it cannot come in
FEEDS: Final = ("parquet", "csv", "delta", "sql", "push", "folded", "http push", "remote push")
FILES: Final = ("parquet", "csv", "delta", "sql")
PUSHES: Final = ("push", "folded", "http push", "remote push")


@dataclass(frozen=True)
class Fact:
    """One row of history: whose, when, what; `known` is the created column's value, where the view has one."""

    key: tuple[Any, ...]
    at: int | None
    values: tuple[Any, ...]
    known: int | None = None


@dataclass(frozen=True)
class Refusal:
    """What must happen instead of an answer: an error of this kind whose text holds these words."""

    error: type[StookError]
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class CaseView:
    """A view, and its past in one or more files (or pushes), in order.

    `keys` are (column, type) pairs in the order of definition; facts give their key in that order too.
    """

    name: str
    keys: tuple[tuple[str, DType], ...]
    features: tuple[tuple[str, DType], ...]
    files: tuple[tuple[Fact, ...], ...]
    ttl: timedelta | None = None
    created: bool = False

    def define(self, source: Source) -> FeatureView:
        """The definition over a source, with one entity a key column, so that composite keys join entities."""
        entities = [Entity(f"{self.name}.e{i}", join_keys={name: t}) for i, (name, t) in enumerate(self.keys)]
        schema = [Field(name, dtype) for name, dtype in self.features]
        return FeatureView(self.name, entities=entities, schema=schema, source=source, ttl=self.ttl)

    @property
    def key_columns(self) -> tuple[Column, ...]:
        """The key columns, in the order of definition."""
        return tuple(Column(name, dtype) for name, dtype in self.keys)

    @property
    def feature_columns(self) -> tuple[Column, ...]:
        """The features."""
        return tuple(Column(name, dtype) for name, dtype in self.features)

    @property
    def ttl_us(self) -> int | None:
        """The ttl in microseconds."""
        return None if self.ttl is None else self.ttl // MICRO

    def history(self) -> list[HistoryRow]:
        """The facts as the oracle takes them: known at their event time unless said otherwise, arriving in order."""
        return [
            HistoryRow(fact.key, fact.at, _known(fact), file_arrival(ordinal, row), deleted=False, values=fact.values)
            for ordinal, facts in enumerate(self.files)
            for row, fact in enumerate(facts)
        ]


def _known(fact: Fact) -> int:
    if fact.known is not None:
        return fact.known
    return 0 if fact.at is None else fact.at


@dataclass(frozen=True)
class Case:
    """One hard case.

    `entities` holds the request's key columns; `labels` the label time of each row. `past` is what a training set
    must hold, `now` what an online read must answer at NOW, each by column in the order of the rows; `statuses` goes
    with `now`. `numbers` are those of the catalogue. `features` are references or projections; left out, every
    feature of every view. `without` names ways in that cannot carry the case, with the reason; `refused` those that
    must refuse it. `known_by`: each label's own limit of knowledge.
    """

    name: str
    numbers: tuple[int, ...]
    shows: str
    views: tuple[CaseView, ...]
    entities: Mapping[str, Sequence[Any]]
    labels: Sequence[int | None]
    past: Mapping[str, Sequence[Any]]
    now: Mapping[str, Sequence[Any]]
    statuses: Mapping[str, Sequence[str]]
    features: Sequence[str | Projection] = ()
    full_feature_names: bool = False
    known_by: Sequence[int | None] | None = None
    without: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    doors_without: Mapping[str, str] = field(default_factory=dict)

    @property
    def asked(self) -> list[str | Projection]:
        """What is asked for."""
        every = [f"{view.name}:{feature}" for view in self.views for feature, _ in view.features]
        return list(self.features or every)

    def reads(self) -> Iterator[tuple[str, CaseView, str, dict[str, str]]]:
        """Each answered column: its name, its view, its feature, and the request's column for each key."""
        for item in self.asked:
            if isinstance(item, str):
                alias, _, feature = item.partition(":")
                chosen, mapping = [feature], {}
            else:
                alias, mapping = item.alias, dict(item.join_key_map)
                chosen = list(item.features or [n for n, _ in self._view(item.view).features])
            view = self._view(alias if isinstance(item, str) else item.view)
            for feature in chosen:
                name = f"{alias}__{feature}" if self.full_feature_names else feature
                yield name, view, feature, {key: mapping.get(key, key) for key, _ in view.keys}

    def _view(self, name: str) -> CaseView:
        return next(view for view in self.views if view.name == name)

    def key_types(self) -> dict[str, DType]:
        """The type of each of the request's key columns."""
        return {columns[key]: dtype for _, view, _, columns in self.reads() for key, dtype in view.keys}

    def feature_types(self) -> dict[str, DType]:
        """The type of each answered column."""
        return {name: dict(view.features)[feature] for name, view, feature, _ in self.reads()}

    def oracle_past(self) -> dict[str, list[Any]]:
        """The training set by the naive rule."""
        answer = {}
        limits = self.labels if self.known_by is None else self.known_by
        for name, view, feature, columns in self.reads():
            keys = self._keys(view, columns)
            labels = [Label(k, at, limit) for k, at, limit in zip(keys, self.labels, limits, strict=True)]
            known = None if self.known_by is None else BY_COLUMN
            found = join(labels, view.history(), view.ttl_us, known)
            place = [n for n, _ in view.features].index(feature)
            answer[name] = [None if values is None else values[place] for values in found]
        return answer

    def oracle_now(self) -> tuple[dict[str, list[Any]], dict[str, list[str]], dict[str, list[int]]]:
        """The online answer at NOW by the naive rule: values, statuses, event times."""
        values: dict[str, list[Any]] = {}
        statuses: dict[str, list[str]] = {}
        times: dict[str, list[int]] = {}
        for name, view, feature, columns in self.reads():
            store = NaiveOnline()
            for row in view.history():
                if row.event_us is not None and row.event_us <= NOW and row.knowledge_us <= NOW:
                    named = dict(zip((n for n, _ in view.features), row.values, strict=True))
                    store.write(Write(view.name, row.key, row.order, named))
            cells = [
                store.read(view.name, key, feature, now_us=NOW, ttl_us=view.ttl_us) for key in self._keys(view, columns)
            ]
            values[name] = [cell.value if cell.status is Status.PRESENT else None for cell in cells]
            statuses[name] = [cell.status.name for cell in cells]
            times[name] = [cell.event_us for cell in cells]
        return values, statuses, times

    def _keys(self, view: CaseView, columns: Mapping[str, str]) -> list[tuple[Any, ...]]:
        given = [self.entities[columns[key]] for key, _ in view.keys]
        return list(zip(*given, strict=True)) if given else [()] * len(self.labels)


ID: Final = (("id", dtypes.Int64),)
X: Final = (("x", dtypes.Int64),)


def at(hours: float = 0, us: int = 0) -> int:
    """An instant so many hours after the day of NOW began, and some microseconds.

    >>> at(12) == NOW
    True
    """
    return NOW - 12 * HOUR + int(hours * HOUR) + us


def facts(*rows: tuple[Any, ...]) -> tuple[Fact, ...]:
    """Facts of a view with one key and one feature, from (key, at, value) or (key, at, value, known)."""
    return tuple(Fact((row[0],), row[1], (row[2],), row[3] if len(row) > 3 else None) for row in rows)


def simple(
    name: str,
    numbers: tuple[int, ...],
    shows: str,
    *files: tuple[Fact, ...],
    asks: Sequence[tuple[Any, int | None, Any, Any]],
    ttl: timedelta | None = None,
    created: bool = False,
    dtype: DType = dtypes.Int64,
    key: DType = dtypes.Int64,
    **others: Any,
) -> Case:
    """A case of one view with the key `id` and the feature `x`.

    `asks` are (id, label time, value in the past, value now); a value now may be a status's name, where none is
    PRESENT.
    """
    view = CaseView(name, (("id", key),), (("x", dtype),), files, ttl, created)
    ids, labels, past, now = (list(column) for column in zip(*asks, strict=True)) if asks else ([], [], [], [])
    is_status = [isinstance(value, str) and value in Status.__members__ for value in now]
    return Case(
        name=name,
        numbers=numbers,
        shows=shows,
        views=(view,),
        entities={"id": ids},
        labels=labels,
        past={"x": past},
        now={"x": [None if status else value for value, status in zip(now, is_status, strict=True)]},
        statuses={"x": [value if status else "PRESENT" for value, status in zip(now, is_status, strict=True)]},
        **others,
    )
