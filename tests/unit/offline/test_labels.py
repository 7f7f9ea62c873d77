"""Label tables: every row kept, keys typed exactly, times rounded down (cases 10, 11, 14, 15, 16)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from stook import Int64, PushSource, String
from stook.core.errors import InvalidArgument, SchemaMismatch
from stook.core.plans import KNOWN_US, LABEL_US, History, ViewRead
from stook.core.specs import Column, Schema, ViewSpec
from stook.offline.digests import column_digest
from stook.offline.labels import HistoricalRequest, prepare

VIEW = ViewSpec("v", "u", ("e",), (Column("id", Int64),), (Schema(1, (Column("x", String),)),), PushSource("p"), 5)


def request(as_known_at: Any = None, *, keys: tuple[tuple[str, str], ...] = (("id", "id"),)) -> HistoricalRequest:
    read = ViewRead(VIEW, keys, (("x", "x"),))
    return HistoricalRequest((read,), ("x",), (History(VIEW, None),), (0,), "t", as_known_at)


T = [datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)]


def test_labels_are_numbered_typed_and_kept() -> None:
    own = pa.table({"note": ["b", "a"], "id": pa.array([2, None], pa.int8()), "t": T})
    prepared = prepare(request(), own)
    assert prepared.own is own
    assert prepared.labels["k0_0"].type == pa.int64() and prepared.labels["k0_0"].to_pylist() == [2, None]
    assert prepared.outputs == (("x", "f0_0"),) and prepared.plan.joins[0].ttl_us == 5


def test_label_times_round_down_and_may_be_null() -> None:
    own = pa.table({"id": [1, 1], "t": pa.array([1_999, None], pa.timestamp("ns"))})
    prepared = prepare(request(), own)
    assert (prepared.labels[LABEL_US].to_pylist(), prepared.rounded) == ([1, None], 1)


def test_as_known_at_is_a_time_or_a_column() -> None:
    own = pa.table({"id": [1, 1], "t": T, "seen": T})
    assert prepare(request("2024-01-01"), own).plan.known_by_us == 1_704_067_200_000_000
    by_column = prepare(request("seen"), own)
    assert by_column.plan.known_by_column and KNOWN_US in by_column.labels.column_names
    assert by_column.label_times == ("t", "seen")
    with pytest.raises(InvalidArgument, match="neither a time nor a column"):
        prepare(request("sen"), own)


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({"id": [1], "x": [1], "t": T[:1]}, "full_feature_names=True"),
        ({"id": ["1"], "t": T[:1]}, "is keyed by int64"),
        ({"id": [1.5], "t": T[:1]}, "is keyed by int64"),
        ({"id": [9007199254740993.0], "t": T[:1]}, "give such keys as integers"),
        ({"ids": [1], "t": T[:1]}, "did you mean 'ids'"),
        ({"id": [1], "T": T[:1]}, "no column 't'"),
        ({"id": [1], "t": [5]}, "not timestamps"),
    ],
)
def test_wrong_labels_are_refused(own: dict[str, Any], says: str) -> None:
    with pytest.raises((SchemaMismatch, InvalidArgument)) as caught:
        prepare(request(), pa.table(own))
    assert says in str(caught.value)


def test_keys_may_be_renamed() -> None:
    prepared = prepare(request(keys=(("id", "home"),)), pa.table({"home": [1], "t": T[:1]}))
    assert prepared.plan.joins[0].keys == (("id", "k0_0"),)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (pa.chunked_array([[1, None]]), pa.chunked_array([[1], [None]], pa.int64()), True),
        (pa.chunked_array([pa.array([0, 1, None])[1:]]), pa.chunked_array([[1, None]]), True),
        (pa.chunked_array([[0, None]]), pa.chunked_array([[None, 0]]), False),
        (pa.chunked_array([["", None]]), pa.chunked_array([[None, ""]]), False),
        (pa.chunked_array([["ab", "c"]]), pa.chunked_array([["a", "bc"]]), False),
        (pa.chunked_array([[[1], []]]), pa.chunked_array([[[], [1]]]), False),
        (pa.chunked_array([[0.0]]), pa.chunked_array([[-0.0]]), False),
        (pa.chunked_array([[1]], pa.int32()), pa.chunked_array([[1]], pa.int64()), False),
        (pa.chunked_array([[True, None]]), pa.chunked_array([[True, False]]), False),
        (pa.chunked_array([[{"a": 1}, None]]), pa.chunked_array([[{"a": 1}, {"a": None}]]), False),
    ],
)
def test_digests_tell_content_not_layout(one: pa.ChunkedArray, other: pa.ChunkedArray, same: bool) -> None:
    assert (column_digest(one) == column_digest(other)) is same
