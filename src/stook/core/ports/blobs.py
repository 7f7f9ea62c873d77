"""The door to immutable objects by key.

It is a port so that files and object storage hold the same artefacts. Models store packages through it. It must
never overwrite.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class Blobs(Protocol):
    """Objects by key; a key is slash-separated segments of letters, digits, `.`, `_`, `-`, none of them dots only."""

    def put(self, key: str, data: bytes) -> None:
        """Stores `data` under `key`, durably, whole or not at all.

        Storing the same bytes again is harmless. Raises Conflict when the key holds other bytes, InvalidArgument
        for a malformed key, DiskFull, EngineUnavailable.
        """
        ...

    def get(self, key: str) -> bytes:
        """The object. Raises UnknownObject when there is none, InvalidArgument for a malformed key."""
        ...

    def exists(self, key: str) -> bool:
        """Whether the key holds an object."""
        ...

    def keys(self, prefix: str = "") -> Iterator[str]:
        """The keys that start with `prefix`, in order."""
        ...

    def delete(self, key: str) -> None:
        """Forgets the object. Idempotent."""
        ...
