"""What a cluster on one machine consists of: its settings, and its nodes as files and programs to start.

It is a file of its own because every kind of node is described by the same few words. The modules beside it make nodes of
one kind each; the app writes their files, starts and watches them. It must never touch a disk, a network or a process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from stook.core.errors import InvalidSettings, did_you_mean
from stook.core.ports.launcher import Work

FILE_NAME: Final = "cluster.toml"
HOST: Final = "127.0.0.1"
ALGORITHMS: Final = ("roundrobin", "leastconn", "random", "source", "consistent")


@dataclass(frozen=True)
class ClusterSettings:
    """`[cluster]` of `cluster.toml`: how many of each kind. Zero leaves an engine out; the project then keeps its own."""

    zookeeper: int = 3  # members of the ZooKeeper ensemble, an odd number
    postgresql: int = 2  # members under Patroni; needs ZooKeeper
    redis_masters: int = 3  # masters of the Redis Cluster
    redis_replicas: int = 1  # replicas of each master
    gateways: int = 3  # servers behind the balancer
    workers: int = 1  # processes of each gateway
    port: int = 0  # the port that clients use; 0: a free one, kept from then on
    balance: str = "leastconn"  # roundrobin, leastconn, random, source or consistent
    clock: str = ""  # an instant at which the gateways' clocks stand, for replays; empty: they run
    node_timeout_ms: int = 2_000  # after which Redis Cluster takes a master that does not answer for lost


BOUNDS: Final[dict[str, tuple[int, int]]] = {
    "zookeeper": (0, 9),
    "postgresql": (0, 5),
    "redis_masters": (0, 20),
    "redis_replicas": (0, 3),
    "gateways": (0, 32),
    "workers": (1, 64),
    "port": (0, 65_535),
    "node_timeout_ms": (500, 60_000),
}


def parse_cluster(document: Mapping[str, Any], where: str) -> ClusterSettings:
    """Settings from a document already read. Raises InvalidSettings naming the field and its bounds.

    >>> parse_cluster({"cluster": {"gateways": 2}}, "cluster.toml").gateways
    2
    """
    for section in document:
        if section != "cluster":
            raise InvalidSettings(f"{where}: unknown section {section!r}", hint="write [cluster]")
    values = document.get("cluster", {})
    if not isinstance(values, Mapping):
        raise InvalidSettings(f"{where}: cluster is {values!r}, not a section", hint="write [cluster]")
    types = {known.name: type(known.default) for known in fields(ClusterSettings)}
    for key, value in values.items():
        if key not in types:
            raise InvalidSettings(f"{where}: unknown field of [cluster] {key!r}", hint=did_you_mean(key, types))
        if type(value) is not types[key]:
            raise InvalidSettings(f"{where}: cluster.{key} is {value!r}", hint=f"it must be {types[key].__name__}")
    settings = ClusterSettings(**values)
    for key, (low, high) in BOUNDS.items():
        if not low <= getattr(settings, key) <= high:
            raise InvalidSettings(
                f"{where}: cluster.{key} is {getattr(settings, key)}, out of bounds", hint=f"{low} to {high}"
            )
    if settings.balance not in ALGORITHMS:
        raise InvalidSettings(
            f"{where}: cluster.balance is {settings.balance!r}", hint=f"one of {', '.join(ALGORITHMS)}"
        )
    if settings.zookeeper and settings.zookeeper % 2 == 0:
        raise InvalidSettings(
            f"{where}: cluster.zookeeper is {settings.zookeeper}",
            hint="an odd number: an even one loses no more members",
        )
    if settings.redis_masters in (1, 2):
        raise InvalidSettings(f"{where}: cluster.redis_masters is {settings.redis_masters}", hint="0, or at least 3")
    if settings.postgresql and not settings.zookeeper:
        raise InvalidSettings(f"{where}: cluster.postgresql without cluster.zookeeper", hint="Patroni needs ZooKeeper")
    if settings.gateways and not settings.zookeeper:
        raise InvalidSettings(f"{where}: cluster.gateways without cluster.zookeeper", hint="gateways register there")
    return settings


@dataclass(frozen=True)
class Programs:
    """Where this machine keeps what the nodes run: full paths. PostgreSQL does not run as root: there `user` runs it, or
    `as_other`, a command before its own, makes it think so."""

    python: str
    java: str
    zookeeper_jar: str
    postgresql: str
    redis_server: str
    redis_cli: str
    haproxy: str
    user: str = ""
    as_other: tuple[str, ...] = ()


@dataclass(frozen=True)
class Surroundings:
    """One cluster's place: its folder, the project it serves, the programs, and what was chosen once and is kept, that
    is a port for each name of one, and passwords. `environment` is what gateways inherit."""

    folder: Path
    project: Path
    programs: Programs
    ports: Mapping[str, int]
    secrets: Mapping[str, str]
    environment: Mapping[str, str] = field(default_factory=dict)

    def address(self, port: str) -> str:
        """Host and port, by the port's name."""
        return f"{HOST}:{self.ports[port]}"


@dataclass(frozen=True)
class Node:
    """One server: the files it needs (by path, with text), folders it keeps (made if absent, owned by the work's user),
    and how it is started. `kind` says how its health is asked, `port` at which of its ports."""

    kind: str
    work: Work
    port: int
    files: Mapping[Path, str] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """Its name, which is its work's too."""
        return self.work.name


def port_names(settings: ClusterSettings) -> list[str]:
    """The names of all ports that a cluster of this size uses.

    >>> port_names(ClusterSettings(zookeeper=1, postgresql=1, redis_masters=0, gateways=1))
    ['zookeeper-1', 'zookeeper-1-peers', 'zookeeper-1-election', 'postgresql-1', 'patroni-1', 'gateway-1', 'balancer']
    """
    names = []
    for number in range(1, settings.zookeeper + 1):
        names += [f"zookeeper-{number}{end}" for end in ("", "-peers", "-election")]
    for number in range(1, settings.postgresql + 1):
        names += [f"postgresql-{number}", f"patroni-{number}"]
    names += [f"redis-{number}" for number in range(1, redis_nodes(settings) + 1)]
    names += [f"gateway-{number}" for number in range(1, settings.gateways + 1)]
    return [*names, "balancer"] if settings.gateways else names


def redis_nodes(settings: ClusterSettings) -> int:
    """How many Redis servers there are, masters and replicas."""
    return settings.redis_masters * (1 + settings.redis_replicas)
