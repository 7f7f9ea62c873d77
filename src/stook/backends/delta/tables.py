"""The `Tables` port on Delta tables in a folder.

It is a file of its own because it alone knows how deltalake commits. Parquet files are written here and their
commit by deltalake, so that file names keep the order of appends and every byte is fsynced before the commit that
names it, which deltalake does not do. It must never rewrite a file: every commit stays readable.

Logical types stand in each field's metadata, under `stook.type`; `core.physical` gives the types on disk.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction

from stook.core import dtypes
from stook.core.arrow import arrow_schema
from stook.core.errors import Conflict, CorruptStore, DiskFull, EngineUnavailable, InvalidArgument, SchemaMismatch
from stook.core.physical import physical, to_logical, to_physical
from stook.core.plans import TableSnapshot
from stook.core.settings import EngineUrl
from stook.core.specs import Column

APPLICATION: Final = "stook"
TYPE_KEY: Final = b"stook.type"
ROWS_PER_FILE_MAX: Final = 2_000_000
NAME_SEGMENT: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@+")
NO_UPKEEP: Final = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
COMMIT_ATTEMPTS: Final = 5


def open_tables(url: EngineUrl, root: Path) -> DeltaTables:
    """Opens the folder, making it at need. Raises EngineUnavailable when it cannot be made."""
    folder = url.path if url.path is not None else root / ".stook" / "tables"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EngineUnavailable(f"{folder} cannot be made: {error}", hint="see engines.tables in stook.toml") from None
    return DeltaTables(folder)


class DeltaTables:
    """Tables by name, each a Delta table in a folder of that name. Safe from several threads and processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def append(
        self,
        name: str,
        columns: Sequence[Column],
        batches: pa.RecordBatchReader,
        *,
        position: int = 0,
        metadata: dict[str, Any] | None = None,
    ) -> TableSnapshot:
        path = self._path(name)
        try:
            table = self._open_or_create(path, columns)
            if position and _position(table) >= position:
                return self._snapshot(name, table)
            table = self._with_columns(table, columns)
            added = self._write_files(path, table, columns, batches)
            _sync_folder(path)
            properties = CommitProperties(
                custom_metadata=metadata,
                app_transactions=[Transaction(APPLICATION, position)] if position else None,
            )
            table.create_write_transaction(
                added, "append", table.schema(), commit_properties=properties, post_commithook_properties=NO_UPKEEP
            )
            table.update_incremental()
            _sync_log(path)
        except CommitFailedError as error:
            raise Conflict(f"table {name!r} was changed by somebody else: {error}", hint="repeat the call") from None
        except DeltaError as error:
            raise EngineUnavailable(f"table {name!r} cannot be written: {error}", hint=f"look at {path}") from None
        except OSError as error:
            raise _io_error(error, path) from None
        return self._snapshot(name, table)

    def pin(self, name: str, commit: int | None = None) -> TableSnapshot | None:
        path = self._path(name)
        try:
            if not (path / "_delta_log").is_dir():
                return None
            table = DeltaTable(path, version=commit)
        except TableNotFoundError:
            return None
        except DeltaError as error:
            if commit is not None:
                return None
            raise CorruptStore(f"table {name!r} in {path} does not read: {error}", hint="restore it") from None
        return self._snapshot(name, table)

    def read(self, snapshot: TableSnapshot) -> pa.Table:
        schema = arrow_schema(snapshot.columns)
        parts = []
        for file in snapshot.files:
            try:
                found = pyarrow.parquet.read_table(file)
            except (OSError, pa.ArrowException) as error:
                raise CorruptStore(
                    f"{file} of table {snapshot.name!r} does not read: {error}", hint="restore it"
                ) from None
            arrays = [
                to_logical(found.column(c.name), c.dtype)
                if c.name in found.column_names
                else pa.nulls(found.num_rows, schema.field(c.name).type)
                for c in snapshot.columns
            ]
            parts.append(pa.table(arrays, schema=schema))
        return pa.concat_tables(parts) if parts else schema.empty_table()

    def names(self, prefix: str = "") -> list[str]:
        found = (p.parent.relative_to(self._folder).as_posix() for p in self._folder.rglob("_delta_log"))
        return sorted(name for name in found if name.startswith(prefix))

    def drop(self, name: str) -> None:
        path = self._path(name)
        doomed = path.with_name(f".dropped-{uuid.uuid4().hex}")
        try:
            path.rename(doomed)  # gone in one step; what is left of a killed drop is never a table again
        except FileNotFoundError:
            return
        shutil.rmtree(doomed, ignore_errors=True)

    def _path(self, name: str) -> Path:
        segments = name.split("/")
        if not all(s and set(s) <= NAME_SEGMENT and not s.startswith(".") for s in segments):
            raise InvalidArgument(
                f"table name {name!r} is not possible", hint="letters, digits, '._-@', no leading dot"
            )
        return self._folder.joinpath(*segments)

    def _open_or_create(self, path: Path, columns: Sequence[Column]) -> DeltaTable:
        if (path / "_delta_log").is_dir():
            try:
                return DeltaTable(path)
            except TableNotFoundError:
                pass
        path.mkdir(parents=True, exist_ok=True)
        try:
            table = DeltaTable.create(path, _delta_schema(columns), configuration={"delta.appendOnly": "true"})
        except DeltaError:
            table = DeltaTable(path)  # somebody else made it meanwhile
        _sync_log(path)
        for folder in (path, *path.parents):
            _sync_folder(folder)
            if folder == self._folder:
                break
        return table

    def _with_columns(self, table: DeltaTable, columns: Sequence[Column]) -> DeltaTable:
        """The table with columns it lacked added; one that is there with another type is refused."""
        known = {c.name: c.dtype for c in _columns(table)}
        for column in columns:
            if column.name in known and known[column.name] != column.dtype:
                return self._widened(table, column, known[column.name])
        missing = [c for c in columns if c.name not in known]
        if missing:
            fields = list(_delta_schema([*_columns(table), *missing]).fields)  # names are checked against all
            table.alter.add_columns(fields[-len(missing) :])
            table.update_incremental()
        return table

    def _widened(self, table: DeltaTable, column: Column, have: dtypes.DType) -> DeltaTable:
        raise SchemaMismatch(
            f"table {table.table_uri}: column {column.name!r} is {have}, not {column.dtype}", hint="keep its type"
        )

    def _write_files(
        self, path: Path, table: DeltaTable, columns: Sequence[Column], batches: pa.RecordBatchReader
    ) -> list[AddAction]:
        """Writes the rows under names that sort by commit, then by part; fsynced, and named by no commit yet."""
        schema = pa.schema([pa.field(c.name, physical(c.dtype)) for c in columns])
        stem = f"{table.version() + 1:012d}-{uuid.uuid4().hex[:12]}"
        added: list[AddAction] = []
        writer: pyarrow.parquet.ParquetWriter | None = None
        rows, target, complete = 0, path, False
        try:
            for batch in batches:
                if writer is None:
                    target = path / f"{stem}-{len(added):06d}.parquet"
                    writer = pyarrow.parquet.ParquetWriter(target, schema, compression="zstd", store_schema=False)
                part = pa.Table.from_batches([batch])
                arrays = [to_physical(part.column(c.name), c.dtype) for c in columns]
                writer.write_table(pa.table(arrays, schema=schema))
                rows += part.num_rows
                if rows >= ROWS_PER_FILE_MAX:
                    added.append(_finish(writer, target, rows))
                    writer, rows = None, 0
            if writer is not None:
                added.append(_finish(writer, target, rows))
            complete = True
        finally:
            if not complete:
                _discard(writer, list(path.glob(f"{stem}-*.parquet")))
        return added

    def _snapshot(self, name: str, table: DeltaTable) -> TableSnapshot:
        files = sorted(Path(uri.removeprefix("file://")).name for uri in table.file_uris())
        path = self._path(name).absolute()
        return TableSnapshot(
            name, table.version(), tuple(str(path / file) for file in files), _columns(table), _position(table)
        )


