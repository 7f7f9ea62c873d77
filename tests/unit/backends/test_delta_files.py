"""The files of Delta tables where an append fails half way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from stook.backends.delta.tables import open_tables
from stook.core.arrow import arrow_schema
from stook.core.dtypes import Int64
from stook.core.settings import parse_url
from stook.core.specs import Column

COLUMNS = (Column("n", Int64),)


def test_an_append_that_fails_leaves_no_files(tmp_path: Path) -> None:
    """On a full disk, files that no commit names would take the very space that is missing, one set each attempt."""
    schema = arrow_schema(COLUMNS)

    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch([range(1_000)], schema=schema)
        raise OSError(28, "No space left on device")

    tables = open_tables(parse_url("delta:///tables", tmp_path, "engines.tables"), tmp_path)
    with pytest.raises(Exception, match="space"):
        tables.append("t", COLUMNS, pa.RecordBatchReader.from_batches(schema, batches()))
    assert list((tmp_path / "tables" / "t").glob("*.parquet")) == []
    snapshot = tables.append("t", COLUMNS, pa.table({"n": [1]}, schema=schema).to_reader())
    assert tables.read(snapshot).column("n").to_pylist() == [1]
