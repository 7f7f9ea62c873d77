"""Verbs that move data: materialize, push, delete rows, generations, parity.

They are a file of their own so that each family of verbs fits in the head. `Platform` inherits them. They must
only translate arguments and call ingest and the online store.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from stook.app.parts import Parts
from stook.core.errors import InvalidArgument, UnknownObject
from stook.core.instants import to_us
from stook.core.outcomes import Acknowledgement, Materialized
from stook.core.ports.keyvalue import Generation, GenerationState
from stook.core.specs import ViewSpec
from stook.ingest.entries import parse_target
from stook.ingest.materialize import Progress
from stook.online.write import space

Instant = datetime | str | int


def silent(view: str, rows: int, total: int) -> None:
    """A progress listener that does nothing."""


class Moving:
    """Moves rows from sources and clients to history and online."""

    _parts: Parts

    def materialize(
        self,
        start: Instant | None,
        end: Instant,
        views: Sequence[str] | None = None,
        *,
        replace: bool = False,
        progress: Progress = silent,
    ) -> list[Materialized]:
        """Brings online, for each entity, the newest row with `start <= event time <= end`; an end after now means now.

        Upserts under the write rule, so repeating it is harmless; where a view has nothing loaded yet, or with
        `replace`, a new generation is loaded and switched to in one step. `start=None`: from the beginning.
        `views=None`: all online views. Killed at any point, calling it again resumes, or begins
        anew where a query is the source. Raises UnknownFeature,
        InvalidArgument, SourceUnreadable, SchemaMismatch, Conflict, Busy, DiskFull.
        """  # fmt: skip
        start_us = None if start is None else to_us(start, "start")
        end_us = to_us(end, "end")
        run = self._parts.materializer.full
        return [
            run(view, start_us, end_us, replace_all=replace, progress=progress) for view in self._online_views(views)
        ]

    def materialize_incremental(
        self, end: Instant, views: Sequence[str] | None = None, *, progress: Progress = silent
    ) -> list[Materialized]:
        """Brings online the rows with event times in (last end, end], and whatever arrived late. Raises as `materialize`."""
        end_us = to_us(end, "end")
        run = self._parts.materializer.incremental
        return [run(view, end_us, progress=progress) for view in self._online_views(views)]

    def _online_views(self, names: Sequence[str] | None) -> list[ViewSpec]:
        if isinstance(names, str):
            raise InvalidArgument(f"views is {names!r}", hint=f"give a list: [{names!r}]")
        catalogue = self._parts.registry.catalogue(fresh=True)
        if names is None:
            return [view for view in catalogue.views.values() if view.online]
        return [catalogue.view(name) for name in names]

    def push(self, name: str, data: Any, to: str = "both") -> Acknowledgement:
        """Pushes rows to a view, or to every view of a push source; durable and visible once it returns.

        `data`: an Arrow table, a DataFrame, a list of dicts or a dict of lists with the join keys, the features
        (absent: null), the view's timestamp column (absent: now), perhaps the created column. `to`: "both",
        "online" or "offline". Raises UnknownObject, SchemaMismatch, InvalidArgument, DiskFull, EngineUnavailable.
        """
        return self._parts.pushes.push(name, data, parse_target(to))

    def delete_rows(self, view: str, keys: Any) -> Acknowledgement:
        """Deletes entities from a view, online and, from now on, in history: older rows that arrive later stay out.

        `keys`: a table or list of dicts with the join keys, or a list of values where there is one key.
        """
        return self._parts.pushes.delete_rows(self._parts.view(view), keys)

    def generations(self, view: str) -> list[Generation]:
        """The bulk loads of a view that are kept, by number, with rows and state."""
        return self._parts.wiring.online.generations(space(self._parts.view(view)))

    def activate(self, view: str, generation: int) -> None:
        """Makes another generation live, in one step; pushes and later upserts stay. This is the rollback of a load.

        Raises UnknownObject when there is no such complete generation, Conflict when somebody switches now.
        """
        name = space(self._parts.view(view))
        found = {g.number: g for g in self._parts.wiring.online.generations(name)}
        if generation not in found or found[generation].state is GenerationState.LOADING:
            complete = [n for n, g in found.items() if g.state is not GenerationState.LOADING]
            raise UnknownObject(f"feature view {view!r} has no generation {generation}", hint=f"there is: {complete}")
        live = next((n for n, g in found.items() if g.state is GenerationState.LIVE), None)
        if live != generation:
            self._parts.materializer.activate(self._parts.view(view), generation, expected=live)
