"""The read path over the memory store: statuses, shapes, key maps, evolution and damaged rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stook.backends.memory.clock import FrozenClock
from stook.backends.memory.keyvalue import MemoryKeyValue
from stook.core import dtypes
from stook.core.definitions import PushSource
from stook.core.errors import (
    Conflict,
    CorruptStore,
    EngineUnavailable,
    InvalidArgument,
    NewerStore,
    SchemaMismatch,
    TooLarge,
)
from stook.core.plans import ReadPlan, ViewRead
from stook.core.ports.keyvalue import UNREAD, KeyValueAbility
from stook.core.rows import ARRIVAL, DELETED, EVENT_US, HEADER_BYTES, KNOWLEDGE_US
from stook.core.specs import Column, Schema, ViewSpec
from stook.online.keys import part_encoder
from stook.online.read import CELL_BYTES, FEW_ROWS_MAX, PreparedRead
from stook.online.write import encode_rows, lifetimes_ms, space

INT, TEXT = dtypes.Int64, dtypes.String
TRIPS, CITY = Column("trips", INT), Column("city", TEXT)
SECOND = 1_000_000
SIZES = pytest.mark.parametrize("copies", [1, FEW_ROWS_MAX + 1], ids=["few", "many"])


def make_view(
    name: str = "stats", keys: Sequence[Column] = (Column("id", INT),), ttl_us: int | None = None,
    schemas: Sequence[Schema] = (Schema(1, (TRIPS, CITY)),), online: bool = True,
) -> ViewSpec:  # fmt: skip
    return ViewSpec(name, f"{name}-1", ("e",), tuple(keys), tuple(schemas), PushSource("p"), ttl_us, online)


def rows(count: int, event_us: int = 0, **columns: Any) -> pa.Table:
    order = {EVENT_US: [event_us] * count, KNOWLEDGE_US: [event_us] * count, ARRIVAL: list(range(count))}
    return pa.table({
        **columns,
        **{name: pa.array(values, pa.int64()) for name, values in order.items()},
        DELETED: pa.array([False] * count),
    })  # fmt: skip


def plan_of(*reads: ViewRead, keys: Sequence[Column] = (Column("id", INT),)) -> ReadPlan:
    return ReadPlan(reads, tuple(keys), tuple(name for read in reads for _, name in read.outputs), 1)


def whole(view: ViewSpec, prefix: str = "") -> ViewRead:
    return ViewRead(
        view, tuple((k.name, k.name) for k in view.keys), tuple((f.name, prefix + f.name) for f in view.features)
    )


class Counting(MemoryKeyValue):
    """The memory store, counting round trips."""

    calls = 0

    def get_many(
        self, reads: Sequence[tuple[str, Sequence[bytes]]], *, bytes_max: int | None = None
    ) -> list[list[bytes | None]]:
        self.calls += 1
        return super().get_many(reads, bytes_max=bytes_max)


@SIZES
def test_statuses_times_and_ages(copies: int) -> None:
    view, store = make_view(ttl_us=10 * SECOND), Counting()
    store.put_newest(
        [(space(view), encode_rows(view, rows(2, 5 * SECOND, id=[1, 2], trips=[3, 0], city=["", None])).rows)]
    )
    store.put_newest([(space(view), encode_rows(view, rows(1, 4 * SECOND, id=[3], trips=[9], city=["old"])).rows)])
    gone = rows(1, 9 * SECOND, id=[4]).set_column(4, DELETED, pa.array([True]))
    store.put_newest([(space(view), encode_rows(view, gone).rows)])
    read = PreparedRead(plan_of(whole(view)), store, FrozenClock(15 * SECOND))
    ids = [1, 2, 3, 4, 5, None, 1]
    result = read({"id": ids * copies})
    assert store.calls == 1
    assert len(result) == 7 * copies
    assert result.to_dict() == {
        "id": ids * copies,
        "trips": [3, 0, None, None, None, None, 3] * copies,
        "city": ["", None, None, None, None, None, ""] * copies,
    }
    not_found = ["NOT_FOUND"] * 3
    assert result.statuses["trips"] == ["PRESENT", "PRESENT", "OUTSIDE_MAX_AGE", *not_found, "PRESENT"] * copies
    assert result.statuses["city"] == ["PRESENT", "NULL_VALUE", "OUTSIDE_MAX_AGE", *not_found, "PRESENT"] * copies
    assert result.ages["city"] == [10.0, 10.0, 11.0, None, None, None, 10.0] * copies
    five = dt.datetime(1970, 1, 1, 0, 0, 5, tzinfo=dt.UTC)
    assert result.event_timestamps["trips"][:2] == [five, five]
    table = result.to_arrow()
    assert table.column_names == [
        "id", "trips", "trips__status", "trips__event_timestamp", "city", "city__status", "city__event_timestamp",
    ]  # fmt: skip
    assert table["city__status"].to_pylist() == result.statuses["city"]
    assert table["trips"].to_pylist() == result.to_dict()["trips"]


@SIZES
def test_views_with_other_keys_in_one_round_trip(copies: int) -> None:
    cities = make_view("cities", [Column("city_id", INT)], schemas=[Schema(1, (Column("size", INT),))])
    pairs = make_view("pairs", [Column("a", TEXT), Column("b", TEXT)], schemas=[Schema(1, (Column("n", INT),))])
    everywhere = make_view("everywhere", [], schemas=[Schema(1, (Column("rate", dtypes.Float64),))])
    store = Counting()
    for view, table in (
        (cities, rows(2, city_id=[1, 2], size=[10, 20])),
        (pairs, rows(2, a=["a", "ab"], b=["bc", "c"], n=[1, 2])),
        (everywhere, rows(1, rate=[0.5])),
    ):
        store.put_newest([(space(view), encode_rows(view, table).rows)])
    plan = ReadPlan(
        (
            ViewRead(cities, (("city_id", "home"),), (("size", "home__size"),)),
            ViewRead(cities, (("city_id", "work"),), (("size", "work__size"),)),
            ViewRead(pairs, (("a", "a"), ("b", "b")), (("n", "n"),)),
            ViewRead(everywhere, (), (("rate", "rate"),)),
        ),
        (Column("home", INT), Column("work", INT), Column("a", TEXT), Column("b", TEXT)),
        ("n", "work__size", "rate", "home__size"),
        1,
    )
    read = PreparedRead(plan, store, FrozenClock(0))
    asked = {"home": [1, None], "work": [2, 1], "a": ["a", "ab"], "b": ["bc", "c"]}
    result = read({name: values * copies for name, values in asked.items()})
    assert store.calls == 1
    answer = result.to_dict()
    assert list(answer) == ["home", "work", "a", "b", "n", "work__size", "rate", "home__size"]
    assert answer["n"] == [1, 2] * copies
    assert answer["work__size"] == [20, 10] * copies
    assert answer["home__size"] == [10, None] * copies
    assert answer["rate"] == [0.5, 0.5] * copies


def test_views_without_keys_need_no_entities() -> None:
    view, store = make_view("everywhere", []), MemoryKeyValue()
    store.put_newest([(space(view), encode_rows(view, rows(1, trips=[1], city=["a"])).rows)])
    read = PreparedRead(plan_of(whole(view), keys=()), store, FrozenClock(0))
    assert read().to_dict() == {"trips": [1], "city": ["a"]}
    assert read(entity_rows=[{}, {}]).to_dict() == {"trips": [1, 1], "city": ["a", "a"]}


def test_no_rows_asked_is_an_empty_answer_without_a_round_trip() -> None:
    view, store = make_view(), Counting()
    result = PreparedRead(plan_of(whole(view)), store, FrozenClock(0))({"id": []})
    assert result.to_dict() == {"id": [], "trips": [], "city": []}
    assert result.statuses == {"trips": [], "city": []}
    assert (len(result), store.calls) == (0, 0)
    assert result.to_arrow().num_rows == 0


@SIZES
def test_two_views_may_type_one_request_column_differently(copies: int) -> None:
    small = make_view("small", [Column("id", dtypes.Int8)])
    large, store = make_view("large"), MemoryKeyValue()
    for view in (small, large):
        store.put_newest([(space(view), encode_rows(view, rows(1, id=[7], trips=[1], city=["a"])).rows)])
    read = PreparedRead(plan_of(whole(small, "s_"), whole(large, "l_")), store, FrozenClock(0))
    assert read({"id": [7] * copies}).to_dict()["s_trips"] == [1] * copies
    with pytest.raises(SchemaMismatch, match="key 'id'"):
        read({"id": [300] * copies})


@SIZES
@pytest.mark.case(62)
def test_a_row_of_a_schema_not_known_here_asks_to_repeat(copies: int) -> None:
    newer = make_view(schemas=[Schema(1, (TRIPS,)), Schema(2, (TRIPS, CITY))])
    store = MemoryKeyValue()
    store.put_newest([(space(newer), encode_rows(newer, rows(1, id=[1], trips=[1], city=["a"])).rows)])
    older = make_view(schemas=newer.schemas[:1])
    with pytest.raises(Conflict, match=r"'stats'.*schema revision 2"):
        PreparedRead(plan_of(whole(older)), store, FrozenClock(0))({"id": [1] * copies})
    assert PreparedRead(plan_of(whole(newer)), store, FrozenClock(0))({"id": [1]}).to_dict()["city"] == ["a"]


def test_a_name_taken_again_for_another_type_does_not_answer_old_values() -> None:
    """Removed as int64 in revision 2, back as text in 3: rows of revision 1 hold something else under that name."""
    text = Column("trips", TEXT)
    view = make_view(schemas=[Schema(1, (TRIPS, CITY)), Schema(2, (CITY,)), Schema(3, (CITY, text))])
    store, old = MemoryKeyValue(), make_view()
    store.put_newest([(space(view), encode_rows(old, rows(1, id=[1], trips=[1], city=["a"])).rows)])
    read = PreparedRead(plan_of(whole(view)), store, FrozenClock(0))
    for copies in (1, FEW_ROWS_MAX + 1):
        result = read({"id": [1] * copies})
        assert result.to_dict() == {"id": [1] * copies, "city": ["a"] * copies, "trips": [None] * copies}
        assert result.statuses["trips"] == ["NULL_VALUE"] * copies


def damage(kind: str, value: bytes) -> bytes:
    match kind:
        case "short header":
            return value[:20]
        case "short body":
            return value[: HEADER_BYTES + 3]
        case "short variable part":
            return value[:-1]
        case "ends":
            return value[: HEADER_BYTES + 9] + b"\xff\xff\xff\xff" + value[HEADER_BYTES + 13 :]
        case "text":
            return value[:-1] + b"\xff"
    raise AssertionError(kind)


@SIZES
@pytest.mark.parametrize("kind", ["short header", "short body", "short variable part", "ends", "text"])
@pytest.mark.case(53)
def test_damaged_rows_are_reported_not_answered(kind: str, copies: int) -> None:
    view = make_view()
    ((key, value),) = encode_rows(view, rows(1, id=[1], trips=[1], city=["Bonn"])).rows
    read = PreparedRead(plan_of(whole(view)), Fixed({key: damage(kind, value)}), FrozenClock(0))
    with pytest.raises(CorruptStore, match="feature view 'stats'"):
        read({"id": [1] * copies})


class Fixed(MemoryKeyValue):
    """A store whose disk holds exactly these rows."""

    def __init__(self, held: dict[bytes, bytes]) -> None:
        super().__init__()
        self.held = held

    def get_many(
        self, reads: Sequence[tuple[str, Sequence[bytes]]], *, bytes_max: int | None = None
    ) -> list[list[bytes | None]]:
        del bytes_max
        return [[self.held.get(key) for key in keys] for _, keys in reads]


@SIZES
def test_variable_columns_that_cross_are_reported(copies: int) -> None:
    """The first of two ends lies behind the second, which still meets the row's length."""
    view = make_view(schemas=[Schema(1, (CITY, Column("note", TEXT)))])
    ((key, value),) = encode_rows(view, rows(1, id=[1], city=["Bonn"], note=["x"])).rows
    ends = HEADER_BYTES + 1
    assert value[ends : ends + 8] == b"\4\0\0\0\5\0\0\0"
    held = {key: value[:ends] + b"\6" + value[ends + 1 :]}
    with pytest.raises(CorruptStore):
        PreparedRead(plan_of(whole(view)), Fixed(held), FrozenClock(0))({"id": [1] * copies})


