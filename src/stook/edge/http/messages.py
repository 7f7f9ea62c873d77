"""What is said over HTTP: every request's and answer's shape, as types.

They are a file of their own because decoding, the OpenAPI document and people all read the same shapes. Handlers
decode into the requests; `openapi` describes both. They must never hold logic: unknown fields and wrong types are
refused by msgspec from these declarations alone.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

Columns = dict[str, list[Any]]
Status = Literal["PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE", "ERROR"]
Datatype = Literal[
    "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP32", "FP64", "BYTES"
]
Length = Annotated[int, msgspec.Meta(ge=0)]


class FeatureSet(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A view's features under another name or found by other key columns; `features` left out: all of them."""

    view: str
    features: list[str] | None = None
    name: str | None = None
    join_key_map: dict[str, str] = {}


class OnlineRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Which features of which entities. Give `features` (`view:feature` references) or `feature_service`, and
    `entities` (columns) or `entity_rows` (objects). With `types` the answer says what its values are."""

    features: list[str | FeatureSet] | None = None
    feature_service: str | None = None
    entities: Columns | None = None
    entity_rows: list[dict[str, Any]] | None = None
    full_feature_names: bool = False
    int64: Literal["number", "string"] = "number"
    types: bool = False


class PushRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Rows for a view, or for every view of a push source. The last two fields are Feast's and mean nothing here."""

    df: Columns
    push_source_name: str | None = None
    view: str | None = None
    to: str = "both"
    allow_registry_cache: bool = True
    transform_on_write: bool = True


class MaterializeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Brings rows with `start <= event time <= end` online. `start_ts`, `end_ts` and `feature_views` are Feast's
    names for `start`, `end` and `views`."""

    start: str | None = None
    end: str | None = None
    views: list[str] | None = None
    replace: bool = False
    start_ts: str | None = None
    end_ts: str | None = None
    feature_views: list[str] | None = None


class IncrementalRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Brings rows with event times in (last end, end] online, and whatever arrived late."""

    end: str | None = None
    views: list[str] | None = None
    end_ts: str | None = None
    feature_views: list[str] | None = None


class PredictRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The entities whose features are looked up, and the model's other inputs, a value each or one for all. With
    `types` the answer says what its values are."""

    entities: Columns | None = None
    entity_rows: list[dict[str, Any]] | None = None
    request: dict[str, Any] | None = None
    int64: Literal["number", "string"] = "number"
    types: bool = False


class ColumnAnswer(msgspec.Struct):
    """One column, in the order of the entity rows."""

    values: list[Any]
    statuses: list[Status]
    event_timestamps: list[str | None]
    ages: list[float | None]


class AnswerNames(msgspec.Struct):
    """Join keys first, then features in the order asked. Where types are asked for: each one's type, in the registry's
    spelling, how many are keys, and the time of the read."""

    feature_names: list[str]
    types: list[Any] | msgspec.UnsetType = msgspec.UNSET
    key_columns: int | msgspec.UnsetType = msgspec.UNSET
    now: str | msgspec.UnsetType = msgspec.UNSET


class OnlineAnswer(msgspec.Struct):
    """`results` stand in the order of `metadata.feature_names`."""

    metadata: AnswerNames
    results: list[ColumnAnswer]


class PushAnswer(msgspec.Struct):
    """Rows pushed, the views they reached, and the position of the log that holds them."""

    rows: int
    views: list[str]
    position: int


class MaterializedView(msgspec.Struct):
    """What a materialization did to one view."""

    view: str
    rows: int
    seconds: float
    mode: str
    generation: int | None
    start: str | None
    end: str
    resumed_rows: int
    rounded_rows: int


class MaterializeAnswer(msgspec.Struct):
    """One entry a view."""

    views: list[MaterializedView]


class PredictTypes(msgspec.Struct):
    """The type of the predictions and, where features were looked up, what their answer's `metadata` would be, with the
    keys' values."""

    predictions: Any
    features: AnswerNames | None
    keys: Columns


class PredictAnswer(msgspec.Struct):
    """Predictions, the release that made them, and the features that went in, by name. `metadata` where types are asked
    for."""

    predictions: list[Any]
    release: str
    features: Columns
    statuses: dict[str, list[Status]]
    event_timestamps: dict[str, list[str | None]]
    ages: dict[str, list[float | None]]
    metadata: PredictTypes | msgspec.UnsetType = msgspec.UNSET


class HealthAnswer(msgspec.Struct):
    """The process answers. `clock` is "frozen" in replays; `now` is the platform's time."""

    status: str
    project: str
    clock: Literal["running", "frozen"]
    now: str


class ReadyAnswer(msgspec.Struct):
    """The registry and the online store answer too."""

    status: str
    feature_views: int


class ObjectAnswer(msgspec.Struct):
    """One stored object."""

    kind: str
    name: str
    spec: dict[str, Any]
    revision: int
    created: int


class ObjectsAnswer(msgspec.Struct):
    """All stored objects of a kind, by name."""

    objects: list[ObjectAnswer]


class InferServer(msgspec.Struct, rename={"stook": "version"}):
    """The server, in the words of the Open Inference Protocol."""

    name: str
    stook: str
    extensions: list[str]


class InferLive(msgspec.Struct):
    """The process answers."""

    live: bool


class InferReady(msgspec.Struct):
    """The registry and the online store answer."""

    ready: bool


class InferModelReady(msgspec.Struct):
    """Whether a deployment can answer."""

    name: str
    ready: bool


class TensorShape(msgspec.Struct):
    """An input or output of a model; -1 stands for the number of rows."""

    name: str
    datatype: Datatype
    shape: list[int]


class InferModel(msgspec.Struct):
    """A deployment's model. Inputs without a tensor form (lists, structs, maps) are left out."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorShape]
    outputs: list[TensorShape]


class Tensor(msgspec.Struct):
    """Values in row order, flat or nested as `shape` is: `[rows]` or `[rows, columns]`. `null` is a missing value."""

    name: str
    datatype: Datatype
    shape: Annotated[list[Length], msgspec.Meta(min_length=1, max_length=2)]
    data: list[Any]


class OutputName(msgspec.Struct):
    """An output asked for."""

    name: Literal["predictions"]


class InferRequest(msgspec.Struct):
    """The model's inputs, a tensor each by name, or all in one. Fields not named here are ignored."""

    inputs: Annotated[list[Tensor], msgspec.Meta(min_length=1)]
    id: str | None = None
    outputs: list[OutputName] | None = None


class InferAnswer(msgspec.Struct):
    """One output, `predictions`; `id` where the request had one."""

    model_name: str
    model_version: str
    outputs: list[Tensor]
    id: str | msgspec.UnsetType = msgspec.UNSET


class ErrorDetail(msgspec.Struct):
    """`code` is stable; `message` says what and where, `hint` the mend."""

    code: str
    message: str
    hint: str


class ErrorAnswer(msgspec.Struct):
    """Every answer with a status of 400 or more."""

    error: ErrorDetail
