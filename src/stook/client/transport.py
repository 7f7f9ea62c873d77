"""HTTP to one server: kept connections, timeouts, and errors in our own tree.

It is a file of its own because it knows sockets and nothing of features. `Remote` calls it. It must never repeat a
request that changes something: only reads are repeated, and only when the connection was lost.
"""

from __future__ import annotations

import http.client
import json
import select
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from stook.core.errors import EngineUnavailable, InvalidArgument, StookError, TryAgain

CONNECT_TIMEOUT_S: Final = 5.0
READ_ATTEMPTS_MAX: Final = 3
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Answer:
    """A successful answer: its headers in lower case, and the whole body."""

    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Transport:
    """Requests to one server, over one kept connection a thread. Thread-safe."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or port == -1 or parts.query or parts.fragment:
            raise InvalidArgument(f"{url!r} is not a server's address", hint="write it as http://host:6566")
        if not (token.isascii() and token.isprintable()):
            raise InvalidArgument("the token has characters that HTTP cannot carry", hint="use printable ASCII")
        self.url = url.rstrip("/")
        self._prefix = parts.path.rstrip("/")
        self._host, self._port = parts.hostname, port or _DEFAULT_PORTS[parts.scheme]
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._local = threading.local()
        self._lock = threading.Lock()
        self._connections: set[http.client.HTTPConnection] = set()

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        headers: Mapping[str, str],
        timeout_s: float | None,
        repeat: bool,
    ) -> Answer:
        """Sends a request and reads its answer.

        `repeat`: it changes nothing, so it is sent again when the connection is lost. `timeout_s` bounds each wait
        for the server (None: no bound). Raises the server's error as the class it was there, or EngineUnavailable
        naming the server when it does not answer.
        """
        attempts = READ_ATTEMPTS_MAX if repeat else 1
        for attempt in range(1, attempts + 1):
            try:
                return self._once(method, path, body, {**self._headers, **headers}, timeout_s)
            except TimeoutError:
                self._drop()
                raise self._unavailable(f"did not answer within {timeout_s} s") from None
            except (OSError, http.client.HTTPException) as error:
                self._drop()
                refused = isinstance(error, ConnectionRefusedError)
                if refused or attempt == attempts:
                    why = "refuses connections" if refused else f"lost the connection: {error or type(error).__name__}"
                    raise self._unavailable(why) from None
        raise AssertionError("unreachable")

    def _once(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], timeout_s: float | None
    ) -> Answer:
        connection = self._connection()
        assert connection.sock is not None
        connection.sock.settimeout(timeout_s)
        connection.request(method, self._prefix + path, body, headers)
        response = connection.getresponse()
        content = response.read()
        received = {name.lower(): value for name, value in response.getheaders()}
        if response.will_close:
            self._drop()
        if response.status >= 400:
            raise self._error(response.status, received, content)
        return Answer(received, content)

    def _connection(self) -> http.client.HTTPConnection:
        """This thread's connection, made anew when the server has closed it meanwhile."""
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is not None and connection.sock is not None:
            poller = select.poll()
            poller.register(connection.sock, select.POLLIN)
            if not poller.poll(0):
                return connection
            self._drop()
        connection = self._kind(self._host, self._port, timeout=CONNECT_TIMEOUT_S)
        connection.connect()
        self._local.connection = connection
        with self._lock:
            self._connections.add(connection)
        return connection

    def _drop(self) -> None:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            with self._lock:
                self._connections.discard(connection)
            self._local.connection = None

    def close(self) -> None:
        """Closes every thread's connection. Idempotent."""
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def _unavailable(self, why: str) -> EngineUnavailable:
        return EngineUnavailable(f"the server at {self.url} {why}", hint="is `stook serve` running there?")

    def _error(self, status: int, headers: Mapping[str, str], content: bytes) -> StookError:
        try:
            detail = json.loads(content)["error"]
            code, message, hint = str(detail["code"]), str(detail["message"]), str(detail["hint"])
        except (ValueError, KeyError, TypeError):
            return self._unavailable(f"answers {status}, not as a stook server does")
        return remote_error(code, message, hint, headers.get("retry-after", ""))


def remote_error(code: str, message: str, hint: str, retry_after: str) -> StookError:
    """The error of the class that has this code; the root's for an unknown one.

    >>> remote_error("unknown_feature", "no such view", "", "")
    UnknownFeature('no such view')
    """
    kinds: list[type[StookError]] = [StookError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    found = next((kind for kind in kinds if kind.code == code), StookError)
    if issubclass(found, TryAgain):
        return found(message, hint=hint, retry_after_s=float(retry_after) if retry_after.isdigit() else 1.0)
    return found(message, hint=hint)
