"""The manifest of a dataset: what it holds, what was read for it, and how to tell whether it is still that.

It is a file of its own because manifests outlive the code that wrote them. Datasets write and read them; training
runs and releases pin them. It must never hold data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stook.core.plans import SourceSnapshot
from stook.core.specs import Column, columns_from_spec, columns_to_spec
from stook.offline.labels import HistoricalRequest, Prepared


@dataclass(frozen=True)
class ReadView:
    """One view as it was read: which very view and schema, its batch source's files with digests, its pushes."""

    view: str
    uid: str
    schema_revision: int
    features: tuple[tuple[str, str], ...]
    keys: tuple[tuple[str, str], ...]
    ttl_us: int | None
    source: SourceSnapshot | None
    table_commit: int | None
    push_position: int

    def to_spec(self) -> dict[str, Any]:
        """JSON form."""
        return {
            **vars(self),
            "features": [list(pair) for pair in self.features],
            "keys": [list(pair) for pair in self.keys],
            "source": None if self.source is None else self.source.to_spec(),
        }

    @staticmethod
    def from_spec(spec: Mapping[str, Any]) -> ReadView:
        """The inverse of `to_spec`."""
        plain = dict(spec)
        plain["features"] = tuple((a, b) for a, b in spec["features"])
        plain["keys"] = tuple((a, b) for a, b in spec["keys"])
        plain["source"] = None if spec["source"] is None else SourceSnapshot.from_spec(spec["source"])
        return ReadView(**plain)


@dataclass(frozen=True)
class Manifest:
    """What a saved dataset is.

    `digests` maps each column to the digest of its content: equal digests mean equal data. `plan_hash` names the
    question (features, views, schemas, ttls, knowledge limit), `reads` what answered it. Times are microseconds.
    """

    dataset: str
    table: str
    table_commit: int
    rows: int
    columns: tuple[Column, ...]
    digests: Mapping[str, str]
    plan_hash: str
    reads: tuple[ReadView, ...]
    keys: tuple[str, ...]
    label_times: tuple[str, ...]
    as_known_at: str | None
    created_us: int

    def to_spec(self) -> dict[str, Any]:
        """JSON form, as the registry keeps it."""
        return {
            **vars(self),
            "columns": columns_to_spec(self.columns),
            "digests": dict(self.digests),
            "reads": [read.to_spec() for read in self.reads],
            "keys": list(self.keys),
            "label_times": list(self.label_times),
        }

    @staticmethod
    def from_spec(spec: Mapping[str, Any]) -> Manifest:
        """The inverse of `to_spec`; fields that it does not know (`past`) are passed over."""
        names = Manifest.__dataclass_fields__
        plain = {key: value for key, value in spec.items() if key in names}
        plain["columns"] = columns_from_spec(spec["columns"])
        plain["reads"] = tuple(ReadView.from_spec(read) for read in spec["reads"])
        plain["keys"] = tuple(spec["keys"])
        plain["label_times"] = tuple(spec["label_times"])
        return Manifest(**plain)


def reads_of(request: HistoricalRequest) -> tuple[ReadView, ...]:
    """What a request reads, view by view."""
    return tuple(
        ReadView(
            view=read.view.name,
            uid=read.view.uid,
            schema_revision=read.view.schema.revision,
            features=read.outputs,
            keys=read.keys,
            ttl_us=read.view.ttl_us,
            source=history.source,
            table_commit=None if history.pushed is None else history.pushed.commit,
            push_position=position,
        )
        for read, history, position in zip(request.reads, request.histories, request.push_positions, strict=True)
    )


def plan_hash(request: HistoricalRequest, prepared: Prepared) -> str:
    """Hexadecimal BLAKE2b-128 of the question: the same question has the same hash, whatever the data."""
    question = {
        "names": request.names,
        "reads": [
            [r.view.name, r.view.uid, r.view.schema.revision, r.keys, r.outputs, r.view.ttl_us] for r in request.reads
        ],
        "timestamp_field": request.timestamp_field,
        "known_by_us": prepared.plan.known_by_us,
        "label_times": prepared.label_times,
    }
    return hashlib.blake2b(json.dumps(question, sort_keys=True).encode(), digest_size=16).hexdigest()
