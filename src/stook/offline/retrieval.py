"""A point-in-time join, run once when first asked for, and its ways out.

It is a file of its own because it is what users hold after `get_historical_features`. The app makes it; training
takes it. It must never run the join twice, nor change a row of what came in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from stook.core.definitions import FileSource, PushSource, SqlSource
from stook.core.errors import Conflict
from stook.core.instants import to_rfc3339
from stook.core.plans import SourceFile, SourceSnapshot
from stook.core.ports.clock import Clock
from stook.core.ports.engine import Engine
from stook.core.ports.records import Records
from stook.core.ports.tables import Tables
from stook.core.results_arrow import to_pandas, to_polars
from stook.core.specs import ViewSpec
from stook.offline.datasets import save_dataset
from stook.offline.labels import HistoricalRequest, Prepared, prepare
from stook.offline.manifest import Manifest, ReadView, plan_hash, reads_of

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


@dataclass(frozen=True)
class RetrievalPorts:
    """The doors that a retrieval goes through."""

    engine: Engine
    tables: Tables
    records: Records
    clock: Clock


class Retrieval:
    """The answer to `get_historical_features`: one row per label row, in its order, its own columns first."""

    def __init__(self, request: HistoricalRequest, prepared: Prepared, ports: RetrievalPorts) -> None:
        self._request = request
        self._prepared = prepared
        self._ports = ports

    @cached_property
    def _table(self) -> pa.Table:
        prepared = self._prepared
        joined = self._ports.engine.point_in_time(prepared.plan, prepared.labels)
        assert joined.num_rows == prepared.own.num_rows, "the engine lost or made rows"
        table = prepared.own
        for name, column in prepared.outputs:
            table = table.append_column(name, joined.column(column))
        return table

    @property
    def keys(self) -> tuple[str, ...]:
        """The join-key columns."""
        return tuple(dict.fromkeys(column for read in self._request.reads for _, column in read.keys))

    @property
    def label_times(self) -> tuple[str, ...]:
        """The label-time columns: the label time, and the knowledge limit where it is another column."""
        return self._prepared.label_times

    @property
    def rounded_label_times(self) -> int:
        """How many label times had digits below a microsecond, which were rounded down."""
        return self._prepared.rounded

    def provenance(self) -> Mapping[str, Any]:
        """What a training run records of data that was not saved: the question and what was read."""
        reads = [read.to_spec() for read in reads_of(self._request)]
        return {"plan_hash": plan_hash(self._request, self._prepared), "reads": reads}

    def to_arrow(self) -> pa.Table:
        """The rows as an Arrow table. Raises SourceUnreadable, SchemaMismatch when the join runs."""
        return self._table

    def to_df(self) -> pd.DataFrame:
        """The rows as a pandas DataFrame; integers with nulls stay exact."""
        return to_pandas(self._table)

    def to_polars(self) -> pl.DataFrame:
        """The rows as a Polars DataFrame."""
        return to_polars(self._table)

    def save(self, name: str) -> Manifest:
        """Saves the rows as dataset `name`, with a manifest of what was read; returns the manifest.

        Data first, manifest last: killed in between, the name still means what it meant. Raises Conflict when a
        source file changed since it was pinned, or somebody saves under the name now; DiskFull.
        """
        table = self._table
        known = self._prepared.plan.known_by_us
        limit = to_rfc3339(known) if known is not None else None
        if self._prepared.plan.known_by_column:
            limit = str(self._request.as_known_at)
        draft = Manifest(
            dataset=name,
            table="",
            table_commit=0,
            rows=0,
            columns=(),
            digests={},
            plan_hash=plan_hash(self._request, self._prepared),
            reads=self._digested(),
            keys=self.keys,
            label_times=self.label_times,
            as_known_at=limit,
            created_us=self._ports.clock.now_us(),
        )
        return save_dataset(draft, table, tables=self._ports.tables, records=self._ports.records)

    def _digested(self) -> tuple[ReadView, ...]:
        """What was read, with the digest of every source file."""
        views = {read.view.name: read.view for read in self._request.reads}
        return tuple(
            read if read.source is None else replace(read, source=self._digest(views[read.view], read.source))
            for read in reads_of(self._request)
        )

    def _digest(self, view: ViewSpec, pinned: SourceSnapshot) -> SourceSnapshot:
        source = view.source.batch_source if isinstance(view.source, PushSource) else view.source
        assert isinstance(source, FileSource | SqlSource)
        now = self._ports.engine.pin(source, previous=pinned, digests=True)
        if [_identity(f) for f in now.files] != [_identity(f) for f in pinned.files]:
            raise Conflict(
                f"the source of feature view {view.name!r} changed while the dataset was made", hint="make it again"
            )
        return now


def _identity(file: SourceFile) -> tuple[str, int, int]:
    return file.path, file.size_bytes, file.mtime_ns


def retrieve(request: HistoricalRequest, entity_df: Any, ports: RetrievalPorts) -> Retrieval:
    """A retrieval of the request's features for the rows of `entity_df`; checked now, joined when asked for.

    Raises SchemaMismatch, InvalidArgument.
    """
    return Retrieval(request, prepare(request, entity_df), ports)
