"""Verbs about what is declared: plan, apply, get, list, delete.

They are a file of their own so that each family of verbs fits in the head. `Platform` inherits them. They must
only translate arguments and call the registry.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stook.app.parts import Parts
from stook.core.definitions import Definition
from stook.core.errors import IncompatibleChange, InvalidArgument, UnknownObject, did_you_mean
from stook.core.ports.records import Record
from stook.core.specs import Column
from stook.ingest.accept import time_columns
from stook.models.deployments import live_features
from stook.registry.catalogue import DECLARED, SERVICE, VIEW
from stook.registry.diff import RegistryPlan
from stook.registry.registry import prune_order
from stook.registry.scan import scan

KNOWN_KINDS = (*DECLARED, "dataset", "run", "release", "deployment")


class Declaring:
    """Plans, applies and finds declarations."""

    _parts: Parts

    def plan(self, definitions: Sequence[Definition] | None = None) -> RegistryPlan:
        """What `apply` would change; changes nothing.

        `definitions` left out: those of the project's definition files. Raises InvalidDefinition, SchemaMismatch,
        SourceUnreadable.
        """
        return self._parts.registry.plan(self._definitions(definitions))

    def apply(self, definitions: Sequence[Definition] | None = None, *, prune: bool = False) -> RegistryPlan:
        """Stores the definitions in one commit; idempotent.

        Deletes nothing, unless `prune` says so: then what is stored but not defined is deleted afterwards, with
        its online rows and pushed history. Raises IncompatibleChange (nothing is applied) when a change would
        break stored data, Conflict, and what `plan` raises.
        """
        found = self._definitions(definitions)
        self._check_apply(self._parts.registry.plan(found), prune)
        plan = self._parts.registry.apply(found)
        if prune:
            for kind, name in prune_order(plan.undeclared):
                self.delete(kind, name)
        return plan

    def _check_apply(self, plan: RegistryPlan, prune: bool) -> None:
        """Refuses what the registry cannot see: features that live deployments read, and a prune that would fail."""
        live = live_features(self._parts.wiring.records)
        for change in plan.changes:
            spec = change.spec or {}
            if change.kind == VIEW and change.action == "update":
                kept = {name for name, _ in spec["schemas"][-1][1]}
                lost = sorted((f, d) for (view, f), d in live.items() if view == change.name and f not in kept)
                if lost:
                    feature, deployment = lost[0]
                    raise IncompatibleChange(
                        f"feature {change.name}:{feature} would go, which deployment {deployment!r} reads",
                        hint="deploy a release without it first",
                    )
        doomed = {name for kind, name in plan.undeclared if kind == VIEW} if prune else set()
        for difference in plan.differences:
            used = (
                {p["view"] for p in (difference.spec or {}).get("features", [])}
                if difference.kind == SERVICE
                else set()
            )
            if used & doomed:
                raise InvalidArgument(
                    f"feature service {difference.name!r} reads {sorted(used & doomed)}, which --prune would delete",
                    hint="define the views, or leave the service out",
                )

    def get(self, kind: str, name: str) -> Record:
        """The stored object of a kind (`"feature-view"`, `"entity"`, `"dataset"`, `"release"` ...).

        Raises UnknownObject with near names.
        """
        _check_kind(kind)
        return self._parts.registry.get(kind, name)

    def list(self, kind: str) -> list[Record]:
        """All stored objects of a kind, by name. Raises UnknownObject for an unknown kind."""
        _check_kind(kind)
        return self._parts.registry.list(kind)

    def join_keys(self, view: str) -> tuple[Column, ...]:
        """The join keys of a view, with their types. Raises UnknownFeature."""
        return self._parts.view(view).keys

    def columns(self, name: str) -> tuple[Column, ...]:
        """The keys and features that a push to a view or push source may carry, with types. Raises UnknownObject."""
        views = self._parts.catalogue().pushed_views(name)
        return tuple({c.name: c for view in views for c in (*view.keys, *view.features)}.values())

    def pushed_times(self, name: str) -> tuple[str, ...]:
        """The columns of times that a push to a view or push source may carry. Raises UnknownObject."""
        views = self._parts.catalogue().pushed_views(name)
        return tuple(dict.fromkeys(time for view in views for time in time_columns(view)))

    def delete(self, kind: str, name: str) -> None:
        """Deletes a declaration; a view's online rows and pushed history go with it, at the latest when the project is
        opened again.

        Raises UnknownObject, InvalidArgument when something still refers to it.
        """
        _check_kind(kind)
        if kind == VIEW:
            users = sorted({d for (view, _), d in live_features(self._parts.wiring.records).items() if view == name})
            if users:
                raise InvalidArgument(
                    f"feature view {name!r} is read by deployment {', '.join(map(repr, users))}",
                    hint="deploy a release without it first",
                )
        self._parts.registry.delete(kind, name)
        self._parts.bury_orphans()

    def _definitions(self, definitions: Sequence[Definition] | None) -> Sequence[Definition]:
        if isinstance(definitions, Sequence):
            return list(definitions)
        if definitions is not None:
            raise InvalidArgument(f"definitions is {definitions!r}", hint="give a list of definitions")
        settings = self._parts.wiring.settings
        return scan(Path(settings.root), settings.definitions)


def _check_kind(kind: str) -> None:
    if kind not in KNOWN_KINDS:
        raise UnknownObject(f"there is no kind {kind!r}", hint=did_you_mean(kind, KNOWN_KINDS))
