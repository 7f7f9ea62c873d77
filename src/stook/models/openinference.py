"""The Open Inference Protocol, version 2, as pure functions from JSON to tables and back.

It is a file of its own because the protocol's words (tensors, datatypes, shapes) occur nowhere else. The HTTP
face calls it through the app; it does no I/O. It must never guess: a tensor that does not say what its data is
gets refused. Source: https://github.com/kserve/open-inference-protocol.

Tensors are named after the release's inputs, shape [rows] or [rows, 1] (vectors: [rows, length]); or one tensor
of shape [rows, inputs] holds all inputs, in the order of the metadata (a vector takes as many places as it is long). Beyond the protocol, `null` stands for a
missing value, and "NaN", "Infinity" and "-Infinity" for the floats that JSON lacks. Bytes are base64, times
RFC 3339 text, and dates, times of day and decimals text, as over every other door.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stook.core import dtypes
from stook.core.arrow import conform, to_arrow
from stook.core.dtypes import DType, Vector
from stook.core.errors import InvalidArgument, NotSupported, SchemaMismatch, TooLarge, did_you_mean, first_line
from stook.core.jsoncolumns import column_from_json
from stook.core.pythonic import column_of
from stook.core.specs import Column

if TYPE_CHECKING:
    from stook.core.specs import JsonObject
    from stook.models.releases import Release

OUTPUT_NAME: Final = "predictions"
ROWS_MAX: Final = 1_000_000
_ARROW: Final[dict[str, pa.DataType]] = {
    "BOOL": pa.bool_(), "INT8": pa.int8(), "INT16": pa.int16(), "INT32": pa.int32(), "INT64": pa.int64(),
    "UINT8": pa.uint8(), "UINT16": pa.uint16(), "UINT32": pa.uint32(), "UINT64": pa.uint64(),
    "FP32": pa.float32(), "FP64": pa.float64(), "BYTES": pa.string(),
}  # fmt: skip
_DATATYPES: Final = {str(t): name for name, t in zip(_ARROW, (
    dtypes.Bool, dtypes.Int8, dtypes.Int16, dtypes.Int32, dtypes.Int64,
    dtypes.UInt8, dtypes.UInt16, dtypes.UInt32, dtypes.UInt64, dtypes.Float32, dtypes.Float64, dtypes.String,
), strict=True)}  # fmt: skip
_TEXT: Final = (dtypes.String, dtypes.Bytes, dtypes.Date, dtypes.Time, dtypes.Timestamp)
_WORDS: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True)
class InferRequest:
    """A parsed request: the model's inputs as a table in the signature's order and types, and the id to echo."""

    table: pa.Table
    id: str | None


def model_metadata(name: str, release: Release) -> JsonObject:
    """The body of `GET /v2/models/{name}`; `versions` holds the release's id. Inputs without a tensor form
    (lists, structs, maps) are left out: ask `/predict` for such a model."""
    return {
        "name": name,
        "versions": [release.id],
        "platform": "stook_" + release.artefact.package.format.replace("-", "_"),
        "inputs": [_tensor(c.name, c.dtype) for c in release.inputs if _datatype(c.dtype) is not None],
        "outputs": [_tensor(OUTPUT_NAME, release.output_dtype)],
    }


def parse_infer(release: Release, body: object, *, rows_max: int = ROWS_MAX) -> InferRequest:
    """The request's tensors as the release's inputs, all of them, matched by name.

    Raises InvalidArgument for a body, tensor, shape or name that is wrong, SchemaMismatch for data that is not of its
    datatype or not exactly of the input's type, TooLarge beyond `rows_max`, NotSupported for inputs without a
    tensor form.
    """
    if not isinstance(body, Mapping) or not isinstance(body.get("inputs"), list) or not body["inputs"]:
        raise InvalidArgument("an infer request needs a list of tensors", hint='{"inputs": [{"name": ...}]}')
    request_id = body.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise InvalidArgument(f"id is {request_id!r}, not text", hint="send text, or leave it out")
    _check_outputs(body.get("outputs"))
    tensors = [_parse_tensor(tensor, i, rows_max) for i, tensor in enumerate(body["inputs"])]
    columns = _split(tensors[0], release.inputs) if _holds_all(tensors, release.inputs) else _by_name(tensors, release)
    for column in release.inputs:
        if _datatype(column.dtype) is None:
            raise NotSupported(
                f"input {column.name!r} is {column.dtype}, which no tensor holds", hint="ask /predict instead"
            )
    rows = {name: tensor.shape[0] for name, tensor in columns.items()}
    if len(set(rows.values())) != 1:
        raise InvalidArgument(
            f"the tensors have different numbers of rows: {rows}", hint="send one value a row in each"
        )
    arrays = [_column(columns[column.name], column) for column in release.inputs]
    return InferRequest(pa.table(arrays, names=[c.name for c in release.inputs]), request_id)


def infer_response(name: str, release: Release, predictions: pa.Array, request_id: str | None = None) -> JsonObject:
    """The body that answers an infer request: one output, `predictions`, flat in row order.

    `predictions` is what the model answered; a float that JSON lacks is its word. Raises NotSupported for
    predictions without a tensor form.
    """
    dtype, shape, flat = release.output_dtype, [len(predictions)], predictions
    if isinstance(dtype, Vector):
        shape, flat = [len(predictions), dtype.length], _flat(predictions, dtype.length)
    datatype = _datatype(dtype)
    if datatype is None:
        raise NotSupported(f"predictions are {dtype}, which no tensor holds", hint="ask /predict instead")
    tensor = {"name": OUTPUT_NAME, "shape": shape, "datatype": datatype, "data": _json_data(flat)}
    answer: JsonObject = {"model_name": name, "model_version": release.id, "outputs": [tensor]}
    return answer if request_id is None else {**answer, "id": request_id}


def _flat(vectors: pa.Array, length: int) -> pa.Array:
    """The elements of all rows; a null row is as many nulls, or the rows behind it would be read in its place."""
    flat = vectors.flatten()  # without null rows
    if not vectors.null_count:
        return flat
    present = np.repeat(np.asarray(vectors.is_valid()), length)
    return flat.take(pa.array(np.cumsum(present) - 1, mask=~present))


def _datatype(dtype: DType) -> str | None:
    if isinstance(dtype, Vector):
        return _DATATYPES[str(dtype.element)]
    if dtype in _TEXT or isinstance(dtype, dtypes.Decimal):
        return "BYTES"
    return _DATATYPES.get(str(dtype))


def _tensor(name: str, dtype: DType) -> JsonObject:
    shape = [-1, dtype.length] if isinstance(dtype, Vector) else [-1]
    return {"name": name, "datatype": _datatype(dtype) or "BYTES", "shape": shape}


@dataclass(frozen=True)
class _Tensor:
    """A checked tensor: `data` is flat, in row order, and holds as many values as the shape says."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Sequence[Any]


