"""The door to the offline engine: what reads sources and runs plans.

It is a port so that DuckDB on a laptop and Spark on a cluster answer alike; it stands beside `Tables` (which
stores) because one engine reads many stores. Offline and ingest call it. It must never write to a store of ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from stook.core.definitions import FileSource, SqlSource
from stook.core.plans import Counts, History, PointInTimePlan, SourceSnapshot, Window
from stook.core.specs import Column

if TYPE_CHECKING:
    import pyarrow as pa


class Engine(Protocol):
    """Runs plans over pinned sources."""

    def describe(self, source: FileSource | SqlSource) -> tuple[Column, ...]:
        """The source's columns with their logical types, in order; times as Timestamp.

        Raises SourceUnreadable when it is absent, empty of files, malformed, or its query fails; columns whose
        type has no logical counterpart are left out.
        """
        ...

    def pin(
        self, source: FileSource | SqlSource, *, previous: SourceSnapshot | None = None, digests: bool = False
    ) -> SourceSnapshot:
        """The source as it is now, its files numbered after `previous` (see `SourceFile.ordinal`).

        With `digests`, every file's content is digested (reused from `previous` where size and modification time
        are the same). A file whose digest is unchanged counts as unchanged. Raises SourceUnreadable.
        """
        ...

    def point_in_time(self, plan: PointInTimePlan, labels: pa.Table) -> pa.Table:
        """The outputs of every join, one row per label row, in the order of `ROW`; logical Arrow types.

        Raises SourceUnreadable when a pinned file is gone or has changed shape, SchemaMismatch when a column is
        missing or its values do not fit the declared type exactly.
        """
        ...

    def newest(
        self, history: History, window: Window, *, after: Sequence[object] | None = None, batch_rows: int = 100_000
    ) -> Iterator[pa.RecordBatch]:
        """Each key's newest qualifying row, once, in batches sorted by key (bytes and text by their bytes, false
        before true, numbers and times by value; key columns in the order of `view.keys`).

        Columns: the keys, the features of the current schema, the four order columns. Keys with a null are left
        out, rows with a null event time too. `after` continues behind that key. Memory is bounded by the engine's
        limit, not by the data. Raises as `point_in_time`.
        """
        ...

    def counts(self, history: History, window: Window) -> Counts:
        """What the window reads, counted, for progress and watermarks."""
        ...

    def close(self) -> None:
        """Releases what is held. Idempotent."""
        ...
