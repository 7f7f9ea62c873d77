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
import pyarrow.parquet

from stook.app.jsonlines import read_lines
from stook.app.textcolumns import declared_column, instants, own_column
from stook.core.dtypes import Bytes
from stook.core.errors import DiskFull, InvalidArgument, SourceUnreadable, did_you_mean, first_line
from stook.core.specs import Column

READERS: Final = (".parquet", ".csv", ".json", ".jsonl", ".ndjson", ".arrow")


def read_table(name: str, columns: Iterable[Column] = (), times: Iterable[str] = ()) -> pa.Table:
    """All rows of a file, told by its ending. In CSV and JSON lines, `columns` are read as declared, `times` as times, any other
    column as a type that says all its texts say (see `own_column`). Raises SourceUnreadable and SchemaMismatch naming the
    file, the column and the mend.
    """
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
            return _read_csv(path, columns, times)
        if ending == ".arrow":
            with pa.ipc.open_file(path) as reader:
                return reader.read_all()
        return read_lines(path.read_bytes(), name, columns, times)
    except (pa.ArrowException, OSError) as error:
        raise SourceUnreadable(
            f"{name} cannot be read: {first_line(error)}", hint="is it complete, and what its ending says?"
        ) from None


def _read_csv(path: Path, columns: Iterable[Column], times: Iterable[str]) -> pa.Table:
    """As a CSV source is read: nothing is null, quoted nothing the empty text, and no word means null."""
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    with pyarrow.csv.open_csv(path, parse_options=parse) as reader:
        names = reader.schema.names
    declared = {column.name: column.dtype for column in columns}
    texts = pyarrow.csv.read_csv(
        path,
        parse_options=parse,
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={name: pa.binary() if declared.get(name) == Bytes else pa.string() for name in names},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    instant = set(times)
    arrays = []
    for name, column in zip(names, texts.columns, strict=True):
        what = f"{path}: column {name!r}"
        if name in declared:
            arrays.append(declared_column(column, declared[name], what))
        else:
            arrays.append(instants(column, what) if name in instant else own_column(column))
    return pa.table(arrays, names=names)


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
