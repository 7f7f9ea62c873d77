"""The files of a source on this machine: which they are, and whether they are still those that were pinned.

It is a file of its own because it is all of the memory engine that looks at folders. The engine pins with it, and
checks a pin before it reads; `core.numbering` gives files their numbers. It must never open a file but to digest it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from stook.core.definitions import FileSource
from stook.core.errors import NotSupported, SourceUnreadable, did_you_mean
from stook.core.numbering import number, with_digests
from stook.core.plans import SourceFile, SourceSnapshot

DIGEST_BYTES: Final = 16
MEND: Final = 'let DuckDB read it: tables = "memory+duckdb:" in [engines] of stook.toml'
_GLOB: Final = frozenset("*?[")


def list_files(source: FileSource, root: Path) -> list[SourceFile]:
    """The Parquet files of a source, sorted by path, without numbers.

    Raises SourceUnreadable where there is none, NotSupported for other formats.
    """
    if "://" in source.path:
        raise SourceUnreadable(f"{source.path} is not a local path", hint="this engine reads local files only")
    path = Path(root, source.path).absolute()
    is_delta = source.format is None and (path / "_delta_log").is_dir()
    kind = "delta" if is_delta else "parquet" if path.is_dir() and source.format is None else source.file_format
    if kind != "parquet":
        raise NotSupported(f"{path}: the memory engine reads Parquet, not {kind}", hint=MEND)
    if path.is_file():
        return [stat_file(path)]
    if path.is_dir():
        found = [p for p in path.rglob("*") if p.name.lower().endswith(".parquet") and not _hidden(p, path)]
        missing = "holds no parquet files"
    elif _GLOB & set(str(path)):
        fixed = next(i for i, part in enumerate(path.parts) if _GLOB & set(part))
        matches = Path(*path.parts[:fixed]).glob("/".join(path.parts[fixed:]))
        found = [p for p in matches if p.is_file() and not p.name.startswith(".")]
        missing = "matches no file"
    else:
        found, missing = [], "does not exist"
    if not found:
        raise SourceUnreadable(f"{path} {missing}", hint=_near(path))
    return [stat_file(p) for p in sorted(found, key=str)]


def pin_files(source: FileSource, root: Path, previous: SourceSnapshot | None, *, digests: bool) -> SourceSnapshot:
    """The source's files as they are now, numbered after `previous`. Raises as `list_files`."""
    found = list_files(source, root)
    before = () if previous is None else previous.files
    if digests:
        found = with_digests(found, before, digest_file)
    return SourceSnapshot(
        "parquet", source.timestamp_field, source.created_timestamp_column, files=number(found, before)
    )


def check_unchanged(file: SourceFile) -> None:
    """Raises SourceUnreadable where a pinned file is gone, or no longer what was pinned."""
    now = stat_file(Path(file.path))
    if (now.size_bytes, now.mtime_ns) == (file.size_bytes, file.mtime_ns):
        return
    if now.size_bytes != file.size_bytes or file.digest is None or digest_file(file.path) != file.digest:
        raise SourceUnreadable(f"{file.path} changed since it was pinned", hint="run it again on what is there now")


def stat_file(path: Path) -> SourceFile:
    """A file's size and modification time. Raises SourceUnreadable."""
    try:
        stat = path.stat()
    except OSError as error:
        raise SourceUnreadable(f"{path}: {error.strerror}", hint="put it back, or pin the source again") from None
    if stat.st_size == 0:
        raise SourceUnreadable(f"{path} is empty", hint="write it again, or remove it")
    return SourceFile(str(path), stat.st_size, stat.st_mtime_ns, -1)


def digest_file(path: str) -> str:
    """The hexadecimal BLAKE2b-128 of a file's content. Raises SourceUnreadable."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise SourceUnreadable(f"{path}: {error.strerror}", hint="can it be read?") from None
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).hexdigest()


def _hidden(path: Path, folder: Path) -> bool:
    """Spark and others keep markers and unfinished files under names that start so."""
    return any(part.startswith(("_", ".")) for part in path.relative_to(folder).parts)


def _near(path: Path) -> str:
    """A hint naming what there is in the nearest folder that exists."""
    name = path.name
    for parent in path.parents:
        if parent.is_dir():
            return f"in {parent}: {did_you_mean(name, [p.name for p in sorted(parent.iterdir())])}"
        name = parent.name
    return "is the path right?"
