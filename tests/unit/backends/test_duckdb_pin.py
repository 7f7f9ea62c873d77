"""What kind of source a path names."""

from __future__ import annotations

from pathlib import Path

from stook.backends.duckdb.pin import locate
from stook.core.definitions import FileSource


def test_a_folder_without_a_delta_log_is_one_of_parquet_files(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "delta/_delta_log").mkdir(parents=True)
    assert locate(FileSource("plain"), tmp_path).kind == "parquet"
    assert locate(FileSource("delta"), tmp_path).kind == "delta"
    assert locate(FileSource("plain", format="csv"), tmp_path).kind == "csv"
