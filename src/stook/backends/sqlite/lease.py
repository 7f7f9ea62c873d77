"""One session, kept alive by a thread that also notices what changed: leases and watches over SQLite.

It is a file of its own because the thread, its clock and its flags are one trouble, apart from what nodes are.
Coordination of this room makes one for each session. It must never let a session go on whose lease has passed, even
when nobody else has noticed, nor use a clock that can be set.

The clock is the machine's monotonic one, which all its processes share and which stands still while it sleeps: a
laptop that wakes up has not lost its sessions, since nobody acted in between. After a reboot it begins anew; therefore
each lease names the boot it was given in.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stook.backends.sqlite.database import BUSY_S, Database
from stook.backends.sqlite.nodes import end_session, lapsed, next_zxid, read_stat
from stook.core.errors import StookError
from stook.core.ports.coordination import Flag, Stat, State

BEATS_PER_TIMEOUT: Final = 4
POLL_S: Final = 0.02  # while somebody watches
IDLE_S: Final = 1.0  # at the longest, while nobody does
LAPSE_CHECK_S: Final = 0.1
JOIN_S: Final = 2 * BUSY_S
_BOOT_FILE: Final = Path("/proc/sys/kernel/random/boot_id")

Seen = tuple[int, ...] | None
Look = Callable[[Stat | None], Seen]


def data_seen(stat: Stat | None) -> Seen:
    """What a watch on a node compares: its creation and its last change."""
    return None if stat is None else (stat.czxid, stat.mzxid)


def children_seen(stat: Stat | None) -> Seen:
    """What a watch on children compares: the node's creation and the last change of its children."""
    return None if stat is None else (stat.czxid, stat.pzxid)


def now_ms() -> int:
    """The machine's monotonic clock in milliseconds."""
    return time.monotonic_ns() // 1_000_000


def boot_id() -> str:
    """Which boot of the machine this is; empty where the system does not say."""
    try:
        return _BOOT_FILE.read_text().strip()
    except OSError:
        return ""


@dataclass
class _Watches:
    """Flags, each with what it has seen; a flag that its owner forgot is forgotten here too."""

    by_flag: weakref.WeakKeyDictionary[Flag, dict[tuple[str, Look], Seen]]
    fresh: bool = False


