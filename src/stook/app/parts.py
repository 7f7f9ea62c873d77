"""What a platform is made of: the rooms' objects over one wiring, made when first needed.

It is a file of its own so that the families of verbs share it without knowing each other. `Platform` makes one.
It must never decide anything.
"""

from __future__ import annotations

from functools import cached_property

from stook.app.following import Following
from stook.app.wiring import Wiring
from stook.core.definitions import FileSource, SqlSource
from stook.core.plans import ReadPlan
from stook.core.ports.records import RecordsAbility
from stook.core.specs import Column, ViewSpec
from stook.ingest.materialize import MaterializePorts, Materializer
from stook.ingest.pushes import Pushes, PushPorts
from stook.online.read import PreparedRead
from stook.registry.catalogue import Catalogue
from stook.registry.registry import Registry


class Parts:
    """Registry, pushes and materializer of one platform."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring

    @cached_property
    def registry(self) -> Registry:
        """The registry over the records port."""

        def describe(source: FileSource | SqlSource) -> tuple[Column, ...]:
            return self.wiring.engine.describe(source)  # the engine opens when a source is first described

        return Registry(self.wiring.records, self.wiring.clock, describe)

    @cached_property
    def pushes(self) -> Pushes:
        """The push path."""
        wiring = self.wiring
        ports = PushPorts(wiring.log, wiring.online, wiring.tables, wiring.locks, wiring.clock)
        return Pushes(ports, wiring.settings.limits, self.catalogue)

    @cached_property
    def materializer(self) -> Materializer:
        """Materialization over the same ports."""
        wiring = self.wiring
        ports = MaterializePorts(wiring.engine, wiring.online, wiring.records, wiring.locks, wiring.clock)
        return Materializer(ports, self.pushes, wiring.settings.limits)

    @cached_property
    def following(self) -> Following | None:
        """What keeps the catalogue current where the records are not at hand; None where they are."""
        at_hand = RecordsAbility.AT_HAND in self.wiring.records.abilities
        return None if at_hand else Following(self.registry)

    def catalogue(self, *, fresh: bool = False) -> Catalogue:
        """Everything declared, at most a quarter of a second old; newest with `fresh`.

        Where records are a network away and do not answer, it is what was seen last, without `fresh`.
        """
        if fresh or self.following is None:
            return self.registry.catalogue(fresh=fresh)
        return self.following.catalogue()

    def close(self) -> None:
        """Ends what runs beside the calls."""
        following = self.__dict__.get("following")  # not made, where nobody asked: closing opens nothing
        if following is not None:
            following.close()

    def prepared(self, plan: ReadPlan) -> PreparedRead:
        """A plan compiled, within the project's limits."""
        serve = self.wiring.settings.serve
        limits = {"entities_max": serve.entities_max, "bytes_max": serve.answer_limit_mib << 20}
        return PreparedRead(plan, self.wiring.online, self.wiring.clock, **limits)

    def bury_orphans(self) -> None:
        """Deletes what views that are gone left behind; a process killed while it did is carried on by the next."""
        for view in self.registry.orphans():
            self.pushes.forget(view)
            self.registry.buried(view)

    def view(self, name: str) -> ViewSpec:
        """A view by name. Raises UnknownFeature."""
        return self.catalogue().view(name)
