"""The registry: a catalogue over the `Records` port, planned, applied and deleted from with revisions.

It is a file of its own because it is the only part of the room that writes. The app holds one. It must never be
held across two states: every apply is one commit that names the revisions it was decided on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from stook.core.definitions import Definition, PushSource
from stook.core.errors import Conflict, IncompatibleChange, InvalidArgument, UnknownObject, did_you_mean
from stook.core.ports.clock import Clock
from stook.core.ports.records import ABSENT, ANY, Change, Delete, Put, Record, Records
from stook.core.specs import ViewSpec
from stook.registry.catalogue import DECLARED, ENTITY, PUSH_SOURCE, SERVICE, VIEW, Catalogue
from stook.registry.declare import Describe, resolve
from stook.registry.diff import RegistryPlan, compare

REFRESH_AFTER_S: Final = 0.25  # how stale a cached catalogue may be; the promise to users is 1 s
APPLY_ATTEMPTS: Final = 5
ORPHAN: Final = "orphan"
KIND_PLURALS: Final = {
    "entities": ENTITY,
    "feature-views": VIEW,
    "feature-services": SERVICE,
    "push-sources": PUSH_SOURCE,
}


class Registry:
    """Declarations by name, over a `Records` port. Thread-safe: a catalogue is swapped whole."""

    def __init__(self, records: Records, clock: Clock, describe: Describe) -> None:
        self.records = records
        self._clock = clock
        self._describe = describe
        self._catalogue = Catalogue()
        self._revision = -1
        self._checked_s = float("-inf")

    def catalogue(self, *, fresh: bool = False) -> Catalogue:
        """The catalogue, at most a quarter of a second old; newest with `fresh`. Raises EngineUnavailable."""
        now = self._clock.monotonic_s()
        if fresh or now - self._checked_s > REFRESH_AFTER_S:
            revision = self.records.revision()
            if revision != self._revision:
                found = Catalogue.from_records(self.records.list())
                if found.stamp != self._catalogue.stamp or self._revision < 0:
                    self._catalogue = found
                self._revision = revision
            self._checked_s = now
        return self._catalogue

    @property
    def seen(self) -> Catalogue:
        """The catalogue as it was last looked at, however long ago; asks nobody."""
        return self._catalogue

    @property
    def revision(self) -> int:
        """The store's revision when the catalogue was last looked at."""
        return self._revision

    def plan(self, definitions: Sequence[Definition]) -> RegistryPlan:
        """What `apply` would change; changes nothing. Raises InvalidDefinition, SchemaMismatch, SourceUnreadable."""
        return self._plan(definitions, self.records.list())

    def _plan(self, definitions: Sequence[Definition], records: list[Record]) -> RegistryPlan:
        stored = Catalogue.from_records(records)
        specs = {(r.kind, r.name): r.spec for r in records if r.kind in DECLARED}
        return compare(resolve(definitions, stored, self._describe), stored, specs)

    def apply(self, definitions: Sequence[Definition]) -> RegistryPlan:
        """Stores the definitions in one commit; idempotent; deletes nothing.

        Raises IncompatibleChange when a change would break stored data, and then changes nothing; Conflict when
        somebody else keeps changing the same objects; and what `plan` raises.
        """
        for attempt in range(APPLY_ATTEMPTS):
            records = self.records.list()
            plan = self._plan(definitions, records)
            if plan.refusals:
                raise IncompatibleChange(
                    "nothing was applied: " + "; ".join(why for why, _ in plan.refusals),
                    hint="; ".join(dict.fromkeys(way for _, way in plan.refusals)),
                )
            if not plan.changes:
                return plan
            try:
                self.records.commit(self._commit(plan, records))
            except Conflict:
                if attempt == APPLY_ATTEMPTS - 1:
                    raise
                continue
            self.catalogue(fresh=True)
            return plan
        raise AssertionError("unreachable")

    def _commit(self, plan: RegistryPlan, records: list[Record]) -> list[Change]:
        """The plan's changes, and unchanged what they refer to: written as it was, at the revision it was seen at, so
        that an apply or delete beside this one cannot change or take away what this one was decided on."""
        stored = {(r.kind, r.name): r for r in records}
        revisions = {key: record.revision for key, record in stored.items()}
        changed = {(d.kind, d.name) for d in plan.changes}
        relied_on = {key for d in plan.changes for key in references(d.kind, d.name, d.spec or {})} - changed
        puts = [self._put(d.kind, d.name, d.spec, revisions) for d in plan.changes]
        return puts + [Put(*key, stored[key].spec, revisions[key]) for key in sorted(relied_on & stored.keys())]

    def _put(self, kind: str, name: str, spec: dict[str, Any] | None, revisions: dict[tuple[str, str], int]) -> Change:
        assert spec is not None
        if kind == VIEW and not spec["uid"]:
            spec = {**spec, "uid": f"{name}@{self.records.revision() + 1}.{self._clock.now_us():x}"}
        return Put(kind, name, spec, revisions.get((kind, name), ABSENT))

    def get(self, kind: str, name: str) -> Record:
        """The stored record. Raises UnknownObject with near names."""
        if (record := self.records.get(kind, name)) is None:
            known = [r.name for r in self.records.list(kind)]
            # datasets, runs, releases and deployments are not defined in files, so that apply would not mend it
            mend = did_you_mean(name, known) if known or kind in DECLARED else f"there is no {kind} yet"
            raise UnknownObject(f"there is no {kind} {name!r}", hint=mend)
        return record

    def list(self, kind: str) -> list[Record]:
        """All records of the kind, by name."""
        return self.records.list(kind)

    def delete(self, kind: str, name: str) -> None:
        """Deletes a declaration. A view stands among `orphans` from the same moment on, until its data is gone too.

        Raises UnknownObject, InvalidArgument when something still refers to it, Conflict when it changes now.
        """
        if kind not in DECLARED:
            raise InvalidArgument(f"a {kind} cannot be deleted this way", hint=f"one of {', '.join(DECLARED)}")
        record = self.get(kind, name)
        catalogue = self.catalogue(fresh=True)
        users: list[str] = []
        if kind == VIEW:
            users = [f"feature service {s!r}" for s in catalogue.services_with(name)]
        elif kind == ENTITY:
            users = [f"feature view {v.name!r}" for v in catalogue.views.values() if name in v.entities]
        elif kind == PUSH_SOURCE:
            users = [f"feature view {v!r}" for v in catalogue.push_sources.get(name, ())]
        if users:
            raise InvalidArgument(f"{kind} {name!r} is still used by {', '.join(users)}", hint="delete those first")
        changes: list[Change] = [Delete(kind, name, record.revision)]
        if kind == VIEW:
            changes.append(Put(ORPHAN, record.spec["uid"], {"name": name, "view": record.spec}, ANY))
        self.records.commit(changes)
        self.catalogue(fresh=True)

    def orphans(self) -> tuple[ViewSpec, ...]:
        """The deleted views whose rows and pushed history are perhaps still there."""
        return tuple(ViewSpec.from_spec(r.spec["name"], r.spec["view"]) for r in self.records.list(ORPHAN))

    def buried(self, view: ViewSpec) -> None:
        """The orphan's data is gone. Idempotent."""
        self.records.commit([Delete(ORPHAN, view.uid, ANY)])


def references(kind: str, name: str, spec: dict[str, Any]) -> set[tuple[str, str]]:
    """(kind, name) of the declarations that one refers to."""
    if kind == SERVICE:
        return {(VIEW, projection["view"]) for projection in spec["features"]}
    if kind != VIEW:
        return set()
    view = ViewSpec.from_spec(name, spec)
    sources = {(PUSH_SOURCE, view.source.name)} if isinstance(view.source, PushSource) else set()
    return {(ENTITY, entity) for entity in view.entities} | sources


def prune_order(undeclared: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """(kind, name) pairs in an order in which nothing still refers to what is deleted.

    >>> prune_order([("entity", "driver"), ("feature-service", "ranking"), ("feature-view", "stats")])
    [('feature-service', 'ranking'), ('feature-view', 'stats'), ('entity', 'driver')]
    """
    rank = {SERVICE: 0, VIEW: 1, PUSH_SOURCE: 2, ENTITY: 3}
    return sorted(undeclared, key=lambda pair: (rank[pair[0]], pair[1]))
