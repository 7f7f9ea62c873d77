"""The server's sockets: a port taken by one server only, and a door that closes before the house does.

It is a file of its own because it is all that the server must know of sockets; the HTTP server beneath keeps them
to itself. `server` takes the port, workers close their listeners. It must never read or write a byte of a request.

The workers beneath each listen with SO_REUSEPORT, so that a second server on the same port would share it
unnoticed; hence the lock and the plain bind. A listener that closes resets the connections that the kernel has
set up but nobody has accepted yet; hence `shut_door`, which lets no new ones come to be while those are served.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from stook.core.errors import Busy, InvalidArgument

BIND_WAIT_S: Final = 1.5  # a killed server's workers end within this
BIND_PAUSE_S: Final = 0.05
UNREAD_WAIT_S: Final = 30.0
SO_ATTACH_FILTER: Final = 26  # Linux, asm-generic/socket.h
_DROP_ALL: Final = struct.pack("HBBI", 0x06, 0, 0, 0)  # one classic BPF instruction: return 0, keep no packet
_DESCRIPTORS: Final = Path("/dev/fd")


@contextmanager
def taken_port(host: str, port: int) -> Iterator[tuple[str, int]]:
    """Holds a port for one server: the address and port that workers then listen on; port 0 is any free one.

    Raises Busy when the port is in use, InvalidArgument when the host is not this machine's.
    """
    family, address = _resolve(host, port)
    deadline_s = time.monotonic() + BIND_WAIT_S
    while True:
        try:
            lock, held, number = _take(family, address, port)
            break
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise InvalidArgument(
                    f"cannot listen on {host}: {error.strerror}", hint="name one of this machine's addresses"
                ) from None
            if error.errno == errno.EACCES:
                raise InvalidArgument(
                    f"port {port} needs privileges: {error.strerror}", hint="choose one above 1023"
                ) from None
            if time.monotonic() > deadline_s:
                raise Busy(
                    f"port {port} on {host} is in use",
                    hint="stop the server that has it, or choose another with --port",
                ) from None
            time.sleep(BIND_PAUSE_S)
    with lock, held:
        yield address, number


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InvalidArgument(f"there is no host {host!r}: {error}", hint="give an address such as 127.0.0.1") from None
    family, _, _, _, where = found[0]
    return family, str(where[0])


def _take(family: socket.AddressFamily, address: str, port: int) -> tuple[socket.socket, socket.socket, int]:
    """The lock, a socket that keeps the port without listening, and the port. Raises OSError."""
    with socket.socket(family, socket.SOCK_STREAM) as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        plain.bind((address, port))
        number: int = plain.getsockname()[1]
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "linux":
            lock.bind(f"\0stook-serve-{address}-{number}")  # an abstract name: it ends with its holder
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((address, number))
    except OSError:
        lock.close()
        held.close()
        raise
    return lock, held, number


def listeners(port: int) -> list[socket.socket]:
    """Duplicates of this process's sockets that listen on a port; the caller closes them."""
    found = []
    for entry in os.listdir(_DESCRIPTORS):  # noqa: PTH208  names, not paths, are what is wanted
        with suppress(OSError):
            candidate = socket.socket(fileno=os.dup(int(entry)))
            if _listens(candidate, port):
                found.append(candidate)
            else:
                candidate.close()
    return found


def _listens(candidate: socket.socket, port: int) -> bool:
    try:
        accepts = candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        return bool(accepts) and candidate.family != socket.AF_UNIX and candidate.getsockname()[1] == port
    except OSError:
        return False


def drop_who_reads_nothing(port: int) -> int:
    """Lets the kernel end connections whose client takes nothing of its answer for UNREAD_WAIT_S, where it can.

    Connections accepted from now on inherit it from their listener. How many sockets listen is answered.
    """
    found = listeners(port)
    for listener in found:
        with listener, suppress(OSError, AttributeError):  # TCP_USER_TIMEOUT is Linux's
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNREAD_WAIT_S * 1_000))
    return len(found)


def shut_door(port: int) -> None:
    """Lets no new connection reach this process; those that exist, and those waiting to be accepted, live on.

    Whoever connects now is answered by the kernel only when the listener is closed (refused) or another server
    listens (accepted), so that nothing is ever sent in vain. Linux only; elsewhere it does nothing.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(_DROP_ALL)
    for listener in listeners(port):
        with listener, suppress(OSError):  # a sandbox may forbid filters: then the door shuts a moment later
            listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program)))
