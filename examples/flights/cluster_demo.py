"""The same main job on a whole cluster of this machine, then faults while clients go on, and what they saw of them.

It is its own file because it is the one place where a cluster, the job and the faults meet. `make demo-cluster` runs it and
it ends by itself, with the cluster down. It must never show a figure that it did not measure, nor leave a server behind.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
from demo import HERE, Done, Report, flight_body, run
from faults import Asking, Client, Writing

import stook
from stook import Entity, FeatureView, Field, Int64, PushSource

CLIENTS = 2
QUESTIONS = 200
RECOVERED_S = 5.0
RECOVERY_S_MAX = 120.0
PARITY_FLIGHTS = 500
WRITE_PAUSE_S = 0.05


@dataclass(frozen=True)
class Row:
    """One fault, and what clients saw."""

    fault: str
    pause: str
    errors: int
    lost: str
    note: str = ""


def stook_command(*words: str, check: bool = True, quiet: bool = False) -> str:
    """What a `stook` command in this project prints."""
    command = [sys.executable, "-m", "stook", "-C", str(HERE), *words]
    errors = subprocess.DEVNULL if quiet else None
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, text=True, check=check).stdout


def nodes() -> dict[str, dict[str, Any]]:
    """All nodes by name, as `stook cluster status --json` says."""
    told = json.loads(stook_command("cluster", "status", "--json", check=False))
    return {node["node"]: node for node in told["nodes"]}


def one(kind: str, role: str) -> str:
    """The name of a node of that kind and role."""
    for name, node in nodes().items():
        if name.rpartition("-")[0] == kind and node["role"] == role:
            return name
    raise SystemExit(f"no {kind} node is {role}")


def await_well(names: Sequence[str] | None = None) -> None:
    """Waits until nodes (all, by default) run and answer well."""
    deadline = time.monotonic() + RECOVERY_S_MAX
    while time.monotonic() < deadline:
        bad = [
            name for name, node in nodes().items()
            if (names is None or name in names) and (node["health"] != "ok" or node["program"] != "running")
        ]  # fmt: skip
        if not bad:
            return
        time.sleep(0.5)
    raise SystemExit(f"not well after {RECOVERY_S_MAX} s: {', '.join(bad)}")


class Clients:
    """Those who ask for predictions, commit records and push rows, all the while."""

    def __init__(self, platform: Any, endpoint: str, test: pa.Table, moment: datetime) -> None:
        times = test["event_timestamp"].to_pylist()
        begin = next(i for i, t in enumerate(times) if t >= moment)
        flights = test.slice(begin, QUESTIONS).to_pylist()
        bodies = [json.dumps(flight_body(flight)).encode() for flight in flights]
        self.asking = [Asking(endpoint, "/predict/delay", bodies) for _ in range(CLIENTS)]
        self._platform = platform
        self._moment = moment
        self.committing = Writing(self._commit, WRITE_PAUSE_S)
        self.pushing = Writing(self._push, WRITE_PAUSE_S)

    def _commit(self, number: int) -> None:
        self._platform.apply([Entity(f"fault_probe_{number}", join_keys={"probe_id": Int64})])

    def _push(self, number: int) -> None:
        row = {"probe_id": number, "value": number, "event_timestamp": self._moment}
        self._platform.push("fault_probes", [row], to="both")

    def start(self) -> None:
        """Starts them all."""
        for thread in (*self.asking, self.committing, self.pushing):
            thread.start()

    def stop(self) -> None:
        """Ends them all."""
        every: list[Client] = [*self.asking, self.committing, self.pushing]
        for thread in every:
            thread.stop.set()
        for thread in every:
            thread.join(60)

    def settled(self) -> bool:
        """Whether everybody has been served well for a while."""
        since = time.monotonic() - RECOVERED_S
        quiet = all(not asking.errors(since) and asking.pause_s(since) < RECOVERED_S / 2 for asking in self.asking)
        refused = [at for writing in (self.committing, self.pushing) for at, _ in writing.refused if at >= since]
        going = all(writing.pause_s(since) < RECOVERED_S / 2 for writing in (self.committing, self.pushing))
        return quiet and going and not refused

    def await_settled(self) -> bool:
        """Waits until everybody is served well again; whether that came."""
        deadline = time.monotonic() + RECOVERY_S_MAX
        time.sleep(RECOVERED_S)
        while not self.settled():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    def broken(self) -> list[str]:
        """Clients that ended before they were told to, and with what."""
        every: list[Client] = [*self.asking, self.committing, self.pushing]
        return [client.broken for client in every if client.broken]

    def lost_commits(self) -> list[int]:
        """Acknowledged commits that are not there."""
        numbers = self.committing.numbers()  # first: what is acknowledged from now on is not looked for
        there = {record.name for record in self._platform.list("entity")}
        return [number for number in numbers if f"fault_probe_{number}" not in there]

    def lost_rows(self) -> list[int]:
        """Acknowledged rows that are not online."""
        numbers = self.pushing.numbers()
        lost = []
        for start in range(0, len(numbers), 5_000):
            some = numbers[start : start + 5_000]
            found = self._platform.get_online_features(["fault_probes:value"], entities={"probe_id": some}).to_dict()
            lost += [n for n, value in zip(some, found["value"], strict=True) if value != n]
        return lost

    def repair(self) -> list[int]:
        """Brings history online again; acknowledged rows that are then still not there."""
        self._platform.materialize(None, self._moment, ["fault_probes"], replace=True)
        return self.lost_rows()


def strike(clients: Clients, fault: str, act: Callable[[], object], *, writes: str = "") -> Row:
    """Does one fault while all go on, waits until they are well served again, and says what they saw."""
    print(f"  {fault} ...", flush=True)
    quiet = clients.await_settled()
    before = time.monotonic()
    retried = sum(asking.retried for asking in clients.asking)
    act()
    settled = clients.await_settled()
    pause = max(asking.pause_s(before) for asking in clients.asking)
    errors = [problem for asking in clients.asking for problem in asking.errors(before)]
    commits, rows = clients.lost_commits(), clients.lost_rows()
    note = f"{sum(asking.retried for asking in clients.asking) - retried} calls tried again"
    writing = {"commits": clients.committing, "pushes": clients.pushing}.get(writes)
    if writing is not None:
        refused = [text for at, text in writing.refused if at >= before]
        note += f"; {writes} paused {writing.pause_s(before):.1f} s, {len(refused)} refused"
    if errors:
        note += f"; {errors[0][:90]}"
    if not (quiet and settled):
        note += f"; NOT WELL SERVED {'before' if not quiet else 'after'} {RECOVERY_S_MAX:.0f} s"
    return Row(fault, f"{pause:.2f} s", len(errors), f"{len(commits)} commits, {len(rows)} rows", note)


def break_things(clients: Clients) -> list[Row]:
    """All faults, one after the other, each mended before the next."""
    rows = []

    def kill(name: str) -> Callable[[], object]:
        return lambda: stook_command("cluster", "stop", "--kill", name, quiet=True)

    def start(name: str) -> None:
        stook_command("cluster", "start", name, quiet=True)
        await_well()

    def roll() -> None:
        for name in sorted(n for n in nodes() if n.startswith("gateway-")):
            stook_command("cluster", "stop", name, quiet=True)
            stook_command("cluster", "start", name, quiet=True)
            await_well([name])

    for fault, kind, role, writes in (
        ("ZooKeeper leader killed", "zookeeper", "leader", "commits"),
        ("gateway killed", "gateway", "ready", ""),
        ("PostgreSQL primary's machine lost", "postgresql", "primary", "commits"),
        ("Redis master killed", "redis", "master", "pushes"),
    ):
        name = one(kind, role)
        rows.append(strike(clients, f"{fault} ({name})", kill(name), writes=writes))
        start(name)
    rows.append(strike(clients, "all gateways restarted, one by one", roll))
    return rows


def parity_after(done: Done) -> tuple[int, int]:
    """Values compared and differing, online against the offline join, at the instant the demo ended at."""
    times = done.test["event_timestamp"].to_pylist()
    begin = next(i for i, t in enumerate(times) if t >= done.moment)
    keys = done.test.select(["origin", "dest", "carrier", "tailnum"]).slice(begin, PARITY_FLIGHTS)
    with stook.open(HERE, clock=done.moment.isoformat()) as platform:
        platform.materialize_incremental(done.moment)
        found = platform.parity("everything", keys)
    return found.values, found.differing


@contextmanager
def cluster(*, keep: bool) -> Iterator[str]:
    """A cluster of this project from nothing; its endpoint. Down and gone behind the block."""
    stook_command("cluster", "down", "--delete-data")
    shutil.rmtree(HERE / ".stook", ignore_errors=True)  # before anybody opens what is in it
    try:
        stook_command("cluster", "up")
        os.environ.update(json.loads(stook_command("cluster", "env", "--json")))
        yield json.loads(stook_command("cluster", "status", "--json"))["endpoint"]
    finally:
        if not keep:
            stook_command("cluster", "down", "--delete-data", quiet=True)


def main() -> int:
    """Everything; the exit code is 0 when nothing acknowledged was lost for good and parity holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the cluster up at the end")
    options = parser.parse_args()
    report = Report()
    with cluster(keep=options.keep) as endpoint:
        print(stook_command("cluster", "status"), flush=True)
        done = run(report)
        with stook.open(HERE, clock=done.moment.isoformat()) as platform:
            probe = Entity("fault_probe", join_keys={"probe_id": Int64})
            source = PushSource("fault_probe_rows")
            platform.apply(
                [probe, FeatureView("fault_probes", entities=[probe], schema=[Field("value", Int64)], source=source)]
            )
            report.section(
                f"Faults, while {CLIENTS} clients ask for predictions at {endpoint}, one commits, one pushes"
            )
            clients = Clients(platform, endpoint, done.test, done.moment)
            clients.start()
            try:
                rows = break_things(clients)
            finally:
                clients.stop()
            lost, kept_out = clients.lost_commits(), clients.lost_rows()
            repaired = clients.repair()
        values, differing = parity_after(done)
        show(report, rows)
        asked = sum(len(asking.good) for asking in clients.asking)
        report.line("predictions answered", f"{asked:,}")
        report.line(
            "commits, pushes acknowledged", f"{len(clients.committing.numbers()):,}, {len(clients.pushing.numbers()):,}"
        )
        report.line(
            "acknowledged and lost", f"{len(lost)} commits, {len(kept_out)} rows; {len(repaired)} rows after repair"
        )
        report.line("parity afterwards", f"{differing} of {values:,} values differ")
    for broken in clients.broken():
        report.line("a client ended", broken)
    unsettled = [row.fault for row in rows if "NOT WELL SERVED" in row.note]
    return 1 if lost or repaired or differing or done.differing or clients.broken() or unsettled else 0


def show(report: Report, rows: Sequence[Row]) -> None:
    """The table."""
    report.section(
        "What clients saw (longest time without an answer; errors after one retry; acknowledged, then not there)"
    )
    head = ("fault", "pause", "errors", "lost", "")
    cells = [head, *((row.fault, row.pause, str(row.errors), row.lost, row.note) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