def _parse_tensor(tensor: object, index: int, rows_max: int) -> _Tensor:
    if not isinstance(tensor, Mapping) or not isinstance(tensor.get("name"), str):
        raise InvalidArgument(f"inputs[{index}] has no name", hint="name it after an input of the model")
    name, datatype, shape, data = (tensor.get(key) for key in ("name", "datatype", "shape", "data"))
    if not isinstance(datatype, str) or datatype not in _ARROW:
        raise InvalidArgument(f"tensor {name!r} has datatype {datatype!r}", hint=f"one of {', '.join(_ARROW)}")
    if not isinstance(shape, list) or len(shape) not in (1, 2) or not all(type(n) is int and n >= 0 for n in shape):
        raise InvalidArgument(f"tensor {name!r} has shape {shape!r}", hint="[rows], or [rows, columns]")
    if shape[0] > rows_max:
        raise TooLarge(f"tensor {name!r} has {shape[0]} rows", hint=f"send at most {rows_max} at once")
    if not isinstance(data, list):
        raise InvalidArgument(f"tensor {name!r} has no list of data", hint="binary data is not supported: send JSON")
    flat = _flatten(data, shape, str(name))
    if len(flat) != math.prod(shape):
        raise InvalidArgument(
            f"tensor {name!r} has {len(flat)} values, but shape {shape}", hint=f"{math.prod(shape)} are needed"
        )
    return _Tensor(str(name), str(datatype), tuple(shape), flat)


def _flatten(data: list[Any], shape: list[int], name: str) -> list[Any]:
    """Data is sent flat, or nested as the shape is."""
    if len(shape) == 1 or not any(isinstance(row, list) for row in data):
        return data
    if not all(isinstance(row, list) and len(row) == shape[1] for row in data):
        raise InvalidArgument(f"tensor {name!r}: nested data does not have shape {shape}", hint="send it flat")
    return [value for row in data for value in row]


def _check_outputs(outputs: object) -> None:
    if outputs is None:
        return
    names = (
        [o.get("name") if isinstance(o, Mapping) else None for o in outputs] if isinstance(outputs, list) else [None]
    )
    for name in names:
        if name != OUTPUT_NAME:
            raise InvalidArgument(f"the model has no output {name!r}", hint=f"it has {OUTPUT_NAME!r}")


def _width(dtype: DType) -> int:
    return dtype.length if isinstance(dtype, Vector) else 1


def _holds_all(tensors: list[_Tensor], inputs: tuple[Column, ...]) -> bool:
    only = tensors[0]
    named = any(column.name == only.name for column in inputs)
    return len(tensors) == 1 and not named and len(only.shape) == 2 and only.shape[1] == _total(inputs)


