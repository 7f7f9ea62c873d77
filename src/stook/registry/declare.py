"""Definitions resolved: types filled in from sources, names checked against each other.

It is a file of its own because what a user writes may leave types out and refer to objects, while the registry
keeps flat, complete specs. The registry calls it before comparing with what is stored. It must never store, and
it reads sources only through the `describe` function it is handed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa

from stook.core.arrow import conform, to_arrow
from stook.core.definitions import (
    Definition,
    Entity,
    FeatureService,
    FeatureView,
    FileSource,
    Projection,
    PushSource,
    Source,
    SqlSource,
)
from stook.core.dtypes import (
    FLOATS,
    INTEGERS,
    KEY_TYPES,
    Bool,
    Date,
    Decimal,
    DType,
    String,
    Time,
    Timestamp,
    check_fields,
)
from stook.core.errors import InvalidDefinition, SchemaMismatch, did_you_mean
from stook.core.instants import duration_us
from stook.core.names import check_case, full_name
from stook.core.specs import Column, Schema, ServiceSpec, ViewSpec
from stook.registry.catalogue import Catalogue, EntitySpec

Describe = Callable[[FileSource | SqlSource], tuple[Column, ...]]
# these, and decimals, engines read from a text file as declared
READ_FROM_TEXT = (*INTEGERS, *FLOATS, Bool, String, Date, Time, Timestamp)
UNASSIGNED = ""  # uid of a view that is not stored yet
T = TypeVar("T")


@dataclass
class Declared:
    """Definitions, resolved, by name. Views carry schema revision 1 and no uid: the comparison with what is stored
    assigns both."""

    entities: dict[str, EntitySpec] = field(default_factory=dict)
    views: dict[str, ViewSpec] = field(default_factory=dict)
    services: dict[str, ServiceSpec] = field(default_factory=dict)
    push_sources: dict[str, PushSource] = field(default_factory=dict)


def resolve(definitions: Sequence[Definition], stored: Catalogue, describe: Describe) -> Declared:
    """All definitions, with the entities and push sources that views refer to.

    Services may name views that are stored already. Raises InvalidDefinition (two definitions with one name, a
    view that cannot be, a service over unknown features), SourceUnreadable, SchemaMismatch.
    """
    entities, views, services, pushes = _gather(definitions)
    declared = Declared(push_sources=pushes)
    described = {view.name: _describe(view, describe) for view in views.values()}
    declared.entities = {
        entity.name: _resolve_entity(entity, views.values(), described, stored) for entity in entities.values()
    }
    declared.views = {
        view.name: _resolve_view(view, declared.entities, described[view.name]) for view in views.values()
    }
    known = {**stored.views, **declared.views}
    declared.services = {s.name: _resolve_service(s, known) for s in services.values()}
    return declared


def _gather(
    definitions: Sequence[Definition],
) -> tuple[dict[str, Entity], dict[str, FeatureView], dict[str, FeatureService], dict[str, PushSource]]:
    entities: dict[str, Entity] = {}
    views: dict[str, FeatureView] = {}
    services: dict[str, FeatureService] = {}
    pushes: dict[str, PushSource] = {}
    for item in definitions:
        if isinstance(item, Entity):
            _claim(entities, "entity", item.name, item)
        elif isinstance(item, FeatureView):
            _claim(views, "feature view", item.name, item)
            for entity in item.entities:
                _claim(entities, "entity", entity.name, entity)
            if isinstance(item.source, PushSource):
                _claim(pushes, "push source", item.source.name, item.source)
        elif isinstance(item, FeatureService):
            _claim(services, "feature service", item.name, item)
        elif isinstance(item, PushSource):
            _claim(pushes, "push source", item.name, item)
        elif not isinstance(item, FileSource | SqlSource):
            raise InvalidDefinition(
                f"{item!r} is not a definition", hint="pass Entity, FeatureView, FeatureService or PushSource objects"
            )
    for name in pushes:
        if name in views and not (isinstance(views[name].source, PushSource) and views[name].source.name == name):
            raise InvalidDefinition(
                f"{name!r} names a feature view and a push source", hint="rename one: pushes go by name"
            )
    return entities, views, services, pushes


def _claim(known: dict[str, T], kind: str, name: str, item: T) -> None:
    if known.setdefault(name, item) != item:
        raise InvalidDefinition(f"two definitions of {kind} {name!r} differ", hint="rename or remove one")


def _describe(view: FeatureView, describe: Describe) -> dict[str, DType] | None:
    """The source's columns and types; None where only pushes feed the view."""
    batch = view.source.batch_source if isinstance(view.source, PushSource) else view.source
    if batch is None:
        return None
    columns = {c.name: c.dtype for c in describe(batch)}
    wanted = [(batch.timestamp_field, "timestamp column"), (batch.created_timestamp_column, "created column")]
    for name, what in wanted:
        if name is None:
            continue
        if name not in columns:
            raise SchemaMismatch(
                f"feature view {view.name!r}: its source has no {what} {name!r}", hint=did_you_mean(name, columns)
            )
        # a text file's column may seem to be text because its first rows are empty: its values are checked when read
        if columns[name] not in (Timestamp, Date, *((String,) if _is_text(batch) else ())):
            raise SchemaMismatch(
                f"feature view {view.name!r}: {what} {name!r} holds {columns[name]}",
                hint="it must hold timestamps; convert it in the source, or read it through an SqlSource",
            )
    return columns


