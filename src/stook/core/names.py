"""Names of objects and references to features.

It is a file of its own because definitions, the registry and every face must agree what a name may look like.
Definitions check names here; resolution parses references here. It must never look a name up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from stook.core.errors import InvalidArgument, InvalidDefinition

NAME_LENGTH_MAX: Final = 128
COLUMN_LENGTH_MAX: Final = 256
RESERVED_PREFIX: Final = "__"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*\Z")


class Reference(NamedTuple):
    """`view:feature`."""

    view: str
    feature: str


def check_name(kind: str, name: object) -> str:
    """`name` itself, when an object of `kind` may bear it.

    Letters, digits, `_`, `.` and `-`, starting with a letter, at most 128 characters, no double underscore
    (which joins view and feature in full column names). Raises InvalidDefinition.

    >>> check_name("feature view", "driver_stats")
    'driver_stats'
    """
    if not isinstance(name, str) or not _NAME.match(name) or len(name) > NAME_LENGTH_MAX or "__" in name:
        raise InvalidDefinition(
            f"{kind} name {name!r} is not possible",
            hint=f"start with a letter; then letters, digits, single '_', '.', '-'; at most {NAME_LENGTH_MAX}",
        )
    return name


def check_column(kind: str, name: object) -> str:
    """`name` itself, when a column (feature, join key, timestamp) may bear it.

    Any text but the empty one, up to 256 characters, without control characters, and not starting with two
    underscores, which stook keeps for its own columns. Raises InvalidDefinition.
    """
    checked = check_field(kind, name)
    if checked.startswith(RESERVED_PREFIX):
        raise InvalidDefinition(
            f"{kind} name {name!r} is reserved", hint="rename it so that it does not start with '__'"
        )
    return checked


def check_field(kind: str, name: object) -> str:
    """`name` itself, when a struct's field may bear it: as `check_column`, and nothing is reserved."""
    if not isinstance(name, str) or not name or len(name) > COLUMN_LENGTH_MAX or any(ord(c) < 32 for c in name):
        raise InvalidDefinition(
            f"{kind} name {name!r} is not possible", hint=f"1 to {COLUMN_LENGTH_MAX} printable characters"
        )
    return name


def check_case(where: str, names: Iterable[str]) -> None:
    """Raises InvalidDefinition where two names differ by case alone: DuckDB and Delta cannot tell such columns and
    fields apart.

    >>> check_case("feature view 'v'", ["a", "b"])
    """
    folded: dict[str, str] = {}
    for name in names:
        twin = folded.setdefault(name.casefold(), name)
        if twin != name:
            raise InvalidDefinition(f"{where}: {twin!r} and {name!r} differ by case alone", hint="rename one")


def parse_reference(text: object) -> Reference:
    """Splits `view:feature` at its first colon (view names hold none, feature names may).

    Raises InvalidArgument when there is no colon or a side is empty.

    >>> parse_reference("driver_stats:conv_rate")
    Reference(view='driver_stats', feature='conv_rate')
    """
    view, colon, feature = text.partition(":") if isinstance(text, str) else ("", "", "")
    if not colon or not view or not feature:
        raise InvalidArgument(f"{text!r} is not a feature reference", hint="write it as view:feature")
    return Reference(view, feature)


def full_name(view: str, feature: str) -> str:
    """`view__feature`, the full column name."""
    return f"{view}__{feature}"
