"""Short words to write questions with, so that each reads as data.

It is a file of its own because three pages of questions use it. They import it, nothing else does. It must hold no
question and no store's name.
"""

from __future__ import annotations

from typing import Any

DAY = 86_400
REFUSED = {"raised": True}
YEAR = {"start": "2023-06-01", "end": "2024-12-31"}


def rows(columns: str, *values: tuple[Any, ...]) -> dict[str, Any]:
    """Rows under column names written with spaces between."""
    return {"columns": columns.split(), "rows": [list(row) for row in values]}


def view(data: dict[str, Any], name: str = "stats", **more: Any) -> dict[str, Any]:
    """A view of `driver_id` and `trips`, unless said otherwise."""
    return {"name": name, "keys": {"driver_id": "Int64"}, "features": {"trips": "Int64"}, "rows": data, **more}


def join(labels: dict[str, Any], show: str = "label trips", **more: Any) -> dict[str, Any]:
    """Asks for training rows."""
    return {"do": "join", "labels": labels, "features": ["stats:trips"], "show": show.split(), **more}


def read(*keys: Any, **more: Any) -> dict[str, Any]:
    """Asks for online values of drivers."""
    if "entity_rows" not in more and "entities" not in more:
        more["entity_rows"] = [{"driver_id": key} for key in keys]
    return {"do": "read", "features": ["stats:trips"], **more}


def online(values: list[Any], statuses: str | None = None, name: str = "trips") -> dict[str, Any]:
    """An online answer; statuses only where the question is about them."""
    letters = {"P": "PRESENT", "N": "NULL_VALUE", "F": "NOT_FOUND", "O": "OUTSIDE_MAX_AGE"}
    answer: dict[str, Any] = {"values": values}
    if statuses:
        answer["statuses"] = [letters[letter] for letter in statuses]
    return {name: answer}


def offline(*answer: list[Any]) -> dict[str, Any]:
    """Training rows."""
    return {"rows": list(answer)}


def either(*answers: Any) -> dict[str, Any]:
    """Any of these is a right answer."""
    return {"any": list(answers)}
