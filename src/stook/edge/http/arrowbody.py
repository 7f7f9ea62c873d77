"""Arrow streams in: the table in a body, with limits on what it unpacks to.

It is a file of its own because an Arrow body weighs little and may unpack to anything: compressed buffers, and
dictionaries whose one long value every row names. `push` calls it. It must never let Arrow allocate what a message
claims before the claim was added up: so it reads the claims itself, from the stream's own metadata (flatbuffers as
in Arrow's `Message.fbs`), which pyarrow does not show.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from stook.core.errors import SchemaMismatch, TooLarge, first_line

INFLATED_FACTOR: Final = 16  # how far an Arrow body may unpack beyond the limit of bodies
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3  # Message.fbs, MessageHeader
_HEADER_TYPE, _HEADER = 1, 2  # fields of Message
_DATA: Final = 1  # a field of DictionaryBatch
_LENGTH, _BUFFERS, _COMPRESSION = 0, 2, 3  # fields of RecordBatch
_MIB: Final = 1 << 20


def read_arrow(body: bytes, limit_bytes: int, rows_max: int) -> pa.Table:
    """The table in an Arrow stream. Raises SchemaMismatch, and TooLarge when it holds more than `rows_max` rows or
    unpacks to more than INFLATED_FACTOR times the limit of bodies."""
    unpacked_max = limit_bytes * INFLATED_FACTOR
    try:
        _check_claims(body, unpacked_max, rows_max)
        with pa.ipc.open_stream(body) as reader:
            _check_types(reader.schema)
            table = pa.Table.from_batches(list(reader), reader.schema)
        table.validate(full=True)
        names = table.column_names  # decoded here: a malformed name is the caller's mistake too
        assert len(names) == table.num_columns
        _check_size(sum(_decoded_bytes(column) for column in table.columns), unpacked_max)
    except (pa.ArrowException, OSError, UnicodeDecodeError, struct.error) as error:
        raise SchemaMismatch(
            f"the body is not an Arrow stream: {first_line(error)}", hint="write it with pyarrow.ipc.new_stream"
        ) from None
    return table


def _check_size(size: int, unpacked_max: int) -> None:
    if size > unpacked_max:
        raise TooLarge(f"the Arrow stream unpacks to over {unpacked_max // _MIB} MiB", hint="push less at a time")


def _check_claims(body: bytes, unpacked_max: int, rows_max: int) -> None:
    rows = size = 0
    for message in pa.ipc.MessageReader.open_stream(body):
        metadata = message.metadata.to_pybytes()
        table = _root(metadata)
        kind_at, header_at = _field(metadata, table, _HEADER_TYPE), _field(metadata, table, _HEADER)
        kind = metadata[kind_at] if kind_at else 0
        if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH) or not header_at:
            continue
        batch = _follow(metadata, header_at)
        if kind == _DICTIONARY_BATCH:
            data_at = _field(metadata, batch, _DATA)
            batch = _follow(metadata, data_at) if data_at else batch
        elif length_at := _field(metadata, batch, _LENGTH):
            rows += _signed(metadata, length_at)
        if rows > rows_max:
            raise TooLarge(
                f"the Arrow stream holds {rows} rows, over {rows_max}",
                hint="push less at a time, or raise serve.push_rows_max in stook.toml",
            )
        size += sum(_claimed_bytes(metadata, batch, message.body))
        _check_size(size, unpacked_max)


def _claimed_bytes(metadata: bytes, batch: int, data: Any) -> Iterator[int]:
    """The bytes of each buffer once unpacked. A compressed one begins with them; -1: it is stored as it is."""
    buffers_at = _field(metadata, batch, _BUFFERS)
    if not buffers_at:
        return
    vector = _follow(metadata, buffers_at)
    (count,) = struct.unpack_from("<I", metadata, vector)
    compressed = _field(metadata, batch, _COMPRESSION)
    for number in range(count):
        offset, length = struct.unpack_from("<qq", metadata, vector + 4 + 16 * number)
        if length <= 0:
            continue
        claim = struct.unpack_from("<q", data, offset)[0] if compressed else -1
        if claim < -1:
            raise pa.ArrowInvalid("a buffer claims less than no bytes")
        yield length if claim == -1 else claim


def _root(metadata: bytes) -> int:
    return int(struct.unpack_from("<I", metadata, 0)[0])


def _follow(metadata: bytes, at: int) -> int:
    return at + int(struct.unpack_from("<I", metadata, at)[0])


def _signed(metadata: bytes, at: int) -> int:
    return max(0, int(struct.unpack_from("<q", metadata, at)[0]))


def _field(metadata: bytes, table: int, number: int) -> int:
    """Where a table's field is; 0 where it is left out."""
    vtable = table - int(struct.unpack_from("<i", metadata, table)[0])
    if vtable < 0:
        raise pa.ArrowInvalid("a message's metadata points outside of it")
    (size,) = struct.unpack_from("<H", metadata, vtable)
    if 4 + 2 * number + 2 > size:
        return 0
    (offset,) = struct.unpack_from("<H", metadata, vtable + 4 + 2 * number)
    return table + int(offset) if offset else 0


def _check_types(schema: pa.Schema) -> None:
    """Refuses types whose rows may all share one large value, but for a dictionary of a whole column."""
    for field in schema:
        whole = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if _shares(whole):
            raise SchemaMismatch(f"column {field.name!r} is {field.type}", hint="cast it to a plain type")


def _shares(kind: pa.DataType) -> bool:
    """Whether a type, or one inside it, is a dictionary, run-end encoded, or a view."""
    text = str(kind)
    inner = [kind.field(i).type for i in range(kind.num_fields)] if not pa.types.is_run_end_encoded(kind) else []
    odd = pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind) or "_view" in text.partition("<")[0]
    return odd or any(_shares(one) for one in inner)


def _decoded_bytes(column: pa.ChunkedArray) -> int:
    """The bytes of a column once each row of a dictionary has a value of its own."""
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    total = 0
    for chunk in column.chunks:
        values = chunk.dictionary
        sized = pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type)
        if sized or pa.types.is_string(values.type) or pa.types.is_binary(values.type):
            lengths = pc.binary_length(values).cast(pa.int64())
            total += pc.sum(lengths.take(chunk.indices)).as_py() or 0
        else:  # no larger than its largest value may be, times the rows
            total += values.nbytes * len(chunk)
    return total
