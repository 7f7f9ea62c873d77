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
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction

from stook.core import dtypes
from stook.core.arrow import arrow_schema, conform, require_columns
from stook.core.errors import (
    Conflict,
    CorruptStore,
    DiskFull,
    EngineUnavailable,
    InvalidArgument,
    InvalidSettings,
    SchemaMismatch,
    first_line,
)
from stook.core.physical import physical, to_logical, to_physical
from stook.core.plans import TableSnapshot
from stook.core.settings import EngineUrl
from stook.core.specs import Column

APPLICATION: Final = "stook"
TYPE_KEY: Final = b"stook.type"
ROWS_PER_FILE_MAX: Final = 2_000_000
ROWS_PER_GROUP: Final = 131_072  # small batches are gathered: a row group costs about 2 kB whatever it holds
NAME_SEGMENT: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@+")
CONFIGURATION: Final = {"delta.appendOnly": "true", "delta.enableExpiredLogCleanup": "false"}
NO_UPKEEP: Final = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
COMMIT_ATTEMPTS: Final = 20
COMMITS_PER_CHECKPOINT: Final = 100
COMMITS_SYNCED_MIN: Final = 16


def open_tables(url: EngineUrl, root: Path) -> DeltaTables:
    """Opens the folder, making it at need. Raises EngineUnavailable when it cannot be made, InvalidSettings for a
    path that deltalake cannot open."""
    folder = url.path if url.path is not None else root / ".stook" / "tables"
    if "%" in str(folder):  # its log store decodes paths once, its reader twice: no escaping suits both
        raise InvalidSettings(f"engines.tables: Delta tables cannot stand in {folder}", hint="use a path without '%'")
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
            parts = _write_parts(path, name, columns, batches)
            properties = CommitProperties(
                custom_metadata=metadata,
                max_commit_retries=0,  # a commit that lost is named anew, so that names keep the order of commits
                app_transactions=[Transaction(APPLICATION, position)] if position else None,
            )
            return self._commit(name, table, columns, parts, properties, position)
        except CommitFailedError as error:
            raise Conflict(f"table {name!r} was changed by somebody else: {error}", hint="repeat the call") from None
        except DeltaError as error:
            raise _delta_error(error, name, path) from None
        except OSError as error:
            raise _io_error(error, path) from None

    def pin(self, name: str, commit: int | None = None) -> TableSnapshot | None:
        path = self._path(name)
        try:
            if not (path / "_delta_log").is_dir() or (commit is not None and commit < 0):
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
        firsts = (p.relative_to(self._folder) for p in self._folder.rglob(f"_delta_log/{0:020d}.json"))
        found = (p.parent.parent.as_posix() for p in firsts if not any(part.startswith(".") for part in p.parts))
        return sorted(name for name in found if name.startswith(prefix))

    def drop(self, name: str) -> None:
        path = self._path(name)
        doomed = path.with_name(f".dropped-{uuid.uuid4().hex}")
        try:
            path.rename(doomed)  # gone in one step; what is left of a killed drop is never a table again
            _sync_folder(path.parent)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _io_error(error, path) from None
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
            table = DeltaTable.create(
                path, _delta_schema(columns), configuration=CONFIGURATION, post_commithook_properties=NO_UPKEEP
            )
        except DeltaError:
            table = DeltaTable(path)  # somebody else made it meanwhile
        _sync_log(path, since=0)
        for folder in (path, *path.parents):
            _sync_folder(folder)
            if folder == self._folder:
                break
        return table

    def _commit(
        self,
        name: str,
        table: DeltaTable,
        columns: Sequence[Column],
        parts: Sequence[_Part],
        properties: CommitProperties,
        position: int,
    ) -> TableSnapshot:
        """Names the files after the commit that adds them, and commits; anew when somebody else was first."""
        path, since = self._path(name), table.version()
        lost: CommitFailedError | None = None
        for _ in range(COMMIT_ATTEMPTS):
            if position and _position(table) >= position:
                _discard(parts)
                return self._snapshot(name, table)
            try:
                _add_columns(table, name, columns)
                number = table.version() + 1
                added = [part.named(number, index) for index, part in enumerate(parts)]
                _sync_folder(path)
                table.create_write_transaction(
                    added, "append", table.schema(), commit_properties=properties, post_commithook_properties=NO_UPKEEP
                )
            except CommitFailedError as error:
                lost = error
                table.update_incremental()
                continue
            except SchemaMismatch:
                _discard(parts)
                raise
            _sync_log(path, since=since)
            if (number + 1) % COMMITS_PER_CHECKPOINT == 0:
                with suppress(OSError, DeltaError):  # it only shortens the way for readers; the rows are in
                    _checkpoint(path)
            table.load_as_version(number)
            return self._snapshot(name, table)
        _discard(parts)
        assert lost is not None
        raise lost

    def _snapshot(self, name: str, table: DeltaTable) -> TableSnapshot:
        files = sorted(Path(uri.removeprefix("file://")).name for uri in table.file_uris())
        path = self._path(name).absolute()
        return TableSnapshot(
            name, table.version(), tuple(str(path / file) for file in files), _columns(table), _position(table)
        )


