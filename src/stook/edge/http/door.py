"""What handlers share in one worker: the platform, bounded threads, and caches with limits.

It is a file of its own so that handlers stay plain functions of it and a request. The worker makes one. It must
never hold anything that another worker would need to know.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import msgspec

from stook.app import Platform
from stook.core import dtypes
from stook.core.definitions import DEFAULT_TIMESTAMP, Projection
from stook.core.dtypes import DType
from stook.core.errors import Busy, InvalidArgument, InvalidDefinition, UnknownFeature
from stook.core.names import check_column, check_name
from stook.core.specs import ViewSpec
from stook.edge.http.body import Bodies
from stook.edge.http.messages import FeatureSet, OnlineRequest

T = TypeVar("T")
THREADS: Final = 8
WAITING_MAX: Final = 256  # calls in or before the threads; more are answered 429
LONG_THREADS: Final = 2
LONG_WAITING_MAX: Final = 16
PREPARED_MAX: Final = 1_000
PREPARED_KEY_BYTES_MAX: Final = 65_536
PUSH_TYPES_KEPT_S: Final = 0.5
PUSH_TYPES_MAX: Final = 1_000


class Threads:
    """A pool of threads with a bounded queue before it."""

    def __init__(self, threads: int, waiting_max: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._waiting_max = waiting_max
        self._waiting = 0

    async def run(self, call: Callable[..., T], *args: Any) -> T:
        """Runs a blocking call. Raises Busy when too many wait already. Call it from the event loop only."""
        if self._waiting >= self._waiting_max:
            raise Busy(f"{self._waiting} calls wait already", hint="repeat it later, or start more workers")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, call, *args)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Waits for what runs."""
        self._pool.shutdown(wait=True)


class Door:
    """One worker's state. `draining` is set when the worker is told to end: answers then close their connection.

    `document` is the OpenAPI document, as JSON.
    """

    def __init__(self, platform: Platform, token: str = "", document: bytes = b"{}") -> None:
        serve = platform.settings.serve
        self.platform = platform
        self.token = token
        self.document = document
        self.bodies = Bodies(serve.body_limit_mib << 20)
        self.depth_max = serve.json_depth_max
        self.push_rows_max = serve.push_rows_max
        self.draining = False
        self.short = Threads(THREADS, WAITING_MAX, "http")
        self.long = Threads(LONG_THREADS, LONG_WAITING_MAX, "http-long")
        self._prepared: dict[bytes, Any] = {}
        self._push_types: dict[str, tuple[float, dict[str, DType]]] = {}

    def close(self) -> None:
        """Waits for running calls."""
        self.short.close()
        self.long.close()

    def prepared(self, message: OnlineRequest) -> Any:
        """The prepared read that answers the request's features. Raises UnknownFeature, InvalidArgument."""
        key = msgspec.json.encode((message.features, message.feature_service, message.full_feature_names))
        found = self._prepared.get(key)
        if found is None:
            features = features_of(message.features, message.feature_service)
            found = self.platform.prepare(features, full_feature_names=message.full_feature_names)
            if len(self._prepared) >= PREPARED_MAX:
                self._prepared.clear()
            if len(key) <= PREPARED_KEY_BYTES_MAX:
                self._prepared[key] = found
        return found

    def push_types(self, name: str) -> dict[str, DType]:
        """The types of the columns that may be pushed to a view or push source, at most half a second old.

        Empty for an unknown name: the push itself then says so.
        """
        now = time.monotonic()
        found = self._push_types.get(name)
        if found is None or now - found[0] > PUSH_TYPES_KEPT_S:
            if len(self._push_types) >= PUSH_TYPES_MAX:
                self._push_types.clear()
            found = self._push_types[name] = (now, _push_types(self.platform, name))
        return found[1]


def features_of(features: list[str | FeatureSet] | None, service: str | None) -> Any:
    """What the platform understands by a request's features. Raises InvalidArgument, UnknownFeature."""
    if (features is None) == (service is None):
        raise InvalidArgument(
            "the body must have features or feature_service, and not both",
            hint='"features": ["view:feature"], or "feature_service": "name"',
        )
    if service is not None:
        if ":" in service:
            raise UnknownFeature(f"there is no feature service {service!r}", hint='put references into "features"')
        return service
    return [item if isinstance(item, str) else _projection(item) for item in features or ()]


def _projection(item: FeatureSet) -> Projection:
    chosen = None if item.features is None else tuple(item.features)
    try:
        if item.name is not None:
            check_name("projection", item.name)
        for column in item.join_key_map.values():
            check_column("join key", column)
    except InvalidDefinition as error:
        raise InvalidArgument(error.message, hint=error.hint) from None
    return Projection(item.view, chosen, item.name, tuple(sorted(item.join_key_map.items())))


def _push_types(platform: Platform, name: str) -> dict[str, DType]:
    views = [ViewSpec.from_spec(record.name, record.spec) for record in platform.list("feature-view")]
    reached = [view for view in views if view.name == name]
    reached = reached or [view for view in views if getattr(view.source, "name", "") == name]
    types: dict[str, DType] = {}
    for view in reached:
        types |= {column.name: column.dtype for column in (*view.features, *view.keys)}
        for column in (view.source.timestamp_field, view.source.created_timestamp_column, DEFAULT_TIMESTAMP):
            if column is not None:
                types.setdefault(column, dtypes.Timestamp)
    return types
