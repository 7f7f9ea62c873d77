"""What a failure of LMDB means to its caller.

It is a file of its own because every door into the store, opening, reading and writing, gives the same answer to
the same failure. `environment` and `keyvalue` call it. It must never raise by itself nor hide the driver's words.
"""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Final

import lmdb

from stook.core.errors import (
    CorruptStore,
    DiskFull,
    EngineUnavailable,
    InvalidArgument,
    InvalidSettings,
    NewerStore,
    StookError,
)

FULL_BELOW_BYTES: Final = 64 * 1024 * 1024  # a short write is a full disk when less than this is free
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DAMAGED: Final = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.IncompatibleError,
    lmdb.NotFoundError,
)


def explain(error: Exception, path: Path) -> StookError:
    """The error of our tree for a failure of the driver (or of a record that does not decode) at `path`."""
    code = getattr(error, "code", 0)
    if isinstance(error, lmdb.MapFullError):
        return DiskFull(
            f"the online store {path} reached its map size; nothing stored was harmed",
            hint="raise map_gib in engines.online, for every process alike, and drop old generations",
        )
    if code in _FULL or (code == errno.EIO and _free_bytes(path) < FULL_BELOW_BYTES):
        return DiskFull(
            f"no space left for the online store {path}; nothing stored was harmed", hint="free space and repeat"
        )
    if isinstance(error, lmdb.BadValsizeError):
        return InvalidArgument(f"{path}: a key or value is too long ({error})", hint="shorten the key")
    if isinstance(error, lmdb.VersionMismatchError):
        return NewerStore(f"{path} was written by another LMDB ({error})", hint="upgrade stook and lmdb")
    if isinstance(error, lmdb.MapResizedError):
        return InvalidSettings(
            f"{path} outgrew this process's map: another process uses a larger map_gib",
            hint="give all processes the same map_gib in engines.online",
        )
    if isinstance(error, lmdb.Error) and not isinstance(error, _DAMAGED):
        return EngineUnavailable(f"the online store {path} does not answer: {error}")
    return damaged(path, str(error))


def damaged(path: Path, why: str) -> CorruptStore:
    """The error for a store whose bytes do not read back."""
    return CorruptStore(
        f"the online store {path} does not read back: {why}",
        hint="move the folder away, then restore a backup or materialize again",
    )


def _free_bytes(path: Path) -> int:
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return FULL_BELOW_BYTES
