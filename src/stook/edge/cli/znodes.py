"""Commands about the nodes of the coordination store: stook znode ls, get, set, create, delete, stat, watch.

They are a file of their own so that a command loads only its like. `main` loads it by name. It must only translate, and
never let a byte of a node's data reach a terminal that could act on it.
"""

from __future__ import annotations

import base64
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

from stook.core.errors import SessionLost, UnknownObject
from stook.core.instants import to_rfc3339
from stook.core.ports.coordination import ANY, Coordination, Create, Delete, Operation, Stat, State, parent_of
from stook.edge.cli.session import FAILED, Session, command

group = click.Group("znodes")
znode = click.Group(
    "znode",
    help="Look at and change nodes of the coordination store.\n\nWhere stook.toml names no other, it is a file of the "
    "project; with ZooKeeper, PATH is below the URL's chroot.",
)
group.add_command(znode)
EXPECT: Final = click.option(
    "--expect", type=click.IntRange(min=0), metavar="VERSION", help="Only at this data version. Default: at any."
)
HOLD_S_MAX: Final = 86_400.0


@contextmanager
def _opened(session: Session) -> Iterator[Coordination]:
    from stook.app import open_coordination  # start-up time: --help needs no engine

    with open_coordination(session.project) as coordination:
        yield coordination


@command(znode, "ls")
@click.argument("path", default="/")
def ls(session: Session, path: str) -> None:
    """List the children of PATH (default /), sorted."""
    with _opened(session) as coordination:
        coordination.sync()
        names = coordination.children(path)
    session.answer(names, "\n".join(shown(name.encode()) for name in names) or "(no children)")


@command(znode, "get")
@click.argument("path")
@click.option("--raw", is_flag=True, help="Write the bytes as they are, and nothing else.")
def get(session: Session, path: str, raw: bool) -> None:
    """Show the data of PATH. What is no text, or could steer a terminal, is shown escaped."""
    with _opened(session) as coordination:
        coordination.sync()
        node = coordination.get(path)
    if raw:
        sys.stdout.buffer.write(node.data)
        return
    session.answer({"path": path, **_data_json(node.data), "stat": _stat_json(node.stat)}, shown(node.data))


@command(znode, "set")
@click.argument("path")
@click.argument("data")
@EXPECT
def set_(session: Session, path: str, data: str, expect: int | None) -> None:
    """Set the data of PATH to DATA; - reads it from standard input."""
    with _opened(session) as coordination:
        stat = coordination.set(path, _bytes(data), expected=ANY if expect is None else expect)
    session.answer({"path": path, "stat": _stat_json(stat)}, f"{path} is at data version {stat.data_version}")


@command(znode, "create")
@click.argument("path")
@click.argument("data", default="")
@click.option("-e", "--ephemeral", is_flag=True, help="It vanishes when this command ends; see --hold-s.")
@click.option("-s", "--sequential", is_flag=True, help="Append ten digits that grow with every child of the parent.")
@click.option("-p", "--parents", is_flag=True, help="Create what is missing above it too.")
@click.option(
    "--hold-s",
    type=click.FloatRange(0, HOLD_S_MAX),
    help="How long an ephemeral node is held, in seconds. Default: until interrupted, a day at most.",
)
def create(
    session: Session,
    path: str,
    data: str,
    *,
    ephemeral: bool,
    sequential: bool,
    parents: bool,
    hold_s: float | None,
) -> None:
    """Create PATH with DATA (default: none); - reads it from standard input. Prints the path it got."""
    if hold_s is not None and not ephemeral:
        raise click.UsageError("--hold-s goes with --ephemeral: other nodes stay anyway")
    with _opened(session) as coordination:
        if parents:
            _make_parents(coordination, path)
        node = coordination.create(path, _bytes(data), ephemeral=ephemeral, sequential=sequential)
        session.answer({"path": node.path, "stat": _stat_json(node.stat)}, node.path)
        if ephemeral:
            sys.stdout.flush()
            _hold(coordination, HOLD_S_MAX if hold_s is None else hold_s)


@command(znode, "delete")
@click.argument("path")
@EXPECT
@click.option("-r", "--recursive", is_flag=True, help="All below it too, in one change; at most 1000 nodes.")
def delete(session: Session, path: str, expect: int | None, recursive: bool) -> None:
    """Delete PATH."""
    expected = ANY if expect is None else expect
    with _opened(session) as coordination:
        below = list(_descendants(coordination, path)) if recursive else []
        operations: list[Operation] = [Delete(each) for each in reversed(below)]
        coordination.multi([*operations, Delete(path, expected)])
    session.answer({"deleted": [path, *below]}, f"deleted {path}" + (f" and {len(below)} below it" if below else ""))


