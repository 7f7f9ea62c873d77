"""What one worker does beside answering: folds pushes into history, applies what a killed writer left behind.

It is a file of its own because it is the only thread that works without a request. The worker with the lowest
number runs it. It must never end the server: a failure is logged and tried again at its next turn.
"""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType
from typing import Final

from stook.app import Platform
from stook.core.errors import Busy, StookError

RECOVER_EVERY_S: Final = 5.0
JOIN_WAIT_S: Final = 10.0
_log: Final = logging.getLogger("stook.http")


class Upkeep:
    """A thread, while inside its `with` block; none when not `on`."""

    def __init__(self, platform: Platform, *, on: bool) -> None:
        self._platform = platform
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True) if on else None

    def __enter__(self) -> Upkeep:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(JOIN_WAIT_S)

    def _run(self) -> None:
        fold_after_s = self._platform.settings.limits.fold_after_s
        folded_s = time.monotonic()
        while not self._ended.wait(min(RECOVER_EVERY_S, max(fold_after_s, 1))):
            try:
                self._platform.recover()
                if time.monotonic() - folded_s >= fold_after_s:
                    self._platform.fold()
                    folded_s = time.monotonic()
            except Busy:
                continue  # another process folds
            except StookError as error:
                _log.warning("upkeep: %s: %s", error.code, error)
