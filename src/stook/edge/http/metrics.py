"""What the server counts, summed over its worker processes.

It is a file of its own because prometheus-client chooses between one process and several when it is imported,
by the environment; `server` sets that before it starts workers. Routes count here, GET /metrics reads. It
must never label anything with a name that a caller sends: paths of the route table and statuses are bounded.
"""

from __future__ import annotations

import os
from typing import Any, Final

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from stook.core.results import OnlineResult
from stook.core.statuses import STATUS_NAMES

FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 60.0)
_registry: Final = CollectorRegistry()
_requests: Final = Counter("stook_http_requests", "Requests answered.", ["endpoint", "status"], registry=_registry)
_seconds: Final = Histogram(
    "stook_http_request_seconds", "Seconds from request to answer.", ["endpoint"], buckets=_SECONDS, registry=_registry
)
_values: Final = Counter("stook_online_values", "Online values answered, by status.", ["status"], registry=_registry)
FEW: Final = 64  # below, Python counts faster than NumPy is called
_by_status: Final = [_values.labels(name) for name in STATUS_NAMES]
_children: Final[dict[tuple[str, int], tuple[Any, Any]]] = {}  # bounded: paths of the route table times statuses


def count_request(endpoint: str, status: int, seconds: float) -> None:
    """Counts one answered request. `endpoint` is a path of the route table, or "other"."""
    children = _children.get((endpoint, status))
    if children is None:
        children = _children[endpoint, status] = (_requests.labels(endpoint, str(status)), _seconds.labels(endpoint))
    children[0].inc()
    children[1].observe(seconds)


def count_values(result: OnlineResult) -> None:
    """Counts an answer's values by status."""
    shared: dict[int, list[Any]] = {}  # columns of one view share their statuses: counted once
    for column in result.columns:
        found = shared.get(id(column.statuses))
        if found is None:
            shared[id(column.statuses)] = [column.statuses, 1]
        else:
            found[1] += 1
    counts = [0] * len(_by_status)
    for statuses, columns in shared.values():
        each = np.bincount(statuses, minlength=len(counts)).tolist() if len(statuses) > FEW else _few(statuses)
        counts = [count + columns * one for count, one in zip(counts, each, strict=True)]
    for counter, count in zip(_by_status, counts, strict=True):
        if count:
            counter.inc(count)


def _few(statuses: Any) -> list[int]:
    found = list(statuses)
    return [found.count(status) for status in range(len(_by_status))]


def exposition() -> bytes:
    """Everything counted, by all workers, in the text format that Prometheus reads."""
    if os.environ.get(FOLDER_VARIABLE):
        summed = CollectorRegistry()
        MultiProcessCollector(summed)  # type: ignore[no-untyped-call]
        return generate_latest(summed)
    return generate_latest(_registry)
