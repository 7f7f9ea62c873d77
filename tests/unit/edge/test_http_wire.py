"""Every error class has a status, an exit code and a body, over every door the same."""

from __future__ import annotations

import time

import pytest

from stook.client.transport import remote_error
from stook.core import errors
from stook.core.errors import StookError
from stook.edge import wire


def every_class() -> list[type[StookError]]:
    kinds: list[type[StookError]] = [StookError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return [kind for kind in kinds if kind.__module__ == "stook.core.errors"]


ALLOWED = {400, 401, 404, 408, 409, 413, 422, 429, 500, 503}


@pytest.mark.parametrize("kind", every_class())
def test_each_class_is_answered_with_a_status_of_the_interface(kind: type[StookError]) -> None:
    error = kind("what", hint="mend")
    status = wire.status_of(error)
    assert status in ALLOWED
    assert (status < 500) == isinstance(error, errors.CallerError | errors.Conflict | errors.Busy)
    assert wire.exit_code_of(error) == (2 if isinstance(error, errors.CallerError) else 1)
    assert ("Retry-After" in wire.headers_of(error)) == isinstance(error, errors.TryAgain)


@pytest.mark.parametrize("kind", every_class())
def test_each_class_comes_back_as_itself_on_the_other_side(kind: type[StookError]) -> None:
    detail = wire.body_of(kind("what", hint="mend"))["error"]
    back = remote_error(detail["code"], detail["message"], detail["hint"], "7")
    assert type(back) is kind
    if wire.status_of(back) != 500:
        assert (back.message, back.hint) == ("what", "mend")


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in every_class()]
    assert len(set(codes)) == len(codes)


def test_internals_stay_inside() -> None:
    body = wire.body_of(errors.CorruptStore("/srv/secret/path is damaged", hint="restore it"))
    assert "secret" not in str(body)


def test_retry_after_is_whole_seconds_and_never_zero() -> None:
    assert wire.headers_of(errors.Busy("x", retry_after_s=0.0)) == {"Retry-After": "1"}
    assert wire.headers_of(errors.Busy("x", retry_after_s=1.2)) == {"Retry-After": "2"}


def test_what_a_call_said_is_not_repeated_at_any_length() -> None:
    said = wire.body_of(errors.InvalidArgument("no " + "x" * 1_000_000 + " here", hint="y" * 1_000_000))["error"]
    assert said["message"].startswith("no xx") and said["message"].endswith("xx here")
    assert all(len(text) < 1_100 for text in said.values())


def test_nothing_is_suggested_for_a_name_as_long_as_a_body() -> None:
    started = time.perf_counter()
    for _ in range(3):
        assert errors.did_you_mean("stats" * 1_000_000, ["stats" * 1_000, "trips"]).startswith("there is:")
    many = [f"column_{number}" for number in range(300_000)]
    assert errors.did_you_mean("driver_id", many).startswith("there is:")
    assert time.perf_counter() - started < 3  # comparing took seconds each
