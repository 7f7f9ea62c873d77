"""kazoo's client, made to fail at once where it would wait, and to be one session only.

It is a file of its own because it leans on kazoo's inside, which a new kazoo may move: what must be looked at then
stands here. Coordination of this room makes one client for each session. It must never send a request twice, nor one that
waited for a connection.

kazoo since 2.7 queues requests while it has no connection and sends them when it has one again, which may be long after
whoever asked has given up; and after an expiry it silently begins another session. Neither happens here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from kazoo.client import KazooClient
from kazoo.exceptions import ZookeeperError
from kazoo.protocol.states import KazooState, KeeperState
from kazoo.retry import KazooRetry

RECONNECT_PAUSE_MAX_S: Final = 1.0
# Whoever configures logging hears what kazoo says; nobody else's terminal is written to.
_LOGGER: Final = logging.getLogger("stook.zookeeper")
_LOGGER.addHandler(logging.NullHandler())
_UP: Final = (KeeperState.CONNECTED, KeeperState.CONNECTED_RO)


class NotSent(ZookeeperError):  # type: ignore[misc]  # kazoo has no types
    """There was no connection; the request never left this process."""


class OneSession(KazooClient):  # type: ignore[misc]  # kazoo has no types
    """A client that lives as long as one session. `changed` is called with each state, and must not block."""

    def __init__(self, hosts: str, timeout_s: float, changed: Callable[[str], None]) -> None:
        retry = KazooRetry(max_tries=-1, max_delay=RECONNECT_PAUSE_MAX_S)
        super().__init__(hosts=hosts, timeout=timeout_s, connection_retry=retry, logger=_LOGGER)
        self.granted_s = timeout_s
        self.suspended_since_s: float | None = None
        self._changed = changed
        self._ask = self._connection._invoke  # noqa: SLF001  the granted timeout is told nowhere else
        self._connection._invoke = self._note_granted  # noqa: SLF001
        self.add_listener(self._listen)

    def _note_granted(self, timeout: float, request: Any, xid: int | None = None) -> Any:
        answer = self._ask(timeout, request, xid)
        granted_ms = getattr(answer[0], "time_out", 0) if isinstance(answer, tuple) else 0
        if granted_ms > 0:
            self.granted_s = granted_ms / 1_000
        return answer

    def _listen(self, state: str) -> None:
        self.suspended_since_s = time.monotonic() if state == KazooState.SUSPENDED else None
        self._changed(state)

    def _call(self, request: Any, async_object: Any) -> Any:
        if self._state == KeeperState.CONNECTING:
            async_object.set_exception(NotSent())
            return False
        return super()._call(request, async_object)

    def _notify_pending(self, state: Any) -> None:
        self._drop_queue()
        super()._notify_pending(state)

    def _session_callback(self, state: Any) -> None:
        if state in _UP:
            # Whatever came into the queue while the connection was going down waited for this one: too late for it.
            # This runs in the thread that sends, so that nothing is sent meanwhile.
            self._drop_queue()
        super()._session_callback(state)
        if state == KeeperState.EXPIRED_SESSION:
            self._stopped.set()  # else kazoo begins another session

    def _drop_queue(self) -> None:
        kept = []
        while self._queue:
            request, async_object = self._queue.popleft()
            if async_object is None:
                kept.append((request, async_object))  # kazoo's own request to close
            else:
                async_object.set_exception(NotSent())
        self._queue.extend(kept)

    def end(self) -> None:
        """Ends the session, if it goes on, and all threads. May take as long as a timeout."""
        if self._stopped.is_set():
            self._safe_close()
        else:
            self.stop()
        self.close()
