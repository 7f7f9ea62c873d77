"""Open Inference Protocol v2: what its text says, and what it leaves open."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stook.core import dtypes
from stook.core.errors import InvalidArgument, NotSupported, SchemaMismatch, TooLarge
from stook.core.specs import Column
from stook.models.openinference import infer_response, model_metadata, parse_infer
from stook.models.packaging import Artefact, Package
from stook.models.releases import Release

ARTEFACT = Artefact("runs/delay-1/ab", "ab", 2, Package("lightgbm-text", b""))
SPEED, TRIPS = Column("speed", dtypes.Float64), Column("trips", dtypes.Int64)


def made(*inputs: Column, output: dtypes.DType = dtypes.Float64) -> Release:
    return Release(
        "delay-3", "delay", "delay-1", ARTEFACT, inputs or (SPEED, TRIPS), "predict", output, None, "late", 0
    )


def tensor(name: str, data: Any, datatype: str = "FP64", shape: list[Any] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(data)] if shape is None else shape, "data": data}


def body(*tensors: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"inputs": list(tensors), **more}


def test_metadata_names_every_input_and_the_output() -> None:
    """MLServer answers none for scikit-learn's iris."""
    vector = Column("embedding", dtypes.Vector(dtypes.Float32, 4))
    held = made(SPEED, TRIPS, Column("city", dtypes.String), vector, Column("tags", dtypes.Array(dtypes.String)))
    assert model_metadata("live", held) == {
        "name": "live",
        "versions": ["delay-3"],
        "platform": "stook_lightgbm_text",
        "inputs": [
            {"name": "speed", "datatype": "FP64", "shape": [-1]},
            {"name": "trips", "datatype": "INT64", "shape": [-1]},
            {"name": "city", "datatype": "BYTES", "shape": [-1]},
            {"name": "embedding", "datatype": "FP32", "shape": [-1, 4]},
        ],
        "outputs": [{"name": "predictions", "datatype": "FP64", "shape": [-1]}],
    }


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_one_tensor_an_input_in_any_order(shape: list[int]) -> None:
    parsed = parse_infer(
        made(), body(tensor("trips", [1, 2], "INT64", shape), tensor("speed", [0.5, None], "FP64", shape), id="q7")
    )
    assert parsed.table.to_pydict() == {"speed": [0.5, None], "trips": [1, 2]}
    assert parsed.table.schema.types == [pa.float64(), pa.int64()]
    assert parsed.id == "q7"


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]]])
def test_one_tensor_for_all_inputs(data: Any) -> None:
    parsed = parse_infer(made(), body(tensor("input-0", data, "FP64", [2, 2])))
    assert parsed.table.to_pydict() == {"speed": [1.0, 3.0], "trips": [2, 4]}
    assert parsed.id is None


def test_a_two_wide_tensor_of_a_models_own_name_is_not_all_inputs() -> None:
    with pytest.raises(InvalidArgument, match=r"tensor 'speed' has shape \[2, 2\]"):
        parse_infer(made(), body(tensor("speed", [1, 2, 3, 4], shape=[2, 2])))


@pytest.mark.parametrize(
    ("datatype", "dtype", "values"),
    [
        ("BOOL", dtypes.Bool, [True, False]),
        ("INT8", dtypes.Int8, [-128, 127]),
        ("INT64", dtypes.Int64, [-(2**63), 2**63 - 1]),
        ("UINT64", dtypes.UInt64, [0, 2**64 - 1]),
        ("INT32", dtypes.Float64, [1, 2]),
        ("FP64", dtypes.Int64, [1.0, 2.0]),
        ("FP32", dtypes.Float64, [0.5, 2]),
        ("BYTES", dtypes.String, ["oslo", "Zürich"]),
        ("BYTES", dtypes.Decimal(5, 2), ["1.50", "2.00"]),
    ],
)
def test_every_datatype(datatype: str, dtype: dtypes.DType, values: list[Any]) -> None:
    parsed = parse_infer(made(Column("x", dtype)), body(tensor("x", values, datatype)))
    assert [str(v) if isinstance(dtype, dtypes.Decimal) else v for v in parsed.table["x"].to_pylist()] == values


