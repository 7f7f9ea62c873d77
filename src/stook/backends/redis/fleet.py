"""The servers together: which of them holds a key, and commands sent to all of them in one round trip.

It is a file of its own because routing, redirections and deadlines are the same for reads and writes, for one server
and many. Every module that speaks to Redis goes through it. It must only be given commands that may run twice, since
an answer may be lost on its way; and it must never wait beyond a call's deadline, nor for a failover.

redis-py's own cluster client is not used: it repeats failing commands for as long as its retries last, and raises
where one node fails, while a read here goes on with what the others answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from redis import exceptions

from stook.backends.redis.address import Address, Place
from stook.backends.redis.layout import SLOTS, slot_of
from stook.backends.redis.node import DRIVER_ERRORS, Node, explain, pack
from stook.backends.redis.scripts import SCRIPTS, Script
from stook.core.errors import EngineUnavailable, InvalidArgument, StookError

ATTEMPTS_MAX: Final = 5  # rounds of one call: redirections, a connection that had died, a script to be loaded
REFRESH_EVERY_S: Final = 0.1  # a cluster's map of slots is asked for no more often than this
_GONE: Final = (exceptions.BusyLoadingError, exceptions.ClusterDownError, exceptions.ReadOnlyError)


class Command(NamedTuple):
    """A command, and the slot of its keys."""

    slot: int
    parts: tuple[Any, ...]


class Failed(NamedTuple):
    """Stands for the answer of a command whose server could not be asked, or refused it."""

    error: StookError


def command(name: str, key: bytes, *arguments: Any) -> Command:
    """A command on one key, or on several of its slot."""
    return Command(slot_of(key), (name, key, *arguments))


def call(script: Script, keys: Sequence[bytes], arguments: Sequence[Any]) -> Command:
    """A script's run on keys of one slot."""
    return Command(slot_of(keys[0]), ("EVALSHA", script.sha, len(keys), *keys, *arguments))


