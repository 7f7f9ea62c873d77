"""Columns of text, as files and people write them, in Arrow types.

It is a file of its own because a text says exactly what is meant, and every parser that guesses a type first has lost
digits, leading zeros or zones by the time anybody looks. The readers of named files and of typed keys call it. It must
never change a value: what is not exactly of a declared type is refused, and what has none stays text unless nothing is
lost.
"""

from __future__ import annotations

from datetime import time
from decimal import Decimal as PyDecimal
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stook.core import dtypes
from stook.core.arrow import TIMESTAMP, to_arrow
from stook.core.dtypes import DECIMAL_PRECISION_MAX, Decimal, DType
from stook.core.errors import InvalidArgument, SchemaMismatch, first_line
from stook.core.instants import whole_micros

SHOWN_CHARACTERS_MAX: Final = 100
EXACT_DIGITS: Final = {pa.float32(): 6, pa.float64(): 15}  # as many digits, and fewer, every such float gives back
_INTEGER: Final = r"^[+-]?\d+(\.0*)?$"
_NUMBER: Final = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_NOT_FINITE: Final = r"^[+-]?(?i:inf|infinity|nan)$"
_DATE: Final = r"^\d{4}-\d\d-\d\d$"
_TIME: Final = r"^\d\d:\d\d(:\d\d(\.\d+)?)?$"
_INSTANT: Final = r"^\d{4}-\d\d-\d\d([T ]\d\d(:\d\d(:\d\d(\.\d+)?)?)?(Z|[+-]\d\d(:?\d\d)?)?)?$"
_ZONED: Final = r"[T ].*(Z|[+-]\d\d(:?\d\d)?)$"
_BELOW_MICRO: Final = r"\.\d{6}\d*[1-9]"
_TRUE, _FALSE = pa.array(["true", "1"]), pa.array(["false", "0"])
# what is no number for whoever wrote it: leading zeros and a plus sign are part of a name
_OWN_INTEGER: Final = r"^(0|-?[1-9]\d*)$"
_OWN_NUMBER: Final = r"^-?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?$"
_OWN_INSTANT: Final = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?"


def declared_column(texts: pa.ChunkedArray, dtype: DType, what: str) -> pa.ChunkedArray:
    """The texts as values of the type. An empty text is null, but for text itself; spaces around a value do not count.

    Numbers are decimal; `1.0` is an integer, `1e400` no double, and an integer is not rounded to a float, while a fraction
    means the nearest one. Times are RFC 3339, without a zone UTC. Nested types stay text, for whoever receives them to
    refuse. Raises SchemaMismatch naming `what`, the row and the text.

    >>> declared_column(pa.chunked_array([["9007199254740993", "1.0", ""]]), dtypes.Int64, "id").to_pylist()
    [9007199254740993, 1, None]
    """
    if dtype == dtypes.String or not isinstance(dtype, dtypes.Primitive | Decimal):
        return texts
    if dtype == dtypes.Bytes:
        return texts.cast(pa.binary())
    texts = _trimmed(texts)
    try:
        if dtype in dtypes.INTEGERS:
            return _integers(texts, dtype, what)
        if dtype in dtypes.FLOATS:
            return _floats(texts, dtype, what)
        if isinstance(dtype, Decimal):
            _check(texts, _matches(texts, _NUMBER), str(dtype), what)
            return pc.replace_substring_regex(texts, r"^([^eE]*\.\d*?)0+$", r"\1").cast(to_arrow(dtype))
        if dtype == dtypes.Bool:
            return _booleans(texts, what)
        if dtype == dtypes.Date:
            _check(texts, _matches(texts, _DATE), "date", what)
            return texts.cast(pa.date32())
        if dtype == dtypes.Time:
            return _times(texts, what)
        _check(texts, pc.invert(_matches(texts, _BELOW_MICRO)), "a timestamp of whole microseconds", what)
        return instants(texts, what)
    except pa.ArrowException as error:
        raise SchemaMismatch(
            f"{what} holds a text that is not exactly {dtype}: {first_line(error)}", hint=_MEND
        ) from None


def instants(texts: pa.ChunkedArray, what: str) -> pa.ChunkedArray:
    """RFC 3339 texts as timestamps, in nanoseconds where one has digits below a microsecond; without a zone UTC.

    Raises SchemaMismatch naming `what`, the row and the text.

    >>> instants(pa.chunked_array([["2024-01-01T02:00:00+02:00", "2024-01-01"]]), "at").cast(pa.int64()).to_pylist()
    [1704067200000000, 1704067200000000]
    """
    texts = _trimmed(texts)
    _check(texts, _matches(texts, _INSTANT), "a time", what)
    fine = pc.any(_matches(texts, _BELOW_MICRO)).as_py()
    unit, digits = ("ns", 9) if fine else ("us", 6)
    texts = pc.replace_substring_regex(texts, rf"(\.\d{{{digits}}})0+", r"\1")
    zoned = _matches(texts, _ZONED)
    try:
        named = pc.if_else(zoned, texts, None).cast(pa.timestamp(unit, "UTC"))
        naive = pc.if_else(zoned, None, texts).cast(pa.timestamp(unit))
        return pc.coalesce(named, pc.assume_timezone(naive, "UTC"))
    except pa.ArrowException as error:
        raise SchemaMismatch(f"{what} holds a text that is no time: {first_line(error)}", hint=_MEND) from None


