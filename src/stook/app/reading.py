"""Verbs that read: training sets, online features, datasets, parity.

They are a file of their own so that each family of verbs fits in the head. `Platform` inherits them. They must
only resolve names, fetch histories and call offline and online.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from stook.app.parts import Parts
from stook.core.arrow import TIMESTAMP, as_table
from stook.core.dtypes import DType
from stook.core.errors import Conflict, EngineUnavailable, InvalidArgument
from stook.core.instants import to_datetime
from stook.core.plans import ReadPlan
from stook.core.results import OnlineResult
from stook.core.results_arrow import values_table
from stook.core.specs import Column
from stook.core.statuses import Status
from stook.ingest.histories import pin_history
from stook.ingest.parity import ParityReport, compare
from stook.offline.datasets import Dataset, load_dataset
from stook.offline.labels import HistoricalRequest
from stook.offline.retrieval import Retrieval, RetrievalPorts, retrieve
from stook.registry.resolve import Features, resolve_features

PREPARED_MAX: Final = 1_000  # resolved feature lists kept for callers that do not prepare
LABEL: Final = "event_timestamp"


class Prepared:
    """A read that is resolved once and answered many times; it follows new revisions within a second.

    Call it with `entities={"driver_id": [...]}` or `entity_rows=[{"driver_id": 1}, ...]`.
    """

    __slots__ = ("_features", "_full", "_parts", "_read", "_stamp")

    def __init__(self, parts: Parts, features: Features, full_feature_names: bool) -> None:
        self._parts = parts
        self._features = features
        self._full = full_feature_names
        self._refresh()

    def _refresh(self) -> None:
        catalogue = self._parts.catalogue()
        plan = resolve_features(catalogue, self._features, full_feature_names=self._full)
        self._read = self._parts.prepared(plan)
        self._stamp = catalogue.stamp

    @property
    def plan(self) -> ReadPlan:
        """What it reads."""
        return self._read.plan

    def __call__(
        self, entities: Mapping[str, Any] | None = None, *, entity_rows: Sequence[Mapping[str, Any]] | None = None
    ) -> OnlineResult:
        """Reads. Raises SchemaMismatch for wrong keys, EngineUnavailable when the store is wholly unavailable."""
        if self._parts.catalogue().stamp != self._stamp:
            self._refresh()
        try:
            return self._read.read(entities, entity_rows=entity_rows)
        except Conflict:  # a row was written under definitions that came since the last look
            self._parts.catalogue(fresh=True)
            self._refresh()
            return self._read.read(entities, entity_rows=entity_rows)


class Reading:
    """Reads history and now."""

    _parts: Parts
    _prepared: dict[Any, Prepared]
    _prepared_lock: threading.Lock

    def get_historical_features(
        self,
        entity_df: Any,
        features: Features,
        *,
        full_feature_names: bool = False,
        as_known_at: Any = None,
        timestamp_field: str = LABEL,
    ) -> Retrieval:
        """The features of each row's entity as they were at its label time.

        Every row of `entity_df` comes back, once, in its order, its own columns first; a feature without a match
        is null. A row matches when `event time <= label time` and, with a ttl, `label time - event time <= ttl`;
        of several the larger (event time, knowledge time, arrival) wins. `as_known_at`: a time, or the name of a
        column of `entity_df`; only what was known by then counts. Answers `.to_arrow()`, `.to_df()`,
        `.to_polars()`, `.save(name)`. Raises UnknownFeature, SchemaMismatch, InvalidArgument, SourceUnreadable.
        """  # fmt: skip
        plan = resolve_features(
            self._parts.registry.catalogue(fresh=True), features, full_feature_names=full_feature_names
        )
        engine, pushes = self._parts.wiring.engine, self._parts.pushes
        pinned = {
            read.view.name: pin_history(read.view, engine, pushes)
            for read in {r.view.name: r for r in plan.views}.values()
        }
        request = HistoricalRequest(
            reads=plan.views,
            names=plan.names,
            histories=tuple(pinned[read.view.name].history for read in plan.views),
            push_positions=tuple(pinned[read.view.name].push_position for read in plan.views),
            timestamp_field=timestamp_field,
            as_known_at=as_known_at,
        )
        wiring = self._parts.wiring
        return retrieve(request, entity_df, RetrievalPorts(engine, wiring.tables, wiring.records, wiring.clock))

    def label_keys(self, features: Features) -> tuple[Column, ...]:
        """The join keys that a table of labels for these features has, with their types; without those to which two views
        give different types. Raises UnknownFeature."""
        plan = resolve_features(self._parts.registry.catalogue(fresh=True), features, full_feature_names=True)
        found: dict[str, set[DType]] = {}
        for read in plan.views:
            for (_, column), declared in zip(read.keys, read.view.keys, strict=True):
                found.setdefault(column, set()).add(declared.dtype)
        return tuple(Column(name, dtype) for name, types in found.items() if len(types) == 1 for dtype in types)

    def prepare(self, features: Features, *, full_feature_names: bool = False) -> Prepared:
        """Resolves a feature list once: `read = p.prepare(features=...); read(entities={"driver_id": [1001]})`."""
        return Prepared(self._parts, features, full_feature_names)

    def get_online_features(
        self,
        features: Features,
        entity_rows: Sequence[Mapping[str, Any]] | None = None,
        *,
        entities: Mapping[str, Any] | None = None,
        full_feature_names: bool = False,
    ) -> OnlineResult:
        """The features of entities as they are now, each with status, event time and age.

        Give `entity_rows` (a list of dicts) or `entities` (a dict of columns). Raises UnknownFeature,
        SchemaMismatch, InvalidArgument, EngineUnavailable.
        """  # fmt: skip
        return self._prepared_for(features, full_feature_names)(entities, entity_rows=entity_rows)

    def _prepared_for(self, features: Features, full: bool) -> Prepared:
        key = (tuple(features) if isinstance(features, list) else features, full)
        try:
            found = self._prepared.get(key)
        except TypeError:
            return self.prepare(features, full_feature_names=full)
        if found is None:
            found = self.prepare(features, full_feature_names=full)
            with self._prepared_lock:
                if len(self._prepared) >= PREPARED_MAX:
                    self._prepared.clear()
                self._prepared[key] = found
        return found

    def dataset(self, name: str) -> Dataset:
        """A saved dataset with its manifest. Raises UnknownObject."""
        return load_dataset(name, tables=self._parts.wiring.tables, records=self._parts.wiring.records)

    def parity(self, features: Features, entities: Any) -> ParityReport:
        """Compares, now, the online answers with the offline join at label time now as known now, value by value.

        `entities`: a table or dict of columns with the join keys. The views must be materialized up to now; a
        difference then is a skew between training and serving. Zero differences make the report true. Raises
        EngineUnavailable when a value's server could not be asked: it differs from nothing then.
        """
        table = as_table(entities, "entities")
        if LABEL in table.column_names:
            raise InvalidArgument(f"entities has a column {LABEL!r}", hint="parity compares at the platform's own time")
        read = self.prepare(features, full_feature_names=True)
        answer = read({name: table.column(name) for name in table.column_names})
        unread = sum(int(np.count_nonzero(np.asarray(column.statuses) == Status.ERROR)) for column in answer.columns)
        if unread:
            raise EngineUnavailable(f"{unread} online values could not be read, so nothing is compared")
        online = values_table(answer.keys, answer.columns)
        times = pa.array(np.full(table.num_rows, answer.now_us, dtype=np.int64)).cast(TIMESTAMP)
        labels = table.append_column(LABEL, times)
        retrieval = self.get_historical_features(
            labels, features, full_feature_names=True, as_known_at=to_datetime(answer.now_us)
        )
        offline = retrieval.to_arrow()
        keys = [column.name for column in read.plan.keys]
        return compare(online, offline, keys=keys, features=read.plan.names, at_us=answer.now_us)
