"""All nodes of a cluster together: in the order in which they start, and the engines that they make.

It is a file of its own because it alone knows every kind. The app takes its nodes. It must never touch a disk or a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from stook.cluster.local import front, postgresql, redis, zookeeper
from stook.cluster.local.nodes import ClusterSettings, Node, Surroundings
from stook.core.errors import InvalidSettings

CHROOT: Final = "stook"
KEEPER: Final = front.KEEPER
ORDER: Final = (
    (zookeeper.KIND,),
    (postgresql.KIND, redis.KIND),
    (front.GATEWAY, front.BALANCER),
    (front.HAPROXY,),
    (KEEPER,),
)
HOLDS_DATA: Final = ("zookeeper", "postgresql", "redis_masters", "redis_replicas")


def nodes_of(settings: ClusterSettings, around: Surroundings) -> list[Node]:
    """All nodes, the keeper last."""
    nodes = [
        *zookeeper.members(settings, around),
        *postgresql.members(settings, around),
        *redis.servers(settings, around),
    ]
    if settings.gateways:
        nodes += [*front.gateways(settings, around), front.balancer(settings, around), front.haproxy(around)]
    return [*nodes, front.keeper(around)]


def engines_of(settings: ClusterSettings, around: Surroundings) -> dict[str, str]:
    """The variables that `stook.toml` may name, and the engines' URLs."""
    found = {}
    if settings.zookeeper:
        found["STOOK_COORDINATION"] = zookeeper.url(settings, around, chroot=CHROOT)
    if settings.postgresql:
        found["STOOK_RECORDS"] = postgresql.url(settings, around)
    if settings.redis_masters:
        found["STOOK_ONLINE"] = redis.url(settings, around)
    return found


def check_change(before: ClusterSettings, after: ClusterSettings, *, running: bool) -> None:
    """Raises InvalidSettings where a cluster that was up as `before` cannot become `after`: the number of gateways may
    change at any time, what holds data only together with the data, the rest while nothing runs."""
    changed = [name for name, value in asdict(after).items() if value != getattr(before, name) and name != "gateways"]
    data = [name for name in changed if name in HOLDS_DATA]
    if data or (changed and running) or (changed and bool(before.gateways) != bool(after.gateways)):
        name = (data or changed)[0]
        hint = "stook cluster down --delete-data, then up" if data else "stook cluster down, then up"
        raise InvalidSettings(
            f"cluster.{name} was {getattr(before, name)!r} when the cluster came up, and is {getattr(after, name)!r}",
            hint=hint,
        )


def by_stage(nodes: Sequence[Node]) -> list[list[Node]]:
    """The nodes in the stages in which they start."""
    return [[node for node in nodes if node.kind in kinds] for kinds in ORDER]
