"""The cluster verbs: a whole cluster on one machine, up, watched and down.

It is a file of its own because this family of verbs needs no open platform: a cluster comes up before its engines answer.
The command line calls it. It must never do by hand what a node's description says, nor leave a half-made cluster unnamed:
every verb may be repeated.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Final

from stook.app import clusterfolder as folders
from stook.app.clusterfolder import Kept
from stook.app.clusterstart import Rising, Say
from stook.app.wiring import load_backend
from stook.cluster.local import front, keeping, probes
from stook.cluster.local.layout import KEEPER, by_stage, check_change, engines_of, nodes_of
from stook.cluster.local.nodes import ClusterSettings, Node, Programs, Surroundings, port_names
from stook.cluster.local.probes import Health
from stook.core.errors import Busy, StookError, UnknownObject, did_you_mean
from stook.core.ports.launcher import Launcher, WorkState
from stook.core.ports.locks import Locks
from stook.core.settings import find_project, parse_url

GRACE_S: Final = 40.0
LOCK_WAIT_S: Final = 600.0
ASK_THREADS: Final = 16
KEEPER_PAUSE_S: Final = 1.0


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
    """The cluster of one project on this machine, kept in the `.stook/cluster` of `project`."""

    def __init__(self, project: str | Path) -> None:
        self.project = find_project(project)
        self._found: Programs | None = None  # looked for once
        self._folder = self.project / folders.FOLDER

    @cached_property
    def _launcher(self) -> Launcher:
        url = parse_url(f"local:///{self._folder / 'launcher'}", self.project, "the cluster's launcher")
        found: Launcher = load_backend("launcher", url, self.project, "the cluster's launcher")
        return found

    @cached_property
    def _locks(self) -> Locks:
        url = parse_url("local:", self.project, "locks")
        found: Locks = load_backend("locks", url, self.project, "locks")
        return found

    @property
    def settings(self) -> ClusterSettings:
        """As the cluster came up; what `cluster.toml` says now counts at the next `up`. Raises UnknownObject."""
        return self._kept().settings

    @property
    def endpoint(self) -> str:
        """The address that clients call; empty without gateways. Raises UnknownObject where it was never up."""
        kept = self._kept()
        return f"http://{self._around(kept).address('balancer')}" if kept.settings.gateways else ""

    def environment(self) -> dict[str, str]:
        """What makes a project whose `stook.toml` says `${STOOK_RECORDS:-...}` and so on use these engines."""
        kept = self._kept()
        return engines_of(kept.settings, self._around(kept))

    def up(self, say: Say) -> list[NodeStatus]:
        """Starts what does not run yet, in order, each group when the one before answers; returns how all stand.

        Raises NotSupported naming what is missing on this machine, InvalidSettings where `cluster.toml` changed so that
        what is there cannot become it, EngineUnavailable with a node's last words when it does not come up, Busy while
        another call works on the same cluster.
        """
        with self._hold():
            settings, before = folders.read_settings(self.project), folders.read_kept(self._folder)
            folders.check_path(self.project)
            if before is not None:
                running = any(name != KEEPER for name in self.works())
                check_change(before.settings, settings, running=running)
            programs = folders.find_programs(settings)
            run_as = before.run_as if before is not None else folders.not_root(settings, self.project)
            kept = folders.choose(settings, port_names(settings), before, run_as)
            folders.write_kept(self._folder, kept)
            self._rise(Rising(self._launcher, say), kept, programs)
            wanted = {node.name for node in nodes_of(kept.settings, self._around(kept))}
            _stop(self._launcher, [name for name in self.works() if name not in wanted], say)
        return self.status()

    def _rise(self, rising: Rising, kept: Kept, programs: Programs) -> None:
        around = self._around(kept, programs)
        for stage in by_stage(nodes_of(kept.settings, around)):
            if any(node.kind == front.HAPROXY for node in stage):
                rising.await_true(front.file(around).exists, "the balancer's file")
            redis = [node for node in stage if node.kind == "redis"]
            if redis and not kept.redis_made:
                rising.start(stage, wait=False)
                rising.make_redis(kept.settings, around)
                folders.write_kept(self._folder, replace(kept, redis_made=True))
            rising.start(stage)

    def status(self) -> list[NodeStatus]:
        """How all nodes stand now, asked at once. Raises UnknownObject where the cluster was never up."""
        kept = self._kept()
        nodes = nodes_of(kept.settings, self._around(kept))
        with ThreadPoolExecutor(ASK_THREADS) as threads:
            healths = list(threads.map(probes.ask, nodes))
        return [_status(self._launcher, node, health) for node, health in zip(nodes, healths, strict=True)]

    def down(self, say: Say, *, delete_data: bool) -> None:
        """Stops everything, clients' side first. With `delete_data` nothing of it is kept. Idempotent."""
        with self._hold():
            _stop(self._launcher, [KEEPER], say)  # nobody starts again what is stopped behind it
            names = {
                work.name for work in self._launcher.works()
            }  # those that are gone too: of some, parts may be left
            for kinds in ((front.HAPROXY, front.BALANCER), ("gateway",), ("postgresql", "redis"), ("zookeeper",)):
                some = sorted(name for name in names if name.rpartition("-")[0] in kinds or name in kinds)
                _stop(self._launcher, some, say)
            if delete_data:
                folders.delete(self._folder, say)

    def works(self) -> list[str]:
        """The names of all programs of this cluster that run."""
        return [work.name for work in self._launcher.works() if work.state is not WorkState.GONE]

    def start(self, name: str, say: Say) -> None:
        """Starts one node that was taken down. Raises UnknownObject."""
        with self._hold():
            node, kept = self._node(name), self._kept()
            folders.write_kept(self._folder, replace(kept, down=[n for n in kept.down if n != name]))
            Rising(self._launcher, say).start([node])

    def stop(self, name: str, *, at_once: bool) -> None:
        """Takes one node down until it is started again: in good order, or at once as if its machine were lost."""
        with self._hold():
            node, kept = self._node(name), self._kept()
            folders.write_kept(self._folder, replace(kept, down=sorted({*kept.down, name})))
            if at_once:
                self._launcher.kill(node.name)
            else:
                self._launcher.stop(node.name, grace_s=GRACE_S)

    def log(self, name: str, *, lines_max: int) -> list[str]:
        """A node's last words. Raises UnknownObject."""
        return self._launcher.log(self._node(name).name, lines_max=lines_max)

    def keep(self, going: Callable[[], bool], say: Say) -> None:
        """Starts again what ends, until it is told not to go on. This is what the keeper's own process does.

        While another verb works on the cluster it does nothing; what keeps it from its work is said, and tried again.
        """
        past: dict[str, keeping.Past] = {}
        while going():
            try:
                with self._locks.hold("cluster", wait_s=0):
                    past = self._keep_once(past, say)
            except Busy:
                pass
            except (StookError, OSError) as error:
                say(f"cannot look after the cluster now: {error}")
            time.sleep(KEEPER_PAUSE_S)

    def _keep_once(self, past: dict[str, keeping.Past], say: Say) -> dict[str, keeping.Past]:
        kept = self._kept()
        all_nodes = nodes_of(kept.settings, self._around(kept))
        nodes = {node.name: node for node in all_nodes if node.name not in (*kept.down, KEEPER)}
        seen = [self._launcher.observe(name) for name in nodes]
        names, past = keeping.due(seen, frozenset(nodes), past, now_s=time.monotonic())
        for name in names:
            try:
                self._launcher.start(nodes[name].work)
                say(f"{name} started again")
            except (StookError, OSError) as error:
                say(f"{name} cannot be started: {error}")
        return past

    def _hold(self) -> AbstractContextManager[None]:
        return self._locks.hold("cluster", wait_s=LOCK_WAIT_S)

    def _kept(self) -> Kept:
        kept = folders.read_kept(self._folder)
        if kept is None:
            raise UnknownObject(f"{self.project} has no cluster here", hint="run `stook cluster up`")
        return kept

    def _around(self, kept: Kept, programs: Programs | None = None) -> Surroundings:
        if programs is None:
            programs = self._found = self._found or folders.find_programs(kept.settings)
        programs = replace(programs, user=kept.run_as[0], as_other=tuple(kept.run_as[1]))
        around = Surroundings(self._folder, self.project, programs, kept.ports, kept.secrets)
        inherited = folders.surroundings_of(os.environ)
        return replace(around, environment=inherited | engines_of(kept.settings, around))

    def _node(self, name: str) -> Node:
        kept = self._kept()
        nodes = {node.name: node for node in nodes_of(kept.settings, self._around(kept))}
        if name not in nodes:
            raise UnknownObject(f"there is no node {name!r}", hint=did_you_mean(name, nodes))
        return nodes[name]


def _status(launcher: Launcher, node: Node, health: Health | None) -> NodeStatus:
    seen = launcher.observe(node.name)
    runs = seen.state is WorkState.RUNNING
    return NodeStatus(node.name, node.kind, seen.state, seen.number, node.port, health or Health(runs, ""))


def _stop(launcher: Launcher, names: Sequence[str], say: Say) -> None:
    """Stops programs and whatever they left, all at once; says which ran."""
    running = {work.name for work in launcher.works() if work.state is not WorkState.GONE}
    with ThreadPoolExecutor(ASK_THREADS) as threads:
        list(threads.map(partial(launcher.stop, grace_s=GRACE_S), names))
    for name in names:
        if name in running:
            say(f"{name} stopped")
