"""What users declare: entities, fields, sources, feature views, services.

It is a file of its own because these classes are the product's face and load with `import stook`, so they must
stay light. Users build them; the registry turns them into records through `core.specs`. They must never read
data, look at a clock or know the registry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, Literal

from stook.core import dtypes
from stook.core.dtypes import DType
from stook.core.errors import InvalidDefinition, UnknownFeature, did_you_mean
from stook.core.instants import duration_us
from stook.core.names import check_column, check_name

FileFormat = Literal["parquet", "csv", "delta"]
FORMATS: Final = ("parquet", "csv", "delta")
DEFAULT_TIMESTAMP: Final = "event_timestamp"
Tags = Mapping[str, str]


def _check_tags(kind: str, name: str, tags: Tags | None) -> tuple[tuple[str, str], ...]:
    items = tuple(sorted((tags or {}).items()))
    for key, value in items:
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidDefinition(f"{kind} {name!r}: tag {key!r}={value!r} is not text", hint="tags map text to text")
    return items


@dataclass(frozen=True)
class Field:
    """A feature's name and type.

    >>> Field("conv_rate", dtypes.Float64)
    Field(name='conv_rate', dtype=Float64, description='')
    """

    name: str
    dtype: DType
    description: str = ""

    def __post_init__(self) -> None:
        check_column("feature", self.name)
        if not isinstance(self.dtype, DType):
            raise InvalidDefinition(
                f"feature {self.name!r} has type {self.dtype!r}", hint="name a stook type, e.g. Float64 or Array(Int64)"
            )


@dataclass(frozen=True, init=False)
class Entity:
    """A thing that has features, and the columns that name one of it.

    `join_keys` maps each key column to its type; a list of names (or nothing: the entity's own name) leaves the
    types to the sources, read at apply. Raises InvalidDefinition.

    >>> Entity("driver", join_keys={"driver_id": dtypes.Int64}).key_names
    ('driver_id',)
    """

    name: str
    join_keys: tuple[tuple[str, DType | None], ...]
    description: str
    tags: tuple[tuple[str, str], ...]
    owner: str

    def __init__(
        self,
        name: str,
        join_keys: Mapping[str, DType] | Sequence[str] | str | None = None,
        *,
        description: str = "",
        tags: Tags | None = None,
        owner: str = "",
    ) -> None:
        check_name("entity", name)
        if join_keys is None:
            join_keys = [name]
        if isinstance(join_keys, str):
            join_keys = [join_keys]
        pairs: list[tuple[str, DType | None]]
        if isinstance(join_keys, Mapping):
            pairs = [(key, dtype) for key, dtype in join_keys.items()]
        else:
            pairs = [(key, None) for key in join_keys]
        names = [key for key, _ in pairs]
        for key, dtype in pairs:
            check_column("join key", key)
            if dtype is not None and dtype not in dtypes.KEY_TYPES:
                raise InvalidDefinition(
                    f"entity {name!r}: join key {key!r} cannot be {dtype}",
                    hint="use " + ", ".join(str(t) for t in dtypes.KEY_TYPES),
                )
        if not names or len(set(names)) != len(names):
            raise InvalidDefinition(
                f"entity {name!r}: join keys {names} are empty or repeat", hint="name each key once"
            )
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "join_keys", tuple(pairs))
        object.__setattr__(self, "description", description)
        object.__setattr__(self, "tags", _check_tags("entity", name, tags))
        object.__setattr__(self, "owner", owner)

    @property
    def key_names(self) -> tuple[str, ...]:
        """The key columns, in the order of definition."""
        return tuple(key for key, _ in self.join_keys)


@dataclass(frozen=True)
class FileSource:
    """Rows in Parquet, CSV or Delta files, read in place.

    `path` is a file, a folder (Delta, or Parquet files below it) or a glob, relative to the project's folder.
    `format` is told by the ending where it is left out. `timestamp_field` holds the event time;
    `created_timestamp_column`, where there is one, when the row became known. Raises InvalidDefinition.
    """

    path: str
    timestamp_field: str = DEFAULT_TIMESTAMP
    created_timestamp_column: str | None = None
    format: FileFormat | None = None
    name: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.path, str) or not self.path:
            raise InvalidDefinition(f"FileSource path is {self.path!r}", hint="name a file, folder or glob")
        _check_source_columns(self.timestamp_field, self.created_timestamp_column)
        if self.format is not None and self.format not in FORMATS:
            raise InvalidDefinition(
                f"FileSource {self.path!r}: format {self.format!r} is unknown", hint=f"one of {', '.join(FORMATS)}"
            )

    @property
    def file_format(self) -> FileFormat:
        """The format, told by the path's ending where it was left out: `.csv`, `.csv.gz`, `.parquet`; else Delta
        for a path without an ending and Parquet for the rest."""
        if self.format is not None:
            return self.format
        last = self.path.rstrip("/").rsplit("/", 1)[-1].lower()
        if last.endswith((".csv", ".csv.gz", ".tsv", ".csv.zst")):
            return "csv"
        return "parquet" if "." in last or "*" in last else "delta"


@dataclass(frozen=True)
class SqlSource:
    """Rows of a query run by the offline engine (DuckDB by default), with paths relative to the project's folder.

    The query must be one SELECT and give the same rows when run again on the same data; its rows have no order,
    so full ties are decided by content. Raises InvalidDefinition.
    """

    query: str
    timestamp_field: str = DEFAULT_TIMESTAMP
    created_timestamp_column: str | None = None
    name: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.query, str) or not self.query.strip():
            raise InvalidDefinition("SqlSource query is empty", hint="write one SELECT")
        _check_source_columns(self.timestamp_field, self.created_timestamp_column)


@dataclass(frozen=True)
class PushSource:
    """Rows that a client pushes; `batch_source`, where given, holds the history from before.

    Raises InvalidDefinition.
    """

    name: str
    batch_source: FileSource | SqlSource | None = None
    timestamp_field: str = DEFAULT_TIMESTAMP
    created_timestamp_column: str | None = None
    description: str = ""

    def __post_init__(self) -> None:
        check_name("push source", self.name)
        if self.batch_source is not None:
            object.__setattr__(self, "timestamp_field", self.batch_source.timestamp_field)
            object.__setattr__(self, "created_timestamp_column", self.batch_source.created_timestamp_column)
        _check_source_columns(self.timestamp_field, self.created_timestamp_column)


Source = FileSource | SqlSource | PushSource


def _check_source_columns(timestamp: str, created: str | None) -> None:
    check_column("timestamp column", timestamp)
    if created is not None:
        check_column("created column", created)
        if created == timestamp:
            raise InvalidDefinition(
                f"created_timestamp_column and timestamp_field are both {created!r}",
                hint="leave created_timestamp_column out: knowledge time then is the event time",
            )


@dataclass(frozen=True)
class Projection:
    """Some features of a view, perhaps under another name and with other key columns."""

    view: str
    features: tuple[str, ...] | None = None
    name: str | None = None
    join_key_map: tuple[tuple[str, str], ...] = ()

    @property
    def alias(self) -> str:
        """The name its columns go by in full names."""
        return self.name or self.view

    def __getitem__(self, names: Sequence[str] | str) -> Projection:
        chosen = (names,) if isinstance(names, str) else tuple(names)
        if not chosen or len(set(chosen)) != len(chosen):
            raise InvalidDefinition(f"{self.view}[{list(chosen)}] is empty or repeats a feature", hint="name each once")
        return replace(self, features=chosen)

    def with_name(self, name: str) -> Projection:
        """The same features under another view name, so that one view can be used twice."""
        return replace(self, name=check_name("projection", name))

    def with_join_key_map(self, mapping: Mapping[str, str]) -> Projection:
        """The same features, found by other columns: `{"city_id": "home_city_id"}`."""
        for column in mapping.values():
            check_column("join key", column)
        return replace(self, join_key_map=tuple(sorted(mapping.items())))


@dataclass(frozen=True, init=False)
class FeatureView:
    """Features of one set of entities, from one source.

    `ttl`: how long a value counts after its event time; None for ever. `schema`: the features; left out, all
    columns of the source that are neither keys nor times, with their types, read at apply. `online=False` keeps
    the view out of the online store. Raises InvalidDefinition.

    >>> driver = Entity("driver", join_keys={"driver_id": dtypes.Int64})
    >>> view = FeatureView("stats", entities=[driver], schema=[Field("trips", dtypes.Int64)], source=PushSource("s"))
    >>> view[["trips"]].features
    ('trips',)
    """

    name: str
    entities: tuple[Entity, ...]
    source: Source
    schema: tuple[Field, ...] | None
    ttl: timedelta | None
    online: bool
    description: str
    tags: tuple[tuple[str, str], ...]
    owner: str

    def __init__(
        self,
        name: str,
        *,
        source: Source,
        entities: Sequence[Entity] = (),
        schema: Sequence[Field] | None = None,
        ttl: timedelta | None = None,
        online: bool = True,
        description: str = "",
        tags: Tags | None = None,
        owner: str = "",
    ) -> None:
        check_name("feature view", name)
        where = f"feature view {name!r}"
        _check_view_parts(where, source, entities, ttl)
        if schema is not None:
            _check_schema(where, schema, entities, source)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "entities", tuple(entities))
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "schema", None if schema is None else tuple(schema))
        object.__setattr__(self, "ttl", ttl)
        object.__setattr__(self, "online", bool(online))
        object.__setattr__(self, "description", description)
        object.__setattr__(self, "tags", _check_tags("feature view", name, tags))
        object.__setattr__(self, "owner", owner)

    @property
    def projection(self) -> Projection:
        """All features under the view's own name."""
        return Projection(self.name)

    def __getitem__(self, names: Sequence[str] | str) -> Projection:
        chosen = self.projection[names]
        known = None if self.schema is None else {f.name for f in self.schema}
        for name in chosen.features or ():
            if known is not None and name not in known:
                raise UnknownFeature(
                    f"feature view {self.name!r} has no feature {name!r}", hint=did_you_mean(name, known)
                )
        return chosen

    def with_name(self, name: str) -> Projection:
        """All features, under another view name."""
        return self.projection.with_name(name)

    def with_join_key_map(self, mapping: Mapping[str, str]) -> Projection:
        """All features, found by other columns."""
        known = {key for entity in self.entities for key in entity.key_names}
        for key in mapping:
            if key not in known:
                raise InvalidDefinition(
                    f"feature view {self.name!r} has no join key {key!r}", hint=did_you_mean(key, known)
                )
        return self.projection.with_join_key_map(mapping)


def _check_view_parts(where: str, source: object, entities: Sequence[object], ttl: object) -> None:
    if not isinstance(source, FileSource | SqlSource | PushSource):
        raise InvalidDefinition(f"{where}: source is {source!r}", hint="give a FileSource, SqlSource or PushSource")
    keys: list[str] = []
    for entity in entities:
        if not isinstance(entity, Entity):
            raise InvalidDefinition(f"{where}: {entity!r} is not an Entity", hint="pass Entity objects, not names")
        keys += entity.key_names
    if len(set(keys)) != len(keys):
        raise InvalidDefinition(f"{where}: join keys {keys} repeat", hint="use entities with different join keys")
    if ttl is not None:
        if not isinstance(ttl, timedelta):
            raise InvalidDefinition(f"{where}: ttl is {ttl!r}", hint="give a timedelta, or None for never")
        if duration_us(ttl) <= 0:
            raise InvalidDefinition(f"{where}: ttl is {ttl}", hint="use ttl=None for 'never expires'; 0 is refused")


def _check_schema(where: str, schema: Sequence[object], entities: Sequence[Entity], source: Source) -> None:
    taken = {key: "a join key" for entity in entities for key in entity.key_names}
    taken[source.timestamp_field] = "the timestamp column"
    if source.created_timestamp_column:
        taken[source.created_timestamp_column] = "the created column"
    if not schema:
        raise InvalidDefinition(f"{where}: schema is empty", hint="name at least one Field, or leave schema out")
    for field in schema:
        if not isinstance(field, Field):
            raise InvalidDefinition(f"{where}: {field!r} is not a Field", hint='write Field("trips", Int64)')
        if field.name in taken:
            raise InvalidDefinition(f"{where}: feature {field.name!r} is also {taken[field.name]}", hint="rename one")
        taken[field.name] = "a feature already"


@dataclass(frozen=True, init=False)
class FeatureService:
    """A named set of features that a model reads together: views, projections, or `view:feature` references.

    Raises InvalidDefinition.
    """

    name: str
    features: tuple[Projection, ...]
    description: str
    tags: tuple[tuple[str, str], ...]
    owner: str

    def __init__(
        self,
        name: str,
        features: Sequence[FeatureView | Projection],
        *,
        description: str = "",
        tags: Tags | None = None,
        owner: str = "",
    ) -> None:
        check_name("feature service", name)
        projections = []
        for item in features:
            if isinstance(item, FeatureView):
                projections.append(item.projection)
            elif isinstance(item, Projection):
                projections.append(item)
            else:
                raise InvalidDefinition(
                    f"feature service {name!r}: {item!r} is not a view",
                    hint="pass views, view[[...]] or view.with_name()",
                )
        aliases = [p.alias for p in projections]
        repeated = sorted({a for a in aliases if aliases.count(a) > 1})
        if not projections or repeated:
            raise InvalidDefinition(
                f"feature service {name!r}: " + (f"{repeated} repeat" if repeated else "no features"),
                hint='use view.with_name("other") to take a view twice',
            )
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "features", tuple(projections))
        object.__setattr__(self, "description", description)
        object.__setattr__(self, "tags", _check_tags("feature service", name, tags))
        object.__setattr__(self, "owner", owner)


Definition = Entity | FeatureView | FeatureService | FileSource | SqlSource | PushSource