@SIZES
@pytest.mark.case(62)
def test_rows_of_a_newer_format_say_so(copies: int) -> None:
    view = make_view()
    ((key, value),) = encode_rows(view, rows(1, id=[1], trips=[1], city=["Bonn"])).rows
    held = {key: value[:29] + b"\x02" + value[30:]}
    with pytest.raises(NewerStore, match="newer stook"):
        PreparedRead(plan_of(whole(view)), Fixed(held), FrozenClock(0))({"id": [1] * copies})


@pytest.mark.case(53)
def test_a_closed_store_raises() -> None:
    class Gone(MemoryKeyValue):
        def get_many(
            self, reads: Sequence[tuple[str, Sequence[bytes]]], *, bytes_max: int | None = None
        ) -> list[list[bytes | None]]:
            raise EngineUnavailable("the online store does not answer", hint="is it running?")

    with pytest.raises(EngineUnavailable):
        PreparedRead(plan_of(whole(make_view())), Gone(), FrozenClock(0))({"id": [1]})


@SIZES
def test_what_a_read_may_answer_is_bounded_before_it_is_held(copies: int) -> None:
    """By cells, before the store is asked, and by stored bytes, however often one row is asked for."""
    view, store = make_view(), Counting()
    encoded = encode_rows(view, rows(1, id=[1], trips=[1], city=["Bonn" * 100])).rows
    store.put_newest([(space(view), encoded)])
    stored, cells, asked = len(encoded[0][1]) * copies, copies * len(view.features) * CELL_BYTES, {"id": [1] * copies}
    assert stored > cells
    for bytes_max, calls, words in (
        (cells - 1, 0, f"over the limit of {(cells - 1) // CELL_BYTES}"),
        (stored - 1, 1, "rows asked for"),
    ):
        store.calls = 0
        with pytest.raises(TooLarge, match=words):
            PreparedRead(plan_of(whole(view)), store, FrozenClock(0), bytes_max=bytes_max)(asked)
        assert store.calls == calls
    read = PreparedRead(plan_of(whole(view)), store, FrozenClock(0), bytes_max=stored)
    assert read(asked).to_dict()["trips"] == [1] * copies


