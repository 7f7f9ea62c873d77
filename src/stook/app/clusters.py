"""The cluster verbs: a whole cluster on one machine, up, watched and down.

It is a file of its own because this family of verbs needs no open platform: a cluster comes up before its engines answer.
The command line calls it. It must never do by hand what a node's description says, nor leave a half-made cluster unnamed:
every verb may be repeated.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from stook.app import clusterfolder as folders
from stook.app.clusterfolder import Kept
from stook.app.clusterstart import Rising, Say
from stook.app.wiring import load_backend
from stook.cluster.local import front, keeping, postgresql, probes, redis, zookeeper
from stook.cluster.local.nodes import Node, Programs, Surroundings, port_names
from stook.cluster.local.probes import Health
from stook.core.errors import UnknownObject, did_you_mean
from stook.core.ports.launcher import Launcher, Work, WorkState
from stook.core.ports.locks import Locks
from stook.core.settings import find_project, parse_url

GRACE_S: Final = 40.0
LOCK_WAIT_S: Final = 600.0
ASK_THREADS: Final = 16
KEEPER: Final = "keeper"
KEEPER_PAUSE_S: Final = 1.0
CHROOT: Final = "stook"


@dataclass(frozen=True)
class NodeStatus:
    """One node as it was seen: whether its program runs, and how it answered."""

    name: str
    kind: str
    state: WorkState
    number: int
    port: int
    health: Health


class LocalCluster:
    """The cluster of one project on this machine, kept in its `.stook/cluster`."""

    def __init__(self, project: str | Path) -> None:
        self._project = find_project(project)
        self._folder = self._project / folders.FOLDER
        self.settings = folders.read_settings(self._project)

    @cached_property
    def _launcher(self) -> Launcher:
        url = parse_url(f"local:///{self._folder / 'launcher'}", self._project, "the cluster's launcher")
        found: Launcher = load_backend("launcher", url, self._project, "the cluster's launcher")
        return found

    @cached_property
    def _locks(self) -> Locks:
        url = parse_url("local:", self._project, "locks")
        found: Locks = load_backend("locks", url, self._project, "locks")
        return found

    @property
    def endpoint(self) -> str:
        """The address that clients call. Raises UnknownObject where the cluster was never up or has no gateways."""
        return f"http://{self._around(self._kept()).address('balancer')}"

    def environment(self) -> dict[str, str]:
        """What makes a project whose `stook.toml` says `${STOOK_RECORDS:-...}` and so on use these engines."""
        return self._engines(self._around(self._kept()))

    def _engines(self, around: Surroundings) -> dict[str, str]:
        settings = self.settings
        found = {}
        if settings.zookeeper:
            found["STOOK_COORDINATION"] = zookeeper.url(settings, around, chroot=CHROOT)
        if settings.postgresql:
            found["STOOK_RECORDS"] = postgresql.url(settings, around)
        if settings.redis_masters:
            found["STOOK_ONLINE"] = redis.url(settings, around)
        return found

    def up(self, say: Say) -> list[NodeStatus]:
        """Starts what does not run yet, in order, each group when the one before answers; returns how all stand.

        Raises NotSupported naming what is missing on this machine, EngineUnavailable with a node's last words when it
        does not come up, Busy while another call works on the same cluster.
        """
        with self._locks.hold("cluster", wait_s=LOCK_WAIT_S):
            programs = folders.find_programs(self.settings)
            kept = folders.choose(self.settings, port_names(self.settings), folders.read_kept(self._folder))
            kept = replace(kept, down=[])
            folders.write_kept(self._folder, kept)
            around = self._around(kept, programs)
            folders.check_socket(front.file(around).with_name("s"))
            self._rise(Rising(self._launcher, say), around, kept)
        return self.status()

    def _rise(self, rising: Rising, around: Surroundings, kept: Kept) -> None:
        settings = self.settings
        rising.start(zookeeper.members(settings, around))
        engines = [*postgresql.members(settings, around), *redis.servers(settings, around)]
        rising.start(engines, wait=False)
        rising.make_redis(settings, around, kept, self._folder)
        rising.start(engines)
        if settings.gateways:
            rising.start([*front.gateways(settings, around), front.balancer(settings, around)])
            rising.await_true(front.file(around).exists, "the balancer's file")
            rising.start([front.haproxy(around)])
        rising.start([self._keeper(around)])

    def status(self) -> list[NodeStatus]:
        """How all nodes stand now, asked at once. Raises UnknownObject where the cluster was never up."""
        nodes = self._nodes(self._around(self._kept()))
        with ThreadPoolExecutor(ASK_THREADS) as threads:
            healths = list(threads.map(probes.ask, nodes))
        seen = [self._launcher.observe(node.name) for node in nodes]
        return [
            NodeStatus(node.name, node.kind, one.state, one.number, node.port, health)
            for node, one, health in zip(nodes, seen, healths, strict=True)
        ]

    def down(self, say: Say, *, delete_data: bool) -> None:
        """Stops everything, clients' side first. With `delete_data` nothing of it is kept. Idempotent."""
        with self._locks.hold("cluster", wait_s=LOCK_WAIT_S):
            kept = folders.read_kept(self._folder)
            if kept is not None:
                folders.write_kept(self._folder, replace(kept, down=[KEEPER]))
            names = self.works()
            for kinds in (
                (KEEPER,),
                (front.HAPROXY, front.BALANCER),
                ("gateway",),
                ("postgresql", "redis"),
                ("zookeeper",),
            ):
                some = [name for name in names if name.rpartition("-")[0] in kinds or name in kinds]
                with ThreadPoolExecutor(ASK_THREADS) as threads:
                    list(threads.map(lambda name: self._launcher.stop(name, grace_s=GRACE_S), some))
                for name in some:
                    say(f"{name} stopped")
            if delete_data and self._folder.exists():
                for work in self._launcher.works():
                    self._launcher.kill(work.name)
                shutil.rmtree(self._folder)
                say(f"{self._folder} deleted")

    def works(self) -> list[str]:
        """The names of all programs of this cluster that run."""
        return [work.name for work in self._launcher.works() if work.state is not WorkState.GONE]

    def start(self, name: str, say: Say) -> None:
        """Starts one node that was taken down. Raises UnknownObject."""
        with self._locks.hold("cluster", wait_s=LOCK_WAIT_S):
            node = self._node(name)
            kept = self._kept()
            folders.write_kept(self._folder, replace(kept, down=[n for n in kept.down if n != name]))
            Rising(self._launcher, say).start([node])

    def stop(self, name: str, *, at_once: bool) -> None:
        """Takes one node down until it is started again: in good order, or at once as if its machine were lost."""
        with self._locks.hold("cluster", wait_s=LOCK_WAIT_S):
            node = self._node(name)
            kept = self._kept()
            folders.write_kept(self._folder, replace(kept, down=sorted({*kept.down, name})))
            if at_once:
                self._launcher.kill(node.name)
            else:
                self._launcher.stop(node.name, grace_s=GRACE_S)

    def log(self, name: str, *, lines_max: int) -> list[str]:
        """A node's last words. Raises UnknownObject."""
        return self._launcher.log(self._node(name).name, lines_max=lines_max)

    def keep(self, going: Callable[[], bool]) -> None:
        """Starts again what ends, until it is told not to go on. This is what the keeper's own process does."""
        past: dict[str, keeping.Past] = {}
        while going():
            kept = folders.read_kept(self._folder)
            if kept is not None:
                nodes = {node.name: node for node in self._nodes(self._around(kept)) if node.name not in kept.down}
                seen = [self._launcher.observe(name) for name in nodes]
                names, past = keeping.due(seen, frozenset(nodes), past, now_s=time.monotonic())
                for name in names:
                    self._launcher.start(nodes[name].work)
            time.sleep(KEEPER_PAUSE_S)

    def _kept(self) -> Kept:
        kept = folders.read_kept(self._folder)
        if kept is None:
            raise UnknownObject(f"{self._project} has no cluster here", hint="run `stook cluster up`")
        return kept

    def _around(self, kept: Kept, programs: Programs | None = None) -> Surroundings:
        programs = folders.find_programs(self.settings) if programs is None else programs
        around = Surroundings(self._folder, self._project, programs, kept.ports, kept.secrets)
        inherited = folders.surroundings_of(os.environ)
        return replace(around, environment=inherited | self._engines(around))

    def _nodes(self, around: Surroundings) -> list[Node]:
        """All nodes but the keeper, in the order in which they start."""
        settings = self.settings
        nodes = [
            *zookeeper.members(settings, around),
            *postgresql.members(settings, around),
            *redis.servers(settings, around),
        ]
        if settings.gateways:
            nodes += [*front.gateways(settings, around), front.balancer(settings, around), front.haproxy(around)]
        return nodes

    def _keeper(self, around: Surroundings) -> Node:
        command = (around.programs.python, "-m", "stook", "-C", str(self._project), "cluster", "keep")
        work = Work(KEEPER, command, str(self._project), around.environment)
        return Node(KEEPER, work, 0)

    def _node(self, name: str) -> Node:
        nodes = {node.name: node for node in self._nodes(self._around(self._kept()))}
        if name not in nodes:
            raise UnknownObject(f"there is no node {name!r}", hint=did_you_mean(name, nodes))
        return nodes[name]
