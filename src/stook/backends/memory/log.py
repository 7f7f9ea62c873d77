"""Streams in memory.

It is a file of its own because one backend is one class behind one factory. Tests, and projects whose settings
say `log = "memory:"`, open it. It must never outlive its process.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from threading import Lock

from stook.core.errors import Conflict, TooLarge
from stook.core.ports.log import PAYLOAD_BYTES_MAX, Entry
from stook.core.settings import EngineUrl


class _Stream:
    """Payloads of the positions after `base`, in order."""

    def __init__(self) -> None:
        self.base = 0
        self.payloads: list[bytes] = []

    @property
    def end(self) -> int:
        return self.base + len(self.payloads)


class MemoryLog:
    """`Log` in lists; see the port for what each method promises."""

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}
        self._mutex = Lock()

    def append(self, stream: str, payloads: Sequence[bytes]) -> int:
        for payload in payloads:
            if len(payload) > PAYLOAD_BYTES_MAX:
                raise TooLarge(
                    f"a payload for stream {stream!r} has {len(payload)} bytes",
                    hint=f"at most {PAYLOAD_BYTES_MAX}: push fewer rows at a time",
                )
        with self._mutex:
            found = self._streams.setdefault(stream, _Stream())
            found.payloads.extend(payloads)
            return found.end

    def read(self, stream: str, *, after: int, limit: int, bytes_max: int = PAYLOAD_BYTES_MAX) -> list[Entry]:
        entries: list[Entry] = []
        size = 0
        with self._mutex:
            found = self._streams.get(stream, _Stream())
            if after < found.base and limit > 0:
                raise Conflict(
                    f"stream {stream!r} was truncated through {found.base}, so that nothing after {after} can be read",
                    hint=f"read what it was folded into, then go on after {found.base}",
                )
            start = after - found.base
            for position, payload in enumerate(islice(found.payloads, start, start + max(limit, 0)), after + 1):
                size += len(payload)
                if entries and size > bytes_max:
                    break
                entries.append(Entry(position, payload))
        return entries

    def end(self, stream: str) -> int:
        with self._mutex:
            return self._streams[stream].end if stream in self._streams else 0

    def base(self, stream: str) -> int:
        with self._mutex:
            return self._streams[stream].base if stream in self._streams else 0

    def truncate(self, stream: str, *, through: int) -> None:
        with self._mutex:
            found = self._streams.get(stream, _Stream())
            count = min(through, found.end) - found.base
            if count > 0:
                del found.payloads[:count]
                found.base += count

    def close(self) -> None:
        """Nothing is held."""


def open_log(url: EngineUrl, root: Path) -> MemoryLog:
    """An empty log; neither the URL nor the project matters."""
    del url, root
    return MemoryLog()
