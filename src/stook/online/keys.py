"""Key columns as bytes: comparing the bytes compares the columns, and two keys never share theirs.

It is a file of its own because loads, pushes, deletes and reads must agree on every key's bytes, and because
`Engine.newest` streams in this order. The write and read paths call it. It must never hash a key that fits, nor
accept a null.

Columns follow each other in the order of `view.keys`: integers big-endian with the sign bit flipped, booleans as
0 or 1, dates as int32 days, timestamps as int64 microseconds; text (as UTF-8) and bytes with each zero byte
written as 00 FF and ended by 00 00, so that no key is the beginning of another. A key of more than 400 bytes is
stored as its first 400 and a 128-bit BLAKE2b digest of all: 416 bytes, which no shorter key has; the full key
then stands in the value and is compared on read. Only keys that agree in those 400 bytes lose their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stook.core import dtypes
from stook.core.dtypes import DType, Primitive
from stook.core.errors import SchemaMismatch
from stook.core.instants import EPOCH, MICRO
from stook.core.ports.keyvalue import KEY_BYTES_MAX
from stook.online.nested import EPOCH_ORDINAL

INLINE_BYTES_MAX: Final = 400
DIGEST_BYTES: Final = 16
FULL_KEY_BYTES_MAX: Final = 65_535  # its length is a u16 in the header
_TERMINATOR: Final = b"\0\0"
_ESCAPED_ZERO: Final = b"\0\xff"
# bytes of one key, and the sign bit that makes unsigned order of it
_FIXED: Final[dict[str, tuple[int, int]]] = {
    "bool": (1, 0),
    "date": (4, 1 << 31),
    "timestamp": (8, 1 << 63),
    **{name: (bits // 8, 1 << bits - 1 if name[0] == "i" else 0) for name, bits in dtypes.INTEGER_BITS.items()},
}
assert INLINE_BYTES_MAX + DIGEST_BYTES <= KEY_BYTES_MAX


class Keys(NamedTuple):
    """Encoded keys: as the store knows them (None for a key with a null), and by row the full ones of the long."""

    stored: list[bytes | None]
    full: dict[int, bytes]


def part_encoder(dtype: DType) -> Callable[[Any], bytes]:
    """What encodes one present, already checked value of a key column.

    >>> part_encoder(dtypes.Int16)(-1).hex(), part_encoder(dtypes.String)("a").hex()
    ('7fff', '610000')
    """
    assert isinstance(dtype, Primitive) and dtype in dtypes.KEY_TYPES, dtype
    match dtype.name:
        case "string":
            return lambda value: value.encode().replace(b"\0", _ESCAPED_ZERO) + _TERMINATOR
        case "bytes":
            return lambda value: bytes(value).replace(b"\0", _ESCAPED_ZERO) + _TERMINATOR
    width, bias = _FIXED[dtype.name]
    match dtype.name:
        case "date":
            return lambda value: _days(value, width, bias)
        case "timestamp":
            return lambda value: _micros(value, width, bias)
    return lambda value: (value + bias).to_bytes(width, "big")


def _days(value: date, width: int, bias: int) -> bytes:
    return (value.toordinal() - EPOCH_ORDINAL + bias).to_bytes(width, "big")


def _micros(value: datetime, width: int, bias: int) -> bytes:
    return ((value - EPOCH) // MICRO + bias).to_bytes(width, "big")


def join_parts(columns: Sequence[Sequence[bytes | None]], rows: int) -> list[bytes | None]:
    """Full keys of rows from their columns' encoded parts; None where a part is. Without columns, empty keys.

    >>> join_parts([[b"a", None], [b"b", b"c"]], 2)
    [b'ab', None]
    """
    if not columns:
        return [b""] * rows
    if len(columns) == 1:
        return list(columns[0])
    return [None if None in parts else b"".join(parts) for parts in zip(*columns, strict=True)]


def encode_column(array: Any, dtype: DType) -> Any:
    """A key column's Arrow array, of the type's own Arrow type, as an Arrow array of encoded parts (null stays)."""
    assert isinstance(dtype, Primitive) and dtype in dtypes.KEY_TYPES, dtype
    if dtype in (dtypes.String, dtypes.Bytes):
        raw = array.cast(pa.binary())
        data = raw.buffers()[2]
        if data is not None and b"\0" in memoryview(data).tobytes():
            raw = pc.replace_substring(raw, b"\0", _ESCAPED_ZERO)
        return pc.binary_join_element_wise(raw, _TERMINATOR, b"")
    width, bias = _FIXED[dtype.name]
    unsigned = pa.uint8() if dtype == dtypes.Bool else to_unsigned(width)
    plain = array.cast(unsigned) if dtype == dtypes.Bool else array.view(unsigned)
    if plain.null_count:
        plain = plain.fill_null(0)
    cells = (plain.to_numpy(zero_copy_only=False) ^ np.array(bias, f"u{width}")).astype(f">u{width}")
    offsets = np.arange(0, (len(array) + 1) * width, width, dtype=np.int32)
    encoded = pa.Array.from_buffers(pa.binary(), len(array), [None, pa.py_buffer(offsets), pa.py_buffer(cells)])
    return pc.if_else(array.is_valid(), encoded, None) if array.null_count else encoded


def one_array(values: pa.ChunkedArray) -> pa.Array:
    """A column as one array, copied only when it has several chunks."""
    return values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()


def to_unsigned(width: int) -> Any:
    """The unsigned Arrow integer of that many bytes."""
    return {1: pa.uint8(), 2: pa.uint16(), 4: pa.uint32(), 8: pa.uint64()}[width]


def join_columns(parts: Sequence[Any], rows: int) -> list[bytes | None]:
    """Full keys of rows from their encoded columns; a view without keys has the empty key in every row."""
    if not parts:
        return [b""] * rows
    joined = parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, b"")
    keys: list[bytes | None] = joined.to_pylist()
    return keys


def shorten(keys: list[bytes | None], what: str, parts: Sequence[DType]) -> Keys:
    """Full keys, of parts of these types, as the store knows them, long ones shortened.

    Raises SchemaMismatch naming `what` for a key of more than 65 535 bytes.

    >>> shorten([b"k", None], "view 'v'", [dtypes.String])
    Keys(stored=[b'k', None], full={})
    """
    may_be_long = len(parts) * 8 > INLINE_BYTES_MAX or any(dtype in (dtypes.String, dtypes.Bytes) for dtype in parts)
    if not (may_be_long and any(key is not None and len(key) > INLINE_BYTES_MAX for key in keys)):
        return Keys(keys, {})
    stored, full = list(keys), {}
    for row, key in enumerate(keys):
        if key is None or len(key) <= INLINE_BYTES_MAX:
            continue
        if len(key) > FULL_KEY_BYTES_MAX:
            raise SchemaMismatch(
                f"{what}: a key of row {row} takes {len(key)} bytes", hint=f"at most {FULL_KEY_BYTES_MAX}"
            )
        full[row] = key
        stored[row] = key[:INLINE_BYTES_MAX] + blake2b(key, digest_size=DIGEST_BYTES).digest()
    return Keys(stored, full)
