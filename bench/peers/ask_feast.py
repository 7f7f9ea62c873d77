"""Puts the questions to Feast: its file (dask) or DuckDB offline store, and its SQLite online store.

It is a file of its own because it runs in an interpreter of its own, in which Feast is installed and stook is not. The
command `feast_cases.py` starts it. It must never import stook, nor use what Feast does not document for users.
"""

from __future__ import annotations

import datetime as dt
import platform
import sys
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cells
import feast
import feast.types
import pyarrow as pa
import runner
from feast.data_source import PushMode, PushSource
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.value_type import ValueType

SETTINGS = """
project: beside
provider: local
registry: registry.db
offline_store:
  type: {offline}
online_store:
  type: sqlite
  path: online.db
entity_key_serialization_version: 3
"""
NAMES = {"Timestamp": "UnixTimestamp", "Timestamp[ns]": "UnixTimestamp"}


def dtype(name: str) -> Any:
    """Feast's type for a question's word."""
    if name.startswith("Array("):
        return feast.types.Array(dtype(name[6:-1]))
    return getattr(feast.types, NAMES.get(name, name.partition("(")[0]))


class Feast:
    """One repository of Feast's."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.folder = Path(job["folder"])
        if job["fresh"]:
            (self.folder / "feature_store.yaml").write_text(SETTINGS.format(offline=job["offline"]), encoding="utf-8")
        self.store = feast.FeatureStore(repo_path=str(self.folder))
        self.types = {name: kind for view in job["views"] for name, kind in cells.view_types(view).items()}

    def apply(self, views: list[dict[str, Any]]) -> None:
        """Declares the views and their entities: one entity per join key, as Feast wants it."""
        entities: dict[str, Any] = {}
        declared: list[Any] = []
        for view in views:
            for key, kind in view["keys"].items():
                value_type = ValueType[kind.upper()]
                entities.setdefault(key, feast.Entity(name=key, join_keys=[key], value_type=value_type))
            created = "created" if "created" in view["rows"]["columns"] else ""
            source = feast.FileSource(
                name=f"{view['name']}_file",
                path=str(self.folder / f"{view['name']}.parquet"),
                timestamp_field="event_timestamp",
                created_timestamp_column=created,
            )
            fields = {**view["keys"], **view["features"]}
            declared.append(
                feast.FeatureView(
                    name=view["name"],
                    entities=[entities[key] for key in view["keys"]],
                    ttl=None if view.get("ttl_s") is None else timedelta(seconds=view["ttl_s"]),
                    schema=[feast.Field(name=name, dtype=dtype(kind)) for name, kind in fields.items()],
                    source=PushSource(name=f"{view['name']}_push", batch_source=source),
                )
            )
        self.store.apply([*entities.values(), *declared])

    def materialize(self, start: str, end: str) -> None:
        """Loads a span."""
        self.store.materialize(cells.moment(start), cells.moment(end))

    def incremental(self, end: str) -> None:
        """Loads what is new."""
        self.store.materialize_incremental(cells.moment(end))

    def push(self, view: dict[str, Any], step: dict[str, Any]) -> None:
        """Writes rows online; Feast's push takes DataFrames."""
        rows = cells.table(step["rows"], cells.view_types(view))
        if step.get("chunks"):
            rows = pa.concat_tables([rows.slice(at, 1) for at in range(len(rows))])
        self.store.push(f"{view['name']}_push", rows.to_pandas(), to=PushMode.ONLINE)

    def delete(self, view: dict[str, Any], keys: list[dict[str, Any]]) -> None:  # noqa: ARG002 - there is no such call
        """Feast's SDK has no verb for it."""
        raise runner.NotOfferedError("views can be deleted, rows of one entity cannot")

    def join(self, step: dict[str, Any]) -> dict[str, Any]:
        """A point-in-time join."""
        labels = cells.table(step["labels"], {**self.types, **step.get("types", {})}).to_pandas()
        known = {"filter_by_created_timestamp": True} if step.get("known") else {}
        answer = self.store.get_historical_features(entity_df=labels, features=step["features"], **known)
        if step.get("frame"):
            return cells.joined(pa.Table.from_pandas(answer.to_df(), preserve_index=False), step["show"], True)
        return cells.joined(answer.to_arrow(), step["show"], False)

    def span(self, step: dict[str, Any]) -> dict[str, Any]:
        """Training rows of a span of time, without label rows."""
        answer = self.store.get_historical_features(
            entity_df=None,
            features=step["features"],
            start_date=cells.moment(step["start"]),
            end_date=cells.moment(step["end"]),
        )
        return cells.joined(answer.to_arrow(), step["show"], False)

    def read(self, step: dict[str, Any]) -> dict[str, Any]:
        """An online read, with the statuses of the answer's own message."""
        asked = step["entity_rows"] if "entity_rows" in step else step["entities"]
        answer = self.store.get_online_features(step["features"], asked)
        values, found = answer.to_dict(), {}
        wanted = {reference.split(":")[1] for reference in step["features"]}
        for name, column in zip(answer.proto.metadata.feature_names.val, answer.proto.results, strict=True):
            if name not in wanted:
                continue
            statuses = [FieldStatus.Name(status) for status in column.statuses]
            if step.get("count"):
                return cells.counted(values[name], statuses)
            found[name] = {"values": cells.plain(values[name]), "statuses": statuses}
            if step.get("times"):
                found[name]["times"] = [
                    cells.plain(time.ToDatetime(tzinfo=dt.UTC)) if time.seconds else None
                    for time in column.event_timestamps
                ]
        return found

    def serve(self, port: int) -> tuple[list[str], str]:
        """The command that serves the repository."""
        return [str(Path(sys.executable).parent / "feast"), "serve", "--port", str(port)], str(self.folder)


def versions() -> dict[str, str]:
    """What answers."""
    names = ("feast", "pandas", "duckdb", "pyarrow", "dask", "ibis-framework")
    return {"Python": platform.python_version(), **{name: version(name) for name in names}}


if __name__ == "__main__":
    runner.main(Feast, versions)
