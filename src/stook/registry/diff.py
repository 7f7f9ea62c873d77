"""What an apply would change, and whether it may: a pure comparison of declared with stored.

It is a file of its own because the rules of compatibility are the registry's hardest decisions and must be
testable without a store. The registry calls it for `plan` and `apply`; faces print its result. It must never
write, and never forgive: a change that would break stored data is refused with the way forward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from stook.core.definitions import FileSource, PushSource, Source, SqlSource
from stook.core.dtypes import widens
from stook.core.instants import duration_text
from stook.core.specs import Schema, ServiceSpec, ViewSpec
from stook.registry.catalogue import ENTITY, PUSH_SOURCE, SERVICE, VIEW, Catalogue, EntitySpec
from stook.registry.declare import Declared, source_text

Action = Literal["create", "update", "delete", "unchanged"]
SIGNS: Final = {"create": "+", "update": "~", "delete": "-", "unchanged": "="}
NEW_NAME: Final = "give the new definition another name, or delete the old one first (stook apply --prune)"


@dataclass(frozen=True)
class Difference:
    """One object's fate. `details` say what differs, one line each; `refusals` why it may not be applied, each
    with the way forward; `spec` is the JSON form to be stored (None for a delete)."""

    action: Action
    kind: str
    name: str
    details: tuple[str, ...] = ()
    refusals: tuple[tuple[str, str], ...] = ()
    spec: dict[str, Any] | None = None

    def __str__(self) -> str:
        lines = [f"{SIGNS[self.action]} {self.kind} {self.name}"]
        lines += [f"    {detail}" for detail in self.details]
        lines += [f"    refused: {why} ({way})" for why, way in self.refusals]
        return "\n".join(lines)


@dataclass(frozen=True)
class RegistryPlan:
    """What an apply would do, at the state of the registry it was made from.

    `undeclared` lists (kind, name) of what is stored but not defined any more: apply keeps it.
    """

    differences: tuple[Difference, ...]
    undeclared: tuple[tuple[str, str], ...] = ()

    @property
    def changes(self) -> tuple[Difference, ...]:
        """The differences that would write something."""
        return tuple(d for d in self.differences if d.action != "unchanged")

    @property
    def refusals(self) -> tuple[tuple[str, str], ...]:
        """(why, way forward) of everything that may not be applied."""
        return tuple(r for d in self.differences for r in d.refusals)

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __str__(self) -> str:
        lines = [str(d) for d in self.changes]
        unchanged = len(self.differences) - len(self.changes)
        lines += [f"? {kind} {name}    no longer defined; kept (delete with --prune)" for kind, name in self.undeclared]
        lines.append(f"{len(self.changes)} to change, {unchanged} unchanged")
        return "\n".join(lines)


def compare(declared: Declared, stored: Catalogue, specs: Mapping[tuple[str, str], dict[str, Any]]) -> RegistryPlan:
    """The plan that turns `stored` into `declared`, deleting nothing.

    `specs` are the stored JSON forms by (kind, name). New views get no uid here; `assign` gives them one.
    """
    sources = [
        (name, {"source": source_text(source), "description": source.description})
        for name, source in declared.push_sources.items()
    ]
    found = [
        *(_entity(entity, stored) for entity in declared.entities.values()),
        *(_simple(PUSH_SOURCE, name, spec, specs.get((PUSH_SOURCE, name))) for name, spec in sources),
        *(_view(view, stored, declared) for view in declared.views.values()),
        *(_service(service, stored) for service in declared.services.values()),
    ]
    mentioned = {(d.kind, d.name) for d in found}
    undeclared = tuple(sorted(key for key in stored.revisions if key not in mentioned))
    return RegistryPlan(tuple(found), undeclared)


def _simple(kind: str, name: str, spec: dict[str, Any], before: dict[str, Any] | None) -> Difference:
    if before is None:
        return Difference("create", kind, name, spec=spec)
    if before == spec:
        return Difference("unchanged", kind, name, spec=spec)
    changed = tuple(f"{k}: {before.get(k)!r} -> {v!r}" for k, v in spec.items() if before.get(k) != v)
    return Difference("update", kind, name, changed, spec=spec)


def _entity(entity: EntitySpec, stored: Catalogue) -> Difference:
    before = stored.entities.get(entity.name)
    difference = _simple(ENTITY, entity.name, entity.to_spec(), None if before is None else before.to_spec())
    if before is None:
        keys = ", ".join(f"{c.name} {c.dtype}" for c in entity.join_keys)
        return replace(difference, details=(f"join keys: {keys}",))
    if set(before.join_keys) == set(entity.join_keys):
        return difference
    using = sorted(v.name for v in stored.views.values() if entity.name in v.entities)
    if not using:
        return difference
    old = ", ".join(f"{c.name} {c.dtype}" for c in before.join_keys)
    new = ", ".join(f"{c.name} {c.dtype}" for c in entity.join_keys)
    why = f"entity {entity.name!r}: join keys change from {old} to {new}, and views are stored by them: {', '.join(using)}"
    return replace(difference, refusals=((why, NEW_NAME),))


def _view(view: ViewSpec, stored: Catalogue, declared: Declared) -> Difference:
    before = stored.views.get(view.name)
    if before is None:
        details = [f"key {c.name} {c.dtype}" for c in view.keys]
        details += [f"feature {c.name} {c.dtype}" for c in view.features]
        details += [f"source {source_text(view.source)}", f"ttl {_ttl(view.ttl_us)}"]
        return Difference("create", VIEW, view.name, tuple(details), spec=view.to_spec())
    merged, details, refusals = _merge_schemas(view, before)
    refusals += _key_refusals(view, before)
    refusals += _time_refusals(view, before)
    removed = {c.name for c in before.features} - {c.name for c in view.features}
    for service in {**stored.services, **declared.services}.values():
        for projection in service.projections:
            lost = sorted(removed & set(projection.features or ())) if projection.view == view.name else []
            if lost and service.name not in declared.services:
                why = f"feature view {view.name!r} loses {lost}, which feature service {service.name!r} reads"
                refusals.append((why, "apply the service without them in the same call"))
    after = replace(view, uid=before.uid, schemas=merged)
    details += _view_details(after, before)
    action: Action = "unchanged" if after.to_spec() == before.to_spec() else "update"
    return Difference(action, VIEW, view.name, tuple(details), tuple(refusals), after.to_spec())


def _merge_schemas(view: ViewSpec, before: ViewSpec) -> tuple[tuple[Schema, ...], list[str], list[tuple[str, str]]]:
    """The stored schemas, with the declared one added where it differs, or makes other rows of the same history; what
    changed; what may not."""
    if view.features == before.features and _makes(view.source) == _makes(before.source):
        return before.schemas, [], []
    details: list[str] = []
    refusals: list[tuple[str, str]] = []
    old = {c.name: c.dtype for c in before.features}
    new = {c.name: c.dtype for c in view.features}
    details += [f"+ feature {n} {t}" for n, t in new.items() if n not in old]
    details += [f"- feature {n}" for n in old if n not in new]
    details += [f"feature {n}: {old[n]} -> {t}" for n, t in new.items() if n in old and old[n] != t]
    if list(old) != list(new) and set(old) == set(new):
        details.append("features reordered")
    for name, dtype in new.items():
        stored_types = {c.dtype for s in before.schemas for c in s.features if c.name == name}
        narrow = sorted(str(t) for t in stored_types if not widens(t, dtype))
        if narrow:
            why = f"feature {view.name}:{name} is stored as {', '.join(narrow)}, which {dtype} cannot hold exactly"
            refusals.append((why, f"add a feature under another name, or keep {narrow[0]}"))
    stored_names = {c.name.casefold(): c.name for s in before.schemas for c in s.features}
    for name in new:
        twin = stored_names.get(name.casefold(), name)
        if twin != name:
            why = f"feature {view.name}:{name} differs by case alone from {twin!r}, whose values are stored"
            refusals.append((why, f"keep {twin!r}, or choose another name"))
    revision = before.schema.revision + 1
    return (*before.schemas, Schema(revision, view.features)), details, refusals


def _makes(source: Source) -> tuple[str, ...]:
    """What makes rows out of history. Where it changes, rows may have other values under the very same times, and of
    equal orders the larger schema revision wins. A changed path needs none: other files get larger arrivals."""
    match _batch(source):
        case SqlSource(query=query):
            return ("query", query)
        case FileSource(file_format=file_format):
            return ("files", file_format)
        case _:
            return ()


def _key_refusals(view: ViewSpec, before: ViewSpec) -> list[tuple[str, str]]:
    if view.keys == before.keys:
        return []
    old = ", ".join(f"{c.name} {c.dtype}" for c in before.keys) or "none"
    new = ", ".join(f"{c.name} {c.dtype}" for c in view.keys) or "none"
    return [
        (f"feature view {view.name!r}: join keys change from {old} to {new}, and rows are stored by them", NEW_NAME)
    ]


def _time_refusals(view: ViewSpec, before: ViewSpec) -> list[tuple[str, str]]:
    """Stored rows bear the times of the old columns. Those would go on outranking rows of the new ones online, in every
    generation and in the overlay, while history forgets them at once."""
    old, new = _batch(before.source), _batch(view.source)
    if old is None or new is None:  # pushed rows keep their times in history too
        return []
    pairs = [
        ("timestamp column", old.timestamp_field, new.timestamp_field),
        ("created column", old.created_timestamp_column, new.created_timestamp_column),
    ]
    return [
        (
            f"feature view {view.name!r}: the {what} of its source changes from {a or 'none'} to {b or 'none'}, and rows are stored by its times",
            f"{NEW_NAME}; a column that is only called otherwise can be renamed back in an SqlSource",
        )
        for what, a, b in pairs
        if a != b
    ]


def _batch(source: Source) -> FileSource | SqlSource | None:
    return source.batch_source if isinstance(source, PushSource) else source


def _view_details(after: ViewSpec, before: ViewSpec) -> list[str]:
    pairs: list[tuple[str, object, object]] = [
        ("ttl", _ttl(before.ttl_us), _ttl(after.ttl_us)),
        ("source", source_text(before.source), source_text(after.source)),
        ("entities", ", ".join(before.entities), ", ".join(after.entities)),
        ("online", before.online, after.online),
        ("description", before.description, after.description),
        ("tags", dict(before.tags), dict(after.tags)),
        ("owner", before.owner, after.owner),
        ("timestamp column", before.source.timestamp_field, after.source.timestamp_field),
        ("created column", before.source.created_timestamp_column, after.source.created_timestamp_column),
    ]
    return [f"{what}: {old} -> {new}" for what, old, new in pairs if old != new]


def _service(service: ServiceSpec, stored: Catalogue) -> Difference:
    before = stored.services.get(service.name)
    names = [f"{p.alias}:{f}" for p in service.projections for f in p.features or ()]
    spec = service.to_spec()
    if before is None:
        return Difference("create", SERVICE, service.name, (f"features {', '.join(names)}",), spec=spec)
    if before == service:
        return Difference("unchanged", SERVICE, service.name, spec=spec)
    old = [f"{p.alias}:{f}" for p in before.projections for f in p.features or ()]
    details = [f"+ {n}" for n in names if n not in old] + [f"- {n}" for n in old if n not in names]
    return Difference("update", SERVICE, service.name, tuple(details) or ("details differ",), spec=spec)


def _ttl(ttl_us: int | None) -> str:
    return "never expires" if ttl_us is None else duration_text(ttl_us)