def test_text_forms_of_what_json_lacks() -> None:
    inputs = [
        Column("f", dtypes.Float64),
        Column("b", dtypes.Bytes),
        Column("t", dtypes.Timestamp),
        Column("d", dtypes.Date),
        Column("w", dtypes.Time),
    ]
    table = parse_infer(
        made(*inputs),
        body(
            tensor("f", ["-Infinity", None]),
            tensor("b", ["AAE=", None], "BYTES"),
            tensor("t", ["2013-10-15T12:00:00Z", None], "BYTES"),
            tensor("d", ["2013-10-15", None], "BYTES"),
            tensor("w", ["12:30:00.000001", None], "BYTES"),
        ),
    ).table
    assert table["f"].to_pylist() == [-math.inf, None]
    assert table["b"].to_pylist() == [b"\x00\x01", None]
    assert [str(v) for v in table["t"].to_pylist()] == ["2013-10-15 12:00:00+00:00", "None"]
    assert [str(v) for v in table["d"].to_pylist()] == ["2013-10-15", "None"]
    assert [str(v) for v in table["w"].to_pylist()] == ["12:30:00.000001", "None"]
    single = parse_infer(made(SPEED), body(tensor("speed", ["-Infinity", 0.5, None], "FP32"))).table["speed"]
    assert single.to_pylist() == [-math.inf, 0.5, None]
    assert math.isnan(parse_infer(made(SPEED), body(tensor("speed", ["NaN"]))).table["speed"][0].as_py())


def test_vectors_are_wide_tensors() -> None:
    held = made(Column("v", dtypes.Vector(dtypes.Float32, 2)), TRIPS)
    parsed = parse_infer(held, body(tensor("v", [1, 2, 3, 4], "FP32", [2, 2]), tensor("trips", [1, 2], "INT64")))
    assert parsed.table["v"].to_pylist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]])
def test_one_tensor_for_all_inputs_is_split_by_their_widths(data: Any) -> None:
    v = Column("v", dtypes.Vector(dtypes.Float64, 2))
    for inputs, expected in (
        ((v, TRIPS), {"v": [[1, 2], [4, 5]], "trips": [3, 6]}),
        ((TRIPS, v), {"trips": [1, 4], "v": [[2, 3], [5, 6]]}),
    ):
        parsed = parse_infer(made(*inputs), body(tensor("all", data, "FP64", [2, 3])))
        assert parsed.table.to_pydict() == expected
    with pytest.raises(InvalidArgument, match=r"no input 'all'.*or one of shape \[rows, 3\] for all"):
        parse_infer(made(v, TRIPS), body(tensor("all", [1, 2], "FP64", [1, 2])))


