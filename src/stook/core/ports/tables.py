"""The door to tables that we own: pushed history and saved datasets.

It is a port so that Delta tables on a disk or on object storage serve alike. Ingest folds pushes into it, offline
saves datasets. It must never run a query: that is the `Engine` port's part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from stook.core.plans import TableSnapshot
from stook.core.specs import Column

if TYPE_CHECKING:
    import pyarrow as pa


class Tables(Protocol):
    """Transactional, append-only tables by name (slash-separated segments), with every commit readable for ever."""

    def append(
        self,
        name: str,
        columns: Sequence[Column],
        batches: pa.RecordBatchReader,
        *,
        position: int = 0,
        metadata: dict[str, Any] | None = None,
    ) -> TableSnapshot:
        """Appends rows in one commit, creating the table at need; durable (files and folders fsynced) on return.

        `columns` gives the logical types; columns new to the table are added (null in older rows), columns left
        out are null. With `position` > 0 the append is skipped when the table already holds that position or a
        larger one, so that a retry is harmless. Raises SchemaMismatch, Conflict, DiskFull, EngineUnavailable.
        """  # fmt: skip
        ...

    def pin(self, name: str, commit: int | None = None) -> TableSnapshot | None:
        """The table at a commit (None: the newest); None when there is no such table or commit."""
        ...

    def read(self, snapshot: TableSnapshot) -> pa.Table:
        """All rows, with their logical Arrow types, in the order they were appended."""
        ...

    def names(self, prefix: str = "") -> list[str]:
        """The tables whose name starts with `prefix`, in order."""
        ...

    def drop(self, name: str) -> None:
        """Deletes the table and its files. Idempotent."""
        ...
