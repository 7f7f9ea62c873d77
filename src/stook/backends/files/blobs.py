"""Immutable objects as files of one folder.

It is a file of its own because one backend is one class behind one factory. The app opens it by entry point for
`file:///...`; models and offline use it as `Blobs`. It must never overwrite a file, nor touch one outside.

An object's file lies directly in the folder; its name is the key with each `/` written as `,`, a character no key
has. So no key can lead out of the folder, none can lie below another, and one `fsync` makes a name durable.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from stook.core.errors import Conflict, DiskFull, EngineUnavailable, InvalidArgument, InvalidSettings, UnknownObject
from stook.core.settings import EngineUrl

KEY_CHARS_MAX: Final = 240  # what a file name holds
LEFTOVER_AGE_MIN_S: Final = 24 * 3600  # what a killed `put` left behind is removed when it is older
_KEY: Final = re.compile(r"(?!\.+(?:/|\Z))[A-Za-z0-9._-]+(?:/(?!\.+(?:/|\Z))[A-Za-z0-9._-]+)*\Z")
_TEMPORARY: Final = ",incoming-"  # no key starts with a slash
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class FileBlobs:
    """`Blobs` in a folder; see the port for what each method promises."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            absent = [parent for parent in (folder, *folder.parents) if not parent.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            for made in absent:
                _sync(made.parent)
            self._remove_leftovers()
        except OSError as error:
            raise _trouble(folder, error) from error

    def put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        temporary = self._folder / f"{_TEMPORARY}{os.urandom(8).hex()}"
        try:
            try:
                _write(temporary, data)
                os.link(temporary, path)  # unlike a rename, it refuses to replace
            except FileExistsError:
                if path.read_bytes() != data:
                    raise Conflict(
                        f"blob {key!r} holds other bytes already", hint="choose another key: blobs never change"
                    ) from None
            finally:
                temporary.unlink(missing_ok=True)
            _sync(self._folder)
        except OSError as error:
            raise _trouble(path, error) from error

    def get(self, key: str) -> bytes:
        path = self._path(key)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise UnknownObject(f"there is no blob {key!r} in {self._folder}", hint="was it deleted?") from None
        except OSError as error:
            raise _trouble(path, error) from error

    def exists(self, key: str) -> bool:
        return self._path(key).exists()

    def keys(self, prefix: str = "") -> Iterator[str]:
        try:
            names = [path.name for path in self._folder.iterdir()]
        except OSError as error:
            raise _trouble(self._folder, error) from error
        keys = (name.replace(",", "/") for name in names if not name.startswith(_TEMPORARY))
        return iter(sorted(key for key in keys if key.startswith(prefix)))

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
            _sync(self._folder)
        except OSError as error:
            raise _trouble(path, error) from error

    def _path(self, key: str) -> Path:
        if not _KEY.match(key) or len(key) > KEY_CHARS_MAX:
            raise InvalidArgument(
                f"blob key {key!r} is malformed",
                hint=f"letters, digits, '.', '_', '-' in segments joined by '/'; at most {KEY_CHARS_MAX} characters",
            )
        return self._folder / key.replace("/", ",")

    def _remove_leftovers(self) -> None:
        old = time.time() - LEFTOVER_AGE_MIN_S
        for path in self._folder.glob(f"{_TEMPORARY}*"):
            with suppress(FileNotFoundError):  # its writer, or another opener, was faster
                if path.stat().st_mtime < old:
                    path.unlink()


def open_blobs(url: EngineUrl, root: Path) -> FileBlobs:
    """The blobs in the folder that `url` names, created at need.

    Raises EngineUnavailable, DiskFull; InvalidSettings when the URL names no folder.
    """
    del root  # the URL's path is absolute already
    if url.path is None:
        raise InvalidSettings(f"engine URL {url.text!r} names no folder", hint="write it as file:///.stook/blobs")
    return FileBlobs(url.path)


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _trouble(path: Path, error: OSError) -> DiskFull | EngineUnavailable:
    if error.errno in _FULL:
        return DiskFull(f"the disk holding {path} is full; nothing was written", hint="free some space, then repeat")
    return EngineUnavailable(
        f"{path} cannot be used: {error.strerror}",
        hint="make the folder writable, on a disk that has hard links, or name another in stook.toml",
    )
