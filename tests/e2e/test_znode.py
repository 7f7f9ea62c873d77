"""`stook znode` as its user types it, on the embedded store and on ZooKeeper."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.zookeeper_servers import Ensemble

from stook.app import open_coordination
from stook.core.ports.coordination import Coordination
from stook.edge.cli.main import cli

STOOK = [sys.executable, "-m", "stook"]


class Shell:
    """A project's command line."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *words: object, typed_in: bytes | None = None) -> Result:
        typed = ["-C", str(self.root), *(str(word) for word in words)]
        result = CliRunner().invoke(cli, typed, input=typed_in, catch_exceptions=False)
        assert "Traceback" not in result.output
        return result

    def said(self, *words: object, typed_in: bytes | None = None) -> str:
        result = self.run(*words, typed_in=typed_in)
        assert result.exit_code == 0, result.output
        return result.stdout

    def answer(self, *words: object) -> Any:
        return json.loads(self.said("--json", *words))

    def refusal(self, *words: object, code: int) -> str:
        result = self.run(*words)
        assert result.exit_code == code, result.output
        return result.stderr


@pytest.fixture(params=["sqlite", "zookeeper"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    engines = ""
    if request.param == "zookeeper":
        servers: Ensemble = request.getfixturevalue("shared_ensemble")
        engines = f'[engines]\ncoordination = "{servers.url(f"/znode/{tmp_path.name}")}"\n'
    (tmp_path / "stook.toml").write_text(f'[project]\nname = "first"\n{engines}')
    yield Shell(tmp_path)


def test_a_node_from_creation_to_deletion(shell: Shell) -> None:
    assert shell.said("znode", "ls") == "(no children)\n"
    assert shell.said("znode", "create", "-p", "/a/b", "hello") == "/a/b\n"
    assert shell.said("znode", "get", "/a/b") == "hello\n"
    assert shell.said("znode", "set", "/a/b", "bye", "--expect", 0) == "/a/b is at data version 1\n"
    assert "expected 0" in (refused := shell.refusal("znode", "set", "/a/b", "x", "--expect", 0, code=1)) or (
        "another data version" in refused
    )
    assert shell.said("znode", "ls", "/a") == "b\n"
    stat = shell.answer("znode", "stat", "/a/b")
    assert (stat["data_version"], stat["data_bytes"], stat["children"], stat["ephemeral_owner"]) == (1, 3, 0, 0)
    assert stat["mzxid"] > stat["czxid"]
    assert "data_version" in shell.said("znode", "stat", "/a/b")
    assert shell.answer("znode", "get", "/a/b")["data"] == "bye"
    assert shell.answer("znode", "ls", "/a") == ["b"]
    assert "children" in shell.refusal("znode", "delete", "/a", code=1)
    assert shell.said("znode", "delete", "/a", "-r") == "deleted /a and 1 below it\n"
    assert shell.answer("znode", "ls") == []


def test_sequential_and_ephemeral_kinds(shell: Shell) -> None:
    first, second = (shell.answer("znode", "create", "-s", "/n-")["path"] for _ in range(2))
    assert first < second
    made = shell.answer("znode", "create", "-e", "--hold-s", 0, "/e")
    assert made["stat"]["ephemeral_owner"] != 0
    assert shell.answer("znode", "ls") == [first[1:], second[1:]]
    assert "--ephemeral" in shell.refusal("znode", "create", "--hold-s", 1, "/e", code=2)


def test_binary_data_is_shown_safely_and_comes_back(shell: Shell) -> None:
    data = b"\x1b[2J\xff\\caf\xc3\xa9\n"
    shell.said("znode", "create", "/a", "-", typed_in=data)
    assert shell.said("znode", "get", "/a") == "\\x1b[2J\\xff\\\\café\n\n"
    assert shell.answer("znode", "get", "/a")["data_base64"] == "G1sySv9cY2Fmw6kK"
    assert shell.run("znode", "get", "/a", "--raw").stdout_bytes == data


def test_mistakes_are_one_line_and_a_code(shell: Shell) -> None:
    assert "no node '/none'" in shell.refusal("znode", "stat", "/none", code=2)
    assert "/none" in shell.refusal("znode", "get", "/none", code=2)
    assert "'none'" in shell.refusal("znode", "get", "none", code=2)
    assert "/b" in shell.refusal("znode", "create", "/b/c", code=2)
    assert "1048575" in shell.refusal("znode", "set", "/", "x" * 1_100_000, code=2)
    shell.said("znode", "create", "/a")
    assert "exists" in shell.refusal("znode", "create", "/a", code=1)
    assert "did not change" in shell.refusal("znode", "watch", "/a", "--timeout-s", 0.05, code=1)
    refused = json.loads(shell.run("--json", "znode", "get", "/none").stdout)
    assert refused["error"]["code"] == "unknown_object"


def test_watch_says_what_changes(shell: Shell) -> None:
    typed = [*STOOK, "-C", str(shell.root), "znode", "watch", "/a", "--count", "5", "--timeout-s", "60"]
    process = subprocess.Popen(typed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = process.stdout, process.stderr
    assert out is not None
    assert err is not None
    changes: list[tuple[Callable[[Coordination], object], str]] = [
        (lambda c: c.create("/a"), "/a was created\n"),
        (lambda c: c.set("/a", b"1"), "/a is at data version 1\n"),
        (lambda c: c.create("/a/b"), "/a has new child b\n"),
        (lambda c: c.delete("/a/b"), "/a lost child b\n"),
        (lambda c: c.delete("/a"), "/a was deleted\n"),
    ]
    with open_coordination(shell.root) as coordination, out, err:
        try:
            assert err.readline() == "watching /a\n"
            for change, line in changes:
                change(coordination)
                assert out.readline() == line
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait(60)


def test_a_held_node_goes_when_the_command_is_interrupted(shell: Shell) -> None:
    process = subprocess.Popen([*STOOK, "-C", str(shell.root), "znode", "create", "-e", "/e"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"/e\n"
        assert shell.answer("znode", "ls") == ["e"]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert shell.answer("znode", "ls") == []


def test_an_engine_without_servers_is_told(tmp_path: Path) -> None:
    (tmp_path / "stook.toml").write_text('[project]\nname = "first"\n[engines]\ncoordination = "zookeeper:///none"\n')
    assert "names no servers" in Shell(tmp_path).refusal("znode", "ls", code=2)


def test_servers_that_do_not_answer_are_one_line_and_nothing_of_the_driver(tmp_path: Path) -> None:
    (tmp_path / "stook.toml").write_text(
        '[project]\nname = "first"\n[engines]\ncoordination = "zookeeper://127.0.0.1:1,127.0.0.1:2/x"\n'
    )
    done = subprocess.run([*STOOK, "-C", str(tmp_path), "znode", "ls"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(r"error: no ZooKeeper server .* within 10 s\n  hint: .*\n", done.stderr), done.stderr
