"""Plans: what to read, decided before anything is read.

They are a file of their own because the rooms that decide (registry, offline, ingest) and the engines that obey
must share one definition of the point-in-time rule and of a materialization window. Registry and offline build
them; engines in `backends` and the online read path carry them out. They must never open a file or a store.

The point-in-time rule, for one label row and one view: among the view's rows with equal join keys and
`event time <= label time` (and, where a knowledge limit is set, `knowledge time <= limit`), the one with the
largest (event time, knowledge time, arrival) is the candidate. It counts when it is no tombstone and, with a
ttl, `label time - event time <= ttl`; otherwise every feature of the view is null.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stook.core.specs import Column, ViewSpec

if TYPE_CHECKING:
    import pyarrow as pa

ROW: Final = "__row"
LABEL_US: Final = "__label_us"
KNOWN_US: Final = "__known_us"


@dataclass(frozen=True)
class SourceFile:
    """One file of a source, as it was when pinned.

    `ordinal` numbers files by path (in Delta by adding commit); a file that changed, and every file after it,
    gets a larger one than it ever had, so that arrivals already stored lose against its new rows. `digest` is a
    hexadecimal BLAKE2b-128 of the content, or None where nobody asked for it. `path` is absolute.
    """

    path: str
    size_bytes: int
    mtime_ns: int
    ordinal: int
    digest: str | None = None

    def to_spec(self) -> list[Any]:
        """JSON form."""
        return [self.path, self.size_bytes, self.mtime_ns, self.ordinal, self.digest]


@dataclass(frozen=True)
class SourceSnapshot:
    """A batch source, pinned: exactly these files, or this query.

    `kind` is "parquet", "csv", "delta" or "sql". `delta_version` is the Delta commit that was read.
    """

    kind: str
    timestamp_field: str
    created_timestamp_column: str | None
    files: tuple[SourceFile, ...] = ()
    query: str | None = None
    delta_version: int | None = None

    def to_spec(self) -> dict[str, Any]:
        """JSON form, for watermarks and manifests."""
        return {
            "kind": self.kind,
            "timestamp_field": self.timestamp_field,
            "created_timestamp_column": self.created_timestamp_column,
            "files": [f.to_spec() for f in self.files],
            "query": self.query,
            "delta_version": self.delta_version,
        }

    @staticmethod
    def from_spec(spec: dict[str, Any]) -> SourceSnapshot:
        """The inverse of `to_spec`."""
        return SourceSnapshot(**{**spec, "files": tuple(SourceFile(*f) for f in spec["files"])})


@dataclass(frozen=True)
class TableSnapshot:
    """A table of ours, pinned at a commit.

    `columns` are its logical columns; `files` absolute paths of its Parquet files, none where the store keeps rows
    otherwise: then only the `Tables` port reads them; `position` the log position through which its rows were folded
    in (0: none).
    """

    name: str
    commit: int
    files: tuple[str, ...]
    columns: tuple[Column, ...]
    position: int = 0


@dataclass(frozen=True)
class History:
    """All that is known of one view's past: its batch source, its folded pushes, and the log's tail.

    `pushed` and `tail` hold the view's key and feature columns (features of older schemas may be absent: null)
    and the four order columns of `core.rows`.
    """

    view: ViewSpec
    source: SourceSnapshot | None
    pushed: TableSnapshot | None = None
    tail: pa.Table | None = None


@dataclass(frozen=True)
class ViewJoin:
    """One view's part of a point-in-time plan.

    `keys` maps each key column of the view, in the order of `view.keys`, to a column of the label table that
    already has the key's type. `outputs` maps features to the column names they are given in the result.
    """

    history: History
    keys: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    ttl_us: int | None


@dataclass(frozen=True)
class PointInTimePlan:
    """Joins against one label table, which has `ROW` (0, 1, 2 ...), `LABEL_US` (may be null: nothing matches),
    `KNOWN_US` when `known_by_column`, and the joins' key columns.

    `known_by_us`: only rows known by then count. `known_by_column`: each label has its own limit. Neither: the
    newest knowledge counts.
    """

    joins: tuple[ViewJoin, ...]
    known_by_us: int | None = None
    known_by_column: bool = False


@dataclass(frozen=True)
class Late:
    """What an incremental run reads whatever its event time: rows of these files, rows known after this, pushes
    that arrived after this."""

    ordinals: frozenset[int] = frozenset()
    knowledge_after_us: int | None = None
    arrival_after: int | None = None


@dataclass(frozen=True)
class Window:
    """Which rows a materialization reads.

    A row qualifies when `event time <= end_us`, `knowledge time <= known_by_us`, and either
    `event time >= start_us` (None: no bound; a bound is inclusive unless `start_exclusive`) or it is late.
    """

    start_us: int | None
    end_us: int
    known_by_us: int
    start_exclusive: bool = False
    late: Late | None = None


class Counts(NamedTuple):
    """What a window reads: rows that qualify, distinct keys among them at most (perhaps estimated), the largest created
    time seen by `known_by_us`, and how many of the rows had times whose digits below a microsecond were rounded up."""

    rows: int
    keys: int
    knowledge_us: int | None
    rounded: int


@dataclass(frozen=True)
class ViewRead:
    """One view's part of an online read.

    `keys` maps each key column of the view, in the order of `view.keys`, to the request's column. `outputs` maps
    features to the names they are answered under.
    """

    view: ViewSpec
    keys: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ReadPlan:
    """A resolved feature list: what `get_online_features` reads, at one registry revision.

    `keys` are the request's key columns, each with its type; `names` the answered features in the order asked.
    """

    views: tuple[ViewRead, ...]
    keys: tuple[Column, ...]
    names: tuple[str, ...]
    revision: int
