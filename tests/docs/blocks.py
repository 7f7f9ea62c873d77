"""Runs the fenced blocks of a document, in order, in one folder, and compares what they print.

It is a file of its own because the tutorial, the guides and the README are all run by the same rules. The tests of
this folder call it. It must never be lenient about an exit code: what a reader types has to work.

The rules, which `CONTRIBUTING.md` gives to authors:

- A `console` block holds commands after `$ `, each followed by what it prints on standard output. In what is
  expected `...` stands for any text (as a line of its own also for no line), and any run of spaces for one; a command that prints and has nothing expected
  may print anything. `$ # fails` after a command expects an exit code other than 0, and then what is
  expected is looked for in standard error too. A command ending in ` &` keeps running until the document ends.
- A `python title="NAME"` block (any language) is a file that the reader writes.
- A plain `python` block is a script; a `text` block right behind it is what it prints.
- Everything else is only read. The port 6566 is replaced by a free one, so that two runs do not meet.
"""

from __future__ import annotations

import contextlib
import fnmatch
import importlib
import io
import os
import re
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

from stook.edge.cli.main import cli

_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="([^"]+)"')
PORT = "6566"
COMMAND_SECONDS_MAX = 120
SERVER_SECONDS_MAX = 60


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the rest of its first line, its text, and the document's line it starts in."""

    language: str
    title: str
    body: str
    line: int


def blocks_of(text: str) -> list[Block]:
    """All fenced blocks of a Markdown text, in order."""
    found = []
    for match in _FENCE.finditer(text):
        info = match["info"].strip()
        title = _TITLE.search(info)
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(info.partition(" ")[0], title[1] if title else "", match["body"], line))
    return found


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def matches(expected: str, printed: str) -> bool:
    """Whether the text printed is the one expected, where `...` stands for anything."""
    want, have = (
        "\n".join(" ".join(line.split()) for line in text.strip().splitlines()) for text in (expected, printed)
    )
    pattern = re.sub(r"([\[\]*?])", r"[\1]", want)
    pattern = re.sub(r"\n\.\.\.\n", "\n*", pattern.removesuffix("\n...") + ("*" if pattern.endswith("\n...") else ""))
    return fnmatch.fnmatchcase(have, pattern.replace("...", "*"))


