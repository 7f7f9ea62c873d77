"""ZooKeeper's words and ours: paths, stats, operations, errors.

It is a file of its own because it is a dictionary and sends nothing. Coordination of this room looks words up. It must
never make an outcome sound known that is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from kazoo import exceptions as kazoo
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import ZnodeStat

from stook.backends.zookeeper.client import NotSent
from stook.core.errors import (
    Conflict,
    EngineUnavailable,
    InvalidArgument,
    OutcomeUnknown,
    StookError,
    TooLarge,
    Unauthorized,
    UnknownObject,
)
from stook.core.ports.coordination import Check, Create, Delete, Operation, Result, Set, Stat

ROLLED_BACK: Final = (kazoo.RolledBackError, kazoo.RuntimeInconsistency)
UNANSWERED: Final = (kazoo.ConnectionLoss, kazoo.OperationTimeoutError, kazoo.RequestTimeoutError, KazooTimeoutError)


class Words:
    """A dictionary for one ensemble and chroot."""

    def __init__(self, hosts: str, chroot: str) -> None:
        self._hosts, self._chroot = hosts, chroot

    def translated(self, error: Exception, what: tuple[str, bool]) -> StookError:
        """kazoo's error as ours; `what` is what the request was for, and whether it writes."""
        where, writes = what
        match error:
            case kazoo.NoNodeError():
                return UnknownObject(f"{where}: there is none, or its parent is missing", hint="create it first")
            case kazoo.NodeExistsError():
                return Conflict(f"{where} exists", hint="read it, or use another name")
            case kazoo.BadVersionError():
                return Conflict(f"{where} is at another data version", hint="read it again, then repeat")
            case kazoo.NotEmptyError():
                return Conflict(f"{where} has children", hint="delete them first")
            case kazoo.NoChildrenForEphemeralsError():
                return InvalidArgument(f"{where}: an ephemeral node can have no children", hint="name another parent")
            case kazoo.BadArgumentsError():
                return InvalidArgument(f"{where}: ZooKeeper refuses it", hint="its log says why")
            case kazoo.NoAuthError() | kazoo.AuthFailedError():
                return Unauthorized(f"{where}: ZooKeeper's access list does not allow it", hint="see its ACL")
            case kazoo.QuotaExceededError():
                return TooLarge(f"{where}: a quota of ZooKeeper is reached", hint="raise it, or delete nodes")
        if writes and isinstance(error, UNANSWERED):
            return OutcomeUnknown(
                f"{where}: the write was sent to ZooKeeper, and no answer came",
                hint="it is applied once or not at all: read before writing again",
            )
        reason = "there is no connection" if isinstance(error, NotSent) else type(error).__name__
        return EngineUnavailable(
            f"{where}: ZooKeeper at {self._hosts} does not answer: {reason}",
            hint="a majority of the ensemble must run and be reached from here",
        )

    def transaction(self, client: Any, operations: Sequence[Operation]) -> Any:
        """Sends the operations as one; kazoo's promise of an answer for each."""
        transaction = client.transaction()
        for operation in operations:
            path = self.full(operation.path)
            match operation:
                case Create(_, data, ephemeral, sequential):
                    transaction.create(path, data, ephemeral=ephemeral, sequence=sequential)
                case Set(_, data, expected):
                    transaction.set_data(path, data, expected)
                case Delete(_, expected):
                    transaction.delete(path, expected)
                case Check(_, expected):
                    transaction.check(path, expected)
        return transaction.commit_async()

    def result(self, operation: Operation, answer: Any) -> Result:
        """What one operation of a transaction answered."""
        match operation:
            case Create():
                return self.short(answer)
            case Set():
                return self.stat(operation.path, answer)
        return None

    def full(self, path: str) -> str:
        """Our path as the ensemble knows it: below the chroot."""
        return self._chroot + path if path != "/" else self._chroot or "/"

    def short(self, path: str) -> str:
        """The ensemble's path as we know it."""
        return path[len(self._chroot) :]

    def stat(self, path: str, stat: ZnodeStat) -> Stat:
        """The ensemble's stat of our path as ours."""
        own = 1 if self.full(path) == "/" else 0
        return Stat(
            czxid=stat.czxid,
            mzxid=stat.mzxid,
            pzxid=stat.pzxid,
            ctime_us=stat.ctime * 1_000,
            mtime_us=stat.mtime * 1_000,
            data_version=stat.version,
            children_version=stat.cversion,
            ephemeral_owner=stat.ephemeralOwner,
            data_bytes=stat.dataLength,
            children=stat.numChildren - own,
        )
