"""Which files a source consists of, and whether they are still those that were pinned.

It is a file of its own because it looks at folders and files without DuckDB. The engine pins with it, and checks a
pin before it reads; `core.numbering` gives files their numbers. It must never open a file but to digest it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stook.backends.duckdb.delta import is_delta, read_commit
from stook.core.definitions import FileSource
from stook.core.errors import SourceUnreadable, did_you_mean
from stook.core.numbering import number, with_digests
from stook.core.plans import SourceFile, SourceSnapshot

DIGEST_BYTES: Final = 16
_CSV_ENDINGS: Final = (".csv", ".csv.gz", ".tsv", ".csv.zst")
_GLOB: Final = "*?["


@dataclass(frozen=True)
class Place:
    """Where a file source stands: its kind, its absolute path, and that path's glob or folder taken apart."""

    kind: str
    path: str


def locate(source: FileSource, root: Path) -> Place:
    """The source's kind and absolute path; a folder without a Delta log is one of Parquet files.

    Raises SourceUnreadable for a path to another machine.
    """
    if "://" in source.path:
        raise SourceUnreadable(f"{source.path} is not a local path", hint="this engine reads local files only")
    path = Path(root, source.path).absolute()
    kind = source.file_format
    if path.is_dir() and source.format is None:
        kind = "delta" if is_delta(str(path)) else "parquet"
    return Place(kind, str(path))


def pin_files(
    source: FileSource, root: Path, *, previous: SourceSnapshot | None = None, digests: bool = False
) -> SourceSnapshot:
    """The source's files as they are now, numbered after `previous`. Raises SourceUnreadable."""
    place = locate(source, root)
    commit: int | None = None
    if place.kind == "delta":
        delta = read_commit(place.path)
        commit = delta.number
        found = [SourceFile(f.path, f.size_bytes, f.mtime_ns, -1) for f in delta.files]
    else:
        found = [stat_file(path) for path in list_files(place)]
    before = () if previous is None else previous.files
    if digests:
        found = with_digests(found, before, digest_file)
    return SourceSnapshot(
        kind=place.kind,
        timestamp_field=source.timestamp_field,
        created_timestamp_column=source.created_timestamp_column,
        files=number(found, before),
        delta_version=commit,
    )


def list_files(place: Place) -> list[str]:
    """The files of a path, folder or glob, sorted by path. Raises SourceUnreadable where there is none."""
    path = Path(place.path)
    if path.is_file():
        return [place.path]
    if path.is_dir():
        endings = (".parquet",) if place.kind == "parquet" else _CSV_ENDINGS
        found = [str(p) for p in path.rglob("*") if p.name.lower().endswith(endings) and not _hidden(p, path)]
        if not found:
            raise SourceUnreadable(f"{place.path} holds no {place.kind} files", hint=_near(path))
    else:
        is_glob = any(c in place.path for c in _GLOB)
        found = _matches(path) if is_glob else []
        if not found:
            what = "matches no file" if is_glob else "does not exist"
            raise SourceUnreadable(f"{place.path} {what}", hint=_near(path))
    return sorted(found)


def _matches(pattern: Path) -> list[str]:
    """The files that an absolute glob names; `**` stands for any folders."""
    fixed = next(i for i, part in enumerate(pattern.parts) if any(c in part for c in _GLOB))
    folder, rest = Path(*pattern.parts[:fixed]), "/".join(pattern.parts[fixed:])
    return [str(p) for p in folder.glob(rest) if p.is_file() and not p.name.startswith(".")]


def _hidden(path: Path, folder: Path) -> bool:
    """Spark and others keep markers and unfinished files under names that start so."""
    return any(part.startswith(("_", ".")) for part in path.relative_to(folder).parts)


def _near(path: Path) -> str:
    """A hint naming what there is in the nearest folder that exists."""
    parent, name = path.parent, path.name
    while not parent.is_dir():
        parent, name = parent.parent, parent.name
    names = [p.name for p in sorted(parent.iterdir())]
    return f"in {parent}: {did_you_mean(name, names)}" if names else f"{parent} is empty"


def stat_file(path: str) -> SourceFile:
    """A file's size and modification time. Raises SourceUnreadable."""
    try:
        stat = Path(path).stat()
    except OSError as error:
        raise SourceUnreadable(f"{path}: {error.strerror}", hint="put it back, or pin the source again") from None
    if stat.st_size == 0:
        raise SourceUnreadable(f"{path} is empty", hint="write it again, or remove it")
    return SourceFile(path, stat.st_size, stat.st_mtime_ns, -1)


def digest_file(path: str) -> str:
    """The hexadecimal BLAKE2b-128 of a file's content. Raises SourceUnreadable."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).hexdigest()
    except OSError as error:
        raise SourceUnreadable(f"{path}: {error.strerror}", hint="can it be read?") from None


def check_unchanged(snapshot: SourceSnapshot) -> None:
    """Raises SourceUnreadable where a pinned file is gone, or no longer what was pinned.

    Files of a Delta commit never change, so only their presence and size are looked at.
    """
    for file in snapshot.files:
        now = stat_file(file.path)
        if now.size_bytes == file.size_bytes and (snapshot.kind == "delta" or now.mtime_ns == file.mtime_ns):
            continue
        if file.digest is None or digest_file(file.path) != file.digest:
            raise SourceUnreadable(f"{file.path} changed since it was pinned", hint="run it again on what is there now")