class Fleet:
    """All servers of an address."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._nodes = {place: Node(place, address) for place in address.places}
        self._slots: list[Node | None] = [None] * SLOTS
        self._refreshing = threading.Lock()
        self._refreshed_s = float("-inf")
        self._closed = False
        self.first: Node = next(iter(self._nodes.values()))

    def open(self) -> None:
        """Asks a server who is there. Raises EngineUnavailable where none answers, InvalidSettings, NotSupported."""
        deadline_s = time.monotonic() + self.address.timeout_s
        if self.address.cluster:
            failure = self._refresh(deadline_s)
        else:
            failure = None
            try:
                self.first.ask("PING", deadline_s=deadline_s)
            except DRIVER_ERRORS as error:
                failure = explain(error, self.address.shown)
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Closes idle connections; later calls are refused."""
        self._closed = True
        for node in self._nodes.values():
            node.forget_idle()

    def do(self, commands: Sequence[Command], *, confirm: bool = False) -> list[Any]:
        """The answers, all of them. Raises where any failed; with `confirm`, where too few replicas confirmed."""
        answers = self.run(commands, time.monotonic() + self.address.timeout_s, confirm=confirm)
        for answer in answers:
            if isinstance(answer, Failed):
                raise answer.error
        return answers

    def run(
        self,
        commands: Sequence[Command],
        deadline_s: float,
        *,
        confirm: bool = False,
        received: Callable[[Any], None] | None = None,
    ) -> list[Any]:
        """The answers in the order of the commands, Failed where there is none; all servers are asked at once.

        `received` is told each answer as it comes and may end the call by raising. Raises EngineUnavailable where
        `confirm` is set and a server's writes were confirmed by fewer replicas than the address asks for.
        """
        if self._closed:
            raise InvalidArgument(f"the online store {self.address.shown} was closed", hint="open a new one")
        exchange = Exchange(commands, deadline_s, received)
        exchange.replicas = self.address.replicas if confirm else 0
        waiting: Sequence[int] = range(len(commands))
        for attempt in range(ATTEMPTS_MAX):
            exchange.round(self._by_node(exchange, waiting))
            waiting = self._again(exchange, attempt)
            if not waiting or time.monotonic() >= deadline_s:
                break
        if exchange.unconfirmed:
            raise EngineUnavailable(
                f"written, but confirmed by {min(exchange.unconfirmed)} of {self.address.replicas} replicas within "
                f"{self.address.timeout_s:g} s: {self.address.shown}",
                hint="repeat the call, which is harmless, when the replicas are back",
            )
        return exchange.answers

    def _by_node(self, exchange: Exchange, waiting: Iterable[int]) -> dict[Node, list[int]]:
        groups: dict[Node, list[int]] = {}
        cluster, slots = self.address.cluster, self._slots
        for number in waiting:
            node = exchange.redirected.get(number)
            if node is None:
                node = slots[exchange.commands[number].slot] if cluster else self.first
            if node is None:
                exchange.answers[number] = Failed(EngineUnavailable(f"{self.address.shown}: nobody holds its slot"))
                exchange.lost.append(number)
            else:
                groups.setdefault(node, []).append(number)
                exchange.asked[number] = node
        return groups

    def _again(self, exchange: Exchange, attempt: int) -> list[int]:
        """Which commands are sent once more: those redirected, and those whose server is another one by now."""
        again = list(exchange.repeat)
        if self.address.cluster and (exchange.lost or exchange.moved):
            self._refresh(exchange.deadline_s)
        for number, place, asking in exchange.moved:
            node = exchange.redirected[number] = self._node(place)
            if asking:
                exchange.asking.add(number)
            else:  # whoever gave the slot away knows best; a map told by another member may be behind
                self._slots[exchange.commands[number].slot] = node
            again.append(number)
        for number in exchange.lost:
            exchange.redirected.pop(number, None)
            before = exchange.asked.get(number)
            now = self._slots[exchange.commands[number].slot] if self.address.cluster else self.first
            # an idle connection may have died with its server, which is back: once, a new one is tried
            if now is not None and (now is not before or (attempt == 0 and not now.rests)):
                again.append(number)
        exchange.begin_again()
        return sorted(again)

    def _node(self, place: Place) -> Node:
        return self._nodes.get(place) or self._nodes.setdefault(place, Node(place, self.address))

    def _refresh(self, deadline_s: float) -> StookError | None:
        """Asks a member for the map of slots; the failure where none tells it."""
        with self._refreshing:
            if time.monotonic() - self._refreshed_s < REFRESH_EVERY_S:
                return None
            failure: StookError = EngineUnavailable(f"{self.address.shown}: no member answers")
            for node in sorted(self._nodes.values(), key=lambda node: node.rests):
                if node.rests and time.monotonic() >= deadline_s:
                    break
                try:
                    self._learn(node, node.ask("CLUSTER", "SLOTS", deadline_s=deadline_s))
                except DRIVER_ERRORS as error:
                    failure = explain(error, node.shown)
                    continue
                return None
            self._refreshed_s = time.monotonic()
            return failure

    def _learn(self, teller: Node, ranges: Sequence[Any]) -> None:
        slots: list[Node | None] = [None] * SLOTS
        for low, high, (host, port, *_), *_ in ranges:
            place = (host.decode() if host not in (None, b"", b"?") else teller.place[0], port)
            slots[low : high + 1] = [self._node(place)] * (high + 1 - low)
        self._slots = slots
        self._refreshed_s = time.monotonic()
        there = set(slots) | {self._nodes[place] for place in self.address.places}
        for node in [node for node in self._nodes.values() if node not in there]:
            node.forget_idle()
            del self._nodes[node.place]