def test_views_that_are_not_online_are_refused_when_prepared() -> None:
    with pytest.raises(InvalidArgument, match="'stats' is not online"):
        PreparedRead(plan_of(whole(make_view(online=False))), MemoryKeyValue(), FrozenClock(0))


@pytest.mark.case(43)
def test_float_bits_survive_both_ways() -> None:
    """NaN payloads, -0.0, denormals and infinities, bit by bit (hard case 43)."""
    bits = np.array([0x7FF8000000000123, 0x8000000000000000, 1, 0xFFF0000000000000, 0xFFF8DEADBEEF0001], np.uint64)
    view = make_view(schemas=[Schema(1, (Column("x", dtypes.Float64),))])
    store, count = MemoryKeyValue(), len(bits)
    store.put_newest(
        [(space(view), encode_rows(view, rows(count, id=list(range(count)), x=bits.view(np.float64))).rows)]
    )
    read = PreparedRead(plan_of(whole(view)), store, FrozenClock(0))
    few = np.array(read({"id": list(range(count))}).to_dict()["x"]).view(np.uint64)
    many = read({"id": list(range(count)) * 20}).to_arrow()["x"].to_numpy().view(np.uint64)
    assert few.tolist() == bits.tolist() == many[:count].tolist()


def test_entities_of_every_form_find_the_same_rows() -> None:
    view, store = make_view("d", [Column("id", dtypes.Timestamp)]), MemoryKeyValue()
    times = [dt.datetime(1969, 1, 1, tzinfo=dt.UTC), dt.datetime(2013, 10, 15, 12, 30, 1, 5, tzinfo=dt.UTC)]
    column = pa.array(times, pa.timestamp("us", "UTC"))
    store.put_newest([(space(view), encode_rows(view, rows(2, id=column, trips=[1, 2], city=["a", "b"])).rows)])
    read = PreparedRead(plan_of(whole(view), keys=view.keys), store, FrozenClock(0))
    forms: list[Any] = [
        times,
        [t.isoformat() for t in times],
        [t.replace(tzinfo=None) for t in times],
        column,
        column.cast(pa.timestamp("ns", "Europe/Berlin")),
        np.array([t.replace(tzinfo=None) for t in times], "datetime64[us]"),
    ]
    for form in forms:
        for result in (
            read({"id": form}),
            read(pa.table({"id": form}) if isinstance(form, pa.Array) else {"id": form}),
        ):
            assert result.to_dict()["trips"] == [1, 2]
            assert result.to_dict()["id"] == times
            assert result.to_arrow()["id"].to_pylist() == times


