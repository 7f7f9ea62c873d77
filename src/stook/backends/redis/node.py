"""One Redis server: its connections, whether it may be used at all, and what its failures mean.

It is a file of its own because a lone server and each member of a cluster are spoken to alike. `fleet` calls it. It
must never send a command twice by itself: whether that is harmless, and where to, is the fleet's to say.

A connection is checked once, when it is made: the server's age, its role, and that it never evicts. A server that let
a deadline pass rests for REST_S: calls do without it at once instead of waiting for it each in turn.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any, Final

from hiredis import pack_command
from redis import exceptions
from redis.connection import Connection

from stook.backends.redis.address import Address, Place
from stook.backends.redis.scripts import SCRIPTS
from stook.core.errors import (
    CorruptStore,
    DiskFull,
    EngineUnavailable,
    InvalidSettings,
    NotSupported,
    StookError,
    first_line,
)
from stook.core.ports.keyvalue import over_limit

CONNECTIONS_MAX: Final = 128  # at once to one server, from one process
REST_S: Final = 1.0
OLDEST: Final = (6, 2)
READ_BYTES: Final = 1 << 16
DRIVER_ERRORS: Final = (exceptions.RedisError, OSError)


class Node:
    """The connections of this process to one server. Safe from threads, and across a fork."""

    def __init__(self, place: Place, address: Address) -> None:
        self.place = place
        self.shown = f"{place[0]}:{place[1]}"
        self._address = address
        self._resting_until_s = 0.0
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._idle: deque[Any] = deque()
        self._counting = threading.Lock()
        self._made = 0

    @property
    def rests(self) -> bool:
        """Whether it let a deadline pass a moment ago."""
        return time.monotonic() < self._resting_until_s

    def take(self) -> Any:
        """A connection, to be given back or thrown away. Raises the driver's errors, and ours for a server refused."""
        if self.rests:
            # no TimeoutError, which would let it rest again, and so for ever
            raise exceptions.ConnectionError(f"{self.shown} did not answer in time a moment ago")
        if self._pid != os.getpid():
            self._begin()  # the parent's connections are the parent's
        connection = self._pop()
        if connection is None:
            with self._counting:
                if self._made >= CONNECTIONS_MAX:
                    raise exceptions.ConnectionError(f"all {CONNECTIONS_MAX} connections to {self.shown} are in use")
                self._made += 1
            with ExitStack() as stack:
                stack.callback(self._uncount)
                connection = self._connect()
                stack.pop_all()
        return connection

    def _pop(self) -> Any:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _uncount(self) -> None:
        with self._counting:
            self._made -= 1

    def give_back(self, connection: Any) -> None:
        """Keeps a connection, all answers of which were read, for the next call."""
        self._idle.append(connection)

    def throw_away(self, connection: Any) -> None:
        """Closes a connection on which answers are owed."""
        connection.disconnect()
        self._uncount()

    def forget_idle(self) -> None:
        """Closes the connections that nobody uses, as when one of them proved dead."""
        while (connection := self._pop()) is not None:
            self.throw_away(connection)

    def rest(self) -> None:
        """Notes that it let a deadline pass."""
        self._resting_until_s = time.monotonic() + REST_S

    def ask(self, *command: Any, deadline_s: float) -> Any:
        """The answer to one command. Raises the driver's errors."""
        connection = self.take()
        whole = False
        try:
            connection.send_packed_command(pack([command]), check_health=False)
            answer = connection.read_response(timeout=max(deadline_s - time.monotonic(), 0.001))
            whole = True
            return answer
        except exceptions.TimeoutError:
            self.rest()
            raise
        except exceptions.ResponseError:
            whole = True
            raise
        finally:
            if whole:
                self.give_back(connection)
            else:
                self.throw_away(connection)

    def _connect(self) -> Any:
        address = self._address
        connection = Connection(
            host=self.place[0],
            port=self.place[1],
            db=address.database,
            username=address.username,
            password=address.password,
            socket_timeout=address.timeout_s,
            socket_connect_timeout=address.timeout_s,
            socket_read_size=READ_BYTES,
            protocol=2,
            driver_info=None,
        )
        with ExitStack() as stack:
            stack.callback(connection.disconnect)
            try:
                connection.connect()
                self._check(connection)
            except exceptions.TimeoutError:
                self.rest()
                raise
            stack.pop_all()
        return connection

    def _check(self, connection: Any) -> None:
        """Refuses a server that would lose rows or cannot run our commands; leaves it knowing our scripts."""
        commands = [("INFO",), *(("SCRIPT", "LOAD", script.text) for script in SCRIPTS.values())]
        connection.send_packed_command(pack(commands), check_health=False)
        answers = [connection.read_response() for _ in commands]
        info = dict(line.split(":", 1) for line in answers[0].decode().splitlines() if ":" in line)
        check_info(info, self.shown, self._address)


def pack(commands: Iterable[tuple[Any, ...]]) -> list[bytes]:
    """Commands as they are sent; the driver's own packing takes twice as long."""
    return [b"".join(map(pack_command, commands))]


def check_info(info: dict[str, str], shown: str, address: Address) -> None:
    """Judges what INFO says. Raises NotSupported for an old server, InvalidSettings for one that evicts or is no
    cluster, or is one unasked."""
    release = info.get("redis_version", "0")
    if tuple(int(part) for part in release.split(".")[:2] if part.isdigit()) < OLDEST:
        raise NotSupported(
            f"the server {shown} is Redis {release}", hint=f"use {'.'.join(map(str, OLDEST))} or newer, or Valkey"
        )
    is_cluster = info.get("redis_mode") == "cluster"
    if is_cluster != address.cluster:
        scheme = "redis+cluster" if is_cluster else "redis"
        raise InvalidSettings(
            f"the server {shown} is {'a member of' if is_cluster else 'no'} cluster", hint=f"write {scheme}://{shown}"
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and not address.may_evict:
        raise InvalidSettings(
            f"the server {shown} throws keys away when its memory is full (maxmemory-policy {policy})",
            hint="set maxmemory-policy noeviction there, or accept lost rows with ?evict=allowed",
        )


def explain(error: Exception, shown: str) -> StookError:
    """The error of our tree for a failure of the driver or an error that the server answered."""
    words = first_line(error)
    if isinstance(error, exceptions.AuthenticationError | exceptions.NoPermissionError):
        return InvalidSettings(f"{shown} refuses us: {words}", hint="check user and password in engines.online")
    if isinstance(error, exceptions.OutOfMemoryError):
        return DiskFull(
            f"{shown} has no memory left; nothing stored was harmed", hint="raise its maxmemory, or drop generations"
        )
    if words.startswith("MISCONF"):
        return DiskFull(f"{shown} cannot write its disk: {words}", hint="free space there and repeat")
    if words.startswith("TOOLARGE"):
        return over_limit()
    if words.startswith("WRONGTYPE"):
        return CorruptStore(
            f"a key of ours in {shown} holds something else: {words}",
            hint="give this project a prefix of its own in engines.online",
        )
    return EngineUnavailable(f"{shown} does not answer: {words}")
