"""Definitions as the registry keeps them: every type known, every name checked, with their JSON form.

It is a file of its own because what a user writes (types may be left out, objects nest) and what rooms work
with (nothing left out, everything flat) are different things. The registry builds these; offline, online, ingest
and models read them. They must never refer to a user's definition object, nor to a store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stook.core import dtypes
from stook.core.definitions import FileSource, Projection, PushSource, Source, SqlSource
from stook.core.dtypes import DType

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A column's name and logical type."""

    name: str
    dtype: DType

    def to_spec(self) -> list[Any]:
        """`[name, type]`."""
        return [self.name, self.dtype.to_spec()]

    @staticmethod
    def from_spec(spec: list[Any]) -> Column:
        """The inverse of `to_spec`."""
        return Column(spec[0], dtypes.from_spec(spec[1]))


def columns_to_spec(columns: tuple[Column, ...]) -> list[list[Any]]:
    """JSON form of several columns, in order."""
    return [c.to_spec() for c in columns]


def columns_from_spec(spec: list[list[Any]]) -> tuple[Column, ...]:
    """The inverse of `columns_to_spec`."""
    return tuple(Column.from_spec(s) for s in spec)


def source_to_spec(source: Source) -> JsonObject:
    """JSON form of a source, tagged by `kind`; fields at their default are left out."""
    spec: JsonObject = {"kind": type(source).__name__}
    if isinstance(source, FileSource):
        spec |= {"path": source.path, "format": source.file_format}
    elif isinstance(source, SqlSource):
        spec |= {"query": source.query}
    elif source.batch_source is not None:
        spec["batch_source"] = source_to_spec(source.batch_source)
    spec["timestamp_field"] = source.timestamp_field
    for key in ("created_timestamp_column", "name", "description"):
        if value := getattr(source, key):
            spec[key] = value
    return spec


def source_from_spec(spec: Mapping[str, Any]) -> Source:
    """The inverse of `source_to_spec`."""
    fields = {key: value for key, value in spec.items() if key not in ("kind", "batch_source")}
    match spec["kind"]:
        case "FileSource":
            return FileSource(**fields)
        case "SqlSource":
            return SqlSource(**fields)
        case _:
            batch = spec.get("batch_source")
            inner = source_from_spec(batch) if batch else None
            if isinstance(inner, PushSource):
                raise TypeError("a push source cannot stand behind a push source")
            return PushSource(batch_source=inner, **fields)


@dataclass(frozen=True)
class Schema:
    """The features that a view had from schema `revision` on; rows encoded under it stay readable."""

    revision: int
    features: tuple[Column, ...]


@dataclass(frozen=True)
class ViewSpec:
    """A feature view, resolved.

    `keys` stand in the order of their names, which is the order of encoded keys everywhere, so that the order
    in which entities are listed does not matter. `schemas` holds every schema the view ever had, oldest first.
    `uid` names this very view: a view deleted and made again under the same name has another.
    """

    name: str
    uid: str
    entities: tuple[str, ...]
    keys: tuple[Column, ...]
    schemas: tuple[Schema, ...]
    source: Source
    ttl_us: int | None
    online: bool = True
    description: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    owner: str = ""

    @property
    def schema(self) -> Schema:
        """The current schema."""
        return self.schemas[-1]

    @property
    def features(self) -> tuple[Column, ...]:
        """The current features, in the order of definition."""
        return self.schemas[-1].features

    @property
    def key_names(self) -> tuple[str, ...]:
        """The key columns' names, in encoding order."""
        return tuple(c.name for c in self.keys)

    def feature(self, name: str) -> Column | None:
        """The current feature of that name."""
        return next((c for c in self.features if c.name == name), None)

    def schema_of(self, revision: int) -> Schema | None:
        """The schema of that revision."""
        return next((s for s in self.schemas if s.revision == revision), None)

    def to_spec(self) -> JsonObject:
        """JSON form, as the registry keeps it."""
        return {
            "uid": self.uid,
            "entities": list(self.entities),
            "keys": columns_to_spec(self.keys),
            "schemas": [[s.revision, columns_to_spec(s.features)] for s in self.schemas],
            "source": source_to_spec(self.source),
            "ttl_us": self.ttl_us,
            "online": self.online,
            "description": self.description,
            "tags": dict(self.tags),
            "owner": self.owner,
        }

    @staticmethod
    def from_spec(name: str, spec: Mapping[str, Any]) -> ViewSpec:
        """The inverse of `to_spec`."""
        return ViewSpec(
            name=name,
            uid=spec["uid"],
            entities=tuple(spec["entities"]),
            keys=columns_from_spec(spec["keys"]),
            schemas=tuple(Schema(rev, columns_from_spec(cols)) for rev, cols in spec["schemas"]),
            source=source_from_spec(spec["source"]),
            ttl_us=spec["ttl_us"],
            online=spec["online"],
            description=spec["description"],
            tags=tuple(sorted(spec["tags"].items())),
            owner=spec["owner"],
        )


@dataclass(frozen=True)
class ServiceSpec:
    """A feature service, resolved: each projection names its features one by one."""

    name: str
    projections: tuple[Projection, ...]
    description: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    owner: str = ""

    def to_spec(self) -> JsonObject:
        """JSON form, as the registry keeps it."""
        return {
            "features": [
                {
                    "view": p.view,
                    "features": list(p.features or ()),
                    "name": p.name,
                    "join_key_map": dict(p.join_key_map),
                }
                for p in self.projections
            ],
            "description": self.description,
            "tags": dict(self.tags),
            "owner": self.owner,
        }

    @staticmethod
    def from_spec(name: str, spec: Mapping[str, Any]) -> ServiceSpec:
        """The inverse of `to_spec`."""
        return ServiceSpec(
            name=name,
            projections=tuple(
                Projection(p["view"], tuple(p["features"]), p["name"], tuple(sorted(p["join_key_map"].items())))
                for p in spec["features"]
            ),
            description=spec["description"],
            tags=tuple(sorted(spec["tags"].items())),
            owner=spec["owner"],
        )
