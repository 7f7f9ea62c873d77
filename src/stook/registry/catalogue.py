"""The registry at one revision, as immutable values found by name.

It is a file of its own because readers (resolution, reads, faces) need only this, and must keep working on one
consistent state while somebody applies another. The registry builds it from records; every verb looks names up
in it. It must never write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from stook.core.dtypes import DType
from stook.core.errors import UnknownFeature, UnknownObject, did_you_mean
from stook.core.ports.records import Record
from stook.core.specs import Column, ServiceSpec, ViewSpec, columns_from_spec, columns_to_spec

ENTITY: Final = "entity"
VIEW: Final = "feature-view"
SERVICE: Final = "feature-service"
PUSH_SOURCE: Final = "push-source"
DECLARED: Final = (ENTITY, PUSH_SOURCE, VIEW, SERVICE)


@dataclass(frozen=True)
class EntitySpec:
    """An entity, resolved: every join key has a type."""

    name: str
    join_keys: tuple[Column, ...]
    description: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    owner: str = ""

    def dtype(self, key: str) -> DType | None:
        """The type of a join key; None when the entity has no such key."""
        return next((c.dtype for c in self.join_keys if c.name == key), None)

    def to_spec(self) -> dict[str, Any]:
        """JSON form, as the registry keeps it."""
        return {
            "join_keys": columns_to_spec(self.join_keys),
            "description": self.description,
            "tags": dict(self.tags),
            "owner": self.owner,
        }

    @staticmethod
    def from_spec(name: str, spec: Mapping[str, Any]) -> EntitySpec:
        """The inverse of `to_spec`."""
        return EntitySpec(
            name,
            columns_from_spec(spec["join_keys"]),
            spec["description"],
            tuple(sorted(spec["tags"].items())),
            spec["owner"],
        )


@dataclass(frozen=True)
class Catalogue:
    """Everything declared, at one state of the store.

    `stamp` changes exactly when a declaration does; other writes to the store leave it as it is. `revisions` maps
    (kind, name) to the record's revision, for optimistic concurrency.
    """

    entities: Mapping[str, EntitySpec] = field(default_factory=dict)
    views: Mapping[str, ViewSpec] = field(default_factory=dict)
    services: Mapping[str, ServiceSpec] = field(default_factory=dict)
    push_sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    revisions: Mapping[tuple[str, str], int] = field(default_factory=dict)
    stamp: int = 0

    @staticmethod
    def from_records(records: Iterable[Record]) -> Catalogue:
        """The catalogue that a set of records describes; records of other kinds are passed over."""
        declared = [r for r in records if r.kind in DECLARED]
        of = {kind: [r for r in declared if r.kind == kind] for kind in DECLARED}
        views = {r.name: ViewSpec.from_spec(r.name, r.spec) for r in of[VIEW]}
        sources: dict[str, tuple[str, ...]] = {r.name: () for r in of[PUSH_SOURCE]}
        for view in views.values():
            name = getattr(view.source, "name", "")
            if name in sources:
                sources[name] = (*sources[name], view.name)
        revisions = {(r.kind, r.name): r.revision for r in declared}
        return Catalogue(
            entities={r.name: EntitySpec.from_spec(r.name, r.spec) for r in of[ENTITY]},
            views=views,
            services={r.name: ServiceSpec.from_spec(r.name, r.spec) for r in of[SERVICE]},
            push_sources=sources,
            revisions=revisions,
            stamp=hash(tuple(sorted((kind, name, rev) for (kind, name), rev in revisions.items()))),
        )

    def view(self, name: str) -> ViewSpec:
        """The view of that name. Raises UnknownFeature with near names."""
        if (view := self.views.get(name)) is None:
            raise UnknownFeature(f"there is no feature view {name!r}", hint=did_you_mean(name, self.views))
        return view

    def service(self, name: str) -> ServiceSpec:
        """The service of that name. Raises UnknownFeature with near names."""
        if (service := self.services.get(name)) is None:
            raise UnknownFeature(f"there is no feature service {name!r}", hint=did_you_mean(name, self.services))
        return service

    def pushed_views(self, name: str) -> list[ViewSpec]:
        """The views that a push to `name` (a view's or a push source's) reaches. Raises UnknownObject."""
        if name in self.views:
            return [self.views[name]]
        if self.push_sources.get(name):
            return [self.views[view] for view in self.push_sources[name]]
        known = [*self.views, *(s for s, views in self.push_sources.items() if views)]
        raise UnknownObject(f"there is no feature view or push source {name!r}", hint=did_you_mean(name, known))

    def services_with(self, view: str) -> list[str]:
        """The services that read a view."""
        return sorted(s.name for s in self.services.values() if any(p.view == view for p in s.projections))