@pytest.mark.case(13)
def test_long_keys_are_compared_whole() -> None:
    """A row under the same shortened key but with another full key is not this entity's."""
    view = make_view("long", [Column("id", TEXT)])
    long = "k" * 500
    ((key, value),) = encode_rows(view, rows(1, id=[long], trips=[1], city=["a"])).rows
    full = part_encoder(TEXT)(long)
    assert value[HEADER_BYTES : HEADER_BYTES + len(full)] == full
    other = value.replace(full, full[:-3] + b"j\0\0")
    for held, expected in ((value, 1), (other, None)):
        read = PreparedRead(plan_of(whole(view), keys=view.keys), Fixed({key: held}), FrozenClock(0))
        for copies in (1, FEW_ROWS_MAX + 1):
            assert read({"id": [long] * copies}).to_dict()["trips"] == [expected] * copies
    with pytest.raises(SchemaMismatch, match="takes 70002 bytes"):
        read({"id": ["k" * 70_000]})


class HalfLost(MemoryKeyValue):
    """A store of which one server is gone: the one that would hold every third entity."""

    def get_many(
        self, reads: Sequence[tuple[str, Sequence[bytes]]], *, bytes_max: int | None = None
    ) -> list[list[bytes | None]]:
        found = super().get_many(reads, bytes_max=bytes_max)
        return [
            [UNREAD if key[-1] % 3 == 0 else value for key, value in zip(keys, values, strict=True)]
            for (_, keys), values in zip(reads, found, strict=True)
        ]


