"""Definitions resolved and compared: what is created, changed, refused, and with which words."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from stook import (
    Array,
    Date,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    Float32,
    Float64,
    Int32,
    Int64,
    Map,
    PushSource,
    SqlSource,
    String,
    Struct,
    Timestamp,
)  # fmt: skip
from stook.core.definitions import Source
from stook.core.errors import InvalidDefinition, SchemaMismatch
from stook.core.specs import Column
from stook.registry.catalogue import SERVICE, VIEW, Catalogue
from stook.registry.declare import resolve
from stook.registry.diff import RegistryPlan, compare

COLUMNS = {
    "stats.parquet": {"driver_id": Int64, "event_timestamp": Timestamp, "created": Timestamp, "rate": Float64, "trips": Int32},
    "text.parquet": {"driver_id": String, "event_timestamp": Timestamp, "mood": String},
    "places.parquet": {"driver_id": Int64, "event_timestamp": Timestamp, "at": Struct({"Lat": Float64, "lat": Float64})},
    "words.parquet": {"driver_id": Int64, "event_timestamp": String, "rate": Float64},
    "others.parquet": {"driver_id": Int64, "event_timestamp": Timestamp, "rate": Float64, "trips": Int64},
}  # fmt: skip


def describe(source: FileSource | SqlSource) -> tuple[Column, ...]:
    path = source.path if isinstance(source, FileSource) else "stats.parquet"
    return tuple(Column(name, dtype) for name, dtype in COLUMNS[path].items())


driver = Entity("driver", join_keys={"driver_id": Int64})


def view(name: str = "stats", **changes: object) -> FeatureView:
    settings: dict[str, object] = {
        "entities": [driver],
        "schema": [Field("rate", Float64), Field("trips", Int64)],
        "source": FileSource("stats.parquet"),
    }
    return FeatureView(name, **{**settings, **changes})  # type: ignore[arg-type]


def plan_of(definitions: list[object], stored: Catalogue | None = None) -> RegistryPlan:
    stored = stored or Catalogue()
    return compare(resolve(definitions, stored, describe), stored, {})  # type: ignore[arg-type]


def stored_after(*definitions: object) -> Catalogue:
    """The catalogue as it is once the definitions are applied."""
    declared = resolve(list(definitions), Catalogue(), describe)  # type: ignore[arg-type]
    return Catalogue(declared.entities, declared.views, declared.services, {}, {(VIEW, n): 1 for n in declared.views})


def test_first_plan_creates_view_and_its_entity() -> None:
    plan = plan_of([view()])
    assert [(d.action, d.name) for d in plan.changes] == [("create", "driver"), ("create", "stats")]
    assert "+ feature-view stats" in str(plan) and "feature trips int64" in str(plan)


def test_the_same_again_changes_nothing() -> None:
    service = FeatureService("ranking", [view()])
    assert not plan_of([view(), service], stored_after(view(), service))


def test_types_are_learned_from_the_source() -> None:
    inferred = resolve([view(schema=None, entities=[Entity("driver", ["driver_id"])])], Catalogue(), describe)
    assert inferred.views["stats"].keys == (Column("driver_id", Int64),)
    assert [str(c.dtype) for c in inferred.views["stats"].features] == ["timestamp", "float64", "int32"]
    created = FileSource("stats.parquet", created_timestamp_column="created")
    features = resolve([view(schema=None, source=created)], Catalogue(), describe).views["stats"].features
    assert [c.name for c in features] == ["rate", "trips"]


def test_one_key_of_two_types_is_refused_naming_both() -> None:
    loose = Entity("driver", ["driver_id"])
    other = FeatureView("moods", entities=[loose], source=FileSource("text.parquet"))
    with pytest.raises(InvalidDefinition, match=r"several types: string in moods, int64 in stats"):
        resolve([view(entities=[loose]), other], Catalogue(), describe)


def test_keys_do_not_depend_on_the_order_of_entities() -> None:
    """Case 13: composite keys, any order of definition."""
    city = Entity("city", join_keys={"city_id": Int64})
    source = PushSource("p")
    one = view(entities=[driver, city], source=source)
    two = view(entities=[city, driver], source=source)
    keys = [resolve([v], Catalogue(), describe).views["stats"].keys for v in (one, two)]
    assert keys[0] == keys[1] == (Column("city_id", Int64), Column("driver_id", Int64))


@pytest.mark.parametrize(
    ("definitions", "words"),
    [
        ([view(), view(ttl=timedelta(days=1))], "two definitions of feature view 'stats' differ"),
        ([view(), Entity("driver", join_keys={"driver_id": Int32})], "two definitions of entity 'driver' differ"),
        ([view(source=PushSource("stats2")), view("stats2")], "names a feature view and a push source"),
        ([view(schema=None, source=PushSource("p"))], "neither schema nor batch source"),
        ([FeatureService("s", [view("gone").projection])], "reads feature view 'gone', which is not defined"),
        ([view(), FeatureService("s", [view(schema=None)[["rat"]]])], "did you mean 'rate'"),
        ([object()], "is not a definition"),
    ],
)
def test_wrong_definitions_name_the_thing_and_the_mend(definitions: list[object], words: str) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        plan_of(definitions)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": FileSource("stats.parquet", timestamp_field="event_timestam")}, "did you mean 'event_timestamp'"),
        ({"source": FileSource("words.parquet"), "schema": [Field("rate", Float64)]}, "must hold timestamps"),
        ({"schema": [Field("rat", Float64)]}, "did you mean 'rate'"),
        ({"schema": [Field("rate", String)]}, "cannot be kept exactly as string"),
        ({"source": FileSource("text.parquet"), "schema": [Field("mood", String)]}, "'driver_id'"),
    ],
)
def test_a_source_that_does_not_fit_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        plan_of([view(**changes)])
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (
            view(schema=[Field("rate", Float64), Field("trips", Int64), Field("created", Timestamp)]),
            "+ feature created",
        ),
        (view(schema=[Field("rate", Float64)]), "- feature trips"),
        (view(schema=[Field("trips", Int64), Field("rate", Float64)]), "features reordered"),
        (view(ttl=timedelta(hours=1)), "ttl: never expires -> 1h"),
        (view(owner="ann@example.com"), "owner:"),
        (view(online=False), "online: True -> False"),
    ],
)
def test_what_stored_rows_survive_is_an_update(after: FeatureView, words: str) -> None:
    plan = plan_of([after], stored_after(view()))
    assert [d.action for d in plan.changes] == ["update"] and not plan.refusals
    assert words in str(plan)


def test_every_schema_a_view_ever_had_is_kept() -> None:
    """Case 63: old stored values remain readable."""
    narrow = view(schema=[Field("rate", Float64), Field("trips", Int32)])
    (change,) = plan_of([view()], stored_after(narrow)).changes
    assert change.spec is not None and [revision for revision, _ in change.spec["schemas"]] == [1, 2]


ONE, TWO = SqlSource("SELECT 1"), SqlSource("SELECT 2")


@pytest.mark.parametrize(
    ("before", "after", "revisions"),
    [
        (ONE, TWO, [1, 2]),
        (ONE, FileSource("stats.parquet"), [1, 2]),
        (FileSource("stats.parquet"), ONE, [1, 2]),
        (PushSource("p", ONE), PushSource("p", TWO), [1, 2]),
        (ONE, PushSource("p"), [1, 2]),
        (FileSource("stats.parquet"), FileSource("stats.parquet", format="csv"), [1, 2]),
        (ONE, PushSource("p", ONE), [1]),
        (FileSource("stats.parquet"), FileSource("others.parquet"), [1]),
        (ONE, replace(ONE, description="one"), [1]),
    ],
)
def test_a_source_that_makes_other_rows_starts_a_schema_revision(
    before: Source, after: Source, revisions: list[int]
) -> None:
    """Rows under it may have other values at the very same times, and of such the larger revision wins."""
    plan = plan_of([view(source=after)], stored_after(view(source=before)))
    (spec,) = [d.spec for d in plan.differences if d.kind == VIEW]
    assert spec is not None and [revision for revision, _ in spec["schemas"]] == revisions
    assert [d.action for d in plan.differences if d.kind == VIEW] == ["update"] and not plan.refusals


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (view(schema=[Field("rate", Float32), Field("trips", Int64)]), "stored as float64, which float32 cannot hold"),
        (view(schema=[Field("rate", Float64), Field("trips", Int32)]), "stored as int64, which int32 cannot hold"),
        (
            view(entities=[Entity("car", join_keys={"trips": Int64})], schema=[Field("rate", Float64)]),
            "join keys change",
        ),
        (view(entities=[Entity("driver", join_keys={"driver_id": Int32})]), "entity 'driver': join keys change"),
        (view(source=FileSource("stats.parquet", timestamp_field="created")), "event_timestamp to created"),
        (
            view(source=FileSource("stats.parquet", created_timestamp_column="created")),
            "the created column of its source changes from none to created",
        ),
        (
            view(source=PushSource("p", FileSource("stats.parquet", created_timestamp_column="created"))),
            "rows are stored by its times",
        ),
    ],
)
def test_what_would_break_stored_rows_is_refused_with_a_way(after: FeatureView, words: str) -> None:
    plan = plan_of([after], stored_after(view()))
    assert any(words in why for why, _ in plan.refusals)
    assert all(way for _, way in plan.refusals)


def test_a_created_column_may_not_go_and_may_come_to_pushes() -> None:
    known = FileSource("stats.parquet", created_timestamp_column="created")
    plan = plan_of([view()], stored_after(view(source=known)))
    assert ["created to none" in why for why, _ in plan.refusals] == [True]
    pushed = stored_after(view(source=PushSource("p")))
    assert not plan_of([view(source=PushSource("p", known))], pushed).refusals
    assert not plan_of([view(source=PushSource("p", FileSource("stats.parquet")))], stored_after(view())).refusals


def test_a_type_may_not_come_back_narrower_after_a_detour() -> None:
    """A removed feature's rows are still stored, so that its old type still binds."""
    stored = stored_after(view())
    (change,) = plan_of([view(schema=[Field("rate", Float64)])], stored).changes
    assert change.spec is not None
    from stook.core.specs import ViewSpec

    after = Catalogue(
        stored.entities, {"stats": ViewSpec.from_spec("stats", change.spec)}, {}, {}, {(VIEW, "stats"): 2}
    )
    plan = plan_of([view(schema=[Field("rate", Float64), Field("trips", String)], source=PushSource("p"))], after)
    assert any("stored as int64, which string cannot hold" in why for why, _ in plan.refusals)


