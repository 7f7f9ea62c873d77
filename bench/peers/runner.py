"""Takes jobs on standard input, plays each one's steps against an adapter, and writes the answers as JSON lines.

It is a file of its own because both adapters, each in its own interpreter, need the same protocol: what counts is
that they are asked alike. The adapters' `main` call it. It must never let one job's failure end the others: what was
raised is the answer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import cells
import pyarrow.parquet as pq

SERVER_START_S = 90


class Store(Protocol):
    """One project of one feature store."""

    def apply(self, views: list[dict[str, Any]]) -> None:
        """Declares the views."""

    def materialize(self, start: str, end: str) -> None:
        """Loads a span."""

    def incremental(self, end: str) -> None:
        """Loads what is new."""

    def push(self, view: dict[str, Any], step: dict[str, Any]) -> None:
        """Writes rows online."""

    def delete(self, view: dict[str, Any], keys: list[dict[str, Any]]) -> None:
        """Deletes entities of a view."""

    def join(self, step: dict[str, Any]) -> dict[str, Any]:
        """A point-in-time join."""

    def read(self, step: dict[str, Any]) -> dict[str, Any]:
        """An online read."""

    def serve(self, port: int) -> tuple[list[str], str]:
        """The command that serves the project, and its folder."""

    def span(self, step: dict[str, Any]) -> dict[str, Any]:
        """Training rows of a span of time, without label rows."""


class NotOfferedError(Exception):
    """There is no public call for what was asked."""


Opening = Callable[[dict[str, Any]], Store]


def write_source(folder: Path, view: dict[str, Any], rows: dict[str, Any]) -> None:
    """The view's Parquet file."""
    pq.write_table(cells.table(rows, cells.view_types(view)), folder / f"{view['name']}.parquet")


def play(job: dict[str, Any], opening: Opening) -> list[Any]:
    """The answers of one job's asking steps; a step that only prepares and raises ends it."""
    folder = Path(job["folder"])
    views = {view["name"]: view for view in job["views"]}
    answers: list[Any] = []
    try:
        if job["fresh"]:
            cells.fresh_folder(job["folder"])
            for view in job["views"]:
                write_source(folder, view, view["rows"])
        store = opening(job)
        if job["fresh"]:
            store.apply(job["views"])
        for step in job["steps"]:
            answer = _step(store, views, folder, step)
            if answer is not None:
                answers.append(answer)
    except NotOfferedError as error:
        answers.append({"absent": str(error)})
    except Exception as error:  # noqa: BLE001 - whatever a store raises is its answer
        answers.append(cells.raised(error, job["folder"]))
    return answers


def _step(store: Store, views: dict[str, Any], folder: Path, step: dict[str, Any]) -> Any:
    match step["do"]:
        case "source":
            write_source(folder, views[step["view"]], step["rows"])
        case "ttl":
            views[step["view"]]["ttl_s"] = step["ttl_s"]
            store.apply(list(views.values()))
        case "materialize":
            store.materialize(step["start"], step["end"])
        case "incremental":
            store.incremental(step["end"])
        case "push":
            store.push(views[step["view"]], step)
        case "delete":
            store.delete(views[step["view"]], step["keys"])
        case asking:
            try:
                ways = {"join": store.join, "read": store.read, "range": store.span, "http": partial(over_http, store)}
                return ways[asking](step)
            except NotOfferedError as error:
                return {"absent": str(error)}
            except Exception as error:  # noqa: BLE001 - whatever a store raises is its answer
                return cells.raised(error, str(folder))
    return None


def over_http(store: Store, step: dict[str, Any]) -> dict[str, Any]:
    """The step's question asked of the store's own HTTP server."""
    port = cells.free_port()
    command, folder = store.serve(port)
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await(server, url + "/health")
        asked = {"features": step["features"], "entities": step["entities"]}
        request = urllib.request.Request(
            url + "/get-online-features", json.dumps(asked).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                body = json.loads(reply.read())
        except urllib.error.HTTPError as refusal:
            return {"raised": f"HTTP {refusal.code}: {cells.shorten(refusal.read().decode(), folder)}"}
    finally:
        server.terminate()
        server.wait(timeout=30)
    names = body["metadata"]["feature_names"]
    return {
        name: {"values": column["values"], "statuses": column["statuses"]}
        for name, column in zip(names, body["results"], strict=True)
        if name in {reference.split(":")[1] for reference in step["features"]}
    }


def _await(server: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + SERVER_START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with {server.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"the server did not answer within {SERVER_START_S} s")


def main(opening: Opening, versions: Callable[[], dict[str, str]]) -> None:
    """Reads jobs, one JSON list on standard input; writes versions, then one answer a line, on standard output."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not mix with answers
    for job in [None, *json.loads(sys.stdin.read())]:
        line = {"versions": versions()} if job is None else {"id": job["id"], "answers": play(job, opening)}
        out.write(json.dumps(line) + "\n")
        out.flush()
