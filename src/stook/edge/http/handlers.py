"""One function per endpoint: decode, one call on the platform, encode.

They are a file of their own because this is all that the HTTP face does; the route table names them. Reads of few
rows run in the event loop, since a thread would cost more than the read; everything else runs in bounded threads.
They must never branch on what a request means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
from msgspec import Raw
from starlette.requests import Request
from starlette.responses import Response

from stook._version import __version__
from stook.core import dtypes
from stook.core.arrow import from_arrow
from stook.core.dtypes import DType
from stook.core.errors import InvalidArgument, TooLarge
from stook.core.instants import to_rfc3339
from stook.core.jsoncolumns import check_width, column_from_json, request_from_json, table_column
from stook.core.predictions import PredictResult
from stook.core.results import OnlineResult
from stook.core.specs import Column
from stook.core.statuses import OnlineColumn
from stook.edge.http import metrics
from stook.edge.http.arrowbody import read_arrow
from stook.edge.http.body import decode
from stook.edge.http.door import Door
from stook.edge.http.messages import (
    HealthAnswer,
    IncrementalRequest,
    MaterializeAnswer,
    MaterializedView,
    MaterializeRequest,
    ObjectAnswer,
    ObjectsAnswer,
    OnlineRequest,
    PredictRequest,
    PushAnswer,
    PushRequest,
    ReadyAnswer,
)
from stook.edge.jsonvalues import (
    ages_json,
    columns_bytes,
    encode,
    statuses_json,
    times_json,
    values_json,
)

ARROW: Final = "application/vnd.apache.arrow.stream"
JSON: Final = "application/json"
INLINE_ROWS_MAX: Final = 64
NOW_US: Final = b"stook.now_us"
KEY_COLUMNS: Final = b"stook.key_columns"
RELEASE: Final = b"stook.release"
_METADATA: Final = b'{"metadata":'
_FIRST, _NEXT, _LAST = b',"results":[{"values":', b',{"values":', b"]}"
_RESULT_END: Final = b',"statuses":%b,"event_timestamps":%b,"ages":%b}'
Rows = Sequence[Mapping[str, Any]]
COLUMNS_MAX: Final = 10_000  # of one push
INLINE_VALUES_MAX: Final = 64 * 64  # up to here reading takes less than handing the work to a thread


def json_response(answer: object, status: int = 200) -> Response:
    """Any message as JSON."""
    return Response(encode(answer), status, media_type=JSON)


async def get_online_features(door: Door, request: Request) -> Response:
    """The features of entities as they are now."""
    async with door.bodies.read(request) as body:
        message = decode(body, OnlineRequest, depth_max=door.depth_max)
        arrow = ARROW in request.headers.get("accept", "")
        rows = _row_count(message.entities, message.entity_rows)
        features = len(message.features) if message.features is not None else 1
        if rows <= INLINE_ROWS_MAX and rows * features <= INLINE_VALUES_MAX:
            answer = _answer_online(door, message, arrow)
        else:
            answer = await door.short.run(_answer_online, door, message, arrow)
        return Response(answer, media_type=ARROW if arrow else JSON)


def _row_count(entities: Mapping[str, Sequence[Any]] | None, rows: Rows | None) -> int:
    return len(rows) if rows is not None else max(map(len, (entities or {}).values()), default=0)


def _answer_online(door: Door, message: OnlineRequest, arrow: bool) -> bytes:
    read = door.prepared(message)
    text = message.int64 == "string"
    entities, rows = _keys(message.entities, message.entity_rows, read.plan.keys, text)
    result = read(entities, entity_rows=rows)
    metrics.count_values(result)
    if arrow:
        return arrow_stream(result.to_arrow(), result)
    return online_json(result, int64_text=text, types=message.types)


def _keys(entities: Any, rows: Any, keys: Sequence[Column], text: bool) -> tuple[Any, Any]:
    """Entities with what JSON cannot say (bytes, and 64-bit integers where asked) in its true type."""
    special: dict[str, DType] = {
        key.name: key.dtype
        for key in keys
        if key.dtype == dtypes.Bytes or (text and key.dtype in (dtypes.Int64, dtypes.UInt64))
    }
    for name, dtype in special.items():
        if entities is not None and name in entities:
            entities = {**entities, name: column_from_json(entities[name], dtype, f"key {name!r}", int64_text=text)}
        if rows is not None and all(name in row for row in rows):
            cells = column_from_json([row[name] for row in rows], dtype, f"key {name!r}", int64_text=text)
            rows = [{**row, name: cell} for row, cell in zip(rows, cells, strict=True)]
    return entities, rows


def online_json(result: OnlineResult, *, int64_text: bool = False, types: bool = False) -> bytes:
    """Feast's JSON, plus ages; with `types`, what the values are.

    What columns of one view share is spelled once, and all bytes are joined once: an object a column costs more than its
    values, and a copy of a large answer as much as spelling it.
    """
    nothing = b"[%b]" % b",".join([b"null"] * len(result))
    cells = [(values, dtype) for _, dtype, values in result.keys] + [(c.values, c.dtype) for c in result.columns]
    spelled = columns_bytes(cells, int64_text=int64_text)
    ends = []
    for _, _, values in result.keys:
        nulls = [cell is None for cell in values] if isinstance(values, list) else values.is_null().to_pylist()
        ends.append(_RESULT_END % (bytes(statuses_json(nulls)), nothing, nothing))  # true is 1, a null value
    shared = _Shared(result.now_us)
    ends += [_RESULT_END % shared.spell(column) for column in result.columns]
    parts, before = [_METADATA, encode(_metadata(result, types))], _FIRST
    for text, end in zip(spelled, ends, strict=True):
        parts += (before, text, end)
        before = _NEXT
    return b"".join((*parts, _LAST))


def _metadata(result: OnlineResult, types: bool) -> dict[str, Any]:
    metadata: dict[str, Any] = {"feature_names": [name for name, _, _ in result.keys] + result.feature_names}
    if types:
        columns = [dtype for _, dtype, _ in result.keys] + [column.dtype for column in result.columns]
        metadata["types"] = [_type_spec(dtype) for dtype in columns]
        metadata["key_columns"] = len(result.keys)
        metadata["now"] = to_rfc3339(result.now_us)
    return metadata


def _type_spec(dtype: DType | None) -> Any:
    return None if dtype is None else dtype.to_spec()


class _Shared:
    """Statuses, event times and ages in JSON; those that columns of one view share are spelled once."""

    def __init__(self, now_us: int) -> None:
        self._now_us = now_us
        self._spelled: dict[tuple[int, int], tuple[bytes, bytes, bytes]] = {}

    def spell(self, column: OnlineColumn) -> tuple[bytes, bytes, bytes]:
        """A column's statuses, event times and ages."""
        of_view = (id(column.statuses), id(column.event_us))
        found = self._spelled.get(of_view)
        if found is None:
            times, ages = times_json(column.event_us), ages_json(column.event_us, self._now_us)
            found = self._spelled[of_view] = (bytes(statuses_json(column.statuses)), bytes(times), bytes(ages))
        return found