def _total(inputs: tuple[Column, ...]) -> int:
    return sum(_width(column.dtype) for column in inputs)


def _split(tensor: _Tensor, inputs: tuple[Column, ...]) -> dict[str, _Tensor]:
    rows, total = tensor.shape
    found, at = {}, 0
    for column in inputs:
        width = _width(column.dtype)
        if width == 1:
            data = tensor.data[at::total]
        else:
            data = [cell for start in range(at, rows * total, total) for cell in tensor.data[start : start + width]]
        found[column.name] = _Tensor(column.name, tensor.datatype, (rows, width), data)
        at += width
    return found


def _by_name(tensors: list[_Tensor], release: Release) -> dict[str, _Tensor]:
    inputs = {column.name: column for column in release.inputs}
    found: dict[str, _Tensor] = {}
    for tensor in tensors:
        column = inputs.get(tensor.name)
        if column is None:
            whole = len(tensors) == 1 and len(tensor.shape) == 2
            raise InvalidArgument(
                f"release {release.id!r} has no input {tensor.name!r}, here of shape {list(tensor.shape)}",
                hint=f"send one tensor an input, or one of shape [rows, {_total(release.inputs)}] for all"
                if whole
                else did_you_mean(tensor.name, inputs),
            )
        if tensor.name in found:
            raise InvalidArgument(f"tensor {tensor.name!r} is sent twice", hint="send it once")
        width = _width(column.dtype)
        if math.prod(tensor.shape[1:]) != width:
            raise InvalidArgument(
                f"tensor {tensor.name!r} has shape {list(tensor.shape)}",
                hint=f"send [rows, {width}]" if width > 1 else "send [rows]",
            )
        found[tensor.name] = tensor
    missing = [name for name in inputs if name not in found]
    if missing:
        raise InvalidArgument(
            f"release {release.id!r} needs tensor{'s' * (len(missing) > 1)} {', '.join(map(repr, missing))}",
            hint="send every input of the model's metadata, or ask /predict to look features up",
        )
    return found


def _column(tensor: _Tensor, column: Column) -> pa.ChunkedArray:
    what = f"tensor {tensor.name!r}"
    data: Sequence[Any] = tensor.data
    try:
        if tensor.datatype in ("FP32", "FP64"):
            data = [_WORDS.get(value, value) if isinstance(value, str) else value for value in data]
            if any(isinstance(value, bool | str) for value in data):
                raise TypeError("not all are numbers")
        elif tensor.datatype != "BYTES" and any(isinstance(value, float) for value in data):
            raise TypeError("not all are whole numbers")
        array = pa.array(data, _ARROW[tensor.datatype])
        if tensor.datatype == "FP32" and _infinities(array) > sum(value in (math.inf, -math.inf) for value in data):
            raise TypeError("a number is beyond it")
        if tensor.datatype == "BYTES":
            array = _of_text(array, column.dtype, what)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise SchemaMismatch(
            f"{what} is not all {tensor.datatype}: {first_line(error)}", hint=f"input {column.name!r} is {column.dtype}"
        ) from None
    if isinstance(column.dtype, Vector):
        flat = conform(array, column.dtype.element, what).combine_chunks()
        array = pa.FixedSizeListArray.from_arrays(flat, column.dtype.length)
    return conform(array, column.dtype, what)


def _infinities(array: pa.Array) -> int:
    return pc.sum(pc.is_inf(array)).as_py() or 0


def _of_text(text: pa.Array, dtype: DType, what: str) -> pa.Array:
    if dtype == dtypes.String or not (dtype in _TEXT or isinstance(dtype, dtypes.Decimal)):
        return text
    return column_of(column_from_json(text.to_pylist(), dtype, what), dtype, to_arrow(dtype))


def _json_data(flat: pa.Array) -> list[Any]:
    kind = flat.type
    if pa.types.is_floating(kind):
        if pc.all(pc.is_finite(flat), min_count=0).as_py() in (True, None) and not flat.null_count:
            return flat.to_pylist()
        words = {math.inf: "Infinity", -math.inf: "-Infinity"}
        return ["NaN" if v is not None and v != v else words.get(v, v) for v in flat.to_pylist()]  # noqa: PLR0124 - NaN alone differs from itself
    if pa.types.is_binary(kind):
        return [None if v is None else base64.b64encode(v).decode() for v in flat.to_pylist()]
    if pa.types.is_timestamp(kind):
        return [None if v is None else v.isoformat().replace("+00:00", "Z") for v in flat.to_pylist()]
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_string(kind):
        return flat.to_pylist()
    return flat.cast(pa.string()).to_pylist()
