"""What pushes and materializations answer.

They are a file of their own because the embedded platform and the remote client must answer with the very same
objects. Ingest and the client build them; users and faces read them. They must never hold a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["load", "upsert"]


@dataclass(frozen=True)
class Acknowledgement:
    """What a push did: rows per view, and the log position that holds them (0 when there was no row)."""

    rows: int
    views: tuple[str, ...]
    position: int


@dataclass(frozen=True)
class Materialized:
    """What a run did to one view: keys written (before the write rule), seconds, and how.

    `rounded_rows` counts rows of the source, among those read, whose times had digits below a microsecond: such times
    are rounded up, so that nothing is known too early.
    """

    view: str
    rows: int
    seconds: float
    mode: Mode
    generation: int | None
    start_us: int | None
    end_us: int
    resumed_rows: int = 0
    rounded_rows: int = 0