def arrow_stream(table: pa.Table, result: OnlineResult | None, facts: Mapping[bytes, bytes] | None = None) -> bytes:
    """A table as an Arrow stream; its metadata says when it was read and how many columns are keys."""
    metadata = dict(facts or {})
    if result is not None:
        metadata |= {NOW_US: str(result.now_us).encode(), KEY_COLUMNS: str(len(result.keys)).encode()}
    table = table.replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


async def push(door: Door, request: Request) -> Response:
    """Pushes rows; durable and visible once answered. The body may be an Arrow stream (then `?view=NAME&to=both`)."""
    async with door.bodies.read(request) as body:
        if request.headers.get("content-type", "").startswith(ARROW):
            query = request.query_params
            data: Any = read_arrow(body, door.bodies.limit_bytes, door.push_rows_max)
            name, to = _one_name(query.get("view"), query.get("push_source_name")), query.get("to", "both")
        else:
            message = decode(body, PushRequest, depth_max=door.depth_max)
            name, to, data = _one_name(message.view, message.push_source_name), message.to, message.df
            _check_pushed(data, door.push_rows_max)
        return json_response(await door.short.run(_push, door, name, data, to))


def _check_pushed(columns: Mapping[str, Sequence[Any]], rows_max: int) -> None:
    rows = max(map(len, columns.values()), default=0)
    if rows > rows_max:
        raise TooLarge(
            f"the push holds {rows} rows, over {rows_max}",
            hint="push less at a time, or raise serve.push_rows_max in stook.toml",
        )
    if len(columns) > COLUMNS_MAX:
        raise TooLarge(f"the push holds {len(columns)} columns, over {COLUMNS_MAX}", hint="name a view's columns only")


