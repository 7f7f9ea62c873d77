"""A view's whole past, pinned: batch source, folded pushes, and the log's tail.

It is a file of its own because point-in-time joins and materialization must see the very same history. The app
and `materialize` call it. It must never decide which rows count.
"""

from __future__ import annotations

from dataclasses import dataclass

from stook.core.definitions import FileSource, PushSource, SqlSource
from stook.core.plans import History, SourceSnapshot
from stook.core.ports.engine import Engine
from stook.core.specs import ViewSpec
from stook.ingest.pushes import Pushes


@dataclass(frozen=True)
class PinnedHistory:
    """A history and the log position through which its pushes reach."""

    history: History
    push_position: int


def batch_source(view: ViewSpec) -> FileSource | SqlSource | None:
    """The source that holds the view's past from before pushes; None where only pushes feed it."""
    return view.source.batch_source if isinstance(view.source, PushSource) else view.source


def pin_history(
    view: ViewSpec, engine: Engine, pushes: Pushes, *, previous: SourceSnapshot | None = None, digests: bool = False
) -> PinnedHistory:
    """The view's history as it is now; `previous` numbers the source's files (see `SourceFile.ordinal`).

    Raises SourceUnreadable, EngineUnavailable, CorruptStore.
    """
    source = batch_source(view)
    pushed, tail, position = pushes.history_of(view)
    snapshot = None if source is None else engine.pin(source, previous=previous, digests=digests)
    return PinnedHistory(History(view, snapshot, pushed, tail), position)
