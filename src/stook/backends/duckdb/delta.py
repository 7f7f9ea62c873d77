"""Delta tables of the user's, read as the files that one commit holds.

It is a file of its own because `deltalake` is needed here alone: DuckDB's own Delta extension would have to be
downloaded. Pinning, describing and scanning a Delta source call it. It must never read a row, and refuses tables
whose files do not hold their rows as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from stook.core.errors import SourceUnreadable, first_line

_NANOS_PER_MILLI: Final = 1_000_000
_PARTITION: Final = "partition."


@dataclass(frozen=True)
class DeltaFile:
    """A file of a commit: `partitions` holds the values of the partition columns, which the file leaves out."""

    path: str
    size_bytes: int
    mtime_ns: int
    partitions: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class DeltaCommit:
    """A table at a commit, its files in the order in which they were added (modification time, then path)."""

    number: int
    schema: pa.Schema
    files: tuple[DeltaFile, ...]


def is_delta(path: str) -> bool:
    """Whether a folder holds a Delta log."""
    return (Path(path) / "_delta_log").is_dir()


def read_commit(path: str, number: int | None = None) -> DeltaCommit:
    """The table's commit of that number (None: the newest). Raises SourceUnreadable."""
    try:
        table = DeltaTable(path, version=number)
        _refuse_rewritten(table, path)
        actions = pa.table(table.get_add_actions(flatten=True))
        schema = pa.schema(table.schema().to_arrow())
    except (DeltaError, OSError) as error:
        why = first_line(error)
        raise SourceUnreadable(f"{path} is not a readable Delta table: {why}", hint="is the path right?") from None
    partitions = [name for name in actions.column_names if name.startswith(_PARTITION)]
    files = []
    for row in actions.select(["path", "size_bytes", "modification_time", *partitions]).to_pylist():
        values = tuple((n.removeprefix(_PARTITION), None if row[n] is None else str(row[n])) for n in partitions)
        inner = unquote(row["path"]).removeprefix("file://")
        where = str(Path(path, inner))  # an absolute path stays as it is
        files.append(DeltaFile(where, row["size_bytes"], row["modification_time"] * _NANOS_PER_MILLI, values))
    ordered = sorted(files, key=lambda f: (f.mtime_ns, f.path))
    return DeltaCommit(table.version(), schema, tuple(ordered))


def _refuse_rewritten(table: DeltaTable, path: str) -> None:
    features = set(table.protocol().reader_features or ())
    mapping = table.metadata().configuration.get("delta.columnMapping.mode", "none")
    if "deletionVectors" in features and pa.table(table.deletion_vectors()).num_rows:
        raise SourceUnreadable(f"{path} has deletion vectors, which are not read", hint="run OPTIMIZE or REORG on it")
    if mapping != "none":
        raise SourceUnreadable(f"{path} maps its columns by {mapping}, which is not read", hint="rewrite the table")
