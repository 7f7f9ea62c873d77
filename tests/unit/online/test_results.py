"""The answer object: forms, sharing and exactness, from lists and from arrays alike."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from stook.core.dtypes import Int64, Timestamp
from stook.core.results import OnlineResult
from stook.core.statuses import NO_TIME, OnlineColumn

BIG = 2**53 + 1


def from_lists() -> OnlineResult:
    statuses, times = [0, 2], [1_000_000, NO_TIME]
    columns = [OnlineColumn(name, Int64, [BIG, None], statuses, times) for name in ("a", "b")]
    return OnlineResult([("id", Int64, [1, None])], columns, now_us=3_000_000)


def from_arrays() -> OnlineResult:
    statuses, times = np.array([0, 2], np.uint8), np.array([1_000_000, NO_TIME])
    columns = [OnlineColumn(name, Int64, pa.array([BIG, None]), statuses, times) for name in ("a", "b")]
    return OnlineResult([("id", Int64, pa.array([1, None]))], columns, now_us=3_000_000)


@pytest.mark.parametrize("result", [from_lists(), from_arrays()], ids=["lists", "arrays"])
def test_every_form_is_exact(result: OnlineResult) -> None:
    assert len(result) == 2 and result.feature_names == ["a", "b"]
    assert result.to_dict() == {"id": [1, None], "a": [BIG, None], "b": [BIG, None]}
    assert result.statuses == {"a": ["PRESENT", "NOT_FOUND"], "b": ["PRESENT", "NOT_FOUND"]}
    assert result.ages == {"a": [2.0, None], "b": [2.0, None]}
    assert [t and t.isoformat() for t in result.event_timestamps["b"]] == ["1970-01-01T00:00:01+00:00", None]
    assert isinstance(result.statuses["a"][0], str) and isinstance(result.ages["a"][0], float)
    table = result.to_arrow()
    assert table["a"].to_pylist() == [BIG, None] and table["b__status"].to_pylist() == ["PRESENT", "NOT_FOUND"]
    assert table["a__event_timestamp"].null_count == 1
    frame = result.to_df()
    assert isinstance(frame, pd.DataFrame) and frame["a"].dtype == pd.Int64Dtype() and frame["a"][0] == BIG
    polars = result.to_polars()
    assert isinstance(polars, pl.DataFrame) and polars["a"].to_list() == [BIG, None]


def test_features_that_share_their_statuses_do_not_share_the_lists_answered() -> None:
    answer = from_lists().statuses
    answer["a"][0] = "changed"
    assert answer["b"][0] == "PRESENT"


def test_empty_answers_keep_their_types() -> None:
    result = OnlineResult([("id", Int64, [])], [OnlineColumn("t", Timestamp, [], [], [])], now_us=0)
    table = result.to_arrow()
    assert table.schema.field("t").type == pa.timestamp("us", "UTC") and table.num_rows == 0
    assert result.ages == {"t": []}
