"""Cases of types: values that a careless path rounds, swaps, drops or takes for null.

They are a file of their own because each logical type needs a row here, and a new type is not done before it has
one. `all_cases` gathers them. They must never hold a value that the type cannot keep exactly; those are the refusals
at the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal as PyDecimal
from typing import Any, Final

from stook.core import dtypes
from stook.core.dtypes import Array, Decimal, DType, Map, Struct, Vector
from stook.core.errors import SchemaMismatch
from stook.testing.cases.case import Case, Fact, Refusal, at, simple

NO_NESTING: Final = {"csv": "CSV has no nested values"}
NO_BYTES: Final = {"csv": "CSV has no bytes"}
NO_TIME_OF_DAY: Final = {"delta": "Delta has no times of day"}


def values(
    name: str, dtype: DType, held: Sequence[Any], shows: str, *, numbers: tuple[int, ...], **others: Any
) -> Case:
    """One entity a value, asked in another order than it was written; then the values without their nulls."""
    rows = [Fact((number,), at(9), (value,)) for number, value in enumerate(held)]
    order = [*range(1, len(held), 2), *range(0, len(held), 2)]
    asks = [(n, at(10), held[n], "NULL_VALUE" if held[n] is None else held[n]) for n in order]
    return simple(f"type_{name}", (*numbers, 51), shows, tuple(rows), asks=asks, dtype=dtype, **others)


def utc(*parts: int) -> datetime:
    """An aware datetime in UTC."""
    year, month, day, hour, minute, second, micro = (*parts, 0, 0, 0, 0)[:7]
    return datetime(year, month, day, hour, minute, second, micro, UTC)


INT64: Final = (2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 0)
SCALARS: Final = (
    values("int64", dtypes.Int64, INT64, "64-bit integers beyond a double's reach", numbers=(42,)),
    values("int64_nulls", dtypes.Int64, (*INT64, None, None), "the same beside nulls", numbers=(42,)),
    values("int8", dtypes.Int8, (-128, 127, 0, None), "8-bit integers at their limits", numbers=(42,)),
    values("int16", dtypes.Int16, (-(2**15), 2**15 - 1, None), "16-bit integers at their limits", numbers=(42,)),
    values("int32", dtypes.Int32, (-(2**31), 2**31 - 1, None), "32-bit integers at their limits", numbers=(42,)),
    values("uint8", dtypes.UInt8, (0, 255, None), "unsigned 8-bit integers", numbers=(43,)),
    values("uint16", dtypes.UInt16, (0, 2**16 - 1, None), "unsigned 16-bit integers", numbers=(43,)),
    values("uint32", dtypes.UInt32, (0, 2**32 - 1, None), "unsigned 32-bit integers", numbers=(43,)),
    values("uint64", dtypes.UInt64, (0, 2**63, 2**64 - 1, 2**53 + 1, None), "unsigned 64-bit integers", numbers=(43,)),
    values("bool_nulls", dtypes.Bool, (True, False, None, True), "booleans beside nulls stay booleans", numbers=(44,)),
    values(
        "float64", dtypes.Float64, (0.1, -0.0, 0.0, 5e-324, 1.7976931348623157e308, 2.0**53 + 2, None),
        "doubles to the last bit, minus zero and the smallest too", numbers=(43,),
    ),
    values(
        "float64_special", dtypes.Float64, (math.inf, -math.inf, math.nan, None, 1.0),
        "infinities, and NaN kept apart from null", numbers=(18, 43),
    ),
    values(
        "float32", dtypes.Float32, (0.10000000149011612, -0.0, 1.401298464324817e-45, 3.4028234663852886e38, None),
        "single floats keep their bits", numbers=(43,),
    ),
    values(
        "float32_special", dtypes.Float32, (math.inf, -math.inf, math.nan, None),
        "infinities, and NaN kept apart from null, in single floats", numbers=(18, 43),
    ),
    values(
        "decimal", Decimal(38, 10),
        (PyDecimal("9999999999999999999999999999.0123456789"), PyDecimal("-0.0000000001"), PyDecimal("0E-10"), None),
        "decimals to the last of 38 digits", numbers=(43,),
        refused={"csv": Refusal(SchemaMismatch, ("-1E-10", "decimal(38, 10)"))},
    ),
    values(
        "decimal_whole", Decimal(38, 0), (PyDecimal(10**38 - 1), PyDecimal(1 - 10**38), None),
        "decimals of 38 digits before the point", numbers=(43,),
    ),
    values("decimal_small", Decimal(4, 2), (PyDecimal("99.99"), PyDecimal("-0.01"), None), "small decimals", numbers=(43,)),
)  # fmt: skip

TEXTS: Final = (
    values(
        "text", dtypes.String, ("plain", "é", "e\u0301", "😀 \U0001f1e9\U0001f1ea", "\u202eright", "tab\tand \"quotes\"", None),
        "text keeps its code points and normal form", numbers=(45,),
    ),
    values("text_empty", dtypes.String, ("", None, " ", "null", "NaN"), "empty is not null", numbers=(45,)),
    values("text_zero", dtypes.String, ("a\x00b", "\x00", None), "text may hold zero", numbers=(45,)),
    values(
        "text_lines", dtypes.String, ("one\ntwo", "one\r\ntwo", "a,b;c'd", None), "line ends and separators inside text",
        numbers=(45,),
    ),
    values("text_long", dtypes.String, ("x" * 1_000_000, "é" * 100_000, None), "a megabyte of text", numbers=(45,)),
    values(
        "bytes", dtypes.Bytes, (b"", b"\x00", b"a\x00b", bytes(range(256)), None), "bytes with zeros, empty is not null",
        numbers=(45,), without=NO_BYTES,
    ),
    values("bytes_long", dtypes.Bytes, (b"\xff" * 1_000_000, None), "a megabyte of bytes", numbers=(45,), without=NO_BYTES),
)  # fmt: skip

TIMES: Final = (
    values(
        "date", dtypes.Date, (date(1, 1, 1), date(1582, 10, 4), date(1969, 12, 31), date(2024, 2, 29), date(9999, 12, 31), None),
        "dates from the year 1 to 9999", numbers=(23, 47),
    ),
    values(
        "time", dtypes.Time, (time(0), time(0, 0, 0, 1), time(23, 59, 59, 999_999), None), "times of day to the microsecond",
        numbers=(47,), without=NO_TIME_OF_DAY,
    ),
    values(
        "timestamp", dtypes.Timestamp,
        (utc(1, 1, 1), utc(1969, 12, 31, 23, 59, 59, 999_999), utc(1970, 1, 1), utc(2106, 2, 7, 6, 28, 16),
         utc(2262, 4, 12), utc(9999, 12, 31, 23, 59, 59, 999_999), None),
        "instants to the microsecond, from the year 1 to 9999", numbers=(23, 47),
    ),
    values(
        "timestamp_dst", dtypes.Timestamp,
        (utc(2024, 3, 31, 0, 59, 59), utc(2024, 3, 31, 1), utc(2024, 10, 27, 0, 30), utc(2024, 10, 27, 1, 30)),
        "the hours around which clocks change", numbers=(21,),
    ),
)  # fmt: skip

POINT: Final = Struct({"lat": dtypes.Float64, "name": dtypes.String, "at": dtypes.Timestamp})
NESTED: Final = (
    values(
        "array", Array(dtypes.Int64), ([1, None, 2**53 + 1], [], None, [None], [-(2**63)]),
        "lists: empty is not null, nulls inside, exact integers", numbers=(46,), without=NO_NESTING,
    ),
    values(
        "array_text", Array(dtypes.String), (["", None, "é"], [], None, ["a\x00b"]), "lists of text",
        numbers=(46,), without=NO_NESTING,
    ),
    values(
        "array_nested", Array(Array(dtypes.Float32)), ([[0.5, None], [], None], [], None, [[-0.0]]), "lists of lists",
        numbers=(46,), without=NO_NESTING,
    ),
    values(
        "array_unsigned", Array(dtypes.UInt64), ([2**64 - 1], [None], None), "lists of unsigned integers",
        numbers=(46,), without={**NO_NESTING, "delta": "Delta has no unsigned integers"},
    ),
    values(
        "struct", POINT, ({"lat": -0.0, "name": "", "at": utc(1969, 1, 1)}, {"lat": None, "name": None, "at": None}, None),
        "structs: of nulls is not null", numbers=(46,), without=NO_NESTING,
    ),
    values(
        "map", Map(dtypes.String, dtypes.Int64), ([("b", 1), ("a", None), ("", 2**53 + 1)], [], None),
        "maps keep their order, empty is not null", numbers=(46,), without=NO_NESTING,
    ),
    values(
        "map_of_lists", Map(dtypes.Int64, Array(dtypes.Bytes)), ([(2**53 + 1, [b"\x00", None]), (-1, None), (0, [])], None),
        "maps of lists of bytes", numbers=(46,), without=NO_NESTING,
    ),
    values(
        "struct_deep", Array(Struct({"t": dtypes.Time, "d": Decimal(20, 3), "m": Map(dtypes.String, dtypes.Date)})),
        ([{"t": time(1, 2, 3, 4), "d": PyDecimal("-1.005"), "m": [("x", date(1, 1, 1))]}, None], [], None),
        "structs in lists, maps in structs", numbers=(46,), without={**NO_NESTING, **NO_TIME_OF_DAY},
    ),
    values(
        "vector", Vector(dtypes.Float32, 3), ([0.5, -0.0, 0.10000000149011612], [1.0, 2.0, 3.0], None),
        "vectors of a fixed length", numbers=(48,), without=NO_NESTING,
    ),
    values(
        "vector_int", Vector(dtypes.Int64, 2), ([2**53 + 1, -(2**63)], None), "vectors of integers",
        numbers=(48,), without=NO_NESTING,
    ),
)  # fmt: skip

CASES: Final = (*SCALARS, *TEXTS, *TIMES, *NESTED)
