"""The door to coordination: a small tree of nodes that all processes see in one order, with sessions and watches.

It is a port so that one file on a laptop and an ensemble of servers carry the same recipes. The recipes of `cluster`
are built on it, and the app hands it to the command line. It must never grow a recipe (a lock, a queue): those
belong to `cluster`, over these calls only.

**Order.** All changes of all clients stand in one order; each has a number of 64 bits, its `zxid`, larger than all
before, also across restarts. A client sees its own writes, and never an older state after a newer one. What another
client wrote is seen at once by the embedded engines, and at the latest behind a `sync` by all.

**Sessions.** An opened `Coordination` holds one session. It is kept alive in the background for as long as the process
runs and reaches the store; when the store has not heard of it for `timeout_s` the session is over, for good, and the
ephemeral nodes made in it vanish. SUSPENDED means that the store does not answer now: the session may or may not go on, so
that nothing it protects may be written. LOST means that it is over: every call but `session`, `renew` and `close` raises
SessionLost, until `renew` begins another. A process that was stopped for longer than the timeout learns LOST at its
next call.

**Deadlines.** Each call ends within `within_s` seconds. A read that does not raises EngineUnavailable. A write raises
EngineUnavailable where nothing was sent, and OutcomeUnknown where it was sent and no answer came: it is applied once
or not at all, and only reading tells which. No call is sent twice on its own account. In SUSPENDED calls fail at once.

**Watches.** A flag handed to a read is set, once, when what was read is no longer so, and when the session is suspended or
lost; then read again. What came and went in between may stay unseen. A flag may be handed to many reads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from stook.core.errors import InvalidArgument, TooLarge

ANY: Final = -1
CALL_S: Final = 10.0  # a call's deadline where none is said
REQUEST_BYTES_MAX: Final = 1_048_575  # ZooKeeper's own limit of a request (jute.maxbuffer)
OPERATION_BYTES: Final = 512  # what a request adds to an operation's path and data, with room to spare
OPERATIONS_MAX: Final = 1_000  # of one multi
PATH_BYTES_MAX: Final = 1_024
CHILDREN_MAX: Final = 10_000  # more are not listed: an answer has no limit of its own in the protocol
SEQUENCE_MAX: Final = 2**31 - 1  # ZooKeeper's counter has 32 bits with a sign
SEQUENCE_DIGITS: Final = 10
# https://zookeeper.apache.org/doc/current/zookeeperProgrammers.html#ch_zkDataModel
_FORBIDDEN: Final = re.compile("[\0-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff]")


class State(Enum):
    """What is known of a session."""

    OK = "ok"
    SUSPENDED = "suspended"
    LOST = "lost"


class Flag(Protocol):
    """What a watch sets; `threading.Event` is one."""

    def set(self) -> None:
        """Notes that something changed. Must not block."""
        ...


@dataclass(frozen=True)
class Session:
    """A session as it is now: its number, its state, and the timeout that the store granted (not the one asked for)."""

    number: int
    state: State
    timeout_s: float


@dataclass(frozen=True)
class Stat:
    """What the store knows of a node. Times are the store's wall clock, for people; no decision may use them."""

    czxid: int  # the change that created it
    mzxid: int  # the last change of its data
    pzxid: int  # the last change that created or deleted a child
    ctime_us: int
    mtime_us: int
    data_version: int  # how often its data was set
    children_version: int  # how often a child was created or deleted
    ephemeral_owner: int  # the session that it vanishes with; 0: it stays
    data_bytes: int
    children: int


@dataclass(frozen=True)
class Node:
    """A node: where it is, what it holds, what is known of it."""

    path: str
    data: bytes
    stat: Stat


@dataclass(frozen=True)
class Create:
    """Create a node; `sequential` appends ten digits that grow with every child its parent ever had."""

    path: str
    data: bytes = b""
    ephemeral: bool = False
    sequential: bool = False


@dataclass(frozen=True)
class Set:
    """Set a node's data where its data version is `expected` (ANY: whatever it is)."""

    path: str
    data: bytes
    expected: int = ANY


@dataclass(frozen=True)
class Delete:
    """Delete a node where its data version is `expected` (ANY: whatever it is)."""

    path: str
    expected: int = ANY


@dataclass(frozen=True)
class Check:
    """Let all fail unless the node is there with this data version (ANY: whatever it is)."""

    path: str
    expected: int = ANY


Operation = Create | Set | Delete | Check
Result = str | Stat | None


def check_path(path: str) -> str:
    """The path, where it is one that every engine takes. Raises InvalidArgument.

    >>> check_path("/locks/fold")
    '/locks/fold'
    >>> check_path("/locks/")
    Traceback (most recent call last):
    stook.core.errors.InvalidArgument: node path '/locks/' ends with a slash (write it as /one/two)
    """
    parts = path.split("/")
    reason = ""
    if not path.startswith("/"):
        reason = "does not start with a slash"
    elif path != "/" and path.endswith("/"):
        reason = "ends with a slash"
    elif path != "/" and "" in parts[1:]:
        reason = "has an empty part"
    elif "." in parts or ".." in parts:
        reason = "has a part . or .."
    elif found := _FORBIDDEN.search(path):
        reason = f"has the character {found[0]!r}"
    elif len(path.encode()) > PATH_BYTES_MAX:
        reason = f"has more than {PATH_BYTES_MAX} bytes"
    elif parts[1] == "zookeeper":
        reason = "is the engine's own"
    if reason:
        raise InvalidArgument(f"node path {path[:PATH_BYTES_MAX]!r} {reason}", hint="write it as /one/two")
    return path