def own_column(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts of no declared type, in a type that says all they say: integers (of 64 bits, or decimals), doubles, decimals
    where a double would round, booleans, dates, timestamps; else as they are.

    >>> [str(own_column(pa.chunked_array([[t]])).type) for t in ("7", "007", "0.5", "18446744073709551616", "2024-01-01")]
    ['int64', 'string', 'double', 'decimal128(20, 0)', 'date32[day]']
    """
    if texts.null_count == len(texts):
        return texts
    try:
        if _all(texts, _OWN_INTEGER):
            return _own_integers(texts)
        if _all(texts, f"{_OWN_NUMBER}|{_NOT_FINITE}") and pc.any(_matches(texts, _OWN_NUMBER)).as_py():
            return _own_numbers(texts)
        if any(_all(texts, f"^({words})$") for words in ("true|false", "True|False", "TRUE|FALSE")):
            return _booleans(texts, "")
        if _all(texts, _DATE):
            return texts.cast(pa.date32())
        if _all(texts, _OWN_INSTANT + "Z$"):
            return texts.cast(TIMESTAMP)
        if _all(texts, _OWN_INSTANT + "$"):
            return texts.cast(pa.timestamp("us"))
    except pa.ArrowException:
        pass  # 2024-02-30 looks like a date
    return texts


_MEND: Final = "mend the text, or declare another type"


def _trimmed(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    trimmed = pc.utf8_trim(texts, " ")
    return pc.if_else(pc.equal(trimmed, ""), None, trimmed)


def _matches(texts: pa.ChunkedArray, pattern: str) -> pa.ChunkedArray:
    return pc.match_substring_regex(texts, pattern)


def _all(texts: pa.ChunkedArray, pattern: str) -> bool:
    return pc.all(_matches(texts, pattern)).as_py() is True


def _check(texts: pa.ChunkedArray, fits: pa.ChunkedArray, kind: str, what: str) -> None:
    row = pc.index(fits, False).as_py()
    if row >= 0:
        text = texts[row].as_py()
        shown = repr(text if len(text) <= SHOWN_CHARACTERS_MAX else text[: SHOWN_CHARACTERS_MAX - 3] + "...")
        raise SchemaMismatch(f"{what} is {shown} in row {row}, not exactly {kind}", hint=_MEND)


def _integers(texts: pa.ChunkedArray, dtype: DType, what: str) -> pa.ChunkedArray:
    _check(texts, _matches(texts, _INTEGER), str(dtype), what)
    bare = pc.replace_substring_regex(texts, r"^([+-]?)0*(\d+)(\.0*)?$", r"\1\2")  # Arrow takes neither a + nor -0
    bare = pc.replace_substring_regex(bare, r"^(\+|-(0)$)", r"\2")
    return bare.cast(to_arrow(dtype))


def _floats(texts: pa.ChunkedArray, dtype: DType, what: str) -> pa.ChunkedArray:
    is_number = _matches(texts, _NUMBER)
    _check(texts, pc.or_(is_number, _matches(texts, _NOT_FINITE)), str(dtype), what)
    target = to_arrow(dtype)
    plain = pc.replace_substring_regex(texts, r"^\+", "")
    found = plain.cast(target)
    _check(texts, pc.invert(pc.and_(is_number, pc.is_inf(found))), f"{dtype}, being beyond it", what)
    long = _matches(texts, rf"^[+-]?\d{{{EXACT_DIGITS[target] + 1},}}$")
    for row in np.flatnonzero(np.asarray(pc.fill_null(long, False))).tolist():
        if int(texts[row].as_py()) != int(found[row].as_py()):
            text = texts[row].as_py()
            raise SchemaMismatch(f"{what} is {text!r} in row {row}, which {dtype} would round", hint=_MEND)
    return found


def _booleans(texts: pa.ChunkedArray, what: str) -> pa.ChunkedArray:
    words = pc.utf8_lower(texts)
    true = pc.is_in(words, _TRUE)
    _check(texts, pc.or_(pc.or_(true, pc.is_in(words, _FALSE)), pc.is_null(texts)), "bool", what)
    return pc.if_else(pc.is_null(texts), None, true)


def _times(texts: pa.ChunkedArray, what: str) -> pa.ChunkedArray:
    _check(texts, _matches(texts, _TIME), "time", what)
    found = []
    for row, text in enumerate(texts.to_pylist()):  # Arrow has no such cast
        try:
            found.append(None if text is None else time.fromisoformat(whole_micros(text)))
        except (ValueError, InvalidArgument):
            raise SchemaMismatch(f"{what} is {text!r} in row {row}, not exactly time", hint=_MEND) from None
    return pa.chunked_array([pa.array(found, pa.time64("us"))])


def _own_integers(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    for target in (pa.int64(), pa.uint64(), pa.decimal128(DECIMAL_PRECISION_MAX, 0)):
        try:
            found = texts.cast(target)
        except pa.ArrowInvalid:
            continue
        if pa.types.is_decimal(target):
            digits = pc.max(pc.utf8_length(pc.replace_substring(texts, "-", ""))).as_py()
            return found.cast(pa.decimal128(digits, 0))
        return found
    return texts


def _own_numbers(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    short = _matches(texts, rf"^-?(\d\.?){{1,{EXACT_DIGITS[pa.float64()]}}}$")
    for text in pc.unique(texts.filter(pc.invert(short))).to_pylist():
        if _matches(pa.array([text]), _NUMBER)[0].as_py() and PyDecimal(repr(float(text))) != PyDecimal(text):
            return _own_decimals(texts)
    return texts.cast(pa.float64())


def _own_decimals(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts of which doubles would round one, as decimals; as they are where those have too few digits, or no word for one."""
    if not _all(texts, r"^-?\d*\.?\d*$"):
        return texts
    parts = [text.lstrip("-").partition(".") for text in texts.to_pylist() if text is not None]
    whole, scale = max(len(w) for w, _, _ in parts), max(len(f) for _, _, f in parts)
    if whole + scale > DECIMAL_PRECISION_MAX:
        return texts
    return texts.cast(pa.decimal128(whole + scale, scale))
