"""Logical types in DuckDB's SQL, and expressions that convert exactly or raise.

It is a file of its own because it is pure text work, and the only place that quotes identifiers and literals or
spells a DuckDB type. `compile` calls it for every column of every scan. It must never round: where a cast could
change a value, the expression it writes compares and raises, naming view, column and value.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import pyarrow as pa

from stook.core import dtypes
from stook.core.arrow import conform, event_micros, from_arrow, to_arrow
from stook.core.dtypes import Array, Decimal, DType, Map, Primitive, Struct, Vector
from stook.core.errors import SchemaMismatch
from stook.core.instants import MAX_US, MIN_US

MISMATCH: Final = "stook-mismatch: "  # starts every message raised by our SQL, so that `failures` knows it
MEND: Final = "; mend: "  # stands before the way forward in such a message
_PRIMITIVES: Final = {
    "bool": "BOOLEAN", "int8": "TINYINT", "int16": "SMALLINT", "int32": "INTEGER", "int64": "BIGINT",
    "uint8": "UTINYINT", "uint16": "USMALLINT", "uint32": "UINTEGER", "uint64": "UBIGINT",
    "float32": "FLOAT", "float64": "DOUBLE", "string": "VARCHAR", "bytes": "BLOB",
    "date": "DATE", "time": "TIME", "timestamp": "TIMESTAMPTZ",
}  # fmt: skip
_SUBMICRO: Final = r"\.\d{6}\d*[1-9]"
_CLOCK: Final = r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?"
_DATE_TEXT: Final = r"\d{4}-\d\d-\d\d"  # 01/02/2020 is January here, February there
_TIME_TEXT: Final = rf"{_DATE_TEXT}([T ]{_CLOCK}(Z|[+-]([01]\d|2[0-3])(:?[0-5]\d)?)?)?"
_INTEGER: Final = r"[+-]?\d+(\.0*)?"
_FLOAT: Final = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_NOT_FINITE: Final = r"(?i)[+-]?(inf|infinity|nan)"
_FORMS: Final[dict[DType, str]] = {
    dtypes.Bool: r"(?i)t|f|true|false",
    dtypes.Date: _DATE_TEXT,
    dtypes.Time: _CLOCK,
    dtypes.Timestamp: _TIME_TEXT,
}
_WRITE: Final[dict[DType, str]] = {
    dtypes.Bool: "write true or false",
    dtypes.Date: "write dates as 2013-10-15",
    dtypes.Time: "write times of day from 00:00:00 to 23:59:59.999999, without a zone",
    dtypes.Timestamp: "write times as 2013-10-15T12:00:00Z",
}
_NAIVE_YEARS: Final = "TIMESTAMP '0001-01-01 00:00:00' AND TIMESTAMP '9999-12-31 23:59:59.999999'"
_BOUNDS: Final[dict[DType, str]] = {
    dtypes.Date: "DATE '0001-01-01' AND DATE '9999-12-31'",
    dtypes.Time: "TIME '00:00:00' AND TIME '23:59:59.999999'",
    dtypes.Timestamp: "TIMESTAMPTZ '0001-01-01 00:00:00Z' AND TIMESTAMPTZ '9999-12-31 23:59:59.999999Z'",
}
_DAY_US: Final = 86_400_000_000
_YEARS: Final = "dates and times lie in the years 1 to 9999, times of day before 24:00; for what is unknown write null"
_SHOWN_CHARACTERS: Final = 100  # of a value named in a message


class Misread(NamedTuple):
    """What a column holds that DuckDB hands over as something else, and the way forward."""

    holds: str
    mend: str


@dataclass(frozen=True)
class Held:
    """A column as a relation holds it.

    `expr` is its SQL, `arrow` and `sql_type` its type on both sides of DuckDB's door. `text`: it is read from CSV as
    written. `logical`: it stands in a table of ours, whose physical types are not the logical ones. `misread`: it comes
    through that door as something else, so that no use can be made of it.
    """

    expr: str
    arrow: pa.DataType
    sql_type: str
    text: bool = False
    logical: DType | None = None
    misread: Misread | None = None


def quote(name: str) -> str:
    """An identifier.

    >>> quote('a"b')
    '"a""b"'
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text literal.

    >>> literal("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def text_list(texts: Iterable[str]) -> str:
    """A list of text literals."""
    return "[" + ", ".join(literal(t) for t in texts) + "]"


def sql_type(dtype: DType) -> str:
    """DuckDB's name of a logical type.

    >>> sql_type(Struct({"lat": dtypes.Float64, "tags": Array(dtypes.String)}))
    'STRUCT("lat" DOUBLE, "tags" VARCHAR[])'
    """
    match dtype:
        case Primitive(name):
            return _PRIMITIVES[name]
        case Decimal(precision, scale):
            return f"DECIMAL({precision}, {scale})"
        case Array(element):
            return f"{sql_type(element)}[]"
        case Vector(element, length):
            return f"{sql_type(element)}[{length}]"
        case Struct(fields):
            return "STRUCT(" + ", ".join(f"{quote(n)} {sql_type(t)}" for n, t in fields) + ")"
        case Map(key, value):
            return f"MAP({sql_type(key)}, {sql_type(value)})"
    raise AssertionError(dtype)


def read_as_text(dtype: DType) -> bool:
    """Whether a CSV column declared so is read as written and converted here, because DuckDB's own parser rounds, and
    takes no quoted nothing for a null.

    >>> read_as_text(dtypes.Int64), read_as_text(dtypes.Bytes)
    (True, False)
    """
    kept = isinstance(dtype, Primitive) and dtype != dtypes.Bytes
    return kept or isinstance(dtype, Decimal)


def exact(held: Held, want: DType, what: str) -> str:
    """SQL of the column in the type `want`, raising at run time for a value that `want` cannot hold.

    Raises SchemaMismatch naming `what` at once where the two types are no family (text for numbers, say).
    """
    _refuse_misread(held, what)
    if held.logical is not None:
        own = Held(_restored(held.expr, held.arrow, held.logical), to_arrow(held.logical), sql_type(held.logical))
        return exact(own, want, what)
    if pa.types.is_null(held.arrow):
        return f"CAST(NULL AS {sql_type(want)})"
    if held.text:
        return _from_text(held.expr, want, what)
    conform(pa.chunked_array([], held.arrow), want, what)  # raises where no value could fit
    target = sql_type(want)
    if held.sql_type == target:
        return _bounded(held.expr, _inside(held.expr, want), held.expr, want, what)
    if pa.types.is_timestamp(held.arrow) and held.arrow.unit == "us":
        # thirteen times as fast as the cast, and the same while sessions are in UTC
        converted = f"make_timestamptz(epoch_us({held.expr}))"
        return _bounded(held.expr, f"{held.expr} BETWEEN {_NAIVE_YEARS}", converted, want, what)
    converted = f"CAST({held.expr} AS {target})"
    if _lossless(held.arrow, want):
        return _bounded(held.expr, _inside(converted, want), converted, want, what)
    if isinstance(want, Vector) and pa.types.is_list(held.arrow) and _lossless(held.arrow.value_type, want.element):
        test = f"len({held.expr}) = {want.length}"
    else:
        test = f"TRY_CAST(TRY_CAST({held.expr} AS {target}) AS {held.sql_type}) IS NOT DISTINCT FROM {held.expr}"
        test += f" AND {_inside(f'TRY_CAST({held.expr} AS {target})', want)}" if _is_bounded(want) else ""
    return _checked(held.expr, test, converted, f"{what} holds {held.arrow}, of which the value ", f"exactly as {want}")


def event_us(held: Held, what: str) -> str:
    """SQL of a time column as microseconds since the epoch; what lies below a microsecond rounds up.

    Naive means UTC, a date its midnight, text is RFC 3339. Raises SchemaMismatch naming `what` where the column holds no times.
    """
    _refuse_misread(held, what)
    if held.text or pa.types.is_string(held.arrow):
        if held.text:
            held = replace(held, expr=f"nullif({held.expr}, '')")
        time = f"TRY_CAST({held.expr} AS TIMESTAMPTZ)"  # cuts the digits below a microsecond off
        micros = f"epoch_us({time}) + CAST(regexp_matches({held.expr}, {literal(_SUBMICRO)}) AS BIGINT)"
        # DuckDB would take 'infinity', 'epoch' and names of zones for times too
        written = f"trim({held.expr})" if held.text else held.expr
        test = f"regexp_full_match({written}, {literal(_TIME_TEXT)}) AND {time} IS NOT NULL"
        mend = _WRITE[dtypes.Timestamp]
        return _checked(held.expr, test, micros, f"{what} holds text, of which ", "as a time", mend)
    event_micros(pa.chunked_array([], held.arrow), what, round_up=True)  # raises where it holds no times
    if pa.types.is_null(held.arrow):
        return "CAST(NULL AS BIGINT)"
    if pa.types.is_date(held.arrow):
        micros = f"epoch_us(CAST({held.expr} AS TIMESTAMP))"
    elif held.arrow.unit == "ns":
        nanos = f"epoch_ns({held.expr})"  # // cuts towards zero, which is upwards below zero
        micros = f"({nanos} // 1000 + CAST({nanos} % 1000 > 0 AS BIGINT))"
    else:
        micros = f"epoch_us({held.expr})"
    # the microseconds of infinity are null, as of a row without a time
    holds = f"{what} holds {held.arrow}, of which the value "
    return _checked(held.expr, f"{micros} IS NOT NULL", micros, holds, "as a time", _YEARS)


def _refuse_misread(held: Held, what: str) -> None:
    if held.misread is not None:
        raise SchemaMismatch(f"{what} holds {held.misread.holds}", hint=held.misread.mend)


def is_rounded(held: Held) -> str:
    """SQL: whether a time of the column has digits below a microsecond, which `event_us` rounds up."""
    if held.text or pa.types.is_string(held.arrow):
        return f"coalesce(regexp_matches({held.expr}, {literal(_SUBMICRO)}), false)"
    if pa.types.is_timestamp(held.arrow) and held.arrow.unit == "ns":
        return f"coalesce(epoch_ns({held.expr}) % 1000 <> 0, false)"
    return "false"


def within_years(expr: str, what: str) -> str:
    """SQL of microseconds that raises outside the years 1 to 9999, which is what datetimes can say."""
    return _checked(
        expr,
        f"{expr} BETWEEN {MIN_US} AND {MAX_US}",
        expr,
        f"{what} holds times, of which ",
        "between years 1 and 9999",
    )


def _is_bounded(dtype: DType) -> bool:
    """Whether DuckDB holds values in its type that the logical one has not: infinite times, 24:00."""
    match dtype:
        case Array(element):
            return _is_bounded(element)
        case Struct(fields):
            return any(_is_bounded(t) for _, t in fields)
        case Map(key, value):
            return _is_bounded(key) or _is_bounded(value)
    return dtype in _BOUNDS


def _inside(expr: str, dtype: DType) -> str:
    """A condition on a value in DuckDB's type of `dtype`: each date and time in it is one. Never null."""
    if not _is_bounded(dtype):
        return "true"
    match dtype:
        case Array(element):
            return f"coalesce(len(list_filter({expr}, lambda x: NOT ({_inside('x', element)}))) = 0, true)"
        case Struct(fields):
            return " AND ".join(_inside(f"struct_extract({expr}, {literal(n)})", t) for n, t in fields)
        case Map(key, value):
            keys, values = _inside(f"map_keys({expr})", Array(key)), _inside(f"map_values({expr})", Array(value))
            return f"{keys} AND {values}"
    return f"coalesce({expr} BETWEEN {_BOUNDS[dtype]}, true)"


def _bounded(expr: str, test: str, converted: str, want: DType, what: str) -> str:
    """`converted`, raising where `test` fails, if values of the type have bounds."""
    if not _is_bounded(want):
        return converted
    return _checked(expr, test, converted, f"{what} holds times, of which ", f"exactly as {want}", _YEARS)


def _lossless(have: pa.DataType, want: DType) -> bool:
    match want:
        case Array(element):
            is_list = pa.types.is_list(have) or pa.types.is_fixed_size_list(have)
            return is_list and _lossless(have.value_type, element)
        case Vector(element, length):
            same = pa.types.is_fixed_size_list(have) and have.list_size == length
            return same and _lossless(have.value_type, element)
        case Struct(fields):
            return all(_lossless(have.field(i).type, t) for i, (_, t) in enumerate(fields))
        case Map(key, value):
            return _lossless(have.key_type, key) and _lossless(have.item_type, value)
    if (pa.types.is_timestamp(have) or pa.types.is_time(have)) and have.unit == "ns":
        return False
    logical = from_arrow(have)
    return logical is not None and dtypes.widens(logical, want)


def _from_text(expr: str, want: DType, what: str) -> str:
    if want == dtypes.String:
        return expr
    expr = f"nullif({expr}, '')"
    converted = f"TRY_CAST({expr} AS {sql_type(want)})"
    test = f"{converted} IS NOT NULL"
    if _is_bounded(want):
        test += f" AND {_inside(converted, want)}"
    if want in dtypes.INTEGERS:
        test += f" AND regexp_full_match(trim({expr}), {literal(_INTEGER)})"
    elif want in dtypes.FLOATS:  # a number too large for the type is refused, not made infinite
        number = f"regexp_full_match(trim({expr}), {literal(_FLOAT)}) AND isfinite({converted})"
        test += f" AND (({number}) OR regexp_full_match(trim({expr}), {literal(_NOT_FINITE)}))"
    elif isinstance(want, Decimal):
        pattern = rf"[+-]?\d*(\.\d{{0,{want.scale}}}0*)?"
        test += f" AND regexp_full_match(trim({expr}), {literal(pattern)})"
    elif want in _FORMS:
        test += f" AND regexp_full_match(trim({expr}), {literal(_FORMS[want])})"
        test += f" AND NOT regexp_matches({expr}, {literal(_SUBMICRO)})"
    return _checked(expr, test, converted, f"{what} holds text, of which ", f"exactly as {want}", _WRITE.get(want, ""))


def _checked(expr: str, test: str, converted: str, before: str, after: str, mend: str = "") -> str:
    shown = f"replace(left(CAST({expr} AS VARCHAR), {_SHOWN_CHARACTERS}), chr(10), ' ')"
    rest = f" cannot be kept {after}" + (MEND + mend if mend else "")
    message = f"{literal(MISMATCH + before)} || {shown} || {literal(rest)}"
    return f"CASE WHEN {expr} IS NULL THEN NULL WHEN {test} THEN {converted} ELSE error({message}) END"


def _restored(expr: str, physical: pa.DataType, logical: DType) -> str:
    """SQL from a physical type of our tables to the logical one; inner times need a walk, for no cast leads there."""
    if not _has_time(logical):
        return f"CAST({expr} AS {sql_type(logical)})"
    match logical:
        case Array(element):
            inner = _restored("x", physical.value_type, element)
            return f"list_transform({expr}, lambda x: {inner})"
        case Struct(fields):
            parts = (
                f"{quote(n)} := {_restored(f'{expr}.{quote(n)}', physical.field(i).type, t)}"
                for i, (n, t) in enumerate(fields)
            )
            return f"CASE WHEN {expr} IS NOT NULL THEN struct_pack({', '.join(parts)}) END"
        case Map(key, value):
            entries = f"map_entries({expr})"
            k = _restored("x.key", physical.key_type, key)
            v = _restored("x.value", physical.item_type, value)
            pairs = f"list_transform({entries}, lambda x: struct_pack(k := {k}, v := {v}))"
            return f"CASE WHEN {expr} IS NOT NULL THEN map_from_entries({pairs}) END"
    if not pa.types.is_integer(physical):
        return f"CAST({expr} AS TIME)"
    time = f"(TIME '00:00:00' + to_microseconds({expr}))"  # begins anew behind the day's end
    test = f"{expr} BETWEEN 0 AND {_DAY_US - 1}"
    return _checked(expr, test, time, "a stored row holds microseconds, of which ", "as a time of day")


def _has_time(dtype: DType) -> bool:
    match dtype:
        case Array(element):
            return _has_time(element)
        case Struct(fields):
            return any(_has_time(t) for _, t in fields)
        case Map(key, value):
            return _has_time(key) or _has_time(value)
    return dtype == dtypes.Time
