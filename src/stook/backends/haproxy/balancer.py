"""The Balancer port on HAProxy's runtime socket.

It is a file of its own because it alone speaks to the socket. The app opens it by entry point from
`haproxy:///folder/haproxy.cfg?bind=127.0.0.1:6566&balance=leastconn&socket=/folder/haproxy.sock`. It must never take an
answer for good that it has not read: HAProxy says what went wrong in words, without a code.
"""

from __future__ import annotations

import csv
import ipaddress
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from stook.backends.haproxy.configuration import BACKEND, Front, render, server_words
from stook.core.errors import Conflict, EngineUnavailable, InvalidSettings
from stook.core.ports.balancer import Act, Duty, Gateway, Server, Step, check_gateway
from stook.core.settings import EngineUrl

ANSWER_WAIT_S: Final = 5.0
ANSWER_BYTES_MAX: Final = 4 << 20
_ADDED: Final = "New server registered."
_DELETED: Final = "Server deleted."


class HaproxyBalancer:
    """One HAProxy: its file, and the socket that the file names."""

    def __init__(self, path: Path, front: Front) -> None:
        self._path = path
        self._front = front

    def servers(self) -> list[Server]:
        lines = self._ask(f"show stat {BACKEND} 4 -1").lstrip("# ").splitlines()
        if not lines or not lines[0].startswith("pxname,svname"):
            raise EngineUnavailable(f"HAProxy at {self._front.socket} answered {lines[:1]}", hint="see its log")
        rows = csv.DictReader(lines)
        return sorted((_server(row) for row in rows if row["pxname"] == BACKEND), key=lambda server: server.name)

    def act(self, act: Act) -> None:
        gateway, name = act.gateway, f"{BACKEND}/{act.gateway.name}"
        check_gateway(gateway)
        match act.step:
            case Step.ADD:
                self._tell(f"add server {name} {server_words(gateway)}", _ADDED)
                self._tell(f"enable health {name}")
            case Step.READY:
                self._tell(f"enable health {name}")  # again: whoever added it may have been killed before it did
                self._tell(f"set server {name} state ready")
            case Step.DRAIN:
                self._tell(f"set server {name} state drain")
            case Step.REST:
                self._tell(f"set server {name} state maint")
            case Step.WEIGH:
                self._tell(f"set server {name} weight {gateway.weight}")
            case Step.REMOVE:
                self._tell(f"del server {name}", _DELETED)

    def write(self, gateways: Sequence[Gateway]) -> bool:
        for gateway in gateways:
            check_gateway(gateway)
        text = render(self._front, gateways)
        if self._path.exists() and (not gateways or self._path.read_text() == text):
            return False
        new = self._path.with_name(f"{self._path.name}.{os.getpid()}.new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with new.open("w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except OSError as error:
            raise EngineUnavailable(
                f"{self._path} cannot be written: {error.strerror}", hint="make it writable"
            ) from None
        return True

    def _tell(self, command: str, good: str = "") -> None:
        """Gives a command whose good answer is known. Raises Conflict for any other."""
        answer = self._ask(command)
        if answer != good:
            raise Conflict(f"HAProxy answered {answer!r} to {command!r}", hint="look at its servers and decide again")

    def _ask(self, command: str) -> str:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
                door.settimeout(ANSWER_WAIT_S)
                door.connect(self._front.socket)
                door.sendall(command.encode() + b"\n")
                answer = bytearray()
                while part := door.recv(65_536):
                    answer += part
                    if len(answer) > ANSWER_BYTES_MAX:
                        raise EngineUnavailable(f"HAProxy's answer to {command!r} does not end", hint="see its log")
        except OSError as error:
            raise EngineUnavailable(
                f"HAProxy does not answer at {self._front.socket}: {error.strerror or error}", hint="is it running?"
            ) from None
        return answer.decode(errors="replace").strip()


def open_balancer(url: EngineUrl, root: Path) -> HaproxyBalancer:
    """The balancer whose file is the URL's path. Raises InvalidSettings."""
    if url.path is None:
        raise InvalidSettings(f"the balancer is {url.text!r}, without a file", hint="haproxy:///haproxy.cfg?bind=...")
    path = root / url.path
    default = str(path.with_suffix(".sock"))
    front = Front(
        url.option("bind", "127.0.0.1:6566"), url.option("balance", "leastconn"), url.option("socket", default)
    )
    render(front, ())
    return HaproxyBalancer(path, front)


def _server(row: dict[str, str]) -> Server:
    host, _, port = row["addr"].rpartition(":")
    status = row["status"]
    duty = Duty.RESTING if status.startswith("MAINT") else Duty.DRAINING if status.startswith("DRAIN") else Duty.READY
    calls = int(row["scur"] or 0) + int(row["qcur"] or 0)
    healthy = row["check_status"].removeprefix("* ") == "L7OK"
    with suppress(ValueError):
        host = str(ipaddress.ip_address(host.strip("[]")))
    return Server(row["svname"], host, int(port), int(row["weight"] or 0), duty, healthy, calls)
