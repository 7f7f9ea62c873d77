"""Two engines that share no line of reading: whatever a file holds and a view declares, both give the same bits, or
both refuse.

A failing run prints its seed; `STOOK_TEST_SEED` repeats it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from datetime import date
from decimal import Decimal as PyDecimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stook.backends.duckdb.engine import open_engine as open_duckdb
from stook.backends.memory.engine import open_engine as open_memory
from stook.core import dtypes
from stook.core.arrow import from_arrow, to_arrow
from stook.core.definitions import FileSource
from stook.core.dtypes import Array, Decimal, DType, Map, Struct, Vector
from stook.core.errors import SchemaMismatch
from stook.core.plans import PointInTimePlan
from stook.core.ports.engine import Engine
from stook.core.settings import parse_url
from stook.core.specs import Column
from stook.testing.contracts.engine_cases import KEY, instants, join_of, labels_of, of_source
from stook.testing.oracles.pointintime import Label

SEED = int(os.environ.get("STOOK_TEST_SEED", str(random.SystemRandom().randrange(1 << 30))))
PAIRS = 300  # of what is held and what is declared

INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
FLOATS = [0.0, -0.0, 1.5, -3.0, float("nan"), float("inf"), float("-inf"), 2.0**31, 2.0**63, -(2.0**63), 2.0**64, 300.0]
STRUCT = pa.struct([("a", pa.int64())])
HELD: list[tuple[pa.DataType, list[Any]]] = [
    (pa.int32(), [2**31 - 1, -(2**31), 2**24 + 1]),
    (pa.int64(), [2**53, 2**53 + 1, 2**63 - 1, -(2**63)]),
    (pa.uint64(), [2**53, 2**64 - 1, 2**63]),
    *((kind, [0, 1, 100]) for kind in INTEGERS),
    (pa.float32(), FLOATS),
    (pa.float64(), [*FLOATS, 0.1, 1e300, 5e-324, 2.0**53]),
    (pa.decimal128(5, 2), [PyDecimal(v) for v in ("1.50", "1.55", "1.00", "123.45")]),
    (pa.decimal128(38, 10), [PyDecimal("9999999999999999999999999999.0123456789"), PyDecimal(0)]),
    (pa.decimal256(50, 1), [PyDecimal("1.5")]),
    (pa.bool_(), [True, False]),
    (pa.string(), ["", "x", "1", "true", "2020-01-01", "2020-01-01T00:00:00Z"]),
    (pa.large_string(), ["x"]),
    (pa.dictionary(pa.int32(), pa.string()), ["x"]),
    (pa.binary(), [b"a\xff"]),
    (pa.binary(2), [b"ab"]),
    (pa.date32(), [date(2020, 1, 1), date(1, 1, 1)]),
    *((pa.timestamp(unit, zone), [0, 1, -1, 1000, -1000, 10**9]) for unit in ("ms", "us", "ns") for zone in (None, "UTC")),
    (pa.time32("ms"), [5]),
    (pa.time64("us"), [5]),
    (pa.time64("ns"), [5, 5000]),
    (pa.list_(pa.int64()), [[1, None], []]),
    (pa.list_(pa.float64()), [[1.5], [0.1]]),
    (pa.list_(pa.float32()), [[1.0, 2.0], [1.0, None]]),
    (pa.list_(pa.float64(), 2), [[1.0, 0.1], [1.0, 2.0]]),
    (pa.list_(pa.timestamp("ns")), [[1], [1000]]),
    (STRUCT, [{"a": 1}, {"a": None}]),
    (pa.struct([("a", pa.float64())]), [{"a": 1.5}, {"a": 2.0}]),
    (pa.map_(pa.string(), pa.int64()), [[("a", 1)], [("b", None)], []]),
    (pa.null(), [None]),
]  # fmt: skip
WANTED: list[DType] = [
    *dtypes.PRIMITIVES.values(),
    Decimal(5, 2), Decimal(38, 10), Decimal(20, 0),
    Array(dtypes.Int64), Array(dtypes.Int32), Array(dtypes.Float32), Array(dtypes.Timestamp), Array(dtypes.String),
    Vector(dtypes.Float32, 2), Vector(dtypes.Float64, 2),
    Struct({"a": dtypes.Int64}), Struct({"a": dtypes.Float32}), Struct({"b": dtypes.Int64}),
    Map(dtypes.String, dtypes.Int64), Map(dtypes.String, dtypes.Float32),
]  # fmt: skip
KNOWN = [  # pairs on which the two once differed
    (pa.int32(), -(2**31), dtypes.Float32),
    (pa.int64(), 2**53, dtypes.Float32),
    (pa.int64(), -(2**63), dtypes.Float64),
    (pa.decimal256(50, 1), PyDecimal("1.5"), dtypes.Float64),
]


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[list[Engine]]:
    opened: list[Engine] = [
        open_duckdb(parse_url("duckdb:?threads=1", tmp_path, "test"), tmp_path),
        open_memory(parse_url("memory:", tmp_path, "test"), tmp_path),
    ]
    yield opened
    for engine in opened:
        engine.close()


def answer(engine: Engine, source: FileSource, want: DType) -> str:
    """What the engine says of the file's column `value`, declared so: type and content, or that it is refused."""
    history = of_source(engine, source, features=(Column("value", want),))
    try:
        found = engine.point_in_time(PointInTimePlan((join_of(history),)), labels_of([KEY], [Label((1,), 10)]))
    except SchemaMismatch:
        return "refused"
    column = found.column("value").combine_chunks()
    assert column.type == to_arrow(want)
    return f"{from_arrow(column.type)} {column.to_pylist()!r}"  # engines name the children of lists differently


@pytest.mark.case(22, 42, 43, 46, 47, 51)
def test_engines_agree_on_what_fits(engines: list[Engine], tmp_path: Path) -> None:
    print(f"STOOK_TEST_SEED={SEED}")
    choose = random.Random(SEED)
    pairs = [(kind, value, want) for kind, values in HELD for value in values for want in WANTED]
    differ = []
    for number, (kind, value, want) in enumerate([*KNOWN, *choose.sample(pairs, PAIRS)]):
        source = FileSource(f"{number}.parquet", timestamp_field="at")
        pq.write_table(
            pa.table({"driver": [1], "at": instants([10]), "value": pa.array([value], kind)}), tmp_path / source.path
        )
        described = [{c.name: c.dtype for c in engine.describe(source)} for engine in engines]
        assert described[0] == described[1], kind
        answers = [answer(engine, source, want) for engine in engines]
        if answers[0] != answers[1]:
            differ.append((str(kind), value, str(want), *answers))
    assert differ == []
