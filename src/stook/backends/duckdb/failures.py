"""DuckDB's errors as stook's.

It is a file of its own because the same failure comes as an exception of DuckDB's from a query, and as one of
Arrow's from a stream. The engine wraps every call into DuckDB with it. It must never swallow an error, nor hide
what DuckDB said.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import duckdb
import pyarrow as pa

from stook.backends.duckdb.sqltypes import MEND, MISMATCH
from stook.core.errors import DiskFull, EngineUnavailable, SchemaMismatch, SourceUnreadable, StookError

_NO_SPACE: Final = ("No space left", "max_temp_directory_size")
_WIDEN: Final = "widen the declared type or mend the value"


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raises errors of DuckDB's and of its streams as StookError, naming `what` was read."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise translate(error, what) from None


def translate(error: Exception, what: str) -> StookError:
    """The error of ours that tells the reader what to do."""
    text = str(error)
    _, _, ours = text.partition(MISMATCH)
    if ours:
        said, found, mend = ours.partition("\n")[0].rpartition(MEND)
        return SchemaMismatch(said, hint=mend) if found else SchemaMismatch(mend, hint=_WIDEN)
    said = _said(text)
    if any(mark in text for mark in _NO_SPACE):
        return DiskFull(f"{what}: {said}", hint="free space on the project's disk")
    if isinstance(error, duckdb.OutOfMemoryException) or text.startswith("Out of Memory"):
        return EngineUnavailable(f"{what}: {said}", hint="raise limits.memory_mib in stook.toml")
    is_conversion = isinstance(error, duckdb.ConversionException) or text.startswith("Conversion Error")
    if is_conversion and "CSV Error" not in text:
        return SchemaMismatch(f"{what}: {said}", hint=_WIDEN)
    if isinstance(error, duckdb.ConnectionException):
        return EngineUnavailable(f"{what}: {said}", hint="the engine was closed")
    return SourceUnreadable(f"{what}: {said}", hint="mend the source, or point the definition elsewhere")


def _said(text: str) -> str:
    """What DuckDB said, without its advice and without the SQL it quotes."""
    lines = [line.strip() for line in text.split("\n\n", 1)[0].splitlines()]
    return "; ".join(line for line in lines if line)[:500]
