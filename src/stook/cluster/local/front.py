"""Gateways, the balancer that watches them, and HAProxy before them, as nodes.

It is a file of its own because these three belong together: what clients call. The app takes its nodes. It must never
touch a disk or a network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import quote

from stook.cluster.local.nodes import HOST, ClusterSettings, Node, Surroundings
from stook.core.ports.launcher import Work

GATEWAY: Final = "gateway"
BALANCER: Final = "balancer"
HAPROXY: Final = "haproxy"
KEEPER: Final = "keeper"


def gateways(settings: ClusterSettings, around: Surroundings) -> list[Node]:
    """The nodes, `gateway-1` and on: `stook serve --join`."""
    return [_gateway(number, settings, around) for number in range(1, settings.gateways + 1)]


def _gateway(number: int, settings: ClusterSettings, around: Surroundings) -> Node:
    name = f"gateway-{number}"
    port = around.ports[name]
    command = (
        around.programs.python, "-m", "stook", "-C", str(around.project), "serve", "--host", HOST, "--port", str(port),
        "--workers", str(settings.workers), "--join", name, *(("--clock", settings.clock) if settings.clock else ()),
    )  # fmt: skip
    return Node(GATEWAY, Work(name, command, str(around.project), around.environment), port)


def balancer(settings: ClusterSettings, around: Surroundings) -> Node:
    """The node that keeps HAProxy's file and servers as the gateways are."""
    command = (
        around.programs.python, "-m", "stook", "-C", str(around.project), "cluster", "balancer", engine(settings, around)
    )  # fmt: skip
    return Node(BALANCER, Work(BALANCER, command, str(around.project), around.environment), 0)


def keeper(around: Surroundings) -> Node:
    """The node that starts again what ends."""
    command = (around.programs.python, "-m", "stook", "-C", str(around.project), "cluster", "keep")
    return Node(KEEPER, Work(KEEPER, command, str(around.project), around.environment), 0)


def haproxy(around: Surroundings) -> Node:
    """HAProxy, over the file that the balancer wrote."""
    folder = around.folder / HAPROXY
    command = (around.programs.haproxy, "-W", "-db", "-f", str(file(around)))
    return Node(HAPROXY, Work(HAPROXY, command, str(folder)), around.ports["balancer"], folders=(folder,))


def file(around: Surroundings) -> Path:
    """HAProxy's file."""
    return around.folder / HAPROXY / "haproxy.cfg"


def engine(settings: ClusterSettings, around: Surroundings) -> str:
    """The balancer's URL. Its socket stands by a short path, since a socket's may have 107 bytes."""
    socket = around.folder / HAPROXY / "s"
    options = f"bind={around.address('balancer')}&balance={settings.balance}&socket={quote(str(socket))}"
    return f"haproxy:///{file(around)}?{options}"
