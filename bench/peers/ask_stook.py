"""Puts the questions to stook, through its SDK on the embedded engines.

It is a file of its own because it runs in the interpreter that stook is installed in, once per environment. The
command `feast_cases.py` starts it. It must never go round the public interface.
"""

from __future__ import annotations

import platform
import sys
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cells
import pyarrow as pa
import runner

import stook


def dtype(name: str) -> Any:
    """stook's type for a question's word."""
    if name.startswith("Array("):
        return stook.Array(dtype(name[6:-1]))
    if name.startswith("Decimal("):
        return stook.Decimal(*(int(digits) for digits in name[8:-1].split(",")))
    return getattr(stook, name.removesuffix("[ns]"))


class Stook:
    """One project of stook's."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.folder = Path(job["folder"])
        if job["fresh"]:
            (self.folder / "stook.toml").write_text('[project]\nname = "beside"\n', encoding="utf-8")
        self.platform = stook.open(self.folder)
        self.types = {name: kind for view in job["views"] for name, kind in cells.view_types(view).items()}

    def apply(self, views: list[dict[str, Any]]) -> None:
        """Declares the views and their entities."""
        declared: list[Any] = []
        for view in views:
            entity = stook.Entity("_".join(view["keys"]), join_keys={k: dtype(t) for k, t in view["keys"].items()})
            created = "created" if "created" in view["rows"]["columns"] else None
            declared += [
                entity,
                stook.FeatureView(
                    view["name"],
                    entities=[entity],
                    ttl=None if view.get("ttl_s") is None else timedelta(seconds=view["ttl_s"]),
                    schema=[stook.Field(name, dtype(kind)) for name, kind in view["features"].items()],
                    source=stook.FileSource(f"{view['name']}.parquet", created_timestamp_column=created),
                ),
            ]
        self.platform.apply(declared)

    def materialize(self, start: str, end: str) -> None:
        """Loads a span."""
        self.platform.materialize(cells.moment(start), cells.moment(end))

    def incremental(self, end: str) -> None:
        """Loads what is new."""
        self.platform.materialize_incremental(cells.moment(end))

    def push(self, view: dict[str, Any], step: dict[str, Any]) -> None:
        """Writes rows online."""
        rows = cells.table(step["rows"], cells.view_types(view))
        if step.get("chunks"):
            rows = pa.concat_tables([rows.slice(at, 1) for at in range(len(rows))])
        self.platform.push(view["name"], rows, to="online")

    def delete(self, view: dict[str, Any], keys: list[dict[str, Any]]) -> None:
        """Deletes entities of a view."""
        self.platform.delete_rows(view["name"], keys)

    def join(self, step: dict[str, Any]) -> dict[str, Any]:
        """A point-in-time join."""
        labels = cells.table(step["labels"], {**self.types, **step.get("types", {})})
        known = {"as_known_at": "event_timestamp"} if step.get("known") else {}
        answer = self.platform.get_historical_features(labels, step["features"], **known)
        if step.get("frame"):
            return cells.joined(pa.Table.from_pandas(answer.to_df()), step["show"], True)
        return cells.joined(answer.to_arrow(), step["show"], False)

    def span(self, step: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - there is no such call
        """stook wants label rows."""
        raise runner.NotOfferedError("a training set always starts from label rows")

    def read(self, step: dict[str, Any]) -> dict[str, Any]:
        """An online read."""
        asked = {name: step[name] for name in ("entity_rows", "entities") if name in step}
        answer = self.platform.get_online_features(step["features"], **asked)
        values, found = answer.to_dict(), {}
        for name in answer.feature_names:
            if step.get("count"):
                return cells.counted(values[name], answer.statuses[name])
            found[name] = {"values": cells.plain(values[name]), "statuses": list(answer.statuses[name])}
            if step.get("times"):
                found[name]["times"] = cells.plain(answer.event_timestamps[name])
        return found

    def serve(self, port: int) -> tuple[list[str], str]:
        """The command that serves the project."""
        self.platform.close()
        return [sys.executable, "-m", "stook", "serve", "--port", str(port)], str(self.folder)


def versions() -> dict[str, str]:
    """What answers."""
    names = ("stook", "pandas", "duckdb", "pyarrow")
    return {"Python": platform.python_version(), **{name: version(name) for name in names}}


if __name__ == "__main__":
    runner.main(Stook, versions)