class Exchange:
    """One call's commands and answers, through all its rounds."""

    def __init__(
        self, commands: Sequence[Command], deadline_s: float, received: Callable[[Any], None] | None = None
    ) -> None:
        self.commands = commands
        self.deadline_s = deadline_s
        self.received = received
        self.answers: list[Any] = [None] * len(commands)
        self.asked: dict[int, Node] = {}
        self.redirected: dict[int, Node] = {}
        self.asking: set[int] = set()
        self.replicas = 0
        self.unconfirmed: list[int] = []
        self.begin_again()

    def begin_again(self) -> None:
        """Forgets what the last round left to be done."""
        self.lost: list[int] = []  # the server could not be asked
        self.moved: list[tuple[int, Place, bool]] = []
        self.repeat: list[int] = []

    def round(self, groups: dict[Node, list[int]]) -> None:
        """Sends every server its commands, then reads their answers."""
        open_: list[tuple[Node, Any, list[int]]] = []
        try:
            for node, numbers in groups.items():
                connection = self._send(node, numbers)
                if connection is not None:
                    open_.append((node, connection, numbers))
            while open_:
                node, connection, numbers = open_[0]
                whole = self._read(node, connection, numbers)
                open_.pop(0)
                if whole:
                    node.give_back(connection)
                else:
                    node.throw_away(connection)
        finally:
            for node, connection, _ in open_:
                node.throw_away(connection)

    def _send(self, node: Node, numbers: list[int]) -> Any:
        try:
            connection = node.take()
        except DRIVER_ERRORS as error:
            self._lose(node, numbers, error)
            return None
        except StookError as error:  # a server that must not be used
            for number in numbers:
                self.answers[number] = Failed(error)
            return None
        parts: Iterable[tuple[Any, ...]] = (self.commands[number].parts for number in numbers)
        if self.asking:
            parts = chain.from_iterable(
                ((("ASKING",),) if number in self.asking else ()) + (self.commands[number].parts,) for number in numbers
            )
        if self.replicas:
            wait_ms = max(int((self.deadline_s - time.monotonic()) * 800), 1)
            parts = chain(parts, (("WAIT", self.replicas, wait_ms),))
        try:
            connection.send_packed_command(pack(parts), check_health=False)
        except DRIVER_ERRORS as error:
            node.throw_away(connection)
            self._lose(node, numbers, error)
            return None
        return connection

    def _read(self, node: Node, connection: Any, numbers: list[int]) -> bool:
        """Reads the answers; whether all came, so that the connection may be used again."""
        for at, number in enumerate(numbers):
            try:
                if number in self.asking:
                    self.asking.discard(number)
                    self._next(connection)
                answer = self._next(connection)
            except exceptions.ResponseError as error:
                self._refused(node, number, error)
                continue
            except DRIVER_ERRORS as error:
                self._lose(node, numbers[at:], error)
                return False
            self.answers[number] = answer
            if self.received is not None:
                self.received(answer)
        if self.replicas:
            try:
                confirmed = self._next(connection)
            except DRIVER_ERRORS:
                confirmed = 0
            if confirmed < self.replicas:
                self.unconfirmed.append(confirmed)
                return False
        return True

    def _next(self, connection: Any) -> Any:
        return connection.read_response(timeout=max(self.deadline_s - time.monotonic(), 0.001))

    def _refused(self, node: Node, number: int, error: exceptions.ResponseError) -> None:
        self.answers[number] = Failed(explain(error, node.shown))
        if isinstance(error, exceptions.AskError):  # MOVED is one too
            host = error.host or node.place[0]
            self.moved.append((number, (host, error.port), not isinstance(error, exceptions.MovedError)))
        elif isinstance(error, exceptions.NoScriptError | exceptions.TryAgainError):
            self.repeat.append(number)
            if isinstance(error, exceptions.NoScriptError):
                self._teach(node, self.commands[number].parts[1])
        elif isinstance(error, _GONE):
            self.lost.append(number)

    def _teach(self, node: Node, sha: bytes) -> None:
        """Loads a script that the server forgot, as after a restart. Where that fails, so will the repeated command."""
        try:
            node.ask("SCRIPT", "LOAD", SCRIPTS[sha].text, deadline_s=self.deadline_s)
        except DRIVER_ERRORS:
            return

    def _lose(self, node: Node, numbers: Sequence[int], error: Exception) -> None:
        if isinstance(error, exceptions.TimeoutError | TimeoutError):
            node.rest()
        node.forget_idle()
        failed = Failed(explain(error, node.shown))
        for number in numbers:
            self.answers[number] = failed
        if not isinstance(failed.error, EngineUnavailable):
            return
        self.lost.extend(numbers)
