"""A small document that reaches all who wait for it within a second.

It is a file of its own because it is one recipe. Operators publish, servers wait for what is new. It must never hold data
that has another home: it is for settings, and names of what is live.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import Any, Final

from stook.cluster.deadlines import Deadline, ensure_folder
from stook.core.errors import Conflict, CorruptStore, EngineUnavailable, InvalidArgument, TooLarge, UnknownObject
from stook.core.ports.coordination import CALL_S, Coordination, Flag, check_path

FOLDER: Final = "/configuration"
DOCUMENT_BYTES_MAX: Final = 64 * 1024
ABSENT: Final = 0
ANY: Final = -1


@dataclass(frozen=True)
class Document:
    """A document and its revision, which grows with each publication, also after it was deleted."""

    content: dict[str, Any]
    revision: int


class Configuration:
    """One document by name, below `/configuration`."""

    def __init__(self, coordination: Coordination, name: str) -> None:
        self._coordination = coordination
        self._path = check_path(f"{FOLDER}/{name}")

    def read(self, *, watch: Flag | None = None, within_s: float = CALL_S) -> Document | None:
        """The document, or None; `watch` is set when it changes. Raises CorruptStore when it is no JSON object."""
        if self._coordination.exists(self._path, watch=watch, within_s=within_s) is None:
            return None
        try:
            node = self._coordination.get(self._path, within_s=within_s)
        except UnknownObject:
            return None
        try:
            content = json.loads(node.data)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise CorruptStore(f"node {self._path!r} holds no JSON object", hint="publish the document again")
        return Document(content, node.stat.mzxid)

    def publish(self, content: dict[str, Any], *, expected: int = ANY, within_s: float = CALL_S) -> Document:
        """Publishes the document where its revision is `expected` (ABSENT: there is none; ANY: whatever it is).

        Raises Conflict at another revision, InvalidArgument for what is no JSON, TooLarge, OutcomeUnknown.
        """
        try:
            data = json.dumps(content, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidArgument(
                f"configuration {self._path!r} is no JSON: {error}", hint="use JSON's types"
            ) from error
        if len(data) > DOCUMENT_BYTES_MAX:
            raise TooLarge(f"configuration {self._path!r} has {len(data)} bytes", hint=f"at most {DOCUMENT_BYTES_MAX}")
        deadline = Deadline(within_s)
        present = self._coordination.exists(self._path, within_s=deadline.call_s())
        revision = ABSENT if present is None else present.mzxid
        if expected not in (ANY, revision):
            raise Conflict(
                f"configuration {self._path!r} is at revision {revision}, expected {expected}",
                hint="read it again, then repeat",
            )
        if present is None:
            ensure_folder(self._coordination, self._path.rpartition("/")[0], deadline)
            made = self._coordination.create(self._path, data, within_s=deadline.call_s())
            return Document(content, made.stat.mzxid)
        version_seen = -1 if expected == ANY else present.data_version
        stat = self._coordination.set(self._path, data, expected=version_seen, within_s=deadline.call_s())
        return Document(content, stat.mzxid)

    def wait(self, known: int, *, timeout_s: float) -> Document | None:
        """The document as soon as its revision is not the one known (ABSENT: none was there), or as it is after
        `timeout_s` seconds. Where the store does not answer for a while it waits on."""
        deadline = Deadline(timeout_s)
        flag = threading.Event()
        while True:
            try:
                found = self.read(watch=flag, within_s=deadline.call_s())
            except EngineUnavailable:
                if deadline.passed():
                    raise
                deadline.pause()
                continue
            if (ABSENT if found is None else found.revision) != known or deadline.passed():
                return found
            deadline.wait(flag)
