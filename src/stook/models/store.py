"""The ports that the models room works through, and ids that are never used twice.

It is a file of its own because runs and releases are numbered and written alike. Training, releases and
deployments call it; the app builds one `ModelStore`. It must never know what a run or a release holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stook.core.errors import Conflict, UnknownObject, did_you_mean
from stook.core.ports.records import ABSENT, Put, Record

if TYPE_CHECKING:
    from stook.core.ports.blobs import Blobs
    from stook.core.ports.clock import Clock
    from stook.core.ports.records import Records
    from stook.core.specs import JsonObject

RUN: Final = "run"
RELEASE: Final = "release"
DEPLOYMENT: Final = "deployment"
SEQUENCE: Final = "sequence"
NUMBERING_ATTEMPTS_MAX: Final = 50


@dataclass(frozen=True)
class ModelStore:
    """Where runs, releases and deployments are kept, where artefacts are, and what time it is."""

    records: Records
    blobs: Blobs
    clock: Clock


def create_numbered(records: Records, kind: str, name: str, spec: JsonObject) -> Record:
    """Writes `spec` as a new record `name-N`, N counting from 1, and returns it.

    The counter is a record of kind `sequence` that moves in the same commit, so that an id is never used again,
    not even after its record was deleted. Safe beside others doing the same. Raises Conflict after
    NUMBERING_ATTEMPTS_MAX collisions, EngineUnavailable, DiskFull.
    """
    sequence = f"{kind}/{name}"
    for _ in range(NUMBERING_ATTEMPTS_MAX):
        counter = records.get(SEQUENCE, sequence)
        number = 1 if counter is None else counter.spec["last"] + 1
        identity = f"{name}-{number}"
        expected = ABSENT if counter is None else counter.revision
        try:
            revision = records.commit(
                [
                    Put(SEQUENCE, sequence, {"last": number}, expected=expected),
                    Put(kind, identity, spec, expected=ABSENT),
                ]
            )
        except Conflict:
            continue
        return Record(kind, identity, spec, revision, revision)
    raise Conflict(f"no number for a new {kind} of {name!r}: others take them all the time", hint="repeat the call")


def require(records: Records, kind: str, name: str) -> Record:
    """The record. Raises UnknownObject, naming near ones."""
    record = records.get(kind, name)
    if record is None:
        known = [r.name for r in records.list(kind)]
        mend = did_you_mean(name, known) if known else f"there is no {kind} yet"
        raise UnknownObject(f"there is no {kind} {name!r}", hint=mend)
    return record
