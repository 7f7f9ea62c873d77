"""Errors over the wire: one table from error class to HTTP status, exit code and JSON.

It is a file of its own because every face answers failures, and all must answer them alike. The HTTP server and
the command line call it; values have their own file, `jsonvalues`. It must never let the text of an unforeseen
exception out, nor import anything heavy, since it loads with `stook --help`.
"""

from __future__ import annotations

import math
from typing import Final

from stook.core import errors
from stook.core.errors import CallerError, StookError, TryAgain

EXIT_FAILED: Final = 1
EXIT_WRONG_CALL: Final = 2
INTERNAL: Final = 500
STATUSES: Final[dict[type[StookError], int]] = {
    errors.StookError: INTERNAL,
    errors.Fault: INTERNAL,
    errors.CallerError: 400,
    errors.Unauthorized: 401,
    errors.UnknownFeature: 404,
    errors.UnknownObject: 404,
    errors.IncompatibleChange: 409,
    errors.Conflict: 409,
    errors.FenceLost: 409,
    errors.TooSlow: 408,
    errors.TooLarge: 413,
    errors.InvalidDefinition: 422,
    errors.SchemaMismatch: 422,
    errors.SourceUnreadable: 422,
    errors.PickleRefused: 422,
    errors.NotSupported: 422,
    errors.Busy: 429,
    errors.TryAgain: 503,
}
TEXT_CHARACTERS_MAX: Final = 1_000  # of a message or hint: what it repeats of the call may be as long as a body
HTTP_CODES: Final = {404: "not_found", 405: "method_not_allowed"}


def status_of(error: StookError) -> int:
    """The HTTP status of an error: that of its nearest class in the table.

    >>> status_of(errors.UnknownFeature("no such view")), status_of(errors.DiskFull("no space")), status_of(errors.Fault("?"))
    (404, 503, 500)
    """
    return next(STATUSES[cls] for cls in type(error).__mro__ if cls in STATUSES)


def exit_code_of(error: StookError) -> int:
    """The command line's exit code: 2 when the call was wrong, 1 when it failed.

    >>> exit_code_of(errors.InvalidArgument("end before start")), exit_code_of(errors.Busy("folding"))
    (2, 1)
    """
    return EXIT_WRONG_CALL if isinstance(error, CallerError) else EXIT_FAILED


def headers_of(error: StookError) -> dict[str, str]:
    """The HTTP headers that go with an error: Retry-After in whole seconds, or how to authenticate.

    >>> headers_of(errors.Busy("held", retry_after_s=0.2))
    {'Retry-After': '1'}
    """
    if isinstance(error, TryAgain):
        return {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
    if isinstance(error, errors.Unauthorized):
        return {"WWW-Authenticate": "Bearer"}
    return {}


def error_json(code: str, message: str, hint: str = "") -> dict[str, dict[str, str]]:
    """The body of every answer that is an error.

    >>> error_json("not_found", "there is no /x")
    {'error': {'code': 'not_found', 'message': 'there is no /x', 'hint': ''}}
    """
    return {"error": {"code": code, "message": _shortened(message), "hint": _shortened(hint)}}


def _shortened(text: str) -> str:
    if len(text) <= TEXT_CHARACTERS_MAX:
        return text
    half = TEXT_CHARACTERS_MAX // 2
    return f"{text[:half]} ... {text[-half:]}"


def body_of(error: StookError) -> dict[str, dict[str, str]]:
    """An error as JSON. What is not the caller's doing keeps its details out of it: they go to the server's log.

    >>> body_of(errors.Busy("lock 'fold' is held", hint="wait"))["error"]["code"]
    'busy'
    """
    if status_of(error) == INTERNAL:
        return error_json(error.code, "the server failed", "the server's log says more; report it")
    return error_json(error.code, error.message, error.hint)
