"""The next item made while this one is used: reading and encoding beside writing and syncing.

It is a file of its own because it alone in this room starts a thread. A materialization reads its chunks through it. It
must never be more than one item ahead, since a chunk is what bounds memory, nor leave its thread behind.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final, TypeVar

T = TypeVar("T")
_END: Final = object()


def ahead(items: Generator[T, None, None]) -> Iterator[T]:
    """The items in their order, each made by another thread while the caller is busy with the one before.

    Raises what making an item raised, when that item's turn comes. When the caller stops early, the item begun is
    finished, then `items` is closed.

    >>> list(ahead(n * n for n in range(4)))
    [0, 1, 4, 9]
    """
    with closing(items), ThreadPoolExecutor(1, thread_name_prefix="stook-ahead") as thread:
        coming = thread.submit(next, items, _END)
        while (item := coming.result()) is not _END:
            coming = thread.submit(next, items, _END)
            yield item  # type: ignore[misc]  # not the end
