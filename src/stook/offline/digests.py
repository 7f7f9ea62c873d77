"""Digests of what a column holds, whatever its chunks, slices or the bytes under its nulls.

It is a file of its own because "the same training set, byte for byte" must be checkable years later. Manifests
call it. It must never depend on how Arrow happens to lay a column out.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stook.core.arrow import from_arrow


def column_digest(values: pa.ChunkedArray) -> str:
    """Hexadecimal BLAKE2b-128 of type and content. NaNs keep their bits, null differs from every value.

    >>> halves = pa.chunked_array([[1], [None]], pa.int64())
    >>> column_digest(halves) == column_digest(pa.chunked_array([[1, None]], pa.int64()))
    True
    """
    dtype = from_arrow(values.type)  # Arrow's own spelling varies with the names of list children
    digest = hashlib.blake2b(str(values.type if dtype is None else dtype).encode(), digest_size=16)
    combined = values.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):
        combined = pa.concat_arrays(combined.chunks) if combined.num_chunks else pa.array([], values.type)
    _feed(digest, combined)
    return digest.hexdigest()


def _feed(digest: Any, values: Any) -> None:
    kind = values.type
    valid = np.asarray(values.is_valid())
    digest.update(len(values).to_bytes(8, "little"))
    digest.update(np.packbits(valid).tobytes())
    if pa.types.is_null(kind):
        return
    if pa.types.is_dictionary(kind):
        _feed(digest, values.dictionary_decode())
    elif pa.types.is_struct(kind):
        for index in range(kind.num_fields):
            _feed(digest, values.field(index) if not values.null_count else values.flatten()[index])
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        _feed_lengths(digest, pc.list_value_length(values))
        _feed(digest, values.flatten())
    elif pa.types.is_map(kind):
        pairs = values.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
        _feed(digest, pairs)
    elif pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_string(kind):
        _feed_lengths(digest, pc.binary_length(values))
        present = values.drop_null().cast(pa.large_binary())
        offsets = np.frombuffer(present.buffers()[1], dtype=np.int64)[
            present.offset : present.offset + len(present) + 1
        ]
        if len(present):
            digest.update(memoryview(present.buffers()[2])[offsets[0] : offsets[-1]])
    elif pa.types.is_boolean(kind):
        digest.update(np.packbits(np.asarray(values.fill_null(False))).tobytes())
    else:
        present = values.drop_null()
        width = kind.bit_width // 8
        if len(present):
            start = present.offset * width
            digest.update(memoryview(present.buffers()[1])[start : start + len(present) * width])


def _feed_lengths(digest: Any, lengths: Any) -> None:
    digest.update(np.asarray(lengths.fill_null(0).cast(pa.int64())).tobytes())
