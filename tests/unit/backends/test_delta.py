"""Delta tables on a disk: what is synced, what a torn file harms, what is left behind (cases 29, 60)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from stook.backends.delta.tables import COMMITS_PER_CHECKPOINT, DeltaTables, open_tables
from stook.core import dtypes
from stook.core.arrow import arrow_schema
from stook.core.errors import DiskFull, InvalidSettings, SchemaMismatch
from stook.core.settings import parse_url
from stook.core.specs import Column

X = (Column("x", dtypes.Int64),)
WIDE = (*X, Column("y", dtypes.UInt64))


def rows(columns: tuple[Column, ...], *values: int) -> pa.RecordBatchReader:
    return pa.table({c.name: list(values) for c in columns}, schema=arrow_schema(columns)).to_reader()


def inode(path: Path) -> int:
    return path.stat().st_ino


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The inodes of all that was synced so far."""
    found: set[int] = set()
    real = os.fsync

    def spy(descriptor: int) -> None:
        found.add(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    return found


def test_all_that_a_reader_needs_is_synced(tmp_path: Path, synced: set[int]) -> None:
    """The log of pushes is cut once an append returns: the commit that adds a column, and the checkpoint, count too."""
    tables = DeltaTables(tmp_path)
    for number in range(COMMITS_PER_CHECKPOINT + 2):
        tables.append("a/t", X if number < 3 else WIDE, rows(X if number < 3 else WIDE, number))
    table = tmp_path / "a" / "t"
    needed = [p for p in table.rglob("*") if p.suffix in (".json", ".parquet")]
    needed += [table, table / "_delta_log", table.parent, tmp_path, table / "_delta_log" / "_last_checkpoint"]
    assert {p.name for p in needed if inode(p) not in synced} == set()
    assert any("checkpoint.parquet" in p.name for p in needed)
    assert not list(table.glob(".*"))


def test_checkpoints_change_nothing_but_the_way(tmp_path: Path) -> None:
    tables = DeltaTables(tmp_path)
    for number in range(COMMITS_PER_CHECKPOINT + 5):
        tables.append("t", X, rows(X, number), position=number + 1)
    newest, early = tables.pin("t"), tables.pin("t", 50)
    assert newest is not None and early is not None
    assert tables.read(newest)["x"].to_pylist() == list(range(COMMITS_PER_CHECKPOINT + 5))
    assert (newest.position, early.position) == (COMMITS_PER_CHECKPOINT + 5, 50)
    assert tables.read(early)["x"].to_pylist() == list(range(50))
    log = tmp_path / "t" / "_delta_log"
    for summary in [*log.glob("*.checkpoint.parquet"), log / "_last_checkpoint"]:
        summary.unlink()
    assert tables.pin("t") == newest


def test_other_readers_of_delta_read_it(tmp_path: Path) -> None:
    tables = DeltaTables(tmp_path)
    tables.append("t", X, rows(X, 1), metadata={"why": "test"})
    tables.append("t", WIDE, rows(WIDE, 2))
    table = DeltaTable(tmp_path / "t")
    assert sorted(f.name for f in table.schema().fields) == ["x", "y"]
    assert table.count() == 2
    assert table.metadata().configuration["delta.appendOnly"] == "true"
    assert table.metadata().configuration["delta.enableExpiredLogCleanup"] == "false"
    assert any(commit.get("why") == "test" for commit in table.history())


def test_many_small_batches_make_few_row_groups(tmp_path: Path) -> None:
    """A fold of one-row pushes once made a row group of 2 kB of each."""
    one = pa.table({"x": [7]}, schema=arrow_schema(X))
    snapshot = DeltaTables(tmp_path).append("t", X, pa.concat_tables([one] * 5_000).to_reader())
    assert [pq.ParquetFile(file).num_row_groups for file in snapshot.files] == [1]
    assert DeltaTables(tmp_path).read(snapshot).num_rows == 5_000


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("the source is gone")])
def test_a_failed_append_leaves_no_file(tmp_path: Path, error: Exception) -> None:
    def failing() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch([list(range(200_000))], schema=arrow_schema(X))
        raise error

    tables = DeltaTables(tmp_path)
    tables.append("t", X, rows(X, 1))
    before = sorted(p for p in tmp_path.rglob("*"))
    with pytest.raises(DiskFull if isinstance(error, OSError) else ValueError):
        tables.append("t", X, pa.RecordBatchReader.from_batches(arrow_schema(X), failing()))
    text = (Column("x", dtypes.String),)
    with pytest.raises(SchemaMismatch):
        tables.append("t", text, pa.table({"x": ["a"]}).to_reader())
    assert sorted(p for p in tmp_path.rglob("*")) == before


def test_what_a_killed_drop_or_create_left_is_no_table(tmp_path: Path) -> None:
    tables = DeltaTables(tmp_path)
    tables.append("a/t", X, rows(X, 1))
    (tmp_path / "a" / "t").rename(tmp_path / "a" / ".dropped-1")
    (tmp_path / "a" / "u" / "_delta_log").mkdir(parents=True)
    assert tables.names() == []
    assert tables.pin("a/u") is None
    tables.append("a/u", X, rows(X, 2))
    assert tables.names() == ["a/u"]


@pytest.mark.parametrize("folder", ["a b", "k=v", "[g]*", "p+q", "a&b;c", "ü#?"])
def test_folders_of_any_name(tmp_path: Path, folder: str) -> None:
    tables = DeltaTables(tmp_path / folder)
    tables.append("x/t", X, rows(X, 1))
    snapshot = tables.append("x/t", X, rows(X, 2))
    assert tables.read(snapshot).to_pydict() == {"x": [1, 2]}
    assert all(Path(file).is_file() for file in snapshot.files)


def test_a_folder_that_deltalake_would_mistake_is_refused(tmp_path: Path) -> None:
    """deltalake takes `c%41` for `cA`, which may be somebody else's."""
    with pytest.raises(InvalidSettings, match="without '%'"):
        open_tables(parse_url("delta:///c%41", tmp_path, "engines.tables"), tmp_path)
    assert not list(tmp_path.iterdir())