@SIZES
def test_what_could_not_be_asked_is_an_error_and_never_not_found(copies: int) -> None:
    view, store = make_view(ttl_us=10 * SECOND), HalfLost()
    table = rows(4, 5 * SECOND, id=pa.array([0, 1, 2, 3], pa.int64()), trips=pa.array([10, 11, None, 13], pa.int64()))
    store.put_newest([(space(view), encode_rows(view, table).rows)])
    read = PreparedRead(plan_of(whole(view)), store, FrozenClock(6 * SECOND))
    answer = read({"id": [0, 1, 2, 3, 4, 6, None] * copies})
    assert answer.to_dict()["trips"] == [None, 11, None, None, None, None, None] * copies
    error, gone = "ERROR", "NOT_FOUND"
    assert answer.statuses["trips"] == [error, "PRESENT", "NULL_VALUE", error, gone, error, gone] * copies
    assert answer.ages["trips"] == [None, 1.0, 1.0, None, None, None, None] * copies
    found = answer.to_arrow()
    assert found["trips"].null_count == 6 * copies
    assert found["trips__status"].to_pylist()[:4] == [error, "PRESENT", "NULL_VALUE", error]
    assert found["trips__event_timestamp"].null_count == 5 * copies


@pytest.mark.parametrize(("ttl_s", "kept_s"), [(10, 86_410), (86_400 * 3, 86_400 * 6), (1, 86_401)])
def test_rows_are_kept_for_two_ttls_and_at_least_a_day_more(ttl_s: int, kept_s: int) -> None:
    view, able = make_view(ttl_us=ttl_s * SECOND), frozenset({KeyValueAbility.EXPIRY})
    table = rows(2, -7 * SECOND, id=pa.array([1, 2], pa.int64()), trips=pa.array([1, 2], pa.int64()))
    dead = table.set_column(table.column_names.index(DELETED), DELETED, pa.array([False, True]))
    written = encode_rows(view, dead).rows
    now_us = 100 * SECOND
    assert lifetimes_ms(view, written, now_us, able) == [(kept_s - 107) * 1_000, None]  # a tombstone never ends
    assert lifetimes_ms(view, written, now_us + (kept_s + 1) * SECOND, able) == [-108_000, None]
    assert lifetimes_ms(view, written, now_us, frozenset()) is None
    assert lifetimes_ms(make_view(), written, now_us, able) is None
    assert lifetimes_ms(view, [], now_us, able) is None
