"""A whole cluster of this machine, up once for all tests here: it keeps itself, and loses parts without losing anything."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import debian
from tests.servers import await_true

import stook
from stook import Entity, Int64
from stook.app.clusters import LocalCluster
from stook.app.scaffold import write_project
from stook.core.errors import StookError
from stook.core.ports.launcher import WorkState

pytestmark = [pytest.mark.server, pytest.mark.kill]
TTL_S = 20.0  # after which Patroni takes a primary's machine for lost
ENGINES = """[project]
name = "c"
[engines]
records = "${STOOK_RECORDS:-sqlite:///.stook/records.db}"
online = "${STOOK_ONLINE:-lmdb:///.stook/online}"
coordination = "${STOOK_COORDINATION:-sqlite:///.stook/coordination.db}"
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Up, with its engines in this process's environment."""
    debian.everything()
    root = write_project("c", tmp_path_factory.mktemp("c"))
    (root / "stook.toml").write_text(ENGINES)
    (root / "cluster.toml").write_text("[cluster]\nzookeeper = 1\nredis_replicas = 0\ngateways = 1\n")
    made, before = LocalCluster(root), dict(os.environ)
    try:
        made.up(print)
        os.environ.update(made.environment())
        yield made
    finally:
        os.environ.clear()
        os.environ.update(before)
        made.down(print, delete_data=True)
        assert made.works() == []


def command(cluster: LocalCluster, *words: str) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", "stook", "-C", str(cluster.project), *words]
    return subprocess.run(whole, capture_output=True, text=True, check=False)


def test_repeating_up_changes_nothing(cluster: LocalCluster) -> None:
    before = {node.name: node.number for node in cluster.status()}
    said: list[str] = []
    cluster.up(said.append)
    assert said == []
    assert {node.name: node.number for node in cluster.status()} == before
    assert all(node.health.well for node in cluster.status())


def test_what_it_keeps_is_for_its_owner_alone(cluster: LocalCluster) -> None:
    folder = cluster.project / ".stook" / "cluster"
    kept = json.loads((folder / "kept.json").read_text())
    secrets = [word.encode() for word in kept["secrets"].values()]
    assert all(len(word) >= 20 for word in secrets)
    for path in folder.rglob("*"):
        if path.is_file() and "data" not in path.parts and any(word in path.read_bytes() for word in secrets):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    for commands in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert not any(word in commands.read_bytes() for word in secrets), commands
        except OSError:
            continue


def test_a_node_that_ends_is_started_again_and_one_taken_down_is_not(cluster: LocalCluster) -> None:
    (node,) = [node for node in cluster.status() if node.name == "redis-2"]
    subprocess.run(["kill", "-9", str(node.number)], check=True)
    await_true(lambda: state(cluster, "redis-2").number not in (0, node.number), "another redis-2")
    await_true(lambda: state(cluster, "redis-2").health.well, "its health")
    cluster.stop("redis-2", at_once=True)
    time.sleep(3.0)  # three looks of the keeper
    assert state(cluster, "redis-2").state is WorkState.GONE
    shown = command(cluster, "cluster", "status")
    assert shown.returncode == 1 and "NOT WELL" in shown.stdout and "Traceback" not in shown.stderr
    cluster.start("redis-2", print)
    await_true(lambda: all(node.health.well for node in cluster.status()), "everybody's health")


def state(cluster: LocalCluster, name: str) -> Any:
    return next(node for node in cluster.status() if node.name == name)


def test_mistakes_are_told(cluster: LocalCluster) -> None:
    for words, says in ((("stop", "redis-9"), "no node 'redis-9'"), (("log", "x"), "no node 'x'")):
        found = command(cluster, "cluster", *words)
        assert found.returncode == 2 and says in found.stderr and "Traceback" not in found.stderr


def test_the_primarys_machine_is_lost_and_no_acknowledged_commit(cluster: LocalCluster) -> None:
    """Commits pause for Patroni's ttl and a little; who holds the project open goes on by itself; what was acknowledged
    is there on the new primary, and again when the old one has come back as its replica."""
    with stook.open(cluster.project) as p:
        p.apply()
        p.apply([Entity("acknowledged_0", join_keys={"id": Int64})])
        (primary,) = [node.name for node in cluster.status() if node.health.role == "primary"]
        acknowledged, number, paused_s = [0], 0, 0.0
        cluster.stop(primary, at_once=True)
        killed = last = time.monotonic()
        while len(acknowledged) < 20:
            assert time.monotonic() - killed < 4 * TTL_S, "no new primary"
            number += 1
            try:
                p.apply([Entity(f"acknowledged_{number}", join_keys={"id": Int64})])
            except StookError:
                continue
            acknowledged.append(number)
            paused_s, last = max(paused_s, time.monotonic() - last), time.monotonic()
        print(f"commits paused {paused_s:.1f} s")
        assert paused_s < 2 * TTL_S

        def there() -> set[str]:
            return {record.name for record in p.list("entity")}

        assert {f"acknowledged_{n}" for n in acknowledged} <= there()
        assert state(cluster, primary).state is WorkState.GONE
        cluster.start(primary, print)
        await_true(lambda: state(cluster, primary).health.role == "replica", "the old primary's return", 60.0)
        assert {f"acknowledged_{n}" for n in acknowledged} <= there()
