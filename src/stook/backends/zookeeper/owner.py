"""One session's client and the thread that owns it; the flags that wait for it.

It is a file of its own because when a session counts as lost is one decision, apart from what calls do. Coordination of
this room makes one for each session. It must never call kazoo from kazoo's own threads, nor wait in them.

The session counts as lost when the ensemble says so, when there was no connection for as long as it may last (the
ensemble will say so, but only to whoever reaches it), and when this process itself did not run for that long: kazoo
would still call it connected for a moment.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from kazoo.exceptions import KazooException
from kazoo.protocol.states import KazooState

from stook.backends.zookeeper.client import OneSession
from stook.core.errors import EngineUnavailable
from stook.core.ports.coordination import Flag, State

TICK_S: Final = 0.1
END_S: Final = 30.0  # kazoo waits up to a timeout for its threads

Key = tuple[str, str]  # what is watched ("node" or "children"), and where


class _Watch:
    """The one watch that the server holds for a key, and the flags that share it."""

    def __init__(self) -> None:
        self.flags: weakref.WeakSet[Flag] = weakref.WeakSet()


class Owner:
    """A session on an ensemble, from its beginning to its end. Safe from several threads."""

    def __init__(self, hosts: str, session_s: float, within_s: float) -> None:
        """Begins a session. Raises EngineUnavailable when no server with a quorum answers within `within_s`."""
        self._process = os.getpid()
        self._mutex = threading.Lock()
        self._watches: dict[Key, _Watch] = {}
        self._on_state: weakref.WeakSet[Flag] = weakref.WeakSet()
        self._lost = threading.Event()
        self._connected = threading.Event()
        self._ticked_s = time.monotonic()
        self.number = 0
        self.client = OneSession(hosts, session_s, self._changed)
        self._thread = threading.Thread(target=self._own, name="stook-coordination", daemon=True)
        self._thread.start()
        if not self._connected.wait(within_s):
            self.lose()
            raise EngineUnavailable(
                f"no ZooKeeper server of {hosts} answered within {within_s:g} s",
                hint="a majority of the ensemble must run: ask each with `echo srvr | nc HOST PORT`",
            )

    @property
    def timeout_s(self) -> float:
        """The timeout that the ensemble granted, which may not be the one asked for."""
        return float(self.client.granted_s)

    def state(self, flag: Flag | None = None) -> State:
        """What is known of the session, without asking. `flag` is set when it changes."""
        if self._process != os.getpid() or self._lost.is_set() or self._silent():
            return State.LOST
        if flag is not None:
            with self._mutex:
                self._on_state.add(flag)
        return State.OK if self.client.connected else State.SUSPENDED

    def lose(self) -> None:
        """Notes that the session is over; all flags are set, and the owning thread ends the client."""
        if self._process != os.getpid():
            return  # it is the parent's, and its locks may be held for ever here
        self._lost.set()
        self._set_state_flags()
        with self._mutex:
            watches, self._watches = list(self._watches.values()), {}
        for watch in watches:
            _set_all(watch.flags)

    def end(self) -> None:
        """Ends the session and its threads. Idempotent. In a forked child the parent's goes on."""
        if self._process == os.getpid():
            self.lose()
            self._thread.join(END_S)

    def watcher(self, kind: str, path: str, flag: Flag) -> Callable[[Any], None] | None:
        """What the server shall call, or None where it will call already; the flag is set then.

        Must be asked before the read that it goes with, and be given back with `unwatch` where that read fails.
        """
        key = (kind, path)
        with self._mutex:
            present = self._watches.get(key)
            if present is not None:
                present.flags.add(flag)
                return None
            watch = self._watches[key] = _Watch()
            watch.flags.add(flag)
        return lambda _event: self._fire(key, watch)

    def unwatch(self, kind: str, path: str) -> None:
        """The read failed, and there may be no watch. Whoever shares it must read again."""
        with self._mutex:
            watch = self._watches.pop((kind, path), None)
        if watch is not None:
            _set_all(watch.flags)

    def _fire(self, key: Key, watch: _Watch) -> None:
        with self._mutex:
            if self._watches.get(key) is watch:
                del self._watches[key]
        _set_all(watch.flags)

    def _own(self) -> None:
        self.client.start_async()
        while not self._lost.wait(TICK_S):
            if self._silent():
                self.lose()
            self._ticked_s = time.monotonic()
        with suppress(KazooException, OSError):  # what could not be ended in order, the server ends by its timeout
            self.client.end()

    def _silent(self) -> bool:
        """Whether nothing was heard, or nothing ran here, for as long as the session may last."""
        now_s = time.monotonic()
        suspended_s = self.client.suspended_since_s
        return now_s - self._ticked_s > self.timeout_s or (
            suspended_s is not None and now_s - suspended_s > self.timeout_s
        )

    def _changed(self, state: str) -> None:
        # In kazoo's thread: flags only.
        if state == KazooState.CONNECTED and not self.number:
            self.number = int(self.client.client_id[0])
            self._connected.set()
        if state == KazooState.LOST and self.number:
            self._lost.set()
        self._set_state_flags()

    def _set_state_flags(self) -> None:
        with self._mutex:
            flags = set(self._on_state)
            self._on_state.clear()
        _set_all(flags)


def _set_all(flags: weakref.WeakSet[Flag] | set[Flag]) -> None:
    for flag in list(flags):
        flag.set()