def _delta_schema(columns: Sequence[Column]) -> Schema:
    fields = [
        pa.field(c.name, physical(c.dtype), metadata={TYPE_KEY: json.dumps(c.dtype.to_spec()).encode()})
        for c in columns
    ]
    try:
        return Schema.from_arrow(pa.schema(fields))
    except Exception as error:  # noqa: BLE001  deltalake raises a bare Exception for names it cannot hold
        raise SchemaMismatch(f"a table cannot hold these columns: {error}", hint="rename a column") from None


def _columns(table: DeltaTable) -> tuple[Column, ...]:
    fields = json.loads(table.schema().to_json())["fields"]
    key = TYPE_KEY.decode()
    return tuple(Column(f["name"], dtypes.from_spec(json.loads(f["metadata"][key]))) for f in fields)


def _position(table: DeltaTable) -> int:
    return table.transaction_version(APPLICATION) or 0


def _finish(writer: Any, target: Path, rows: int) -> AddAction:
    writer.close()
    with target.open("rb") as file:
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
    now_ms = time.time_ns() // 1_000_000
    return AddAction(target.name, size, {}, now_ms, True, json.dumps({"numRecords": rows}))


def _discard(writer: Any, files: Sequence[Path]) -> None:
    """Deletes files that no commit will name: where the disk is full, they would keep it so."""
    with suppress(OSError):  # as the write before: that error is on its way
        if writer is not None:
            writer.close()
    for file in files:
        file.unlink(missing_ok=True)


def _sync_log(path: Path) -> None:
    """Makes the newest commit, and the names of all, survive loss of power."""
    log = path / "_delta_log"
    newest = max((p for p in log.iterdir() if p.suffix == ".json"), key=lambda p: p.name, default=None)
    if newest is not None:
        with newest.open("rb") as file:
            os.fsync(file.fileno())
    _sync_folder(log)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _io_error(error: OSError, path: Path) -> DiskFull | EngineUnavailable:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFull(f"{path} has no space left", hint="free some; nothing that was stored is harmed")
    return EngineUnavailable(f"{path} cannot be written: {error}", hint="see the folder's permissions")
