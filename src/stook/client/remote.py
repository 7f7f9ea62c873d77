"""A server's platform: the verbs of `Platform` that answer over HTTP.

It is a file of its own because it is what `stook.open("http://...")` hands out. Users call it as they call an
embedded platform. It must never decide anything: each verb is one request, and its errors are the server's.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Final, NoReturn
from urllib.parse import quote, urlencode

from stook.client import answers, spelling
from stook.client.spelling import ARROW, JSON
from stook.client.transport import Answer, Transport
from stook.core.errors import NotRemote, UnknownObject
from stook.core.instants import to_rfc3339, to_us
from stook.core.outcomes import Acknowledgement, Materialized
from stook.core.ports.records import Record
from stook.core.predictions import PredictResult
from stook.core.results import OnlineResult
from stook.core.specs import Column, columns_from_spec

READ_TIMEOUT_S: Final = 30.0
PUSH_TIMEOUT_S: Final = 300.0
JSON_ROWS_MAX: Final = 48  # up to here an answer of doubles is sooner read as JSON; one row takes a quarter of the time
_JSON_HEADERS: Final = {"Content-Type": JSON}
_ARROW_ANSWER: Final = {"Content-Type": JSON, "Accept": ARROW}
NOT_REMOTE: Final = {
    "plan": "stook plan",
    "apply": "stook apply",
    "delete": "stook apply --prune",
    "get_historical_features": "stook get-historical-features",
    "dataset": "stook datasets describe",
    "parity": "stook parity",
    "generations": "stook generations list",
    "activate": "stook generations activate",
    "delete_rows": "stook delete-rows",
    "fold": "stook.open(FOLDER).fold",
    "recover": "stook.open(FOLDER)",
    "columns": "stook feature-views describe",
    "pushed_times": "stook feature-views describe",
    "label_keys": "stook feature-views describe",
    "coordination": "stook znode",
    "train": "stook train",
    "release": "stook release",
    "deploy": "stook deploy",
    "rollback": "stook rollback",
    "score": "stook predict",
    "model_metadata": "GET /v2/models/NAME",
    "join_keys": "stook feature-views describe",
    "prediction_inputs": "stook releases describe",
    "model_ready": "GET /v2/models/NAME/ready",
    "prediction_keys": "stook deployments describe",
    "infer": "POST /v2/models/NAME/infer",
    "settings": "stook doctor",
    "clock": "GET /health",
}
DECLARED_KEPT_S: Final = 1.0
Instant = datetime | str | int
Progress = Callable[[str, int, int], None]


class PreparedRemote:
    """A feature list that is sent with each read; the server keeps it resolved."""

    def __init__(self, read: Callable[[dict[str, Any]], OnlineResult], fields: Mapping[str, Any]) -> None:
        self._read = read
        self._fields = fields

    def __call__(
        self, entities: Mapping[str, Any] | None = None, *, entity_rows: Sequence[Mapping[str, Any]] | None = None
    ) -> OnlineResult:
        """Reads. Raises as `Remote.get_online_features`."""
        return self._read({**self._fields, **spelling.entities_json(entities, entity_rows)})


class Remote:
    """A platform behind `stook serve`, by URL. Thread-safe; each thread keeps one connection.

    Use it as a context manager, or `close()` it. Every verb raises EngineUnavailable when the server does not
    answer, Unauthorized when it wants another token, and otherwise what the embedded platform raises. Verbs that
    are not there raise NotRemote, naming the command to run beside the project.

    `arrow`: whether tables and answers of many rows travel as Arrow streams, which is faster for them; None: where Arrow
    and NumPy are installed. Otherwise values travel as JSON, each of its declared type, and the answers are the same.
    """

    def __init__(self, url: str, token: str = "", *, arrow: bool | None = None) -> None:
        self._transport = Transport(url, token)
        self._arrow = all(map(importlib.util.find_spec, ("pyarrow", "numpy"))) if arrow is None else arrow
        self._declared: dict[str, tuple[float, tuple[Column, ...]]] = {}

    def get_online_features(
        self,
        features: Any,
        entity_rows: Sequence[Mapping[str, Any]] | None = None,
        *,
        entities: Mapping[str, Any] | None = None,
        full_feature_names: bool = False,
    ) -> OnlineResult:
        """The features of entities as they are now, each with status, event time and age; see `Platform`."""
        return self.prepare(features, full_feature_names=full_feature_names)(entities, entity_rows=entity_rows)

    def prepare(self, features: Any, *, full_feature_names: bool = False) -> PreparedRemote:
        """Spells a feature list once. The server resolves it at the first read, which then raises UnknownFeature."""
        fields = {**spelling.features_json(features), "full_feature_names": full_feature_names}
        return PreparedRemote(self._read, fields)

    def _read(self, fields: dict[str, Any]) -> OnlineResult:
        in_arrow, answer = self._ask("/get-online-features", fields)
        if not in_arrow:
            return answers.online_result(answer.json())
        from stook.client import arrowform  # optional driver: Arrow may not be there

        return arrowform.online_result(arrowform.read_stream(answer.body))

    def _ask(self, path: str, fields: dict[str, Any]) -> tuple[bool, Answer]:
        """Whether the answer is an Arrow stream, and the answer."""
        in_arrow = self._arrow and spelling.row_count(fields) > JSON_ROWS_MAX
        answer = self._transport.request(
            "POST",
            path,
            spelling.dump(fields if in_arrow else {**fields, "types": True}),
            headers=_ARROW_ANSWER if in_arrow else _JSON_HEADERS,
            timeout_s=READ_TIMEOUT_S,
            repeat=True,
        )
        return in_arrow, answer

    def push(self, name: str, data: Any, to: str = "both") -> Acknowledgement:
        """Pushes rows to a view or push source; durable and visible once it returns; see `Platform`.

        It is never sent twice. After an EngineUnavailable it may have been done: pushing the same rows with their
        event times again does no harm.
        """
        what = f"the table pushed to {name!r}"
        untyped = isinstance(data, dict | list | tuple) or type(data).__module__.partition(".")[0] == "pandas"
        columns = self._columns(name) if untyped else ()
        if self._arrow:
            from stook.client import arrowform  # optional driver: Arrow may not be there

            path, content = f"/push?{urlencode({'view': name, 'to': to})}", ARROW
            body = arrowform.pushed_stream(data, what, columns)
        else:
            path, content = "/push", JSON
            body = spelling.dump({"view": name, "to": to, "df": answers.pushed_columns(data, what, columns)})
        # the server tries a view's name first, then a push source's
        answer = self._transport.request(
            "POST", path, body, headers={"Content-Type": content}, timeout_s=PUSH_TIMEOUT_S, repeat=False
        ).json()
        return Acknowledgement(answer["rows"], tuple(answer["views"]), answer["position"])

    def _columns(self, name: str) -> tuple[Column, ...]:
        """What Python values pushed to a view or push source are meant to be, as declared a moment ago."""
        asked_s = time.monotonic()
        found = self._declared.get(name)
        if found is None or asked_s - found[0] > DECLARED_KEPT_S:
            try:
                specs = [self.get("feature-view", name).spec]
            except UnknownObject:
                views = (view.spec for view in self.list("feature-view"))
                specs = [spec for spec in views if spec["source"].get("name") == name]
            columns = [c for spec in specs for c in (*spec["keys"], *spec["schemas"][-1][1])]
            found = self._declared[name] = (asked_s, columns_from_spec(columns))
        return found[1]

    def materialize(
        self,
        start: Instant | None,
        end: Instant,
        views: Sequence[str] | None = None,
        *,
        replace: bool = False,
        progress: Progress | None = None,
    ) -> list[Materialized]:
        """Brings rows online and waits until all views are done; `progress` hears of each view at its end."""
        fields = {
            "start": None if start is None else to_rfc3339(to_us(start, "start")),
            "end": to_rfc3339(to_us(end, "end")),
            "views": views,
            "replace": replace,
        }
        return self._materialize("/materialize", fields, progress)

    def materialize_incremental(
        self, end: Instant, views: Sequence[str] | None = None, *, progress: Progress | None = None
    ) -> list[Materialized]:
        """Brings online what came since the last run, and waits until all views are done; see `materialize`."""
        fields = {"end": to_rfc3339(to_us(end, "end")), "views": views}
        return self._materialize("/materialize-incremental", fields, progress)

    def _materialize(self, path: str, fields: Mapping[str, Any], progress: Progress | None) -> list[Materialized]:
        answer = self._transport.request(
            "POST", path, spelling.dump(fields), headers=_JSON_HEADERS, timeout_s=None, repeat=False
        )
        done = [
            Materialized(
                view=view["view"],
                rows=view["rows"],
                seconds=view["seconds"],
                mode=view["mode"],
                generation=view["generation"],
                start_us=None if view["start"] is None else to_us(view["start"]),
                end_us=to_us(view["end"]),
                resumed_rows=view["resumed_rows"],
                rounded_rows=view["rounded_rows"],
            )
            for view in answer.json()["views"]
        ]
        if progress is not None:
            for run in done:
                progress(run.view, run.rows, run.rows)
        return done

    def predict(
        self,
        name: str,
        *,
        entities: Mapping[str, Any] | None = None,
        entity_rows: Sequence[Mapping[str, Any]] | None = None,
        request: Mapping[str, Any] | None = None,
    ) -> PredictResult:
        """Predictions of a deployment, and the features that went in; see `Platform`."""
        fields = {**spelling.entities_json(entities, entity_rows), **spelling.request_json(request)}
        in_arrow, answer = self._ask(f"/predict/{quote(name, safe='')}", fields)
        if not in_arrow:
            return answers.predict_result(answer.json())
        from stook.client import arrowform  # optional driver: Arrow may not be there

        return arrowform.predict_result(answer.body)

    def get(self, kind: str, name: str) -> Record:
        """The stored object of a kind. Raises UnknownObject with near names."""
        return Record(**self._get(f"/objects/{quote(kind, safe='')}/{quote(name, safe='')}"))

    def list(self, kind: str) -> list[Record]:
        """All stored objects of a kind, by name. Raises UnknownObject for an unknown kind."""
        return [Record(**found) for found in self._get(f"/objects/{quote(kind, safe='')}")["objects"]]

    def _get(self, path: str) -> Any:
        return self._transport.request("GET", path, headers={}, timeout_s=READ_TIMEOUT_S, repeat=True).json()

    def close(self) -> None:
        """Closes the connections. Idempotent; a later verb opens one again."""
        self._transport.close()

    def __enter__(self) -> Remote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getattr__(self, name: str) -> NoReturn:
        """Called for what is not there: raises NotRemote for a verb of `Platform`, else AttributeError."""
        if name in NOT_REMOTE:
            raise NotRemote(
                f"{name} is not possible over HTTP yet", hint=f"beside the project's folder: {NOT_REMOTE[name]}"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
