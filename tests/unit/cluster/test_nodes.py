"""cluster.toml, and what nodes are told: every setting checked, no password in a command line, quorum rules kept."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stook.cluster.local import keeping, postgresql, redis, zookeeper
from stook.cluster.local.layout import by_stage, check_change, nodes_of
from stook.cluster.local.nodes import ClusterSettings, Node, Programs, Surroundings, parse_cluster, port_names
from stook.core.errors import InvalidSettings
from stook.core.ports.launcher import Observed, WorkState

PROGRAMS = Programs("/py", "/java", "/zk.jar", "/pg/bin", "/redis-server", "/redis-cli", "/haproxy")


def surroundings(settings: ClusterSettings) -> Surroundings:
    ports = {name: 20_000 + number for number, name in enumerate(port_names(settings))}
    secrets = {name: f"secret-of-{name}" for name in ("records", "postgres", "replicator", "rewinder")}
    return Surroundings(Path("/f"), Path("/p"), PROGRAMS, ports, secrets)


def all_nodes(settings: ClusterSettings) -> list[Node]:
    around = surroundings(settings)
    return nodes_of(settings, around)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ({"cluster": {"zookeepers": 3}}, "unknown field of [cluster] 'zookeepers'"),
        ({"clusters": {}}, "unknown section 'clusters'"),
        ({"cluster": 3}, "not a section"),
        ({"cluster": {"zookeeper": "3"}}, "cluster.zookeeper is '3'"),
        ({"cluster": {"zookeeper": True}}, "cluster.zookeeper is True"),
        ({"cluster": {"zookeeper": 2}}, "an odd number"),
        ({"cluster": {"zookeeper": 11}}, "out of bounds"),
        ({"cluster": {"redis_masters": 2}}, "at least 3"),
        ({"cluster": {"zookeeper": 0}}, "Patroni needs ZooKeeper"),
        ({"cluster": {"zookeeper": 0, "postgresql": 0}}, "gateways register there"),
        ({"cluster": {"balance": "fair"}}, "one of roundrobin, leastconn"),
    ],
)
def test_wrong_settings_name_the_field_and_the_mend(text: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidSettings) as raised:
        parse_cluster(text, "cluster.toml")
    assert says in str(raised.value) and "cluster.toml" in str(raised.value)


def test_every_node_has_a_name_a_port_and_a_folder_of_its_own() -> None:
    settings = ClusterSettings()
    nodes = all_nodes(settings)
    assert len(nodes) == 3 + 2 + 6 + 3 + 2 + 1
    assert sorted(n.name for stage in by_stage(nodes) for n in stage) == sorted(n.name for n in nodes)
    assert len({node.name for node in nodes}) == len(nodes)
    ports = [node.port for node in nodes if node.port]
    assert len(set(ports)) == len(ports)
    files = [path for node in nodes for path in node.files]
    assert len(set(files)) == len(files)
    assert all(node.work.command[0].startswith("/") for node in nodes)


def test_no_password_stands_in_a_command() -> None:
    for node in all_nodes(ClusterSettings()):
        assert "secret-of" not in " ".join(node.work.command)


def test_acknowledged_records_are_on_two_members() -> None:
    settings = ClusterSettings()
    (first, _) = postgresql.members(settings, surroundings(settings))
    told = json.loads(first.files[Path("/f/postgresql-1/patroni.yml")])
    assert told["bootstrap"]["dcs"]["synchronous_mode"] is True
    times = told["bootstrap"]["dcs"]
    assert times["loop_wait"] + 2 * times["retry_timeout"] <= times["ttl"]
    # ZooKeeper grants sessions of at most 20 ticks
    assert times["ttl"] * 1_000 <= 20 * zookeeper.TICK_MS


def test_urls_name_every_member() -> None:
    settings = ClusterSettings(zookeeper=3, postgresql=2, redis_masters=3, redis_replicas=1)
    around = surroundings(settings)
    assert zookeeper.url(settings, around, chroot="stook").count("127.0.0.1:") == 3
    assert postgresql.url(settings, around).count("127.0.0.1:") == 2
    assert redis.url(settings, around).count("127.0.0.1:") == 6


@given(st.lists(st.booleans(), min_size=1, max_size=300))
def test_what_ends_is_started_again_ever_more_slowly(ends: list[bool]) -> None:
    """A naive account: pauses double, stay within bounds, begin anew after a steady time; what runs is left alone."""
    past: dict[str, keeping.Past] = {}
    started: list[float] = []
    for now_s, gone in enumerate(ends):
        seen = [Observed("a", WorkState.GONE if gone else WorkState.RUNNING), Observed("b", WorkState.UNKNOWN)]
        names, past = keeping.due(seen, frozenset({"a", "b"}), past, now_s=float(now_s))
        assert names in ([], ["a"])
        assert gone or not names
        started += [float(now_s)] * len(names)
        assert not keeping.due(seen, frozenset({"b"}), past, now_s=1e9)[0]
    pause = 1.0
    for before, after in itertools.pairwise(started):
        assert after - before >= pause or after - before >= keeping.STEADY_S
        pause = 1.0 if after - before >= keeping.STEADY_S else min(pause * 2, keeping.PAUSE_MAX_S)
    if all(ends):
        assert started and len(ends) - started[-1] <= keeping.PAUSE_MAX_S


@pytest.mark.parametrize(
    ("change", "running", "refused"),
    [
        ({"gateways": 5}, True, ""),
        ({"gateways": 1}, True, ""),
        ({"workers": 2}, True, "stook cluster down, then up"),
        ({"workers": 2}, False, ""),
        ({"redis_masters": 5}, False, "--delete-data"),
        ({"zookeeper": 5}, True, "--delete-data"),
    ],
)
def test_a_cluster_becomes_another_only_where_it_can(change: dict[str, int], running: bool, refused: str) -> None:
    before = ClusterSettings()
    if not refused:
        check_change(before, replace(before, **change), running=running)  # type: ignore[arg-type]
        return
    with pytest.raises(InvalidSettings) as caught:
        check_change(before, replace(before, **change), running=running)  # type: ignore[arg-type]
    assert refused in caught.value.hint and next(iter(change)) in caught.value.message
