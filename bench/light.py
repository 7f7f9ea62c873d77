"""How light stook is: to import, to start, to install, to leave idle; beside Feast.

It is a file of its own because what is measured are whole processes and environments. `run.py` calls it.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import stook
from measuring import Figure, Plan, interleaved
from peers.environments import FEAST, FEAST_PYTHON, feast_surroundings, free_port
from project import CLOCK, make

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


def measure(plan: Plan) -> list[Figure]:
    """Start-up as whole processes, an idle process's memory, and what an installation takes."""
    return [*_starts(plan), *_server(plan), *([] if plan.quick else _sizes(plan))]


def run(*command: str, surroundings: dict[str, str] | None = None) -> Callable[[], object]:
    """A whole process."""
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=surroundings)


def _starts(plan: Plan) -> list[Figure]:
    python, bare = sys.executable, "python -c pass"
    imports = {"stook": run(python, "-c", "import stook"), bare: run(python, "-c", "pass")}
    helps = {"stook": run(str(BIN / "stook"), "--help")}
    rounds = 5 if plan.quick else 11
    taken = interleaved(imports, rounds), interleaved(helps, rounds)
    if plan.peers:
        around = feast_surroundings()
        theirs = run(str(FEAST_PYTHON), "-c", "import feast", surroundings=around)
        taken[0]["Feast"] = interleaved({"Feast": theirs}, 3)["Feast"]
        theirs = run(str(FEAST / "bin" / "feast"), "--help", surroundings=around)
        taken[1]["Feast"] = interleaved({"Feast": theirs}, 3)["Feast"]
    return [
        Figure("import stook", taken[0], "s", (bare,), "< 0.2 s"),
        Figure("stook --help", taken[1], "s", (), "< 0.4 s"),
    ]


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    (line,) = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def _server(plan: Plan) -> list[Figure]:
    root = plan.folder / "light"
    make(root, entities=100, rows=100)
    with stook.open(root, clock=CLOCK) as p:
        p.apply()
        p.materialize(None, CLOCK, ["ten"])
    starts, memory = [], []
    for _ in range(min(plan.rounds, 3)):
        port = free_port()
        started = time.perf_counter()
        command = [
            str(BIN / "stook"),
            "-C",
            str(root),
            "serve",
            "--workers",
            "1",
            "--port",
            str(port),
            "--clock",
            CLOCK,
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            _await_health(port)
            starts.append(time.perf_counter() - started)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            memory.append(sum(resident_mib(int(pid)) for pid in (process.pid, *children)))
        finally:
            process.terminate()
            process.wait(60)
    return [
        Figure("stook serve: from command to first answer", {"stook": starts}, "s"),
        Figure("stook serve, one worker, idle: resident", {"stook": memory}, "MiB"),
    ]


def _await_health(port: int) -> None:
    while True:
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            link.request("GET", "/health")
            assert link.getresponse().status == 200
        except OSError:
            time.sleep(0.005)
        else:
            return
        finally:
            link.close()


def size_mb(folder: Path) -> float:
    """What a folder takes, pip and setuptools left out."""
    found = [f for f in folder.rglob("*") if f.is_file() and not f.is_symlink()]
    tools = ("pip", "setuptools", "_distutils_hack", "pkg_resources")
    return sum(f.stat().st_size for f in found if not any(part.split("-")[0] in tools for part in f.parts)) / 1e6


def _sizes(plan: Plan) -> list[Figure]:
    places = {"stook": str(ROOT), "stook-client": str(ROOT / "distributions" / "client")}
    places |= {"Feast": "feast"} if plan.peers else {}
    sizes = {}
    for name, what in places.items():
        environment = plan.folder / f"size-{name}"
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, what], check=True)
        sizes[name] = [size_mb(environment / "lib")]
    client = {"stook": sizes.pop("stook-client")}
    return [
        Figure("installed without extras", sizes, "MB", ("Feast",), "<= 0.85x Feast"),
        Figure("installed, the client alone", client, "MB", (), "<= 60 MB"),
    ]
