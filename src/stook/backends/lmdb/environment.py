"""The one LMDB environment that a process holds per store.

It is a file of its own because LMDB's locks belong to the process: an environment opened twice in a process, or
carried over a fork, silently loses them. Here it is opened once per path, counted by its users, closed before a
fork and opened again by whoever needs it, on either side. `keyvalue` calls it. It must never read or write a row.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import lmdb

from stook.backends.lmdb.failures import damaged, explain
from stook.backends.lmdb.records import LAYOUT, LAYOUT_KEY
from stook.core.errors import EngineUnavailable, InvalidSettings, NewerStore

READERS_MAX: Final = 2_048  # read transactions open at once, over all processes
SPARE_READS_MAX: Final = 32  # finished read transactions a process keeps for its next reads
DATABASES_MAX: Final = 3
DATA_FILE: Final = "data.mdb"
FILE_MODE: Final = 0o660


class Handles(NamedTuple):
    """An open environment and its databases; good until the environment is closed, at the latest by a fork."""

    env: Any
    meta: Any
    overlay: Any
    rows: Any


class SharedEnvironment:
    """The environment at a path, for all stores of this process that use it."""

    def __init__(self, path: Path, map_bytes: int) -> None:
        self.path = path
        self.map_bytes = map_bytes
        self.users = 0
        self.handles: Handles | None = None
        self.writing = threading.RLock()

    def open(self) -> Handles:
        """The open environment, opened now where it is not. Raises CorruptStore, NewerStore, EngineUnavailable."""
        with self.writing:
            if self.handles is None:
                self.handles = _open(self.path, self.map_bytes)
            return self.handles

    @contextmanager
    def read(self) -> Iterator[tuple[Handles, Any]]:
        """A read transaction. It sees one committed state and waits for nobody."""
        handles, transaction = self._begin(write=False)
        with transaction as txn:
            yield handles, txn

    @contextmanager
    def write(self) -> Iterator[tuple[Handles, Any]]:
        """A write transaction: committed and durable when the block ends, undone when it raises.

        Waits for the writers of this and other processes, so keep the block short.
        """
        with self.writing:
            handles, transaction = self._begin(write=True)
            with transaction as txn:
                yield handles, txn

    def _begin(self, *, write: bool) -> tuple[Handles, Any]:
        handles = self.handles or self.open()
        try:
            return handles, handles.env.begin(write=write)
        except lmdb.PanicError:
            self.give_up(handles)
            handles = self.open()
            return handles, handles.env.begin(write=write)

    def give_up(self, handles: Handles) -> None:
        """Closes an environment in which LMDB refuses everything (MDB_PANIC) since the last step of some commit, as on
        a full disk, failed. The file is sound, and the next `open` begins anew from the commit before."""
        with self.writing:
            if self.handles is handles:
                self.close()

    def close(self) -> None:
        """Closes the environment until the next `open`, waiting for this process's writer."""
        with self.writing:
            handles, self.handles = self.handles, None  # first, so that a reader cut off sees why
            if handles is not None:
                handles.env.close()


_guard = threading.RLock()
_shared: dict[Path, SharedEnvironment] = {}


def acquire(path: Path, map_bytes: int) -> SharedEnvironment:
    """The process's environment at the path, opened, with one more user. Raises as `SharedEnvironment.open` does."""
    key = Path(os.path.realpath(path))
    with _guard:
        shared = _shared.get(key) or SharedEnvironment(key, map_bytes)
        if shared.map_bytes != map_bytes:
            raise InvalidSettings(
                f"{key} is open with a map of {shared.map_bytes} bytes, not {map_bytes}",
                hint="use the same map_gib in engines.online everywhere",
            )
        shared.open()
        shared.users += 1
        _shared[key] = shared
        return shared


def release(shared: SharedEnvironment) -> None:
    """Takes a user away; the last one closes the environment."""
    with _guard:
        shared.users -= 1
        if shared.users == 0:
            _shared.pop(shared.path, None)
            shared.close()


def _open(path: Path, map_bytes: int) -> Handles:
    try:
        path.mkdir(parents=True, exist_ok=True)
        created = not (path / DATA_FILE).exists()
        with ExitStack() as stack:
            env = lmdb.open(
                str(path),
                map_size=map_bytes,
                max_dbs=DATABASES_MAX,
                max_readers=READERS_MAX,
                max_spare_txns=SPARE_READS_MAX,
                readahead=False,  # rows are read at random; reading around them only fills the page cache
                mode=FILE_MODE,
            )
            stack.callback(env.close)
            env.reader_check()  # a killed reader would keep every page since its snapshot
            handles = _open_databases(env, path)
            if created:
                _sync_folders(path)
            stack.pop_all()  # it worked: leave the environment open
            return handles
    except lmdb.Error as error:
        raise explain(error, path) from error
    except OSError as error:
        raise EngineUnavailable(
            f"the online store {path} cannot be opened: {error}", hint="check engines.online and the folder's rights"
        ) from error


def _open_databases(env: Any, path: Path) -> Handles:
    with env.begin(write=True) as txn:
        _restore_length(env, path)
        if txn.stat()["entries"]:
            meta = _open_meta(env, txn, path)
        else:
            meta = env.open_db(b"meta", txn=txn)
            txn.put(LAYOUT_KEY, b"%d" % LAYOUT, db=meta)
        return Handles(env, meta, env.open_db(b"overlay", txn=txn), env.open_db(b"rows", txn=txn))


def _open_meta(env: Any, txn: Any, path: Path) -> Any:
    try:
        meta = env.open_db(b"meta", txn=txn, create=False)
        layout = txn.get(LAYOUT_KEY, b"", meta)
    except (lmdb.NotFoundError, lmdb.IncompatibleError):
        layout = b""
    if not layout.isdigit():
        raise damaged(path, "it is an LMDB store, but not one of stook's")
    if int(layout) > LAYOUT:
        raise NewerStore(
            f"the online store {path} has layout {int(layout)}; this stook reads up to {LAYOUT}", hint="upgrade stook"
        )
    return meta


def _restore_length(env: Any, path: Path) -> None:
    """Lets a file that was cut short read as zeros, which LMDB reports, instead of killing the process (SIGBUS).

    A sound file may be a few pages short of what its header says, so its length alone proves no damage. To be
    called in a write transaction: only writers make the file longer.
    """
    length = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    with (path / DATA_FILE).open("r+b") as file:
        if os.fstat(file.fileno()).st_size < length:
            file.truncate(length)


def _sync_folders(path: Path) -> None:
    """Makes the names of new files survive a loss of power; LMDB syncs only what is in them."""
    for folder in (path, path.parent):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _before_fork() -> None:
    _guard.acquire()
    for shared in _shared.values():
        shared.writing.acquire()
        shared.close()


def _after_fork() -> None:
    for shared in _shared.values():
        shared.writing.release()
    _guard.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