class Lease:
    """A session's lease and watches, from its beginning to its end. Safe from several threads."""

    def __init__(self, database: Database, timeout_s: float, within_s: float) -> None:
        """Begins a session. `database` is for this object alone, which closes it. Raises EngineUnavailable, DiskFull."""
        self._database = database
        self._timeout_ms = int(timeout_s * 1_000)
        self._boot = boot_id()
        self._process = os.getpid()
        self._mutex = threading.Lock()
        self._watches = _Watches(weakref.WeakKeyDictionary())
        self._on_state: weakref.WeakSet[Flag] = weakref.WeakSet()
        self._over = False
        self._suspended = False
        self._wake = threading.Event()
        self._data_version: object = None
        self._lapse_check_ms = 0
        with database.transaction(write=True, within_s=within_s) as connection:
            self._until_ms = now_ms() + self._timeout_ms
            for number in lapsed(connection, now_ms(), self._boot):
                end_session(connection, number)
            self.number = next_zxid(connection)
            row = (self.number, self._until_ms, self._timeout_ms, self._boot, self._process)
            connection.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?)", row)
        self._thread = threading.Thread(target=self._keep, name="stook-coordination", daemon=True)
        self._thread.start()

    def state(self, flag: Flag | None = None) -> State:
        """What is known of the session, without asking the store. `flag` is set when it changes."""
        if self._process != os.getpid() or self._over or now_ms() > self._until_ms:
            return State.LOST
        if flag is not None:
            with self._mutex:
                self._on_state.add(flag)
        return State.SUSPENDED if self._suspended else State.OK

    def ended(self, connection: sqlite3.Connection) -> bool:
        """Within a writing transaction: ends all sessions whose lease has passed; whether this one is over."""
        for number in lapsed(connection, now_ms(), self._boot):
            end_session(connection, number)
        return connection.execute("SELECT 1 FROM sessions WHERE number = ?", (self.number,)).fetchone() is None

    def lose(self) -> None:
        """Notes that the session is over; all flags are set, and the thread ends it in the store and itself."""
        if self._process == os.getpid():  # else it is the parent's, and its locks may be held for ever here
            self._over = True
            self._wake.set()
            self._set_all()

    def watch(self, flag: Flag, path: str, look: Look, stat: Stat | None) -> None:
        """Sets the flag, once, when the node no longer looks as in `stat`."""
        with self._mutex:
            self._watches.by_flag.setdefault(flag, {})[path, look] = look(stat)
            self._watches.fresh = True
        self._wake.set()

    def end(self) -> None:
        """Ends the session, in the store too where it answers. Idempotent. In a forked child the parent's goes on."""
        if self._process != os.getpid():
            return
        self.lose()
        self._thread.join(JOIN_S)

    def _end_lapsed(self) -> None:
        within_s = self._timeout_ms / BEATS_PER_TIMEOUT / 1_000  # the next heartbeat must not wait for it
        with self._database.transaction(write=True, within_s=within_s) as connection:
            for number in lapsed(connection, now_ms(), self._boot):
                end_session(connection, number)

    def _keep(self) -> None:
        beat_ms = self._timeout_ms // BEATS_PER_TIMEOUT
        due_ms = now_ms() + beat_ms
        while not self._over:
            pause_s = POLL_S if self._watches.by_flag else min(IDLE_S, beat_ms / 1_000)
            self._wake.wait(pause_s)
            self._wake.clear()
            try:
                if not self._over and now_ms() >= due_ms:
                    due_ms = now_ms() + beat_ms
                    self._beat()
                if not self._over:
                    self._look()
            except StookError:
                self._suspend()
                due_ms = now_ms() + int(POLL_S * 1_000)  # try again soon
            if now_ms() > self._until_ms:
                self.lose()
        if now_ms() <= self._until_ms:
            with suppress(StookError), self._database.transaction(write=True) as connection:  # else its lease ends it
                end_session(connection, self.number)
        self._database.close()

    def _beat(self) -> None:
        left_s = max(self._until_ms - now_ms(), 1) / 1_000
        with self._database.transaction(write=True, within_s=left_s) as connection:
            now, until_ms = now_ms(), now_ms() + self._timeout_ms
            renewed = connection.execute(
                "UPDATE sessions SET until_ms = ? WHERE number = ? AND until_ms >= ?", (until_ms, self.number, now)
            )
        if not renewed.rowcount:
            self.lose()
            return
        self._until_ms = until_ms
        if self._suspended:
            self._suspended = False
            self._set_all()

    def _look(self) -> None:
        """Ends what has lapsed, and sets the flags of what changed."""
        now, ended = now_ms(), False
        if now >= self._lapse_check_ms:
            self._lapse_check_ms = now + int(LAPSE_CHECK_S * 1_000)
            with self._database.transaction(write=False) as connection:
                found = lapsed(connection, now, self._boot)
            if found:
                self._end_lapsed()
                ended = True
        version_seen = self._database.row("PRAGMA data_version")
        if version_seen != self._data_version or self._watches.fresh or ended:
            self._data_version = version_seen
            self._check_watches()

    def _check_watches(self) -> None:
        with self._mutex:
            self._watches.fresh = False
            watched = {flag: dict(seen) for flag, seen in self._watches.by_flag.items()}
        if not watched:
            return
        with self._database.transaction(write=False) as connection:
            stats = {path: read_stat(connection, path) for seen in watched.values() for path, _ in seen}
        for flag, seen in watched.items():
            changed = [key for key, was in seen.items() if key[1](stats[key[0]]) != was]
            with self._mutex:
                kept = self._watches.by_flag.get(flag, {})
                for key in changed:
                    if kept.get(key) == seen[key]:  # else it was set anew in the meantime
                        kept.pop(key, None)
                if not kept:
                    self._watches.by_flag.pop(flag, None)
            if changed:
                flag.set()

    def _suspend(self) -> None:
        if not self._suspended:
            self._suspended = True
            self._set_all()

    def _set_all(self) -> None:
        with self._mutex:
            flags = {*self._watches.by_flag, *self._on_state}
            self._watches.by_flag.clear()
            self._on_state.clear()
        for flag in flags:
            flag.set()
