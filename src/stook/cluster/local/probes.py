"""How a node is: one question to it over the network, in its own words.

It is a file of its own because it alone in this package speaks to nodes. The app asks it for `stook cluster status` and
while a cluster comes up. It must never wait longer than ANSWER_WAIT_S, nor call a node lost because it did not answer.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from stook.cluster.local import front, postgresql, redis, zookeeper
from stook.cluster.local.nodes import HOST, Node

ANSWER_WAIT_S: Final = 2.0
ANSWER_BYTES_MAX: Final = 1 << 16


@dataclass(frozen=True)
class Health:
    """How a node answered. `role`: leader, follower, primary, replica, master, ready ...; empty when it said none."""

    well: bool
    role: str
    detail: str = ""


def ask(node: Node) -> Health | None:
    """The node's health; None for one that answers nobody, whose program says all."""
    probe = _PROBES.get(node.kind)
    if probe is None:
        return None
    try:
        return probe(node.port)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Health(False, "", f"no answer: {error}" if str(error) else "no answer")


def _zookeeper(port: int) -> Health:
    lines = dict(line.split(": ", 1) for line in _exchange(port, b"srvr").splitlines() if ": " in line)
    if "Mode" not in lines:
        return Health(False, "", "it serves nobody: too few members see each other")
    return Health(True, lines["Mode"], f"zxid {lines.get('Zxid', '?')}")


def _postgresql(port: int) -> Health:
    status, body = _get(port, "/patroni")
    said = json.loads(body)
    state, role = said.get("state", "?"), said.get("role", "?")
    role = {"master": "primary"}.get(role, role)
    sync = ", synchronous" if said.get("sync_standby") else ""
    return Health(status == 200 and state == "running", role, f"{state}{sync}, timeline {said.get('timeline', '?')}")


def _redis(port: int) -> Health:
    said = _exchange(port, b"CLUSTER INFO\r\nROLE\r\nQUIT\r\n")
    ok = "cluster_state:ok" in said
    role = "master" if "\r\nmaster\r\n" in said else "replica" if "\r\nslave\r\n" in said else ""
    return Health(
        ok and bool(role),
        role,
        f"{_fact(said, 'cluster_slots_ok')} of 16384 slots served" if ok else "the cluster is not whole",
    )


def redis_peers(node: Node) -> int:
    """How many servers a Redis server knows, itself among them; 0 when it does not answer."""
    try:
        said = _exchange(node.port, b"CLUSTER INFO\r\nQUIT\r\n")
    except OSError:
        return 0
    return int(_fact(said, "cluster_known_nodes"))


def _fact(said: str, name: str) -> str:
    """One line of Redis's CLUSTER INFO; 0 where it says none."""
    return next((line.partition(":")[2] for line in said.splitlines() if line.startswith(f"{name}:")), "0")


def _http(port: int, role: str) -> Health:
    status, _ = _get(port, "/health")
    return Health(True, role) if status == 200 else Health(False, "", f"HTTP {status}")


def _get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=ANSWER_WAIT_S)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read(ANSWER_BYTES_MAX)
    finally:
        connection.close()


def _exchange(port: int, message: bytes) -> str:
    """What it answers to a message before it closes."""
    with socket.create_connection((HOST, port), ANSWER_WAIT_S) as door:
        door.settimeout(ANSWER_WAIT_S)
        door.sendall(message)
        answer = bytearray()
        while (part := door.recv(4_096)) and len(answer) < ANSWER_BYTES_MAX:
            answer += part
    return answer.decode(errors="replace")


_PROBES: Final[dict[str, Callable[[int], Health]]] = {
    zookeeper.KIND: _zookeeper,
    postgresql.KIND: _postgresql,
    redis.KIND: _redis,
    front.GATEWAY: partial(_http, role="ready"),
    front.HAPROXY: partial(_http, role="answers"),
}