def _resolve_entity(
    entity: Entity, views: Iterable[FeatureView], described: dict[str, dict[str, DType] | None], stored: Catalogue
) -> EntitySpec:
    using = [view for view in views if entity in view.entities]
    before = stored.entities.get(entity.name)
    resolved = []
    for key, dtype in entity.join_keys:
        where = f"entity {entity.name!r}: join key {key!r}"
        if dtype is None and before is not None:
            dtype = before.dtype(key)
        found = {v.name: columns[key] for v in using if (columns := described[v.name]) is not None and key in columns}
        if dtype is None:
            if not found:
                raise InvalidDefinition(
                    f"{where} has no type, and no source has that column", hint=f"write join_keys={{{key!r}: Int64}}"
                )
            if len(set(found.values())) > 1:
                raise InvalidDefinition(
                    f"{where} has several types: " + ", ".join(f"{t} in {v}" for v, t in sorted(found.items())),
                    hint=f"say which: join_keys={{{key!r}: Int64}}",
                )
            dtype = next(iter(found.values()))
        if dtype not in KEY_TYPES:
            raise InvalidDefinition(
                f"{where} cannot be {dtype}", hint="keys are integers, text, bytes, booleans, dates or timestamps"
            )
        resolved.append(Column(key, dtype))
    return EntitySpec(entity.name, tuple(resolved), entity.description, entity.tags, entity.owner)


def _resolve_view(view: FeatureView, entities: dict[str, EntitySpec], described: dict[str, DType] | None) -> ViewSpec:
    where = f"feature view {view.name!r}"
    keys = tuple(sorted((c for e in view.entities for c in entities[e.name].join_keys), key=lambda c: c.name))
    taken = {c.name for c in keys} | {view.source.timestamp_field, view.source.created_timestamp_column}
    if view.schema is not None:
        features = tuple(Column(f.name, f.dtype) for f in view.schema)
    elif described is None:
        raise InvalidDefinition(f"{where} has neither schema nor batch source", hint="list its Fields in schema=")
    else:
        features = tuple(Column(n, t) for n, t in described.items() if n not in taken and not n.startswith("__"))
        if not features:
            raise InvalidDefinition(f"{where}: its source holds keys and times only", hint="add feature columns")
    check_case(where, (*(c.name for c in keys), *(c.name for c in features)))
    for feature in features:
        check_fields(f"{where}: feature {feature.name!r}", feature.dtype)
    if described is not None:
        batch = view.source.batch_source if isinstance(view.source, PushSource) else view.source
        for column in (*keys, *features):
            _check_source_column(where, column, described, is_text=_is_text(batch))
    return ViewSpec(
        name=view.name,
        uid=UNASSIGNED,
        entities=tuple(sorted(e.name for e in view.entities)),
        keys=keys,
        schemas=(Schema(1, features),),
        source=view.source,
        ttl_us=None if view.ttl is None else duration_us(view.ttl),
        online=view.online,
        description=view.description,
        tags=view.tags,
        owner=view.owner,
    )


def _is_text(source: Source | None) -> bool:
    return isinstance(source, FileSource) and source.file_format == "csv"


def _check_source_column(where: str, column: Column, described: dict[str, DType], *, is_text: bool) -> None:
    """Refuses a column that is missing, or of a type that cannot be the declared one's. What a text file seems to hold
    is a guess from its first rows: there the values themselves are checked when they are read."""
    have = described.get(column.name)
    if have is None:
        raise SchemaMismatch(
            f"{where}: its source has no column {column.name!r}",
            hint=f"{did_you_mean(column.name, described)}; columns of a type that no feature can have are not seen: cast them in the source",
        )
    if not (is_text and (column.dtype in READ_FROM_TEXT or isinstance(column.dtype, Decimal))):
        conform(pa.chunked_array([], to_arrow(have)), column.dtype, f"{where}: source column {column.name!r}")


def _resolve_service(service: FeatureService, views: dict[str, ViewSpec]) -> ServiceSpec:
    where = f"feature service {service.name!r}"
    projections = []
    for projection in service.features:
        view = views.get(projection.view)
        if view is None:
            raise InvalidDefinition(
                f"{where} reads feature view {projection.view!r}, which is not defined",
                hint=did_you_mean(projection.view, views),
            )
        names = [c.name for c in view.features]
        for name in projection.features or ():
            if name not in names:
                raise InvalidDefinition(
                    f"{where} reads {projection.view}:{name}, which is not defined", hint=did_you_mean(name, names)
                )
        for key, _ in projection.join_key_map:
            if key not in view.key_names:
                raise InvalidDefinition(
                    f"{where} maps join key {key!r}, which {view.name} has not", hint=did_you_mean(key, view.key_names)
                )
        chosen = projection.features or tuple(names)
        projections.append(Projection(projection.view, chosen, projection.name, projection.join_key_map))
    spec = ServiceSpec(service.name, tuple(projections), service.description, service.tags, service.owner)
    full = [full_name(p.alias, f) for p in spec.projections for f in p.features or ()]
    repeated = sorted({n for n in full if full.count(n) > 1})
    if repeated:
        raise InvalidDefinition(
            f"{where} answers {repeated} twice", hint='give one projection another name: .with_name("x")'
        )
    return spec


def source_text(source: Source) -> str:
    """A source in a few words, for diffs and lists."""
    match source:
        case FileSource():
            return f"{source.file_format} {source.path}"
        case SqlSource():
            return "sql " + " ".join(source.query.split())[:60]
        case PushSource():
            return f"push {source.name}" + (f" over {source_text(source.batch_source)}" if source.batch_source else "")
