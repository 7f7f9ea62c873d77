"""What number each file of a source bears.

It is a file of its own because arrival, the last tie-breaker of the write rule, stands on these numbers: rows of a
source must rank the same on every run and in every engine, and a changed file above what it was. Engines pin with
it. It must never open a file, nor look for one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from stook.core.errors import SourceUnreadable
from stook.core.plans import SourceFile
from stook.core.rows import FILE_ORDINALS_MAX


def number(found: Sequence[SourceFile], previous: Sequence[SourceFile]) -> tuple[SourceFile, ...]:
    """`found` (in order, ordinals ignored) with ordinals that grow in that order.

    A file of `previous` that did not change keeps its ordinal where it still exceeds the one before it; any other
    gets the smallest that exceeds the one before it, its own old one, and those of files that are gone. Raises
    SourceUnreadable past the last number there is.

    >>> old = (SourceFile("a", 1, 1, 0), SourceFile("b", 1, 1, 1))
    >>> [f.ordinal for f in number((SourceFile("a", 1, 1, -1), SourceFile("b", 2, 2, -1)), old)]
    [0, 2]
    """
    known = {f.path: f for f in previous}
    present = {f.path for f in found}
    gone = max((f.ordinal for f in previous if f.path not in present), default=-1)
    last, numbered = -1, []
    for file in found:
        old = known.get(file.path)
        if old is not None and is_same(file, old) and old.ordinal > last:
            last = old.ordinal
        else:
            last = max(last, gone, old.ordinal if old is not None else -1) + 1
        numbered.append(replace(file, ordinal=last))
    if last >= FILE_ORDINALS_MAX:
        raise SourceUnreadable(
            f"{found[-1].path}: the source had more than {FILE_ORDINALS_MAX} files over its life",
            hint="gather its files into fewer, and materialize with replace",
        )
    return tuple(numbered)


def is_same(file: SourceFile, old: SourceFile) -> bool:
    """Whether the content is the same: by digest where both have one, else by size and modification time."""
    if file.digest is not None and old.digest is not None:
        return file.digest == old.digest
    return (file.size_bytes, file.mtime_ns) == (old.size_bytes, old.mtime_ns)


def with_digests(
    found: Sequence[SourceFile], previous: Sequence[SourceFile], digest: Callable[[str], str]
) -> list[SourceFile]:
    """`found` with each file's digest: that of `previous` where path, size and modification time are the same, else
    what `digest` says of its path."""
    seen = {(f.path, f.size_bytes, f.mtime_ns): f.digest for f in previous}
    return [replace(f, digest=seen.get((f.path, f.size_bytes, f.mtime_ns)) or digest(f.path)) for f in found]