def _one_name(view: str | None, source: str | None) -> str:
    if (view is None) == (source is None):
        raise InvalidArgument(
            "the push must name view or push_source_name, and not both", hint='"view": "driver_stats"'
        )
    return view or source or ""


def _push(door: Door, name: str, data: Any, to: str) -> PushAnswer:
    if isinstance(data, dict):
        types = door.push_types(name)
        for column in data.keys() - types.keys():  # the platform says what is wrong with the name
            check_width(data[column], f"column {column!r}")
        data = {
            column: table_column(cells, types[column], f"column {column!r}") if column in types else cells
            for column, cells in data.items()
        }
    done = door.platform.push(name, data, to)
    return PushAnswer(done.rows, list(done.views), done.position)


def _either(name: str, ours: Any, other: str, feasts: Any) -> Any:
    if ours is not None and feasts is not None:
        raise InvalidArgument(f"the body has both {name} and {other}", hint=f"give {name}")
    return ours if ours is not None else feasts


def _end(ours: str | None, feasts: str | None) -> str:
    end: str | None = _either("end", ours, "end_ts", feasts)
    if end is None:
        raise InvalidArgument("the body has no end", hint='"end": "2013-10-15T12:00:00Z"')
    return end


async def materialize(door: Door, request: Request) -> Response:
    """Brings rows online; answers when all views are done."""
    async with door.bodies.read(request) as body:
        message = decode(body, MaterializeRequest, depth_max=door.depth_max)
        start = _either("start", message.start, "start_ts", message.start_ts)
        end = _end(message.end, message.end_ts)
        views = _either("views", message.views, "feature_views", message.feature_views)

        def call() -> MaterializeAnswer:
            return _materialized(door.platform.materialize(start, end, views, replace=message.replace))

        return json_response(await door.long.run(call))


async def materialize_incremental(door: Door, request: Request) -> Response:
    """Brings online what came since the last run; answers when all views are done."""
    async with door.bodies.read(request) as body:
        message = decode(body, IncrementalRequest, depth_max=door.depth_max)
        end = _end(message.end, message.end_ts)
        views = _either("views", message.views, "feature_views", message.feature_views)

        def call() -> MaterializeAnswer:
            return _materialized(door.platform.materialize_incremental(end, views))

        return json_response(await door.long.run(call))


def _materialized(done: Sequence[Any]) -> MaterializeAnswer:
    return MaterializeAnswer(
        [
            MaterializedView(
                view=m.view,
                rows=m.rows,
                seconds=m.seconds,
                mode=m.mode,
                generation=m.generation,
                start=None if m.start_us is None else to_rfc3339(m.start_us),
                end=to_rfc3339(m.end_us),
                resumed_rows=m.resumed_rows,
                rounded_rows=m.rounded_rows,
            )
            for m in done
        ]
    )


async def predict(door: Door, request: Request) -> Response:
    """Predictions of a deployment, with the features that were looked up."""
    async with door.bodies.read(request) as body:
        message = decode(body, PredictRequest, depth_max=door.depth_max)
        arrow = ARROW in request.headers.get("accept", "")
        answer = await door.short.run(_predict, door, request.path_params["deployment"], message, arrow)
        return Response(answer, media_type=ARROW if arrow else JSON)


def _predict(door: Door, deployment: str, message: PredictRequest, arrow: bool) -> bytes:
    text = message.int64 == "string"
    keys = door.platform.prediction_keys(deployment)
    entities, rows = _keys(message.entities, message.entity_rows, keys, text)
    request = message.request
    if request:
        request = request_from_json(request, door.platform.prediction_inputs(deployment), int64_text=text)
    result = door.platform.predict(deployment, entities=entities, entity_rows=rows, request=request)
    if result.online is not None:
        metrics.count_values(result.online)
    return prediction_arrow(result) if arrow else prediction_json(result, int64_text=text, types=message.types)


def _prediction_type(result: PredictResult) -> DType | None:
    return None if isinstance(result.raw, list) else from_arrow(result.raw.type)


