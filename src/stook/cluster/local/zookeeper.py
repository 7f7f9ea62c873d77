"""A ZooKeeper ensemble as nodes: zoo.cfg, myid, and how Java is called.

It is a file of its own because only ZooKeeper needs these words. The app takes its nodes. It must never touch a disk or a
network.
"""

from __future__ import annotations

from typing import Final

from stook.cluster.local.nodes import HOST, ClusterSettings, Node, Surroundings
from stook.core.ports.launcher import Work

KIND: Final = "zookeeper"
TICK_MS: Final = 1_000  # sessions of 2 to 20 ticks are granted; Patroni asks for 20 s
HEAP_MIB: Final = 128
_MAIN: Final = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
_LOGGING: Final = """log4j.rootLogger=WARN, CONSOLE
log4j.appender.CONSOLE=org.apache.log4j.ConsoleAppender
log4j.appender.CONSOLE.layout=org.apache.log4j.PatternLayout
log4j.appender.CONSOLE.layout.ConversionPattern=%d{ISO8601} %-5p %c{1} - %m%n
"""


def members(settings: ClusterSettings, around: Surroundings) -> list[Node]:
    """The ensemble's nodes, `zookeeper-1` and on."""
    numbers = range(1, settings.zookeeper + 1)
    servers = "".join(
        f"server.{n}={HOST}:{around.ports[f'zookeeper-{n}-peers']}:{around.ports[f'zookeeper-{n}-election']}\n"
        for n in numbers
    )
    return [_member(number, servers, around) for number in numbers]


def _member(number: int, servers: str, around: Surroundings) -> Node:
    name = f"zookeeper-{number}"
    folder, port = around.folder / name, around.ports[name]
    data, configuration = folder / "data", folder / "conf"
    text = (
        f"tickTime={TICK_MS}\ninitLimit=20\nsyncLimit=10\ndataDir={data}\nclientPort={port}\nclientPortAddress={HOST}\n"
        "4lw.commands.whitelist=srvr,ruok,mntr\nadmin.enableServer=false\n"
        f"autopurge.snapRetainCount=3\nautopurge.purgeInterval=1\n{servers}"
    )
    command = (
        around.programs.java, f"-Xmx{HEAP_MIB}m", "-XX:+UseSerialGC", "-Djava.net.preferIPv4Stack=true",
        "-cp", f"{configuration}:{around.programs.zookeeper_jar}", _MAIN, str(configuration / "zoo.cfg"),
    )  # fmt: skip
    return Node(
        KIND,
        Work(name, command, str(folder)),
        port,
        files={
            configuration / "zoo.cfg": text,
            configuration / "log4j.properties": _LOGGING,
            data / "myid": f"{number}\n",
        },
        folders=(folder, data, configuration),
    )


def url(settings: ClusterSettings, around: Surroundings, *, chroot: str) -> str:
    """What `engines.coordination` says of this ensemble."""
    hosts = ",".join(around.address(f"zookeeper-{number}") for number in range(1, settings.zookeeper + 1))
    return f"zookeeper://{hosts}/{chroot}"