@dataclass
class Reader:
    """Somebody who types a document into a shell, in `folder`.

    Plain `stook ...` and `python FILE` commands and scripts run in this process, since starting a process for each
    would cost more than all they do; anything with a pipe, and servers, run in real shells.
    """

    folder: Path
    document: Path
    port: int = field(default_factory=free_port)
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        scripts = Path(sys.executable).parent
        path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "PYTHONWARNINGS": "error", "COLUMNS": "160"}

    def follow(self) -> int:
        """Runs every block that can be run; returns how many were. Raises AssertionError naming document and line."""
        blocks = blocks_of(self.document.read_text(encoding="utf-8"))
        ran = 0
        try:
            for block, after in zip(blocks, [*blocks[1:], None], strict=True):
                ran += self._run(block, after)
        finally:
            self.stop()
        return ran

    def _run(self, block: Block, after: Block | None) -> bool:
        if block.title:
            path = self.folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._local(block.body), encoding="utf-8")
            return True
        if block.language == "console":
            for command, expected, line in _commands(block):
                self._type(command, expected, line)
            return True
        if block.language == "python":
            expected = after.body if after is not None and after.language == "text" else ""
            code = compile(self._local(block.body), f"{self.document.name}:{block.line}", "exec")
            printed = self._call("the script", block.line, lambda: exec(code, {"__name__": "__main__"}))
            self._compare(expected, printed, block.line, "the script")
            return True
        return False

    def _type(self, command: str, expected: str, line: int) -> None:
        if command.startswith("cd "):
            self.folder = (self.folder / command[3:].strip()).resolve()
            return
        if command.endswith(" &"):
            self._start(command[:-2], line)
            return
        command, fails, _ = command.partition(" # fails")
        words = shlex.split(self._local(command))
        if words[0] == "stook" and not set(command) & set("|>&;"):
            printed = self._call(command, line, lambda: cli(words[1:], prog_name="stook"), fails=bool(fails))
        elif words[0] == "python" and len(words) == 2:
            script = self.folder / words[1]
            printed = self._call(command, line, lambda: runpy.run_path(str(script), run_name="__main__"))
        else:
            printed = self._shell(command, line)
        self._compare(expected, printed, line, command)

    def _call(self, what: str, line: int, call: Callable[[], object], *, fails: bool = False) -> str:
        """What a call in this process prints, run in the folder as a program of its own would be."""
        out, err = io.StringIO(), io.StringIO()
        code: object = 0
        with contextlib.chdir(self.folder), redirect_stdout(out), redirect_stderr(err), _own_modules(self.folder):
            try:
                call()
            except SystemExit as end:
                code = end.code
        where = f"{self.document.name}:{line}: {what}"
        assert (code not in {0, None}) == fails, f"{where}\nexit code {code}\n{out.getvalue()}\n{err.getvalue()}"
        printed = out.getvalue() + err.getvalue() if fails else out.getvalue()
        return printed.replace(str(self.port), PORT)

    def _shell(self, command: str, line: int) -> str:
        done = subprocess.run(
            ["bash", "-c", self._local(command)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        where = f"{self.document.name}:{line}: {command}"
        assert done.returncode == 0, f"{where}\nexit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout.replace(str(self.port), PORT)

    def _compare(self, expected: str, printed: str, line: int, what: str) -> None:
        if expected.strip() and not matches(expected, printed):
            raise AssertionError(
                f"{self.document.name}:{line}: {what}\n--- expected\n{expected}\n--- printed\n{printed}"
            )

    def _start(self, command: str, line: int) -> None:
        log = self.folder / f"server-{len(self.servers)}.log"
        shell = ["bash", "-c", f"exec {self._local(command)} >{log.name} 2>&1"]
        server = subprocess.Popen(shell, cwd=self.folder, env=self.environment)
        self.servers.append(server)
        deadline = time.monotonic() + SERVER_SECONDS_MAX
        while not self._answers():
            assert server.poll() is None, f"{self.document.name}:{line}: {command} ended\n{log.read_text()}"
            assert time.monotonic() < deadline, f"{self.document.name}:{line}: {command} does not answer"
            time.sleep(0.05)  # between two questions of the awaited condition

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _local(self, text: str) -> str:
        """The text for this run: its own port, and `stook serve` told of it."""
        return re.sub(r"\bstook serve\b", f"stook serve --port {PORT}", text).replace(PORT, str(self.port))

    def stop(self) -> None:
        """Ends what still runs."""
        for server in self.servers:
            if server.poll() is None:
                server.send_signal(signal.SIGTERM)
        for server in self.servers:
            server.wait(timeout=COMMAND_SECONDS_MAX)


@contextmanager
def _own_modules(folder: Path) -> Iterator[None]:
    """Lets scripts import what lies beside them, and forgets it afterwards: other documents have other files."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file and (folder / file).is_relative_to(folder):  # a file run by a relative name, too
                del sys.modules[name]
        importlib.invalidate_caches()


def _commands(block: Block) -> list[tuple[str, str, int]]:
    """(command, what it prints, line) of a console block; a command may go on after a backslash."""
    found: list[tuple[str, list[str], int]] = []
    continued = False
    for offset, text in enumerate(block.body.splitlines(), start=1):
        if continued:
            command, expected, line = found[-1]
            found[-1] = (f"{command}\n{text}", expected, line)
            continued = text.endswith("\\")
        elif text.startswith("$ "):
            found.append((text[2:], [], block.line + offset))
            continued = text.endswith("\\")
        elif found:
            found[-1][1].append(text)
    return [(command, "\n".join(expected), line) for command, expected, line in found]