def prediction_json(result: PredictResult, *, int64_text: bool = False, types: bool = False) -> bytes:
    """Predictions, release, and each feature's values, statuses, event times and ages by name; with `types`, what the
    values are."""
    columns = [] if result.online is None else result.online.columns
    shared = _Shared(0 if result.online is None else result.online.now_us)
    names = [column.name for column in columns]
    spelled = columns_bytes([(c.values, c.dtype) for c in columns], int64_text=int64_text)
    rest = list(zip(*(shared.spell(column) for column in columns), strict=True)) or [(), (), ()]
    statuses, times, ages = ({n: Raw(text) for n, text in zip(names, texts, strict=True)} for texts in rest)
    metadata = {"metadata": _prediction_types(result, int64_text)} if types else {}
    return encode(
        {
            "predictions": values_json(result.raw, _prediction_type(result), int64_text=int64_text),
            "release": result.release,
            "features": {n: Raw(text) for n, text in zip(names, spelled, strict=True)},
            "statuses": statuses,
            "event_timestamps": times,
            "ages": ages,
            **metadata,
        }
    )


def _prediction_types(result: PredictResult, int64_text: bool) -> dict[str, Any]:
    online = result.online
    keys = [] if online is None else online.keys
    return {
        "predictions": _type_spec(_prediction_type(result)),
        "features": None if online is None else _metadata(online, True),
        "keys": {name: values_json(values, dtype, int64_text=int64_text) for name, dtype, values in keys},
    }


def prediction_arrow(result: PredictResult) -> bytes:
    """The predictions as first column, then the features as in an online answer."""
    predictions = pa.array(result.raw) if isinstance(result.raw, list) else result.raw
    names, arrays = ["predictions"], [predictions]
    if result.online is not None:
        table = result.online.to_arrow()
        names += table.column_names
        arrays += table.columns
    return arrow_stream(pa.Table.from_arrays(arrays, names=names), result.online, {RELEASE: result.release.encode()})


async def health(door: Door, _: Request) -> Response:
    """The process answers; also when the stores do not."""
    clock = door.platform.clock
    name, now = door.platform.settings.name, to_rfc3339(clock.now_us())
    return json_response(HealthAnswer("ok", name, "frozen" if clock.frozen else "running", now))


async def ready(door: Door, _: Request) -> Response:
    """The registry and the online store answer."""
    return json_response(await door.short.run(_ready, door))


def _ready(door: Door) -> ReadyAnswer:
    views = door.platform.list("feature-view")
    online = next((view.name for view in views if view.spec["online"]), None)
    if online is not None:
        door.platform.generations(online)
    return ReadyAnswer("ready", len(views))


async def show_metrics(door: Door, _: Request) -> Response:
    """Everything counted, by all workers."""
    return Response(await door.short.run(metrics.exposition), media_type=metrics.CONTENT_TYPE)


async def show_openapi(door: Door, _: Request) -> Response:
    """This document."""
    return Response(door.document, media_type=JSON)


async def list_objects(door: Door, request: Request) -> Response:
    """All stored objects of a kind."""
    found = await door.short.run(door.platform.list, request.path_params["kind"])
    return json_response(ObjectsAnswer([_object(record) for record in found]))


async def get_object(door: Door, request: Request) -> Response:
    """One stored object."""
    kind, name = request.path_params["kind"], request.path_params["name"]
    return json_response(_object(await door.short.run(door.platform.get, kind, name)))


def _object(record: Any) -> ObjectAnswer:
    return ObjectAnswer(record.kind, record.name, record.spec, record.revision, record.created)


async def v2_server(_: Door, __: Request) -> Response:
    """The server, in the words of the Open Inference Protocol."""
    return json_response({"name": "stook", "version": __version__, "extensions": []})


async def v2_live(_: Door, __: Request) -> Response:
    """The process answers."""
    return json_response({"live": True})


async def v2_ready(door: Door, _: Request) -> Response:
    """The registry and the online store answer."""
    await door.short.run(_ready, door)
    return json_response({"ready": True})


async def v2_model(door: Door, request: Request) -> Response:
    """A deployment's model: platform, inputs, outputs."""
    name = request.path_params["deployment"]
    return json_response(await door.short.run(door.platform.model_metadata, name))


async def v2_model_ready(door: Door, request: Request) -> Response:
    """Whether a deployment can answer."""
    name = request.path_params["deployment"]
    return json_response({"name": name, "ready": await door.short.run(door.platform.model_ready, name)})


async def v2_infer(door: Door, request: Request) -> Response:
    """Answers tensors with tensors; no features are looked up."""
    async with door.bodies.read(request) as body:
        message = decode(body, dict[str, Any], depth_max=door.depth_max)
        return json_response(await door.short.run(door.platform.infer, request.path_params["deployment"], message))
