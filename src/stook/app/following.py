"""The registry as it was last seen, kept current by a thread beside the requests.

It is a file of its own because it is the one thread of an embedded platform, and because who answers requests must not wait
for records that are a network away. `Parts` owns one where the records' engine is not at hand. It must never make anybody
wait who can be answered from what is known, nor take a registry that cannot be seen for one that is empty.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from stook.core.errors import StookError
from stook.registry.catalogue import Catalogue
from stook.registry.registry import REFRESH_AFTER_S, Registry

STOP_WAIT_S: Final = 5.0
_log: Final = logging.getLogger("stook")


class Following:
    """Looks at the registry four times a second, from the first call on. Thread-safe."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._listeners: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._said = ""

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls the listener in the following thread after each look; errors of ours that it raises are said and
        survived."""
        self._listeners.append(listener)

    def catalogue(self) -> Catalogue:
        """The catalogue as last seen: a quarter of a second old, older only while the records do not answer.

        The first call looks itself. Raises EngineUnavailable, then only.
        """
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._stopping.is_set():
                    self._registry.catalogue(fresh=True)
                    self._thread = threading.Thread(target=self._follow, name="stook-follow", daemon=True)
                    self._thread.start()
        return self._registry.seen

    def _follow(self) -> None:
        while not self._stopping.wait(REFRESH_AFTER_S):
            try:
                self._registry.catalogue(fresh=True)
                for listener in self._listeners:
                    listener()
                self._said = ""
            except StookError as error:
                if error.code != self._said:
                    self._said = error.code
                    _log.warning("going on with definitions as last seen: %s", error)

    def close(self) -> None:
        """Ends the thread, where it is not within a call that waits; that one ends by itself. Idempotent."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_WAIT_S)
