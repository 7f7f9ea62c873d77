"""A Redis Cluster as nodes: each server's configuration, and the command that makes them one cluster.

It is a file of its own because only Redis needs these words. The app takes its nodes. It must never touch a disk or a
network.
"""

from __future__ import annotations

from typing import Final

from stook.cluster.local.nodes import HOST, ClusterSettings, Node, Surroundings, redis_nodes
from stook.core.ports.launcher import Work

KIND: Final = "redis"


def servers(settings: ClusterSettings, around: Surroundings) -> list[Node]:
    """The nodes, `redis-1` and on; which of them are masters is for the cluster to say."""
    return [_server(number, settings, around) for number in range(1, redis_nodes(settings) + 1)]


def _server(number: int, settings: ClusterSettings, around: Surroundings) -> Node:
    name = f"redis-{number}"
    folder, port = around.folder / name, around.ports[name]
    text = (
        f"bind {HOST}\nport {port}\ndir {folder}\ndaemonize no\ncluster-enabled yes\ncluster-config-file nodes.conf\n"
        f"cluster-node-timeout {settings.node_timeout_ms}\ncluster-require-full-coverage no\n"
        'cluster-allow-reads-when-down yes\nappendonly yes\nappendfsync everysec\nsave ""\nmaxmemory-policy noeviction\n'
    )
    configuration = folder / "redis.conf"
    command = (around.programs.redis_server, str(configuration))
    return Node(KIND, Work(name, command, str(folder)), port, files={configuration: text}, folders=(folder,))


def make_cluster(settings: ClusterSettings, around: Surroundings) -> tuple[str, ...]:
    """The command that joins the servers into one cluster; it is run once."""
    addresses = [around.address(f"redis-{number}") for number in range(1, redis_nodes(settings) + 1)]
    options = ["--cluster-replicas", str(settings.redis_replicas), "--cluster-yes"]
    return (around.programs.redis_cli, "--cluster", "create", *addresses, *options)


def url(settings: ClusterSettings, around: Surroundings) -> str:
    """What `engines.online` says of this cluster."""
    addresses = [around.address(f"redis-{number}") for number in range(1, redis_nodes(settings) + 1)]
    return f"redis+cluster://{','.join(addresses)}"