def check_operations(operations: Sequence[Operation]) -> None:
    """Checks paths and sizes before anything is sent. Raises InvalidArgument, TooLarge."""
    if len(operations) > OPERATIONS_MAX:
        raise TooLarge(f"{len(operations)} operations at once", hint=f"at most {OPERATIONS_MAX}")
    size = 0
    for operation in operations:
        check_path(operation.path)
        if operation.path == "/" and isinstance(operation, Create | Delete):
            raise InvalidArgument("the root can neither be created nor deleted", hint="name a node below it")
        data = operation.data if isinstance(operation, Create | Set) else b""
        size += len(operation.path.encode()) + len(data) + OPERATION_BYTES
    if size > REQUEST_BYTES_MAX:
        where = operations[0].path
        raise TooLarge(
            f"the data for node {where!r} takes a request of {size} bytes, at most {REQUEST_BYTES_MAX} are possible",
            hint="nodes are for names and small settings: keep the data as a blob and its key here",
        )


def check_children(path: str, count: int) -> None:
    """Checks that so many children may be listed. Raises TooLarge."""
    if count > CHILDREN_MAX:
        raise TooLarge(
            f"node {path!r} has {count} children, at most {CHILDREN_MAX} are listed",
            hint="spread them over several parents",
        )


def parent_of(path: str) -> str:
    """The path of the node above.

    >>> parent_of("/a/b"), parent_of("/a")
    ('/a', '/')
    """
    return path.rpartition("/")[0] or "/"


class Coordination(Protocol):
    """Nodes by path, in one order for all; a session for this client. Safe from several threads.

    Every call raises InvalidArgument for a path that is none, SessionLost, EngineUnavailable, and what it says itself;
    see the module for deadlines, OutcomeUnknown and watches.
    """

    def session(self, *, watch: Flag | None = None) -> Session:
        """The session as it is known here, without asking the store; never raises. `watch` is set when its state
        changes next."""
        ...

    def renew(self, *, within_s: float = CALL_S) -> Session:
        """Begins a new session where the present one is LOST, and returns the one there is.

        Ephemeral nodes do not come back: whoever made them makes them again. Raises EngineUnavailable.
        """
        ...

    def create(
        self,
        path: str,
        data: bytes = b"",
        *,
        ephemeral: bool = False,
        sequential: bool = False,
        within_s: float = CALL_S,
    ) -> Node:
        """Creates a node, durably, and returns it as it was created, with the name it got.

        Raises Conflict when it is there, UnknownObject when its parent is not, InvalidArgument below an ephemeral
        node, TooLarge (also when the parent's counter is spent), OutcomeUnknown.
        """
        ...

    def get(self, path: str, *, watch: Flag | None = None, within_s: float = CALL_S) -> Node:
        """The node; `watch` is set when its data changes or it is deleted. Raises UnknownObject; no watch then."""
        ...

    def exists(self, path: str, *, watch: Flag | None = None, within_s: float = CALL_S) -> Stat | None:
        """What is known of the node, or None; `watch` is set when it is created, deleted or its data changes."""
        ...

    def children(self, path: str, *, watch: Flag | None = None, within_s: float = CALL_S) -> list[str]:
        """The names of the node's children, sorted; `watch` is set when one is created or deleted, or the node is.

        Raises UnknownObject, and TooLarge where there are more than CHILDREN_MAX; no watch then.
        """
        ...

    def set(self, path: str, data: bytes, *, expected: int = ANY, within_s: float = CALL_S) -> Stat:
        """Sets the node's data, durably. Raises UnknownObject, Conflict at another data version, TooLarge,
        OutcomeUnknown."""
        ...

    def delete(self, path: str, *, expected: int = ANY, within_s: float = CALL_S) -> None:
        """Deletes the node. Raises UnknownObject, Conflict at another data version or when it has children,
        OutcomeUnknown."""
        ...

    def multi(self, operations: Sequence[Operation], *, within_s: float = CALL_S) -> list[Result]:
        """Applies all operations, in order and as one change, or none.

        Returns a path for each Create, a Stat for each Set, None for the others. Raises what the first operation
        that fails would raise alone, naming it.
        """
        ...

    def sync(self, *, within_s: float = CALL_S) -> None:
        """What is read behind it is at least as new as all that was acknowledged, to anybody, when it was called."""
        ...

    def close(self) -> None:
        """Ends the session: its ephemeral nodes vanish. Idempotent; every other call raises SessionLost then."""
        ...
