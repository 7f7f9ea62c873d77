"""The write path: what a batch must look like, and what is left out or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stook.core import dtypes
from stook.core.definitions import PushSource
from stook.core.errors import SchemaMismatch
from stook.core.rows import ARRIVAL, DELETED, EVENT_US, KNOWLEDGE_US, Header, newer, pack_header, unpack_header
from stook.core.specs import Column, Schema, ViewSpec
from stook.online import write
from stook.online.write import encode_keys, encode_rows

FEATURES = (Column("trips", dtypes.Int64), Column("at", dtypes.Timestamp), Column("city", dtypes.String))
VIEW = ViewSpec("v", "u", ("e",), (Column("id", dtypes.Int64),), (Schema(7, FEATURES),), PushSource("p"), None)


def table(**changes: Any) -> pa.Table:
    columns = {
        "id": pa.array([1, None, 3]),
        "trips": pa.array([10, 20, 30]),
        "at": pa.array([0, None, 1], pa.timestamp("us", "UTC")),
        "city": pa.array(["a", "b", None]),
        EVENT_US: pa.array([-5, 0, 5]),
        KNOWLEDGE_US: pa.array([1, 1, 1]),
        ARRIVAL: pa.array([1 << 62, 2, 3]),
        DELETED: pa.array([False, False, True]),
        **changes,
    }
    return pa.table({name: column for name, column in columns.items() if column is not None})


def test_null_keys_are_counted_and_tombstones_are_headers() -> None:
    encoded = encode_rows(VIEW, table())
    assert encoded.null_keys == 1
    first, last = (value for _, value in encoded.rows)
    assert unpack_header(first) == Header(-5, 1, 1 << 62, 7, 0, 0)
    assert last == pack_header(Header(5, 1, 3, 7, 1, 0))
    assert newer(last, first) and not newer(first, last)


def test_features_left_out_are_null_and_batches_serve_too() -> None:
    less = table(trips=None, at=None, city=None)
    assert (
        encode_rows(VIEW, less).rows
        == encode_rows(VIEW, table(trips=pa.nulls(3), at=pa.nulls(3), city=pa.nulls(3))).rows
    )
    assert encode_rows(VIEW, table().to_batches()[0]) == encode_rows(VIEW, table())


def test_no_rows_are_no_rows() -> None:
    assert encode_rows(VIEW, table().slice(0, 0)) == ([], 0)


def test_large_batches_are_encoded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encode_rows(VIEW, table())
    monkeypatch.setattr(write, "_PART_BYTES_MAX", 1)
    assert encode_rows(VIEW, table()) == whole


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"id": None}, "no column 'id'"),
        ({EVENT_US: None}, "no column '__event_us'"),
        ({"trip": pa.array([1, 2, 3])}, "unknown column 'trip'.*did you mean 'trips'"),
        ({"trips": pa.array(["1", "2", "3"])}, "'trips' holds string"),
        ({"id": pa.array([1.5, 2.0, 3.0])}, "'id' holds double"),
        ({EVENT_US: pa.array([1, None, 2])}, "'__event_us' is int64 with 1 nulls"),
        ({DELETED: pa.array([0, 0, 1])}, "'__deleted' is int64"),
        ({"at": pa.array([0, 1, 300_000_000_000_000_000], pa.timestamp("us", "UTC"))}, "outside the years 1 to 9999"),
    ],
)  # fmt: skip
def test_wrong_batches_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SchemaMismatch, match=says):
        encode_rows(VIEW, table(**changes))


@pytest.mark.parametrize("dtype", [dtypes.Timestamp, dtypes.Date], ids=str)
def test_nested_times_outside_the_calendar_are_refused(dtype: dtypes.DType) -> None:
    view = ViewSpec("v", "u", (), VIEW.keys, (Schema(1, (Column("x", dtypes.Array(dtype)),)),), PushSource("p"), None)
    raw = pa.array([[300_000_000_000_000_000 if dtype == dtypes.Timestamp else 9_000_000]])
    wide = pa.int64() if dtype == dtypes.Timestamp else pa.int32()
    arrow = pa.timestamp("us", "UTC") if dtype == dtypes.Timestamp else pa.date32()
    values = pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), raw.values.cast(wide).view(arrow))
    with pytest.raises(SchemaMismatch, match="feature 'x'"):
        encode_rows(
            view, pa.table({"id": [1], "x": values, EVENT_US: [0], KNOWLEDGE_US: [0], ARRIVAL: [0], DELETED: [False]})
        )


def test_what_lies_under_a_null_is_not_stored() -> None:
    """Arrow leaves any bytes under a null; stored they would make equal rows differ from run to run."""
    columns = (Column("d", dtypes.Decimal(9, 2)), Column("v", dtypes.Vector(dtypes.Int8, 2)), Column("i", dtypes.Int32))
    view = ViewSpec("v", "u", (), VIEW.keys, (Schema(1, columns),), PushSource("p"), None)
    rest = {EVENT_US: [0], KNOWLEDGE_US: [0], ARRIVAL: [0], DELETED: [False]}
    absent, junk = pa.py_buffer(b"\0"), pa.py_buffer(b"\x7f" * 16)
    dirty = {
        "d": pa.Array.from_buffers(pa.decimal128(9, 2), 1, [absent, junk]),
        "v": pa.Array.from_buffers(
            pa.list_(pa.int8(), 2), 1, [absent], children=[pa.Array.from_buffers(pa.int8(), 2, [None, junk])]
        ),
        "i": pa.Array.from_buffers(pa.int32(), 1, [absent, junk]),
    }
    assert encode_rows(view, pa.table({"id": [1], **dirty, **rest})) == encode_rows(view, pa.table({"id": [1], **rest}))


def test_keys_alone_encode_as_with_their_rows() -> None:
    keys = encode_keys(VIEW, pa.table({"id": np.array([1, 3], np.int16)}))
    assert keys.stored == [key for key, _ in encode_rows(VIEW, table()).rows]


def test_sorted_keys_stay_sorted() -> None:
    ids = np.array([-(2**63), -1, 0, 1, 2**63 - 1])
    stored = encode_keys(VIEW, pa.table({"id": ids})).stored
    assert stored == sorted(key for key in stored if key is not None)
