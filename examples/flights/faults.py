"""Clients that go on through faults, and what they saw: pauses, errors, and acknowledged writes that were lost.

It is its own file because it measures while others break things. `cluster_demo.py` starts it and reads it. It must never
count a write as acknowledged that was not, nor repeat a call more often than it says.
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from stook import errors

RETRIES = 1
RETRY_PAUSE_S = 0.05
ANSWER_WAIT_S = 30.0


class Client(threading.Thread):
    """Goes on until it is told to stop; `broken` says with what it ended before that."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stop = threading.Event()
        self.broken = ""

    def run(self) -> None:
        """Goes on."""
        try:
            self.go_on()
        except BaseException as error:
            self.broken = repr(error)
            raise

    def go_on(self) -> None:
        """What the client does."""
        raise NotImplementedError


def longest_gap_s(times: Sequence[float], since: float) -> float:
    """The longest time between two of these instants since one, and until now."""
    all_times = [since, *(t for t in times if t >= since), time.monotonic()]
    return max(after - before for before, after in itertools.pairwise(all_times))


class Asking(Client):
    """One client that asks one question after another over one connection, with one retry, as a careful client does."""

    def __init__(self, endpoint: str, path: str, bodies: Sequence[bytes]) -> None:
        super().__init__()
        parts = urlsplit(endpoint)
        self._address = (parts.hostname or "", parts.port or 80)
        self._path, self._bodies = path, bodies
        self._first: dict[bytes, dict[str, Any]] = {}
        self._connection: http.client.HTTPConnection | None = None
        self.good: list[float] = []
        self.failed: list[tuple[float, str]] = []
        self.retried = 0

    def go_on(self) -> None:
        """Asks until told to stop."""
        number = 0
        while not self.stop.is_set():
            number += 1
            problem = self._ask(self._bodies[number % len(self._bodies)])
            for _ in range(RETRIES if problem else 0):
                self.retried += 1
                time.sleep(RETRY_PAUSE_S)
                problem = self._ask(self._bodies[number % len(self._bodies)])
            if problem:
                self.failed.append((time.monotonic(), problem))
                time.sleep(RETRY_PAUSE_S)
            else:
                self.good.append(time.monotonic())

    def _ask(self, body: bytes) -> str:
        """Nothing when it was answered well, else what went wrong."""
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(*self._address, timeout=ANSWER_WAIT_S)
            self._connection.request("POST", self._path, body, {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                return f"HTTP {answer.status}: {text[:200].decode(errors='replace')}"
            return self._compare(body, json.loads(text))
        except (OSError, http.client.HTTPException) as error:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            return f"{type(error).__name__}: {error}"

    def _compare(self, body: bytes, answer: dict[str, Any]) -> str:
        """Nothing where a question is answered as it was the first time: the same prediction and features, each found or
        missing as then. Nobody changes these features, so anything else is wrong."""
        told = {name: answer[name] for name in ("predictions", "features", "statuses")}
        unread = [name for name, statuses in told["statuses"].items() if "ERROR" in statuses]
        if unread:
            return f"{len(unread)} features could not be read, and say so"
        first = self._first.setdefault(body, told)
        return "" if told == first else "ANOTHER ANSWER THAN BEFORE"

    def pause_s(self, since: float) -> float:
        """The longest time without a good answer since an instant."""
        return longest_gap_s(list(self.good), since)

    def errors(self, since: float) -> list[str]:
        """What failed since an instant though it was tried again."""
        return [problem for at, problem in list(self.failed) if at >= since]


class Writing(Client):
    """One client that writes one numbered thing after another, and keeps which were acknowledged."""

    def __init__(self, write: Callable[[int], object], pause_s: float) -> None:
        super().__init__()
        self._write, self._pause_s = write, pause_s
        self.acknowledged: list[tuple[float, int]] = []
        self.refused: list[tuple[float, str]] = []

    def go_on(self) -> None:
        """Writes until told to stop; a number that was refused is not written again."""
        number = 0
        while not self.stop.is_set():
            number += 1
            try:
                self._write(number)
            except errors.StookError as error:
                self.refused.append((time.monotonic(), f"{error.code}: {error}"))
            else:
                self.acknowledged.append((time.monotonic(), number))
            self.stop.wait(self._pause_s)

    def numbers(self) -> list[int]:
        """All that were acknowledged."""
        return [number for _, number in list(self.acknowledged)]

    def pause_s(self, since: float) -> float:
        """The longest time without an acknowledgement since an instant."""
        return longest_gap_s([at for at, _ in list(self.acknowledged)], since)
