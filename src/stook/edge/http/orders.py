"""What the server tells a worker, and what a worker says back: one line of JSON each.

They are a file of their own because both sides load before any engine does, and neither may import the other.
`server` and `worker` speak them. They must never hold what is not plain data.
"""

from __future__ import annotations

import msgspec


class WorkerOrder(msgspec.Struct):
    """What a worker is told. `upkeep`: it also folds pushes into history; one worker does."""

    folder: str
    host: str
    port: int
    token: str = ""
    clock: str | None = None
    upkeep: bool = False


class WorkerReport(msgspec.Struct):
    """What a worker says: it answers, or an error's code, message and hint."""

    ready: bool
    code: str = ""
    message: str = ""
    hint: str = ""
