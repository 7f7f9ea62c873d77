"""The registry over a real records store: revisions, two appliers at once, deletes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stook import Entity, FeatureService, FeatureView, Field, FileSource, Float64, Int64, PushSource, String, Timestamp
from stook.backends.local.clock import SystemClock
from stook.backends.sqlite.records import open_records
from stook.core.errors import IncompatibleChange, InvalidArgument, UnknownFeature, UnknownObject
from stook.core.settings import parse_url
from stook.core.specs import Column
from stook.registry.catalogue import ENTITY, PUSH_SOURCE, SERVICE, VIEW
from stook.registry.registry import Registry
from stook.registry.resolve import resolve_features

driver = Entity("driver", join_keys={"driver_id": Int64})
stats = FeatureView("stats", entities=[driver], schema=[Field("rate", Float64)], source=PushSource("events"))
service = FeatureService("ranking", [stats])


def open_registry(folder: Path) -> Registry:
    url = parse_url("sqlite:///records.db", folder, "engines.records")
    return Registry(open_records(url, folder), SystemClock(), lambda source: ())


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = open_registry(tmp_path)
    yield registry
    registry.records.close()


def test_apply_is_one_commit_and_idempotent(registry: Registry) -> None:
    registry.apply([stats, service])
    assert registry.records.revision() == 1
    assert not registry.apply([stats, service])
    assert registry.records.revision() == 1


def test_an_apply_that_is_refused_changes_nothing(registry: Registry) -> None:
    registry.apply([stats])
    changed = FeatureView("stats", entities=[driver], schema=[Field("rate", String)], source=PushSource("events"))
    extra = Entity("extra", join_keys={"x": Int64})
    with pytest.raises(IncompatibleChange, match="nothing was applied") as caught:
        registry.apply([changed, extra])
    assert caught.value.hint
    assert registry.records.revision() == 1 and "extra" not in registry.catalogue(fresh=True).entities


@pytest.mark.case(59)
def test_two_applies_at_once_are_both_kept(tmp_path: Path) -> None:
    """Case 59."""
    views = [
        FeatureView(f"v{n}", entities=[driver], schema=[Field("rate", Float64)], source=PushSource(f"p{n}"))
        for n in range(6)
    ]
    start = threading.Barrier(len(views))
    registries = [open_registry(tmp_path) for _ in views]

    def apply(number: int) -> None:
        start.wait()
        registries[number].apply([views[number]])

    threads = [threading.Thread(target=apply, args=(n,)) for n in range(len(views))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(registries[0].catalogue(fresh=True).views) == {v.name for v in views}
    for registry in registries:
        registry.records.close()


def test_a_view_made_again_is_another_view(registry: Registry) -> None:
    """Case 61: what was stored under the old one is not the new one's."""
    registry.apply([stats])
    first = registry.catalogue(fresh=True).view("stats").uid
    registry.delete(VIEW, "stats")
    registry.apply([stats])
    assert registry.catalogue(fresh=True).view("stats").uid != first


def test_what_is_used_is_not_deleted(registry: Registry) -> None:
    registry.apply([stats, service])
    for kind, name in ((VIEW, "stats"), (ENTITY, "driver"), (PUSH_SOURCE, "events")):
        with pytest.raises(InvalidArgument, match="is still used by"):
            registry.delete(kind, name)
    registry.delete(SERVICE, "ranking")
    view = registry.catalogue().view("stats")
    registry.delete(VIEW, "stats")
    assert registry.orphans() == (view,)
    registry.buried(view)
    assert registry.orphans() == ()
    registry.delete(ENTITY, "driver")
    with pytest.raises(UnknownObject):
        registry.get(ENTITY, "driver")


def test_other_writes_to_the_store_leave_the_catalogue_as_it_is(registry: Registry) -> None:
    from stook.core.ports.records import Put

    registry.apply([stats])
    before = registry.catalogue(fresh=True)
    registry.records.commit([Put("watermark", "stats", {})])
    assert registry.catalogue(fresh=True) is before


