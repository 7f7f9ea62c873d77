"""Where a model comes from besides its data: the code of `fit` and the libraries it ran under.

It is a file of its own because it is the one place that looks at Python itself. Training calls it once a run.
It must never fail a training: what cannot be told is left out.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import platform
from types import CodeType
from typing import TYPE_CHECKING, Any, Final

from stook._version import __version__ as stook_number
from stook.models.packaging import installed

if TYPE_CHECKING:
    from stook.core.specs import JsonObject

LIBRARIES: Final = ("numpy", "pyarrow", "pandas", "polars", "scikit-learn", "lightgbm", "skops", "cloudpickle")
DIGEST_BYTES: Final = 16


def describe_environment() -> dict[str, str]:
    """The numbers of Python, stook and the libraries that a model's result depends on, where installed."""
    numbers = {library: number for library in LIBRARIES if (number := installed(library)) is not None}
    return {"python": platform.python_version(), "stook": stook_number, **numbers}


def describe_code(fit: Any) -> JsonObject:
    """`name` (module:function), `digest` (BLAKE2b-128, hexadecimal) and what it is `of`: source text, or bytecode
    where there is no source. Only the function itself is digested, not what it calls.

    >>> sorted(describe_code(describe_environment))
    ['digest', 'name', 'of']
    """
    function = unwrap(fit)
    name = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', type(fit).__qualname__)}"
    try:
        return {"name": name, "of": "source", "digest": _digest(inspect.getsource(function).encode())}
    except (OSError, TypeError):  # built at run time, or not in Python
        code = getattr(function, "__code__", None)
    if code is None:
        return {"name": name, "of": "nothing", "digest": ""}
    return {"name": name, "of": "bytecode", "digest": _digest(_code_bytes(code))}


def script_of(fit: Any) -> str | None:
    """The module that `fit` stands in."""
    return getattr(unwrap(fit), "__module__", None)


def unwrap(fit: Any) -> Any:
    """The function, or class, behind partials, decorators and callable objects."""
    while isinstance(fit, functools.partial):
        fit = fit.func
    fit = inspect.unwrap(fit)
    return fit if inspect.isroutine(fit) or inspect.isclass(fit) else type(fit)


def _code_bytes(code: CodeType) -> bytes:
    constants = [_code_bytes(c) if isinstance(c, CodeType) else repr(c).encode() for c in code.co_consts]
    return b"\0".join([code.co_code, *(name.encode() for name in code.co_names), *constants])


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).hexdigest()
