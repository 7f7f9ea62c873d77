"""What is pushed or deleted: keys are what they say, or refused before anything is logged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from stook import Int64, PushSource, String
from stook.core.errors import SchemaMismatch
from stook.core.specs import Column, Schema, ViewSpec
from stook.ingest.accept import accept_delete, accept_push

VIEW = ViewSpec("v", "u", ("e",), (Column("id", Int64),), (Schema(1, (Column("x", String),)),), PushSource("p"), None)


@pytest.mark.parametrize(
    "keys",
    [
        [9007199254740993.0],
        np.array([1.0, -(2.0**53)]),
        pd.Series([2**53 + 1, 7.0]),
        pa.array([2.0**24], pa.float32()),
        pa.array([2.0**53]).dictionary_encode(),
    ],
)
def test_a_float_to_which_another_key_may_have_been_rounded_is_refused(keys: Any) -> None:
    with pytest.raises(SchemaMismatch, match="may have been rounded to it") as caught:
        accept_push(VIEW, {"id": keys, "x": ["a"] * len(keys)}, now_us=0)
    assert "integers" in caught.value.hint
    with pytest.raises(SchemaMismatch, match="may have been rounded to it"):
        accept_delete(VIEW, {"id": keys}, now_us=0)


def test_whole_floats_below_are_integers() -> None:
    accepted = accept_push(VIEW, {"id": [2.0**53 - 1, -3.0], "x": ["a", "b"]}, now_us=0)
    assert accepted["id"].to_pylist() == [2**53 - 1, -3]