def test_features_resolve_to_reads_in_the_order_asked(registry: Registry) -> None:
    wide = FeatureView(
        "wide", entities=[driver], schema=[Field("rate", Float64), Field("b", Int64)], source=PushSource("more")
    )
    registry.apply([stats, wide])
    catalogue = registry.catalogue(fresh=True)
    plan = resolve_features(catalogue, ["wide:b", "stats:rate", "wide:rate"])
    assert plan.names == ("b", "stats__rate", "wide__rate")
    assert {read.view.name: read.outputs for read in plan.views} == {
        "wide": (("b", "b"), ("rate", "wide__rate")),
        "stats": (("rate", "stats__rate"),),
    }
    twice = [stats.with_name("home").with_join_key_map({"driver_id": "home_id"}), stats.projection]
    plan = resolve_features(catalogue, twice)
    assert [c.name for c in plan.keys] == ["home_id", "driver_id"]
    assert plan.names == ("home__rate", "stats__rate")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("ranking", "there is no feature service"),
        (["stat:rate"], "did you mean 'stats'"),
        (["stats:rat"], "did you mean 'rate'"),
        (["stats"], "write it as view:feature"),
        ([], "0 features were asked for"),
        (["stats:rate", "stats:rate"], "asked for twice"),
    ],
)
def test_wrong_references_get_a_mend(registry: Registry, asked: object, words: str) -> None:
    registry.apply([stats])
    with pytest.raises((UnknownFeature, InvalidArgument)) as caught:
        resolve_features(registry.catalogue(fresh=True), asked)  # type: ignore[arg-type]
    assert words in str(caught.value)


@pytest.mark.case(59)
@pytest.mark.parametrize("beside", ["retyped", "deleted"])
def test_what_an_apply_refers_to_cannot_change_beside_it(tmp_path: Path, beside: str) -> None:
    """Somebody changes the entity between the moment a view on it is planned and the moment it is stored."""
    other = open_registry(tmp_path)
    other.apply([driver])
    said: list[str] = []

    def meanwhile(source: object) -> tuple[Column, ...]:  # called while the plan is made
        if not said:
            said.append(beside)
            if beside == "deleted":
                other.delete(ENTITY, "driver")
            else:
                other.apply([Entity("driver", join_keys={"driver_id": String})])
        return (Column("driver_id", Int64), Column("rate", Float64), Column("event_timestamp", Timestamp))

    mine = Registry(other.records, SystemClock(), meanwhile)
    mine.apply(
        [FeatureView("files", entities=[driver], schema=[Field("rate", Float64)], source=FileSource("x.parquet"))]
    )
    found = mine.catalogue(fresh=True)
    assert said and found.views["files"].keys == found.entities["driver"].join_keys
    other.records.close()


@pytest.mark.case(59)
def test_a_feature_that_a_new_service_reads_cannot_go_beside_it(tmp_path: Path) -> None:
    other = open_registry(tmp_path)
    both = FeatureView(
        "stats", entities=[driver], schema=[Field("rate", Float64), Field("x", Int64)], source=PushSource("events")
    )
    one = FeatureView("stats", entities=[driver], schema=[Field("x", Int64)], source=PushSource("events"))
    files = FeatureView("files", entities=[driver], schema=[Field("rate", Float64)], source=FileSource("x.parquet"))
    other.apply([both])
    said: list[str] = []

    def meanwhile(source: object) -> tuple[Column, ...]:
        if not said:
            said.append("x")
            other.apply([one])
        return (Column("driver_id", Int64), Column("rate", Float64), Column("event_timestamp", Timestamp))

    mine = Registry(other.records, SystemClock(), meanwhile)
    mine.apply([both, files, FeatureService("ranking", [both, files])])
    found = mine.catalogue(fresh=True)
    read = resolve_features(found, "ranking", full_feature_names=False)
    assert said and {v.view.name for v in read.views} == {"stats", "files"}
    other.records.close()
