"""Commands of the cluster on this machine: cluster up, status, down and its parts.

They are a file of their own so that a command loads only its like. `main` loads it by name. It must only translate.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from stook.edge.cli.session import Session, command

if TYPE_CHECKING:
    from stook.app.clusters import LocalCluster

group = click.Group("clustering")
LOG_LINES_MAX = 10_000


@group.group("cluster")
def cluster() -> None:
    """Run the engines of a whole cluster on this machine: ZooKeeper, PostgreSQL, Redis, gateways, HAProxy."""


def _cluster(session: Session) -> LocalCluster:
    from stook.app.clusters import LocalCluster  # start-up time: only these commands need it

    return LocalCluster(session.project)


@command(cluster, "up")
def up(session: Session) -> None:
    """Start what does not run yet, and show how all stand. cluster.toml says how many of each."""
    found = _cluster(session)
    found.up(session.note)
    _show(session, found)


@command(cluster, "status")
def status(session: Session) -> None:
    """Show each node's role and health. Exit code 1 when one is not well."""
    if not _show(session, _cluster(session)):
        raise click.exceptions.Exit(1)


@command(cluster, "down")
@click.option("--delete-data", is_flag=True, help="Delete everything the cluster kept, too.")
def down(session: Session, delete_data: bool) -> None:
    """Stop everything, clients' side first. Its data stays, and `up` goes on from there."""
    _cluster(session).down(session.note, delete_data=delete_data)


@command(cluster, "start")
@click.argument("name")
def start(session: Session, name: str) -> None:
    """Start one node that was taken down."""
    _cluster(session).start(name, session.note)


@command(cluster, "stop")
@click.argument("name")
@click.option("--kill", is_flag=True, help="At once, as if its machine were lost.")
def stop(session: Session, name: str, kill: bool) -> None:
    """Take one node down until it is started again."""
    _cluster(session).stop(name, at_once=kill)
    session.note(f"{name} {'killed' if kill else 'stopped'}")


@command(cluster, "log")
@click.argument("name")
@click.option(
    "-n", "lines", type=click.IntRange(1, LOG_LINES_MAX), default=50, show_default=True, help="How many lines."
)
def log(session: Session, name: str, lines: int) -> None:
    """Print the last lines that a node said."""
    found = _cluster(session).log(name, lines_max=lines)
    session.answer(found, "\n".join(found))


@command(cluster, "env")
def env(session: Session) -> None:
    """Print what makes this shell's stook use the cluster's engines: eval "$(stook cluster env)"."""
    found = _cluster(session).environment()
    session.answer(found, "\n".join(f"export {name}='{value}'" for name, value in found.items()))


@command(cluster, "balancer")
@click.argument("engine", metavar="URL")
def balancer(session: Session, engine: str) -> None:
    """Keep a balancer as the project's gateways are, until stopped.

    URL says which: haproxy:////etc/haproxy/haproxy.cfg?bind=127.0.0.1:6566&balance=leastconn. Its file is written here;
    HAProxy itself is started by whoever starts services (haproxy -W -db -f FILE).
    """
    from stook.app.gateways import keep_balanced  # start-up time: only this command needs it

    keep_balanced(session.project, engine, _until_stopped(), click.echo)


@command(cluster, "keep", hidden=True)
def keep(session: Session) -> None:
    """Start again what ends, until stopped. `up` runs this in the background."""
    _cluster(session).keep(_until_stopped(), click.echo)


def _until_stopped() -> Callable[[], bool]:
    """Whether to go on: until SIGTERM or SIGINT."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    return lambda: not stopping.is_set()


def _show(session: Session, found: LocalCluster) -> bool:
    """Prints the table and the endpoint; whether all are well."""
    nodes = found.status()
    rows = [
        (node.name, node.state.value, node.health.role, "ok" if node.health.well else "NOT WELL", node.port or "", node.health.detail)
        for node in nodes
    ]  # fmt: skip
    well = all(node.health.well and node.state.value == "running" for node in nodes)
    columns = ("node", "program", "role", "health", "port", "detail")
    endpoint = found.endpoint
    as_json = {"endpoint": endpoint, "well": well, "nodes": [dict(zip(columns, row, strict=True)) for row in rows]}
    session.table(columns, rows, as_json)
    if endpoint:
        session.say(f"\nendpoint {endpoint}")
    return well
