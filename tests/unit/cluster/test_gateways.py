"""What a gateway says of itself, and what a balancer makes of members that say something else."""

from __future__ import annotations

import json
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.servers import await_true

import stook
from stook.app.gateways import GROUP, gateway_at, keep_balanced
from stook.cluster.membership import Membership
from stook.core.errors import InvalidArgument


@pytest.mark.parametrize(
    ("address", "hosts"),
    [
        ("127.0.0.1:6566", {"127.0.0.1"}),
        ("localhost:1", {"127.0.0.1", "::1"}),
        ("[::1]:1", {"::1"}),
        ("[0:0::1]:1", {"::1"}),
    ],
)
def test_an_address_is_told_in_one_spelling(address: str, hosts: set[str]) -> None:
    assert gateway_at("a", address).host in hosts


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("a", "0.0.0.0:6566"), ("a", "[::]:6566"), ("a", "http://10.0.0.5:6566"), ("a", "host"), ("a", ":1"),
        ("a", "127.0.0.1:0"), ("a", "127.0.0.1:65536"), ("a b", "127.0.0.1:1"), ("", "127.0.0.1:1"),
        ("a", "no.such.host.invalid:1"),
    ],
)  # fmt: skip
def test_what_no_balancer_could_reach_is_refused(name: str, address: str) -> None:
    with pytest.raises(InvalidArgument, match="is no gateway that a balancer could reach"):
        gateway_at(name, address)


def test_a_member_that_talks_nonsense_stops_nobody(tmp_path: Path) -> None:
    """Its words are left out, once said, and the others are in the file."""
    (tmp_path / "stook.toml").write_text('[project]\nname = "p"\n')
    said: list[str] = []
    stop = threading.Event()
    file = tmp_path / "h.cfg"
    url = f"haproxy:///{file}?socket={tmp_path}/s"
    keeper = threading.Thread(target=keep_balanced, args=(tmp_path, url, lambda: not stop.is_set(), said.append))
    words = [b"\xff", b"[]", b"7", b'{"host": null, "port": "a"}', b'{"host": "x;y", "port": 1}']
    words += [json.dumps({"host": "127.0.0.1", "port": 1, "calls_max": 10**9}).encode()]
    with ExitStack() as stack:
        for number, data in enumerate([*words, json.dumps({"host": "127.0.0.1", "port": 1}).encode()]):
            p = stack.enter_context(stook.open(tmp_path))
            Membership(p.coordination, GROUP).register(f"m{number}", data, wait_s=5)
        keeper.start()
        try:
            await_true(lambda: file.exists() and "server m6 127.0.0.1:1 " in file.read_text(), "the good one")
            await_true(lambda: any("6 members say nothing" in line for line in said), "a word about the others")
            time.sleep(1.2)  # two looks more
            assert keeper.is_alive()
            assert file.read_text().count("    server ") == 1
        finally:
            stop.set()
            keeper.join(30)
