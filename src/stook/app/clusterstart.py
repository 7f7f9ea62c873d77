"""Bringing nodes up: start them, wait until they answer, and say what they said when they do not.

It is a file of its own because coming up is a story of its own, of waiting and giving up in time. `LocalCluster` makes one
for each call. It must never start a node's program twice, nor wait without an end.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NoReturn

from stook.app import clusterfolder as folders
from stook.cluster.local import probes, redis
from stook.cluster.local.nodes import ClusterSettings, Node, Surroundings
from stook.core.errors import EngineUnavailable, InvalidArgument
from stook.core.ports.launcher import Launcher, WorkState

UP_WAIT_S: Final = 120.0
PAUSE_S: Final = 0.2
MAKE_WAIT_S: Final = 60.0
LOG_LINES: Final = 5
Say = Callable[[str], None]


class Rising:
    """One call's bringing up of nodes."""

    def __init__(self, launcher: Launcher, say: Say) -> None:
        self._launcher = launcher
        self._say = say

    def start(self, nodes: Sequence[Node], *, wait: bool = True) -> None:
        """Writes the nodes' files and starts what does not run; returns when all answer, unless it need not wait.

        Raises EngineUnavailable with a node's last words.
        """
        folders.write_files(nodes)
        for node in nodes:
            if self._launcher.start(node.work):
                self._say(f"{node.name} started" + (f" on port {node.port}" if node.port else ""))
        for node in nodes if wait else ():
            self._await_well(node)

    def _await_well(self, node: Node) -> None:
        deadline = time.monotonic() + UP_WAIT_S
        while True:
            health, seen = probes.ask(node), self._launcher.observe(node.name)
            if health.well if health is not None else seen.state is WorkState.RUNNING:
                return
            if seen.state is WorkState.GONE:
                self._give_up(node, "it ended")
            if time.monotonic() > deadline:
                self._give_up(node, "" if health is None else health.detail)
            time.sleep(PAUSE_S)

    def _give_up(self, node: Node, why: str) -> NoReturn:
        said = "\n  ".join(self._launcher.log(node.name, lines_max=LOG_LINES))
        raise EngineUnavailable(f"{node.name} does not come up: {why}\n  {said}", hint=f"stook cluster log {node.name}")

    @staticmethod
    def await_true(holds: Callable[[], bool], what: str) -> None:
        """Returns when it holds. Raises EngineUnavailable when it does not in time."""
        deadline = time.monotonic() + UP_WAIT_S
        while not holds():
            if time.monotonic() > deadline:
                raise EngineUnavailable(f"{what} does not come", hint="stook cluster status")
            time.sleep(PAUSE_S)

    def make_redis(self, settings: ClusterSettings, around: Surroundings) -> None:
        """Joins the Redis servers into one cluster, where they know nobody yet; a half-made one is never made anew.

        Raises InvalidArgument with Redis's words.
        """
        servers = redis.servers(settings, around)
        for server in servers:
            self.await_true(partial(_knows_itself, server), f"{server.name}'s answer")
        if any(probes.redis_peers(server) > 1 for server in servers):
            return  # it was made: whoever waits for their health waits for the rest
        command = redis.make_cluster(settings, around)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=MAKE_WAIT_S, check=False)  # noqa: S603
        except subprocess.TimeoutExpired:
            raise EngineUnavailable(
                f"the Redis servers were not joined within {MAKE_WAIT_S:.0f} s", hint="repeat stook cluster up"
            ) from None
        if done.returncode:
            raise InvalidArgument(
                f"the Redis servers cannot be joined: {done.stdout.strip()[-500:]}",
                hint="where they hold nothing yet: stook cluster down --delete-data",
            )
        self._say("redis joined into one cluster")


def _knows_itself(node: Node) -> bool:
    return probes.redis_peers(node) > 0
