"""stook: a feature and model platform.

`import stook` defines names and does nothing else: engines, Arrow and NumPy load when first needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from stook._version import __version__
from stook.core import errors
from stook.core.definitions import (
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    Projection,
    PushSource,
    SqlSource,
)
from stook.core.dtypes import (
    Array,
    Bool,
    Bytes,
    Date,
    Decimal,
    Float32,
    Float64,
    Int8,
    Int16,
    Int32,
    Int64,
    Map,
    String,
    Struct,
    Time,
    Timestamp,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Vector,
)
from stook.core.statuses import Status

if TYPE_CHECKING:
    from stook.app import Platform


def open(target: str | Path, clock: object = None, *, token: str = "") -> Platform:  # noqa: A001
    """Opens a project's folder, or a server by its URL (`"http://host:6566"`).

    `clock` freezes a folder's platform at an instant, for replays and tests; a `Clock` of your own is taken as it is,
    and may move. A server's clock is its own. `token` is the server's bearer token. Raises NotAProject,
    InvalidSettings, CorruptStore, EngineUnavailable, and NotSupported for a folder where only the client is installed.
    """
    text = str(target)
    if text.startswith(("http://", "https://")):
        from stook.client import Remote  # start-up time: only remote use needs the client

        if clock is not None:
            raise errors.InvalidArgument("a server's clock is its own", hint="start it with `stook serve --clock ...`")
        return cast("Platform", Remote(text, token=token))  # the same verbs; those it lacks raise NotRemote
    try:
        from stook.app import open_platform  # start-up time: only embedded use needs the platform
    except ModuleNotFoundError as error:
        if error.name != "stook.app":
            raise
        raise errors.NotSupported(
            f"{text!r} is a folder, and stook-client alone only asks servers",
            hint='pip install stook, or give a server\'s address: stook.open("http://host:6566")',
        ) from None

    return open_platform(target, clock)


__all__ = [
    "Array",
    "Bool",
    "Bytes",
    "Date",
    "Decimal",
    "Entity",
    "FeatureService",
    "FeatureView",
    "Field",
    "FileSource",
    "Float32",
    "Float64",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "Map",
    "Projection",
    "PushSource",
    "SqlSource",
    "Status",
    "String",
    "Struct",
    "Time",
    "Timestamp",
    "UInt8",
    "UInt16",
    "UInt32",
    "UInt64",
    "Vector",
    "__version__",
    "errors",
    "open",
]
