"""Named locks by `flock` on files under the project's folder.

It is a file of its own because one backend is one class behind one factory. The app opens it by entry point;
ingest and the server hold locks. It must never delete a lock's file: two processes would lock two different ones.

The kernel releases a lock when the last descriptor of its open file is closed, hence also when its holder is
killed. Forked children drop the descriptors they inherit, so that they do not keep a dead holder's lock.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Final
from urllib.parse import quote

from stook.core.errors import Busy, EngineUnavailable
from stook.core.settings import EngineUrl

FOLDER: Final = Path(".stook") / "locks"
FILE_STEM_CHARS_MAX: Final = 200
WAIT_MIN_S: Final = 0.001
WAIT_MAX_S: Final = 0.05
_open_files: Final[set[FileIO]] = set()


class FileLocks:
    """`Locks` by flock; see the port for what `hold` promises."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unavailable(folder, error) from error

    @contextmanager
    def hold(self, name: str, *, wait_s: float) -> Iterator[None]:
        path = self._folder / f"{_stem(name)}.lock"
        try:
            file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+")
        except OSError as error:
            raise _unavailable(path, error) from error
        _open_files.add(file)
        try:
            _acquire(file, name, path, time.monotonic() + wait_s)
            yield
        finally:
            _open_files.discard(file)
            file.close()  # does nothing in a child that was forked in the meantime


def open_locks(url: EngineUrl, root: Path) -> FileLocks:
    """The locks of the project at `root`, in its `.stook/locks`. Raises EngineUnavailable."""
    del url
    return FileLocks(root / FOLDER)


def _acquire(file: FileIO, name: str, path: Path, deadline_s: float) -> None:
    try:
        acquired = _wait(file, deadline_s)
    except OSError as error:
        raise _unavailable(path, error) from error
    if not acquired:
        holder = os.pread(file.fileno(), 32, 0).decode("ascii", "replace") or "unknown"
        raise Busy(f"lock {name!r} is held by process {holder}", hint="wait for it to end, then repeat")
    with suppress(OSError):  # the holder's number only serves messages; a full disk must not stop a lock
        file.truncate(0)
        os.pwrite(file.fileno(), str(os.getpid()).encode(), 0)


def _wait(file: FileIO, deadline_s: float) -> bool:
    # flock has no timed form; asking again and again, ever more slowly, needs neither a thread nor a signal.
    pause_s = WAIT_MIN_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EINTR):
                raise
        else:
            return True
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            return False
        time.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 2, WAIT_MAX_S)


def _stem(name: str) -> str:
    quoted = quote(name, safe="")
    return quoted if len(quoted) <= FILE_STEM_CHARS_MAX else hashlib.sha256(name.encode()).hexdigest()


def _unavailable(path: Path, error: OSError) -> EngineUnavailable:
    return EngineUnavailable(
        f"lock file {path} cannot be used: {error.strerror}", hint="make the folder writable, on a local disk"
    )


def _drop_inherited() -> None:
    while _open_files:
        _open_files.pop().close()


os.register_at_fork(after_in_child=_drop_inherited)