@command(znode, "stat")
@click.argument("path")
def stat_(session: Session, path: str) -> None:
    """Show what is known of PATH beside its data."""
    with _opened(session) as coordination:
        coordination.sync()
        stat = coordination.exists(path)
    if stat is None:
        raise UnknownObject(f"there is no node {path!r}", hint=f"see `stook znode ls {parent_of(path)}`")
    value = {"path": path, **_stat_json(stat)}
    session.table(("field", "value"), list(value.items()), value)


@command(znode, "watch")
@click.argument("path")
@click.option("--count", type=click.IntRange(min=1), default=1, show_default=True, help="End after so many changes.")
@click.option(
    "--timeout-s", type=click.FloatRange(0, HOLD_S_MAX), default=HOLD_S_MAX, help="Fail after so many seconds."
)
def watch(session: Session, path: str, count: int, timeout_s: float) -> None:
    """Wait until PATH, its data or its children change; one line (with --json a document) for each change.

    PATH need not be there. Changes that follow each other quickly may be seen as one.
    """
    deadline_s = time.monotonic() + timeout_s
    flag = threading.Event()
    with _opened(session) as coordination:
        before = _look(coordination, path, flag)
        session.note(f"watching {path}")
        while count:
            if not flag.wait(max(deadline_s - time.monotonic(), 0.0)):
                session.note(f"error: {path} did not change within {timeout_s:g} s")
                sys.exit(FAILED)
            flag.clear()
            if coordination.session().state is State.LOST:
                coordination.renew()
            after = _look(coordination, path, flag)
            if after != before:
                count -= 1
                session.answer({"path": path, **after}, f"{path} {_difference(before, after)}")
                sys.stdout.flush()
            before = after


def shown(data: bytes) -> str:
    r"""Data as text that no terminal acts on: what is not printable is escaped.

    >>> shown(b"caf\xc3\xa9\n\x1b[2J\xff\\")
    'café\n\\x1b[2J\\xff\\\\'
    """
    return "".join(_escaped(letter) for letter in data.decode("utf-8", "surrogateescape"))


def _escaped(letter: str) -> str:
    if letter != "\\" and (letter.isprintable() or letter in "\n\t"):
        return letter
    code = ord(letter)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else letter.encode("unicode_escape").decode()


def _bytes(data: str) -> bytes:
    return sys.stdin.buffer.read() if data == "-" else data.encode()


def _data_json(data: bytes) -> dict[str, str]:
    try:
        return {"data": data.decode()}
    except UnicodeDecodeError:
        return {"data_base64": base64.b64encode(data).decode()}


def _stat_json(stat: Stat) -> dict[str, Any]:
    return {
        "czxid": stat.czxid,
        "mzxid": stat.mzxid,
        "pzxid": stat.pzxid,
        "ctime": to_rfc3339(stat.ctime_us),
        "mtime": to_rfc3339(stat.mtime_us),
        "data_version": stat.data_version,
        "children_version": stat.children_version,
        "ephemeral_owner": stat.ephemeral_owner,
        "data_bytes": stat.data_bytes,
        "children": stat.children,
    }


def _make_parents(coordination: Coordination, path: str) -> None:
    missing = []
    above = parent_of(path)
    while coordination.exists(above) is None:
        missing.append(above)
        above = parent_of(above)
    if missing:
        coordination.multi([Create(each) for each in reversed(missing)])


def _descendants(coordination: Coordination, path: str) -> Iterator[str]:
    for name in coordination.children(path):
        below = f"{path.rstrip('/')}/{name}"
        yield below
        yield from _descendants(coordination, below)


def _hold(coordination: Coordination, hold_s: float) -> None:
    deadline_s = time.monotonic() + hold_s
    flag = threading.Event()
    while (state := coordination.session(watch=flag).state) is not State.LOST:
        if not flag.wait(max(deadline_s - time.monotonic(), 0.0)):
            return
        flag.clear()
    raise SessionLost(f"the session ended while the node was held: it is {state.value}", hint="create it again")


def _look(coordination: Coordination, path: str, flag: threading.Event) -> dict[str, Any]:
    if coordination.exists(path, watch=flag) is None:
        return {"exists": False}
    try:
        node, names = coordination.get(path, watch=flag), coordination.children(path, watch=flag)
    except UnknownObject:
        return {"exists": False}
    return {"exists": True, **_data_json(node.data), "data_version": node.stat.data_version, "children": names}


def _difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    if not after["exists"]:
        return "was deleted"
    if not before["exists"]:
        return "was created"
    said = []
    if before["data_version"] != after["data_version"]:
        said.append(f"is at data version {after['data_version']}")
    gone, come = set(before["children"]) - set(after["children"]), set(after["children"]) - set(before["children"])
    said += [f"lost child {shown(name.encode())}" for name in sorted(gone)]
    said += [f"has new child {shown(name.encode())}" for name in sorted(come)]
    return ", ".join(said) or "was created anew"