@pytest.mark.parametrize(
    ("request_body", "message"),
    [
        ([], "needs a list of tensors"),
        ({}, "needs a list of tensors"),
        ({"inputs": []}, "needs a list of tensors"),
        ({"inputs": [3]}, r"inputs\[0\] has no name"),
        (body(tensor("speed", [1]), id=3), "id is 3"),
        (body({"name": "speed", "shape": [1], "data": [1]}), "datatype None.*BOOL"),
        (body(tensor("speed", [1], "FP16")), "datatype 'FP16'"),
        (body(tensor("speed", [1], [])), r"datatype \[\]"),
        (body(tensor("speed", [1], shape=[-1])), r"shape \[-1\]"),
        (body(tensor("speed", [1], shape=[True])), r"shape \[True\]"),
        (body(tensor("speed", [1], shape=[1, 1, 1])), r"shape \[1, 1, 1\]"),
        (body({"name": "speed", "datatype": "FP64", "shape": [1]}), "no list of data"),
        (body(tensor("speed", [1, 2], shape=[3])), r"2 values, but shape \[3\].*3 are needed"),
        (body(tensor("x", [[1, 2], [3]], shape=[2, 2])), "nested data"),
        (body(tensor("speed", [1]), tensor("sped", [1])), "no input 'sped'.*did you mean 'speed'"),
        (body(tensor("speed", [1]), tensor("speed", [1])), "'speed' is sent twice"),
        (body(tensor("speed", [1])), "needs tensor 'trips'"),
        (body(tensor("speed", [1]), tensor("trips", [1, 2], "INT64")), "different numbers of rows"),
        (body(tensor("speed", [1]), outputs=[{"name": "x"}]), "no output 'x'"),
        (body(tensor("speed", [1]), outputs="x"), "no output None"),
    ],
)
def test_wrong_requests_are_refused(request_body: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        parse_infer(made(), request_body)


@pytest.mark.parametrize(
    ("datatype", "dtype", "value"),
    [
        ("FP64", dtypes.Float64, "1.5"),
        ("FP64", dtypes.Float64, True),
        ("FP64", dtypes.Float64, [1]),
        ("FP64", dtypes.Int64, 1.5),
        ("FP32", dtypes.Float32, 1e300),
        ("FP32", dtypes.Float64, -1e300),
        ("INT64", dtypes.Int64, 1.0),
        ("INT64", dtypes.Int64, "1"),
        ("INT64", dtypes.Int64, True),
        ("INT64", dtypes.Int64, 2**63),
        ("INT8", dtypes.Int8, 128),
        ("UINT8", dtypes.UInt8, -1),
        ("INT64", dtypes.Int8, 128),
        ("INT64", dtypes.Float64, 2**53 + 1),
        ("BOOL", dtypes.Bool, 1),
        ("BYTES", dtypes.String, 1),
        ("BYTES", dtypes.Int64, "1"),
        ("BYTES", dtypes.Bytes, "!"),
        ("BYTES", dtypes.Date, "yesterday"),
        ("BYTES", dtypes.Time, "noon"),
        ("BYTES", dtypes.Time, "12:00:00Z"),
        ("BYTES", dtypes.Timestamp, "soon"),
        ("BYTES", dtypes.Decimal(5, 2), "1.555"),
        ("BYTES", dtypes.Decimal(5, 2), "NaN"),
    ],
)
def test_data_not_of_its_type_is_refused(datatype: str, dtype: dtypes.DType, value: Any) -> None:
    with pytest.raises(SchemaMismatch, match="tensor 'x'"):
        parse_infer(made(Column("x", dtype)), body(tensor("x", [value], datatype)))


def test_limits_and_inputs_without_a_tensor_form() -> None:
    with pytest.raises(TooLarge, match=r"has 9 rows.*at most 8"):
        parse_infer(made(SPEED), body(tensor("speed", [1], shape=[9])), rows_max=8)
    tags = Column("tags", dtypes.Array(dtypes.String))
    with pytest.raises(NotSupported, match=r"input 'tags' is array<string>.*/predict"):
        parse_infer(made(tags), body(tensor("tags", ["a"], "BYTES")))


def test_the_response_echoes_the_id_and_names_the_release() -> None:
    assert infer_response("live", made(), pa.array([0.5, math.nan, math.inf, None]), "q7") == {
        "model_name": "live",
        "model_version": "delay-3",
        "id": "q7",
        "outputs": [{"name": "predictions", "shape": [4], "datatype": "FP64", "data": [0.5, "NaN", "Infinity", None]}],
    }
    assert "id" not in infer_response("live", made(), pa.array([0.5]))


def test_responses_of_other_types() -> None:
    held = made(output=dtypes.Vector(dtypes.Float64, 2))
    two = pa.array([[0.25, 0.75], [1.0, 0.0]], pa.list_(pa.float64(), 2))
    found = infer_response("live", held, two)["outputs"][0]
    assert (found["shape"], found["data"]) == ([2, 2], [0.25, 0.75, 1.0, 0.0])
    sliced = pa.array([[9, 9], [0.5, 0.5], None, [1.0, math.nan]], pa.list_(pa.float64(), 2)).slice(1)
    found = infer_response("live", held, sliced)["outputs"][0]
    assert (found["shape"], found["data"]) == ([3, 2], [0.5, 0.5, None, None, 1.0, "NaN"])
    label = infer_response("live", made(output=dtypes.String), pa.array(["late"]))["outputs"][0]
    assert (label["datatype"], label["data"]) == ("BYTES", ["late"])
    with pytest.raises(NotSupported, match="no tensor holds"):
        infer_response("live", made(output=dtypes.Array(dtypes.Int64)), pa.array([[1]]))


@given(st.lists(st.tuples(st.floats(allow_nan=False) | st.none(), st.integers(-(2**63), 2**63 - 1)), min_size=1))
def test_values_survive_the_wire(rows: list[tuple[float | None, int]]) -> None:
    words = {math.inf: "Infinity", -math.inf: "-Infinity"}
    speeds = [words.get(speed, speed) if speed is not None else None for speed, _ in rows]
    sent = json.dumps(body(tensor("speed", speeds), tensor("trips", [trips for _, trips in rows], "INT64")))
    parsed = parse_infer(made(), json.loads(sent))
    assert list(zip(*parsed.table.to_pydict().values(), strict=True)) == rows
    echoed = infer_response(
        "live", replace(made(), output_dtype=dtypes.Float64), parsed.table["speed"].combine_chunks()
    )
    assert echoed["outputs"][0]["data"] == speeds