@dataclass
class _Part:
    """A data file that no commit names yet."""

    file: Path
    rows: int

    def named(self, number: int, index: int) -> AddAction:
        """Renames the file for its commit, so that names sort by commit, then by part; what the commit says of it."""
        stem = self.file.name.removesuffix(".parquet").rsplit("-", 1)[-1]
        self.file = self.file.rename(self.file.with_name(f"{number:012d}-{index:06d}-{stem}.parquet"))
        status = self.file.stat()
        stats = json.dumps({"numRecords": self.rows})
        return AddAction(self.file.name, status.st_size, {}, int(status.st_mtime * 1000), True, stats)


def _write_parts(path: Path, name: str, columns: Sequence[Column], batches: pa.RecordBatchReader) -> list[_Part]:
    """Writes the rows, exactly in their types, and syncs the files; leaves none behind when that fails."""
    parts: list[_Part] = []
    try:
        writer: pyarrow.parquet.ParquetWriter | None = None
        try:
            for group in _groups(batches):
                if writer is None:
                    parts.append(_Part(path / f"new-{uuid.uuid4().hex[:12]}.parquet", 0))
                    schema = pa.schema([pa.field(c.name, physical(c.dtype)) for c in columns])
                    writer = pyarrow.parquet.ParquetWriter(
                        parts[-1].file, schema, compression="zstd", store_schema=False
                    )
                writer.write_table(_physical_rows(group, columns, f"table {name!r}"))
                parts[-1].rows += group.num_rows
                if parts[-1].rows >= ROWS_PER_FILE_MAX:
                    writer.close()
                    writer = None
        finally:
            if writer is not None:
                writer.close()
        for part in parts:
            _sync_file(part.file)
    except BaseException:
        _discard(parts)
        raise
    return parts


def _groups(batches: pa.RecordBatchReader) -> Iterator[pa.Table]:
    """The batches, small ones gathered; none for no rows."""
    gathered: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        if batch.num_rows:
            gathered.append(batch)
            rows += batch.num_rows
        if rows >= ROWS_PER_GROUP:
            yield pa.Table.from_batches(gathered)
            gathered, rows = [], 0
    if gathered:
        yield pa.Table.from_batches(gathered)


def _physical_rows(rows: pa.Table, columns: Sequence[Column], what: str) -> pa.Table:
    require_columns(rows, [c.name for c in columns], what)
    arrays = [
        to_physical(conform(rows.column(c.name), c.dtype, f"{what}: column {c.name!r}"), c.dtype) for c in columns
    ]
    return pa.table(arrays, names=[c.name for c in columns])


