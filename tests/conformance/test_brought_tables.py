"""What users bring in their hands, in every layout: label tables, pushes and entities mean the same, or are refused.

The cases of `stook.testing.cases` come in by files and pushes of one layout; here the layouts differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import stook
from stook import Entity, FeatureView, Field, Int64, PushSource, String
from stook.backends.memory.clock import FrozenClock
from stook.core.errors import InvalidArgument, SchemaMismatch
from stook.testing.cases.case import HOUR, NOW

from .worlds import EMBEDDED, MEMORY, settings

TIMES = pa.timestamp("us", "UTC")
shop = Entity("shop", join_keys={"name": String})
KEYS = ["a", "bé", "", "a"]


@pytest.fixture(params=["embedded", "memory"])
def p(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    (tmp_path / "stook.toml").write_text(settings({"embedded": EMBEDDED, "memory": MEMORY}[request.param]))
    with stook.open(tmp_path, clock=FrozenClock(NOW)) as platform:
        fields = [Field("city", String), Field("x", Int64)]
        platform.apply([FeatureView("v", entities=[shop], schema=fields, source=PushSource("pushes"))])
        yield platform


def plain() -> dict[str, Any]:
    at = [NOW - 2 * HOUR, NOW - 2 * HOUR, NOW - 2 * HOUR, NOW - HOUR]
    return {
        "name": pa.array(KEYS),
        "event_timestamp": pa.array(at, pa.int64()).cast(TIMES),
        "city": pa.array(["x", None, "", "yé"]),
        "x": pa.array([1, None, 2**60 + 1, 4], pa.int64()),
    }


def arrow(cast: Callable[[Any], Any]) -> pa.Table:
    table = pa.table(plain())
    for name in ("name", "city"):
        table = table.set_column(table.column_names.index(name), name, cast(table.column(name)))
    return table


def dictionary_of_views(values: pa.ChunkedArray) -> pa.ChunkedArray:
    coded = values.combine_chunks().dictionary_encode()
    return pa.chunked_array([
        pa.DictionaryArray.from_arrays(coded.indices[lo:hi], coded.dictionary.cast(pa.string_view())) for lo, hi in ((0, 1), (1, 4))
    ])  # fmt: skip


def polars(dtype: Any) -> pl.DataFrame:
    frame = pl.from_arrow(pa.table(plain()))
    assert isinstance(frame, pl.DataFrame)
    return frame.with_columns(pl.col("name").cast(dtype), pl.col("city").cast(dtype))


LAYOUTS: dict[str, Callable[[], Any]] = {
    "views": lambda: arrow(lambda c: c.cast(pa.string_view())),
    "dictionaries of views": lambda: arrow(dictionary_of_views),
    "dictionaries": lambda: arrow(lambda c: c.dictionary_encode()),
    "large text": lambda: arrow(lambda c: c.cast(pa.large_string())),
    "a chunk a row": lambda: pa.concat_tables([pa.table(plain()).slice(i, 1) for i in range(4)]),
    "a batch": lambda: pa.table(plain()).to_batches()[0],
    "polars": lambda: polars(pl.String),
    "polars categories": lambda: polars(pl.Categorical),
    "polars enumeration": lambda: polars(pl.Enum(["a", "bé", "", "x", "yé"])),
    "polars series": lambda: {name: pl.Series(values) for name, values in plain().items()},
    "pandas": lambda: pa.table(plain()).to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get),
    "pandas categories": lambda: pa.table(plain()).to_pandas(
        categories=["name", "city"], types_mapper={pa.int64(): pd.Int64Dtype()}.get
    ),
    "rows": lambda: pa.table(plain()).to_pylist(),
    "columns": lambda: pa.table(plain()).to_pydict(),
    "tuples": lambda: {name: tuple(values.to_pylist()) for name, values in plain().items()},
}


@pytest.mark.case(49, 51)
@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_every_layout_means_the_same_pushed_as_labels_and_as_entities(p: Any, layout: str) -> None:
    brought = LAYOUTS[layout]()
    assert p.push("v", brought).rows == 4
    expected = {"city": ["yé", None, "", "yé"], "x": [4, None, 2**60 + 1, 4]}

    names = brought.select(["name"]) if isinstance(brought, pa.Table | pa.RecordBatch | pl.DataFrame) else (
        brought[["name"]] if isinstance(brought, pd.DataFrame) else None
    )  # fmt: skip
    if names is None:
        names = {"name": brought["name"]} if isinstance(brought, dict) else [{"name": row["name"]} for row in brought]
    asked = {"entity_rows": names} if isinstance(names, list) else {"entities": names}
    online = p.get_online_features(["v:city", "v:x"], **asked).to_dict()
    assert {name: online[name] for name in expected} == expected

    if isinstance(brought, list):
        labels: Any = [{"name": row["name"], "event_timestamp": row["event_timestamp"]} for row in brought]
    elif isinstance(brought, dict):
        labels = {name: brought[name] for name in ("name", "event_timestamp")}
    elif isinstance(brought, pd.DataFrame):
        labels = brought[["name", "event_timestamp"]]
    else:
        labels = brought.select(["name", "event_timestamp"])
    made = p.get_historical_features(labels, ["v:city", "v:x"])
    past = made.to_arrow()
    assert past.column("name").to_pylist() == KEYS
    assert past.column("city").to_pylist() == ["x", None, "", "yé"]
    assert past.column("x").to_pylist() == [1, None, 2**60 + 1, 4]
    made.save("kept")
    assert p.dataset("kept").to_arrow().column("name").to_pylist() == KEYS


@pytest.mark.case(52)
@pytest.mark.parametrize(
    "wrong", ["ab", b"ab", bytearray(b"ab"), {"a", "b"}, frozenset("ab"), {"a": 1, "b": 2}, 5, None]
)
def test_a_column_that_is_no_column_is_refused_everywhere(p: Any, wrong: Any) -> None:
    """Text would come apart into its letters; a set has no order for the answers to follow."""
    with pytest.raises(SchemaMismatch, match="list"):
        p.push("v", {"name": wrong, "x": [1, 2]})
    with pytest.raises(SchemaMismatch, match="list"):
        p.get_historical_features({"name": wrong, "event_timestamp": ["2024-01-01", "2024-01-01"]}, ["v:x"])
    with pytest.raises(SchemaMismatch, match="name"):
        p.get_online_features(["v:x"], entities={"name": wrong})
    assert p.get_online_features(["v:x"], entities={"name": ["a", "b"]}).statuses["x"] == ["NOT_FOUND"] * 2


@pytest.mark.case(52)
def test_a_column_that_stands_twice_is_refused_everywhere(p: Any) -> None:
    """Which of the two is meant nobody can say, and one of them would be lost."""
    names, times = pa.array(["a"]), pa.array([NOW]).cast(TIMES)
    for twice in (
        pa.Table.from_arrays([names, pa.array(["b"])], names=["name", "name"]),
        pa.Table.from_arrays([names, times, names, names], names=["name", "event_timestamp", "own", "own"]),
        pd.DataFrame([["a", "b"]], columns=["name", "name"]),
    ):
        with pytest.raises(SchemaMismatch, match=r"named|Duplicate"):
            p.get_historical_features(twice, ["v:x"])
        with pytest.raises(SchemaMismatch, match=r"named|Duplicate"):
            p.get_online_features(["v:x"], entities=twice)
        with pytest.raises(SchemaMismatch, match=r"named|Duplicate"):
            p.push("v", twice)


@pytest.mark.case(14)
def test_an_answer_never_has_two_columns_of_one_name(p: Any) -> None:
    town = Entity("town", join_keys={"town": String})
    p.apply([
        FeatureView("w", entities=[town], schema=[Field("name", String), Field("v__x", Int64), Field("x", Int64)],
                    source=PushSource("ws")),
        FeatureView("s", entities=[shop], schema=[Field("x", Int64), Field("x__status", String)],
                    source=PushSource("ss")),
    ])  # fmt: skip
    p.push("w", [{"town": "t", "name": "called", "v__x": 5, "x": 6}])
    p.push("v", [{"name": "a", "x": 7}])
    p.push("s", [{"name": "a", "x": 8, "x__status": "fine"}])
    rows = {"name": ["a"], "town": ["t"]}
    with pytest.raises(InvalidArgument, match=r"'name' is named like a join key.*full_feature_names"):
        p.get_online_features(["v:x", "w:name"], entities=rows)
    full = p.get_online_features(["v:x", "w:name"], entities=rows, full_feature_names=True).to_dict()
    assert full == {"name": ["a"], "town": ["t"], "v__x": [7], "w__name": ["called"]}
    with pytest.raises(InvalidArgument, match="'v__x' is named like another feature's full name"):
        p.get_online_features(["w:v__x", "v:x", "w:x"], entities=rows)
    answer = p.get_online_features(["s:x", "s:x__status"], entities={"name": ["a"]})
    assert answer.to_dict() == {"name": ["a"], "x": [8], "x__status": ["fine"]}
    with pytest.raises(InvalidArgument, match="x__status"):
        answer.to_arrow()
