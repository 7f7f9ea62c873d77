"""Tables in files that a person names: Parquet, CSV, JSON lines.

It is a file of its own because faces take file names where programs bring tables. The command line calls it. It
must never be used for a source: those are read in place by the engine.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from stook.core.arrow import to_arrow
from stook.core.dtypes import Bytes, Decimal, Float32, String, UInt64
from stook.core.errors import DiskFull, InvalidArgument, SourceUnreadable, did_you_mean, first_line
from stook.core.specs import Column

TEXT_DECIDES: Final = (String, Bytes, Float32, UInt64)  # types that CSV's own guess would miss
READERS: Final = (".parquet", ".csv", ".json", ".jsonl", ".ndjson", ".arrow")


def read_table(name: str, columns: Iterable[Column] = ()) -> pa.Table:
    """All rows of a file, told by its ending; text of CSV is taken as what `columns` say. Raises SourceUnreadable naming the file and the mend."""
    path = Path(name)
    ending = path.suffix.lower()
    if ending not in READERS:
        raise SourceUnreadable(f"{name}: files ending in {ending!r} are not read", hint=f"one of {', '.join(READERS)}")
    if not path.is_file():
        beside = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
        raise SourceUnreadable(
            f"there is no file {name}", hint=did_you_mean(path.name, beside) if beside else "see the path"
        )
    try:
        if ending == ".parquet":
            return pyarrow.parquet.read_table(path)
        if ending == ".csv":
            types = {
                c.name: to_arrow(c.dtype) for c in columns if c.dtype in TEXT_DECIDES or isinstance(c.dtype, Decimal)
            }
            # as in a CSV source: nothing is null, quoted nothing the empty text, and no word means null
            convert = pyarrow.csv.ConvertOptions(
                column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
            )
            return pyarrow.csv.read_csv(path, convert_options=convert)
        if ending == ".arrow":
            with pa.ipc.open_file(path) as reader:
                return reader.read_all()
        return pyarrow.json.read_json(path)
    except (pa.ArrowException, OSError) as error:
        raise SourceUnreadable(
            f"{name} cannot be read: {first_line(error)}", hint="is it complete, and what its ending says?"
        ) from None


def write_table(table: pa.Table, name: str) -> None:
    """Writes a table to a Parquet or CSV file, whole or not at all. Raises InvalidArgument, DiskFull."""
    path = Path(name)
    ending = path.suffix.lower()
    if ending not in (".parquet", ".csv"):
        raise InvalidArgument(f"{name}: files ending in {ending!r} are not written", hint="use .parquet or .csv")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        if ending == ".parquet":
            pyarrow.parquet.write_table(table, partial)
        else:
            pyarrow.csv.write_csv(table, partial)
        partial.replace(path)
    except pa.ArrowException as error:
        raise InvalidArgument(f"{name} cannot hold this table: {error}", hint="write .parquet instead") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull(f"{name} cannot be written: {error}", hint="free space, or choose another folder") from None
        raise InvalidArgument(f"{name} cannot be written: {error.strerror}", hint="choose another folder") from None
    finally:
        partial.unlink(missing_ok=True)