def _discard(parts: Sequence[_Part]) -> None:
    for part in parts:
        part.file.unlink(missing_ok=True)


def _add_columns(table: DeltaTable, name: str, columns: Sequence[Column]) -> None:
    """Adds the columns that the table lacks; one that is there with another type is refused."""
    known = {c.name: c.dtype for c in _columns(table)}
    for column in columns:
        if (have := known.get(column.name, column.dtype)) != column.dtype:
            raise SchemaMismatch(
                f"table {name!r}: column {column.name!r} is {have}, not {column.dtype}", hint="keep its type"
            )
    missing = [c for c in columns if c.name not in known]
    if missing:
        fields = list(_delta_schema([*_columns(table), *missing]).fields)  # names are checked against all
        table.alter.add_columns(
            fields[-len(missing) :],
            commit_properties=CommitProperties(max_commit_retries=0),
            post_commithook_properties=NO_UPKEEP,
        )
        table.update_incremental()


def _delta_schema(columns: Sequence[Column]) -> Schema:
    fields = [
        pa.field(c.name, physical(c.dtype), metadata={TYPE_KEY: json.dumps(c.dtype.to_spec()).encode()})
        for c in columns
    ]
    try:
        return Schema.from_arrow(pa.schema(fields))
    except Exception as error:  # noqa: BLE001  deltalake raises a bare Exception for names it cannot hold
        raise SchemaMismatch(
            f"a table cannot hold these columns: {first_line(error)}", hint="rename a column"
        ) from None


def _columns(table: DeltaTable) -> tuple[Column, ...]:
    fields = json.loads(table.schema().to_json())["fields"]
    key = TYPE_KEY.decode()
    return tuple(Column(f["name"], dtypes.from_spec(json.loads(f["metadata"][key]))) for f in fields)


def _position(table: DeltaTable) -> int:
    return table.transaction_version(APPLICATION) or 0


def _sync_log(path: Path, *, since: int) -> None:
    """Makes the commits from `since` on, and the names of all, survive loss of power.

    A few before them too: whoever wrote those may have been killed before it came to this.
    """
    log = path / "_delta_log"
    commits = sorted(entry.name for entry in log.glob("*.json"))
    for name in commits[max(0, min(since, len(commits) - COMMITS_SYNCED_MIN)) :]:
        _sync_file(log / name)
    _sync_folder(log)


def _checkpoint(path: Path) -> None:
    """Sums the log up for readers. Made aside and moved in once synced: a torn checkpoint hides the whole table."""
    log = path / "_delta_log"
    newest = max((entry.name for entry in log.glob("*.checkpoint.parquet")), default="")
    with TemporaryDirectory(prefix=".checkpoint-", dir=path) as aside:
        staged = Path(aside) / "_delta_log"
        staged.mkdir()
        for entry in log.iterdir():
            if entry.name[0].isdigit() and entry.name >= newest:
                shutil.copyfile(entry, staged / entry.name)
        DeltaTable(aside).create_checkpoint()
        made = [staged / entry.name for entry in staged.glob("*.checkpoint.parquet") if entry.name > newest]
        for entry in (*made, staged / "_last_checkpoint"):
            _sync_file(entry)
            entry.replace(log / entry.name)
            _sync_folder(log)


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _delta_error(error: DeltaError, name: str, path: Path) -> DiskFull | EngineUnavailable:
    if "os error 28" in str(error) or "No space left" in str(error):
        return DiskFull(f"{path} has no space left", hint="free some; nothing that was stored is harmed")
    return EngineUnavailable(f"table {name!r} cannot be written: {first_line(error)}", hint=f"look at {path}")


def _io_error(error: OSError, path: Path) -> DiskFull | EngineUnavailable:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFull(f"{path} has no space left", hint="free some; nothing that was stored is harmed")
    return EngineUnavailable(f"{path} cannot be written: {error}", hint="see the folder's permissions")
