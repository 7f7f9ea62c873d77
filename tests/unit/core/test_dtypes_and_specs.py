"""Types, definitions and their stored forms."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stook import (
    Array,
    Decimal,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    Float32,
    Float64,
    Int64,
    Map,
    PushSource,
    SqlSource,
    String,
    Struct,
    Vector,
)
from stook.core import dtypes
from stook.core.dtypes import DType, from_spec, widens
from stook.core.errors import InvalidDefinition, UnknownFeature
from stook.core.specs import Column, Schema, ServiceSpec, ViewSpec, source_from_spec, source_to_spec

primitives = st.sampled_from(list(dtypes.PRIMITIVES.values()))
decimals = st.integers(1, 38).flatmap(lambda p: st.integers(0, p).map(lambda s: Decimal(p, s)))
vectors = st.builds(Vector, st.sampled_from(dtypes.VECTOR_ELEMENTS), st.integers(1, 2048))
types = st.recursive(
    primitives | decimals | vectors,
    lambda inner: (
        st.builds(Array, inner)
        | st.builds(Map, primitives, inner)
        | st.dictionaries(st.text(min_size=1, max_size=5), inner, min_size=1, max_size=3).map(Struct)
    ),
    max_leaves=6,
)


@given(types)
def test_types_survive_storage(dtype: DType) -> None:
    import json

    assert from_spec(json.loads(json.dumps(dtype.to_spec()))) == dtype
    assert str(dtype) and repr(dtype)


@given(types, types, types)
def test_widening_is_a_partial_order(a: DType, b: DType, c: DType) -> None:
    assert widens(a, a)
    if widens(a, b) and widens(b, a):
        assert a == b
    if widens(a, b) and widens(b, c):
        assert widens(a, c)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Decimal(39, 0),
        lambda: Decimal(5, 6),
        lambda: Vector(String, 3),
        lambda: Vector(Float32, 0),
        lambda: Struct({}),
        lambda: Array(int),  # type: ignore[arg-type]
        lambda: Map(Array(Int64), Int64),
        lambda: Field("", Int64),
        lambda: Field("__x", Int64),
        lambda: Field("x", int),  # type: ignore[arg-type]
        lambda: Entity("a__b"),
        lambda: Entity("a", join_keys={"x": Float64}),
        lambda: Entity("a", join_keys=["x", "x"]),
        lambda: FileSource(""),
        lambda: FileSource("x.parquet", timestamp_field="t", created_timestamp_column="t"),
        lambda: FileSource("x.parquet", format="orc"),  # type: ignore[arg-type]
        lambda: SqlSource("  "),
        lambda: PushSource("a b"),
        lambda: FeatureView("v", source=PushSource("p"), ttl=timedelta(0)),
        lambda: FeatureView("v", source=PushSource("p"), ttl=5),  # type: ignore[arg-type]
        lambda: FeatureView("v", source="p"),  # type: ignore[arg-type]
        lambda: FeatureView("v", source=PushSource("p"), entities=["e"]),  # type: ignore[list-item]
        lambda: FeatureView("v", source=PushSource("p"), schema=[]),
        lambda: FeatureView("v", source=PushSource("p"), schema=[Field("x", Int64), Field("x", Int64)]),
        lambda: FeatureView("v", source=PushSource("p"), entities=[Entity("e"), Entity("f", ["e"])]),
        lambda: FeatureView("v", source=PushSource("p"), entities=[Entity("e")], schema=[Field("e", Int64)]),
        lambda: FeatureService("s", []),
        lambda: FeatureService("s", ["v:x"]),  # type: ignore[list-item]
    ],
)
@pytest.mark.case(5)
def test_wrong_definitions_are_refused_with_a_mend(make: Any) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        make()
    assert caught.value.message and caught.value.hint


def test_a_projection_knows_its_features() -> None:
    view = FeatureView("v", source=PushSource("p"), schema=[Field("rate", Int64)])
    with pytest.raises(UnknownFeature, match="did you mean 'rate'"):
        view[["rat"]]
    assert view[["rate"]].with_name("w").with_join_key_map({"a": "b"}).alias == "w"


@pytest.mark.parametrize(
    ("path", "file_format"),
    [
        ("a.parquet", "parquet"),
        ("data/*.csv", "csv"),
        ("data/*", "parquet"),
        ("folder", "delta"),
        ("x.CSV.GZ", "csv"),
    ],
)
def test_a_files_format_is_told_by_its_name(path: str, file_format: str) -> None:
    assert FileSource(path).file_format == file_format


@pytest.mark.parametrize(
    "source",
    [
        FileSource("x.parquet", "t", "c", description="d"),
        SqlSource("select 1", "t"),
        PushSource("p"),
        PushSource("p", FileSource("x.csv", "t", "c")),
    ],
)
def test_specs_survive_storage(source: Any) -> None:
    import json

    stored = json.loads(json.dumps(source_to_spec(source)))
    again = source_from_spec(stored)
    assert source_to_spec(again) == source_to_spec(source)
    assert again.timestamp_field == source.timestamp_field
    columns = (Column("a", Int64),)
    view = ViewSpec("v", "u", ("e",), columns, (Schema(1, columns),), again, 5, tags=(("k", "v"),))
    assert ViewSpec.from_spec("v", json.loads(json.dumps(view.to_spec()))) == view
    service = ServiceSpec("s", (FeatureView("v", source=PushSource("p")).projection["a"],))
    assert ServiceSpec.from_spec("s", json.loads(json.dumps(service.to_spec()))) == service
