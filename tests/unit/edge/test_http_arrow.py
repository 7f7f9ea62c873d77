"""Arrow bodies: what is right is read as it is, what would unpack to too much is refused before it does."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from stook.core.errors import SchemaMismatch, TooLarge
from stook.edge.http.arrowbody import INFLATED_FACTOR, read_arrow

LIMIT = 1 << 20
ROWS_MAX = 1_000


def stream(table: pa.Table, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def read(body: bytes) -> pa.Table:
    return read_arrow(body, LIMIT, ROWS_MAX)


@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
def test_right_bodies_of_all_kinds(compression: str | None) -> None:
    table = pa.table(
        {
            "number": pa.array([1, None], pa.int8()),
            "text": ["à", None],
            "money": [Decimal("1.5"), None],
            "nested": pa.array([[{"a": [1]}], None]),
            "pairs": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
            "vector": pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)),
            "coded": pa.array(["x", None]).dictionary_encode(),
            "nothing": pa.nulls(2),
            "flag": [True, None],
        }
    )
    assert read(stream(table, compression)).equals(table)
    assert read(stream(table.slice(0, 0), compression)).schema == table.schema
    assert read(stream(table.select([]), compression)).num_columns == 0


def bombs() -> dict[str, tuple[pa.Table, str | None]]:
    one = pa.array([1])
    mebi = "x" * LIMIT
    return {
        "rows": (pa.table({"a": pa.nulls(ROWS_MAX + 1, pa.int8())}), "zstd"),
        "rows of no column": (pa.table({"a": pa.nulls(ROWS_MAX + 1)}), None),
        "text": (pa.table({"a": ["x" * (LIMIT * INFLATED_FACTOR)], "b": one}), "zstd"),
        "a dictionary": (pa.table({"a": pa.DictionaryArray.from_arrays([0] * 20, [mebi])}), "zstd"),
        "a dictionary of bytes": (pa.table({"a": pa.DictionaryArray.from_arrays([0] * 20, [mebi.encode()])}), "zstd"),
        "a dictionary of lists": (pa.table({"a": pa.DictionaryArray.from_arrays([0] * 20, pa.array([list(range(LIMIT // 8))]))}), "zstd"),
    }  # fmt: skip


@pytest.mark.parametrize("name", bombs())
def test_what_unpacks_to_too_much_is_refused(name: str) -> None:
    body = stream(*bombs()[name])
    assert len(body) < LIMIT
    with pytest.raises(TooLarge):
        read(body)


def test_a_compressed_bomb_is_refused_before_it_is_unpacked() -> None:
    body = stream(pa.table({"a": ["x" * (512 << 20)]}), "zstd")
    assert len(body) < LIMIT
    pa.default_memory_pool().release_unused()
    before = pa.default_memory_pool().bytes_allocated()
    with pytest.raises(TooLarge):
        read(body)
    assert pa.default_memory_pool().bytes_allocated() - before < LIMIT


@pytest.mark.parametrize("claim", [1 << 46, (1 << 63) - 1, -2, -(1 << 63)])
def test_a_buffer_that_lies_about_its_size_is_refused(claim: int) -> None:
    body = stream(pa.table({"a": pa.nulls(1_000, pa.int64()).fill_null(7)}), "zstd")
    true = (8_000).to_bytes(8, "little")
    assert body.count(true) == 1
    with pytest.raises((TooLarge, SchemaMismatch)):
        read(body.replace(true, claim.to_bytes(8, "little", signed=True)))


@pytest.mark.parametrize(
    "values",
    [
        pa.array([["x"]]).cast(pa.list_(pa.dictionary(pa.int32(), pa.string()))),
        pa.array(["x"], pa.string_view()),
        pa.RunEndEncodedArray.from_arrays(pa.array([1], pa.int32()), pa.array(["x"])),
        pa.array([[1]], pa.list_view(pa.int64())),
    ],
    ids=lambda values: str(values.type),
)
def test_types_whose_rows_share_values_are_refused_by_name(values: Any) -> None:
    with pytest.raises(SchemaMismatch, match="column 'a' is"):
        read(stream(pa.table({"a": values})))


@pytest.mark.parametrize("body", [b"", b"no arrow", b"\xff\xff\xff\xff\x08\x00\x00\x00" + bytes(8), b"\xff" * 100])
def test_what_is_no_stream_is_refused(body: bytes) -> None:
    with pytest.raises(SchemaMismatch, match="not an Arrow stream"):
        read(body)
