"""Saved datasets: immutable tables, found by name through their manifests.

It is a file of its own because saving has an order that must hold when killed: data first, manifest last.
Retrieval saves, the app loads. It must never change a table that a manifest names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from stook.core.arrow import conform, from_arrow
from stook.core.dtypes import check_fields
from stook.core.errors import (
    CorruptStore,
    InvalidArgument,
    InvalidDefinition,
    SchemaMismatch,
    UnknownObject,
    did_you_mean,
)
from stook.core.names import check_case, check_name
from stook.core.ports.records import ABSENT, Put, Records
from stook.core.ports.tables import Tables
from stook.core.results_arrow import to_pandas, to_polars
from stook.core.specs import Column
from stook.offline.digests import column_digest
from stook.offline.manifest import Manifest

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

DATASET: Final = "dataset"
PAST_MAX: Final = 20


class Dataset:
    """A saved training set and its manifest. Its data is read at first use and kept."""

    def __init__(self, manifest: Manifest, tables: Tables) -> None:
        self.manifest = manifest
        self._tables = tables

    @cached_property
    def _table(self) -> pa.Table:
        snapshot = self._tables.pin(self.manifest.table, self.manifest.table_commit)
        if snapshot is None:
            raise CorruptStore(
                f"dataset {self.manifest.dataset!r} has lost its table {self.manifest.table!r}", hint="save it again"
            )
        return self._tables.read(snapshot)

    @property
    def keys(self) -> tuple[str, ...]:
        """The join-key columns."""
        return self.manifest.keys

    @property
    def label_times(self) -> tuple[str, ...]:
        """The label-time columns."""
        return self.manifest.label_times

    def provenance(self) -> Mapping[str, Any]:
        """What a training run records of its data."""
        return self.manifest.to_spec()

    def to_arrow(self) -> pa.Table:
        """All rows, in the order of the labels they were made for."""
        return self._table

    def to_df(self) -> pd.DataFrame:
        """The same as a pandas DataFrame; integers with nulls stay exact."""
        return to_pandas(self._table)

    def to_polars(self) -> pl.DataFrame:
        """The same as a Polars DataFrame."""
        return to_polars(self._table)

    def verify(self) -> list[str]:
        """The columns whose content is not what the manifest says; empty when all is well."""
        found = {name: column_digest(self._table.column(name)) for name in self._table.column_names}
        return [name for name, digest in self.manifest.digests.items() if found.get(name) != digest]


def load_dataset(name: str, *, tables: Tables, records: Records) -> Dataset:
    """The newest dataset saved under a name. Raises UnknownObject with near names."""
    record = records.get(DATASET, name)
    if record is None:
        known = [r.name for r in records.list(DATASET)]
        raise UnknownObject(f"there is no dataset {name!r}", hint=did_you_mean(name, known))
    return Dataset(Manifest.from_spec(record.spec), tables)


def save_dataset(draft: Manifest, table: pa.Table, *, tables: Tables, records: Records) -> Manifest:
    """Writes the rows, then the manifest, by compare-and-set; returns the manifest as stored.

    The name then means this dataset; older ones of the name stay readable through the record's `past`. Raises
    InvalidArgument for a name that cannot be, SchemaMismatch for columns without a logical type, Conflict when
    somebody saves under the name now, DiskFull.
    """
    try:
        check_name("dataset", draft.dataset)
    except InvalidDefinition as error:
        raise InvalidArgument(error.message, hint=error.hint) from None
    columns, logical = _logical(table)
    digests = {name: column_digest(logical.column(name)) for name in logical.column_names}
    fingerprint = column_digest(pa.chunked_array([[f"{n}={d}" for n, d in digests.items()]]))
    name = f"datasets/{draft.dataset}/{draft.created_us:x}-{fingerprint[:12]}"
    before = records.get(DATASET, draft.dataset)
    snapshot = tables.append(name, columns, logical.to_reader(), position=1)  # position: saving twice saves once
    manifest = replace(
        draft, table=name, table_commit=snapshot.commit, rows=table.num_rows, columns=columns, digests=digests
    )
    past = [] if before is None else [{k: v for k, v in before.spec.items() if k != "past"}, *before.spec["past"]]
    spec = {**manifest.to_spec(), "past": past[:PAST_MAX]}
    records.commit([Put(DATASET, draft.dataset, spec, ABSENT if before is None else before.revision)])
    return manifest


def _logical(table: pa.Table) -> tuple[tuple[Column, ...], pa.Table]:
    """The table in logical Arrow types; naive times become UTC. Refuses what would have to be rounded."""
    columns: list[Column] = []
    arrays = []
    for field in table.schema:
        dtype = from_arrow(field.type)
        if dtype is None:
            raise SchemaMismatch(
                f"column {field.name!r} is {field.type}, which cannot be saved", hint="convert it, or leave it out"
            )
        columns.append(Column(field.name, dtype))
        arrays.append(conform(table.column(field.name), dtype, f"column {field.name!r}"))
    _check_names(columns)
    return tuple(columns), pa.table(arrays, names=table.column_names)


def _check_names(columns: Sequence[Column]) -> None:
    """Refuses columns, and fields inside them, that tables cannot keep."""
    try:
        check_case("the dataset's columns", (c.name for c in columns))
        for column in columns:
            check_fields(f"column {column.name!r}", column.dtype)
    except InvalidDefinition as error:
        raise SchemaMismatch(f"{error.message}, which tables cannot keep", hint=error.hint) from None
