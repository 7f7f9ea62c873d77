"""Objects in memory.

It is a file of its own because one backend is one class behind one factory. Tests, and projects whose settings
say `blobs = "memory:"`, open it. It must never take a key that the file backend would refuse.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from stook.core.errors import Conflict, InvalidArgument, UnknownObject
from stook.core.settings import EngineUrl

KEY_CHARS_MAX: Final = 240
_SEGMENT: Final = re.compile(r"(?!\.+\Z)[A-Za-z0-9._-]+\Z")


class MemoryBlobs:
    """`Blobs` in a dict; see the port for what each method promises."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

    def put(self, key: str, data: bytes) -> None:
        if self._objects.setdefault(_checked(key), bytes(data)) != data:
            raise Conflict(f"blob {key!r} holds other bytes already", hint="choose another key: blobs never change")

    def get(self, key: str) -> bytes:
        try:
            return self._objects[_checked(key)]
        except KeyError:
            raise UnknownObject(f"there is no blob {key!r} in memory", hint="was it deleted?") from None

    def exists(self, key: str) -> bool:
        return _checked(key) in self._objects

    def keys(self, prefix: str = "") -> Iterator[str]:
        return iter(sorted(key for key in list(self._objects) if key.startswith(prefix)))

    def delete(self, key: str) -> None:
        self._objects.pop(_checked(key), None)


def open_blobs(url: EngineUrl, root: Path) -> MemoryBlobs:
    """No objects yet; neither the URL nor the project matters."""
    del url, root
    return MemoryBlobs()


def _checked(key: str) -> str:
    if len(key) > KEY_CHARS_MAX or not all(_SEGMENT.match(segment) for segment in key.split("/")):
        raise InvalidArgument(
            f"blob key {key!r} is malformed",
            hint=f"letters, digits, '.', '_', '-' in segments joined by '/'; at most {KEY_CHARS_MAX} characters",
        )
    return key
