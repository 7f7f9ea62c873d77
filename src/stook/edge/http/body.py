"""Requests in: who calls, how long the body may be, how deep its JSON, and what shape it must have.

It is a file of its own because everything that can be wrong with a request before its meaning is found here, with
limits that hold for any client. Handlers call it. It must never keep more of a body than its limit.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import msgspec
import numpy as np
from starlette.requests import ClientDisconnect, Request

from stook.core.errors import Busy, InvalidArgument, NotSupported, TooLarge, TooSlow, Unauthorized

T = TypeVar("T")
MIB: Final = 1 << 20
HELD_FACTOR: Final = 4  # how many limits' worth of bodies one worker holds at once
BODY_WAIT_S: Final = 15.0  # for a body to come in, and a second more for each BODY_BYTES_PER_S of it
BODY_BYTES_PER_S: Final = 32_768
DISCARD_FACTOR: Final = 8  # how many limits' worth of a body too long is read away, so that the client reads our answer
_STRINGS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)  # possessive: no frame a character
_OPEN, _CLOSE = np.zeros(256, np.int8), np.zeros(256, np.int8)
_OPEN[[ord("["), ord("{")]] = 1
_CLOSE[[ord("]"), ord("}")]] = 1
_STEP: Final = _OPEN - _CLOSE


def check_token(request: Request, token: str) -> None:
    """Raises Unauthorized unless the call carries the server's bearer token, where it has one."""
    if not token:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.encode())
    if scheme.lower() != "bearer" or not same:
        why = "is wrong" if scheme else "is missing"
        raise Unauthorized(
            f"the bearer token {why}", hint="send `Authorization: Bearer TOKEN`; stook.toml has serve.token"
        )


class Bodies:
    """The bodies that one worker holds: each within a limit, all within HELD_FACTOR limits, none waited for forever."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._held_bytes = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The whole body, also of a chunked request, counted as held while inside.

        Raises TooLarge and Busy, after reading a bounded rest away, TooSlow, NotSupported for a body that is encoded.
        """
        encoding = request.headers.get("content-encoding", "identity")
        if encoding.strip().lower() not in ("", "identity"):
            raise NotSupported(
                f"the body is encoded as {encoding!r}", hint="send it as it is, without Content-Encoding"
            )
        chunks: list[bytes] = []
        try:
            yield await self._collect(request, chunks)
        finally:
            self._held_bytes -= sum(map(len, chunks))

    async def _collect(self, request: Request, chunks: list[bytes]) -> bytes:
        """Appends to `chunks` what is held, and counts it."""
        size, crowded = 0, False
        started_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(started_s + BODY_WAIT_S) as patience:
                more = True
                while more:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    chunk, more = message.get("body", b""), message.get("more_body", False)
                    size += len(chunk)
                    crowded = crowded or self._held_bytes + len(chunk) > self.limit_bytes * HELD_FACTOR
                    if size <= self.limit_bytes and not crowded:
                        chunks.append(chunk)
                        self._held_bytes += len(chunk)
                    else:
                        self._held_bytes -= sum(map(len, chunks))
                        chunks.clear()
                        if size > self.limit_bytes * DISCARD_FACTOR:
                            break
                    if more:
                        patience.reschedule(started_s + BODY_WAIT_S + size / BODY_BYTES_PER_S)
        except TimeoutError:
            raise TooSlow(
                f"the body stopped, or came too slowly, after {size} bytes",
                hint=f"send all of it, at {BODY_BYTES_PER_S >> 10} KiB a second or more",
            ) from None
        if size > self.limit_bytes:
            raise TooLarge(
                f"the body is over the limit of {self.limit_bytes // MIB} MiB",
                hint="send less at a time, or raise serve.body_limit_mib in stook.toml",
            )
        if crowded:
            raise Busy("too many large bodies are being answered", hint="repeat it later, or start more workers")
        return b"".join(chunks)


def decode(body: bytes, shape: type[T], *, depth_max: int) -> T:
    """The body as a message. Raises InvalidArgument naming place and mend, TooLarge when nested too deep.

    >>> decode(b'{"a": 1}', dict[str, int], depth_max=4)
    {'a': 1}
    """
    check_depth(body, depth_max)
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise InvalidArgument(
            f"the body is not as it must be: {error}", hint="GET /openapi.json shows its shape"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"the body is not JSON: {error}", hint="send one JSON object in UTF-8") from None


def check_depth(body: bytes, depth_max: int) -> None:
    """Raises TooLarge when brackets nest deeper than `depth_max`. The body need not be JSON.

    >>> check_depth(b'{"a": "[[[[[["}', 2)
    """
    if body.count(b"[") + body.count(b"{") <= depth_max:
        return
    bare = np.frombuffer(_STRINGS.sub(b"", body), np.uint8)
    if len(bare) and int(np.cumsum(_STEP[bare], dtype=np.int32).max()) > depth_max:
        raise TooLarge(
            f"the JSON nests deeper than {depth_max} levels",
            hint="flatten it, or raise serve.json_depth_max in stook.toml",
        )