def test_removing_a_feature_that_a_service_reads_is_refused_unless_the_service_follows() -> None:
    stored = stored_after(view(), FeatureService("ranking", [view()]))
    smaller = view(schema=[Field("rate", Float64)])
    refused = plan_of([smaller], stored)
    assert any("which feature service 'ranking' reads" in why for why, _ in refused.refusals)
    assert not plan_of([smaller, FeatureService("ranking", [smaller])], stored).refusals


def test_what_is_no_longer_defined_is_shown_and_kept() -> None:
    plan = plan_of([view("other")], stored_after(view()))
    assert plan.undeclared == ((VIEW, "stats"),)
    assert "no longer defined; kept" in str(plan)
    assert all(kind != SERVICE for kind, _ in plan.undeclared)


TWINS = Struct({"a": Int64, "b": String, "A": Int64})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": [Field("x", TWINS)]}, "feature 'x': 'a' and 'A' differ by case alone"),
        ({"schema": [Field("x", Array(Map(String, Struct({"in": TWINS}))))]}, "'a' and 'A' differ by case alone"),
        ({"schema": [Field("x", Struct({"": Int64}))]}, "field name '' is not possible"),
        ({"schema": [Field("x", Array(Struct({"a\0": Int64})))]}, "is not possible"),
    ],
)
def test_fields_that_tables_cannot_keep_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        plan_of([view(source=PushSource("p"), **changes)])
    assert words in str(caught.value) and "'stats'" in str(caught.value) and caught.value.hint


def test_fields_of_a_source_that_tables_cannot_keep_are_refused_where_a_view_has_them() -> None:
    with pytest.raises(InvalidDefinition, match="feature 'at': 'Lat' and 'lat' differ by case alone"):
        plan_of([view(source=FileSource("places.parquet"), schema=None)])


def test_a_text_file_whose_times_are_all_empty_is_taken() -> None:
    """What it seems to hold is text then; its values are checked when they are read."""

    def seen(source: FileSource | SqlSource) -> tuple[Column, ...]:
        return tuple(
            Column(n, t) for n, t in {"driver_id": Int64, "at": Timestamp, "created": String, "day": String}.items()
        )

    source = FileSource("s.csv", timestamp_field="at", created_timestamp_column="created")
    declared = resolve([view(source=source, schema=[Field("day", Date)])], Catalogue(), seen)
    assert [str(c.dtype) for c in declared.views["stats"].features] == ["date"]
    with pytest.raises(SchemaMismatch, match="'created' holds string"):
        resolve([view(source=replace(source, path="s.parquet"))], Catalogue(), seen)
