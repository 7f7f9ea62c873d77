"""Runs the main job on a year of real flights and prints what it measured.

It is its own file because it is the one place where every step meets: data, definitions, parity, training set, model,
release, server. `make demo` runs it and ends; `make serve` keeps the server running. It must never print a figure that
it did not just measure, nor leave a process behind.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from asks import LABEL, SCHEDULE, TEST_START, YEAR_END, YEAR_START, asks, outcomes, replays
from model import fit, roc
from picture import Answers, draw
from prepare import prepare

import stook

HERE = Path(__file__).resolve().parent
INSTANTS = 20
FLIGHTS_PER_INSTANT = 120
PREDICTIONS_TIMED = 1_000
FEATURES_SHOWN_EVERY = 4
SERVER_START_SECONDS_MAX = 60
T = TypeVar("T")


class Report:
    """What was done, how much of it, and how long it took; printed as it happens."""

    def __init__(self) -> None:
        self.started = time.perf_counter()

    def section(self, title: str) -> None:
        """Begins a part."""
        print(f"\n{title}", flush=True)

    def line(self, what: str, detail: str) -> None:
        """One measured fact."""
        print(f"  {what:<34}{detail}", flush=True)

    def timed(self, what: str, work: Callable[[], T], rows: Callable[[T], int]) -> T:
        """Does the work; reports its rows, seconds and rows a second."""
        started = time.perf_counter()
        done = work()
        seconds = time.perf_counter() - started
        count = rows(done)
        self.line(what, f"{count:>9,} rows {seconds:>8.2f} s {count / seconds:>12,.0f} rows/s")
        return done


def parity(report: Report, test: pa.Table) -> int:
    """Replays the platform at ascending instants; returns how many values differ between online and offline."""
    report.section(f"Parity: online = offline, at {INSTANTS} frozen instants")
    flights = values = differing = 0
    started = time.perf_counter()
    for moment, chosen in replays(test, INSTANTS, FLIGHTS_PER_INSTANT):
        with stook.open(HERE, clock=moment.isoformat()) as platform:
            platform.materialize_incremental(moment)
            found = platform.parity("everything", chosen.drop_columns(["event_timestamp"]))
        flights += found.entities
        values += found.values
        differing += found.differing
        for difference in found.differences:
            print(f"    {moment} {difference}")
    report.line("flights, values compared", f"{flights:,} flights, {values:,} values")
    report.line("differences", f"{differing}   ({time.perf_counter() - started:.1f} s)")
    return differing


def learn(platform: Any, report: Report, data_dir: Path) -> tuple[Any, Answers, float, float]:
    """Training set, model with and without features, release; returns release, test answers and both AUCs."""
    report.section("Training: January to September teach, October to December test")
    teach, test = asks(data_dir, YEAR_START, TEST_START), asks(data_dir, TEST_START, YEAR_END)
    join = {"features": "delay", "as_known_at": "event_timestamp"}
    saved = report.timed(
        "point-in-time join, saved", lambda: platform.get_historical_features(teach, **join).save("delay_train"),
        lambda manifest: manifest.rows,
    )  # fmt: skip
    tested = report.timed(
        "point-in-time join, test", lambda: platform.get_historical_features(test, **join).to_arrow(),
        lambda table: table.num_rows,
    )  # fmt: skip
    dataset = platform.dataset("delay_train")
    with_run = report.timed(
        "train with features", lambda: platform.train("delay", fit, data=dataset, label=LABEL), lambda _: saved.rows
    )
    alone = teach.select([*SCHEDULE, LABEL])
    alone_run = report.timed(
        "train with the schedule alone", lambda: platform.train("schedule", fit, data=alone, label=LABEL),
        lambda _: alone.num_rows,
    )  # fmt: skip
    release = platform.release("delay", with_run, features="delay")
    platform.deploy("schedule", platform.release("schedule", alone_run))
    platform.deploy("delay", release)
    inputs = [column.name for column in release.inputs]
    scores = [
        np.asarray(platform.score("delay", tested.select(inputs))),
        np.asarray(platform.score("schedule", test.select(list(SCHEDULE)))),
    ]
    late = test[LABEL].to_numpy().astype(bool)
    with_auc, alone_auc = (roc(late, score)[2] for score in scores)
    report.line("test AUC with features", f"{with_auc:.4f}   ({len(inputs)} inputs, {test.num_rows:,} flights)")
    report.line("test AUC, schedule alone", f"{alone_auc:.4f}   ({len(SCHEDULE)} inputs)")
    report.line("gain", f"{with_auc - alone_auc:+.4f}")
    return release, Answers(test, *scores), with_auc, alone_auc


@contextmanager
def server(clock: datetime, port: int = 0) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`stook serve` with two workers on a port, its clock frozen; yields its address; stops it gracefully."""
    command = [sys.executable, "-m", "stook", "-C", str(HERE), "serve", "--workers", "2", "--port", str(port)]
    process = subprocess.Popen([*command, "--clock", clock.isoformat()], stdout=subprocess.PIPE, text=True)
    try:
        yield _address(process), process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + SERVER_START_SECONDS_MAX
    while time.monotonic() < deadline:
        line = process.stdout.readline()
        if found := re.search(r"http://\S+?:\d+", line):
            return found.group()
        if not line and process.poll() is not None:
            raise SystemExit("the server did not start; see above")
    raise SystemExit(f"the server was not ready within {SERVER_START_SECONDS_MAX} s")


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """One HTTP request with a JSON body."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def flight_body(flight: dict[str, Any]) -> dict[str, Any]:
    """What a client sends to ask about one flight: its keys, and the schedule that is no feature."""
    keys = ("origin", "dest", "carrier", "tailnum")
    return {"entities": {key: [flight[key]] for key in keys}, "request": {name: flight[name] for name in SCHEDULE}}


def latency(report: Report, what: str, call: Callable[[], object]) -> None:
    """Times a call many times, one after another."""
    for _ in range(20):
        call()
    taken = np.empty(PREDICTIONS_TIMED)
    for number in range(PREDICTIONS_TIMED):
        started = time.perf_counter()
        call()
        taken[number] = time.perf_counter() - started
    p50, p99 = np.percentile(taken * 1e3, [50, 99])
    report.line(what, f"p50 {p50:.3f} ms   p99 {p99:.3f} ms   ({PREDICTIONS_TIMED:,} calls, one flight each)")


def answer(report: Report, platform: Any, test: pa.Table, moment: datetime) -> None:
    """One prediction over HTTP with its features, then latencies in process and over HTTP."""
    report.section("Serving: one flight, asked one hour before it leaves")
    times = test["event_timestamp"].to_pylist()
    flight = test.slice(next(i for i, t in enumerate(times) if t >= moment), 1).to_pylist()[0]
    body = flight_body(flight)
    with server(moment) as (address, _):
        reply = post(f"{address}/predict/delay", body)
        report.line("flight", f"{flight['carrier']} {flight['tailnum']} {flight['origin']} to {flight['dest']}")
        report.line(
            "chance to be late, it was", f"{reply['predictions'][0]:.3f}, {flight[LABEL]}   ({reply['release']})"
        )
        for name, values in list(reply["features"].items())[::FEATURES_SHOWN_EVERY]:
            age = reply["ages"][name][0]
            shown = "" if values[0] is None else f"{values[0]:.4g}"
            old = "" if age is None else f"{age / 60:.0f} min old"
            print(f"    {name:<28}{shown:>10}  {reply['statuses'][name][0]:<16}{old}")
        print(f"    and {len(reply['features']) - len(range(0, len(reply['features']), FEATURES_SHOWN_EVERY))} more")
        local = platform.predict("delay", entities=body["entities"], request=body["request"])
        same = local.predictions == reply["predictions"]
        report.line("in process, the same answer", "yes" if same else f"NO: {local.predictions}")
        report.section("Latency of predict")
        latency(report, "in process", lambda: platform.predict("delay", **body))
        with stook.open(address) as remote:
            latency(report, "over HTTP, remote SDK", lambda: remote.predict("delay", **body))


def main() -> int:
    """Runs everything; the exit code is 0 when parity holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help="keep serving at the end, until Ctrl-C")
    parser.add_argument("--port", type=int, default=6566, help="the port to keep serving on")
    options = parser.parse_args()
    report = Report()
    shutil.rmtree(HERE / ".stook", ignore_errors=True)  # the demo starts from nothing
    done = run(report)
    if options.serve:
        keep_serving(done.moment, options.port)
    return 1 if done.differing else 0


class Done(NamedTuple):
    """What the main job leaves: the instant it is online at, the flights of the test, and how many values differed."""

    moment: datetime
    test: pa.Table
    differing: int


def run(report: Report) -> Done:
    """The main job, in a project that holds nothing yet."""
    report.section("Data: departures from New York in 2013")
    rows = prepare(HERE)
    seconds = rows.pop("seconds")
    for name, count in rows.items():
        report.line(name, f"{int(count):>9,} rows")
    report.line("prepared in", f"{seconds:.1f} s; outcomes {outcomes(HERE / 'data')}")
    test = asks(HERE / "data", TEST_START, YEAR_END)
    with stook.open(HERE) as platform:
        report.section("Definitions")
        report.line("apply", str(platform.apply()).splitlines()[-1])
    differing = parity(report, test)
    moment = test["event_timestamp"][test.num_rows - test.num_rows // (4 * INSTANTS)].as_py()  # later than all replays
    with stook.open(HERE, clock=moment.isoformat()) as platform:
        report.section(f"Online: materialize a new generation through {moment:%Y-%m-%d %H:%M} UTC")
        for done in platform.materialize(None, moment, replace=True):
            report.line(done.view, f"{done.rows:>9,} rows {done.seconds:>8.2f} s")
        _, answers, _, _ = learn(platform, report, HERE / "data")
        answer(report, platform, test, moment)
    (HERE / "out").mkdir(exist_ok=True)
    picture = draw(answers, HERE / "data", HERE / "out" / "delays.png")
    report.section("Done")
    report.line("picture", str(picture.relative_to(Path.cwd()) if picture.is_relative_to(Path.cwd()) else picture))
    report.line("whole run", f"{time.perf_counter() - report.started:.1f} s")
    report.line("parity differences", str(differing))
    return Done(moment, test, differing)


def keep_serving(moment: datetime, port: int) -> None:
    """Serves until Ctrl-C."""
    with server(moment, port) as (address, process):
        print(f"\nserving at {address}, its clock frozen at {moment:%Y-%m-%d %H:%M} UTC; Ctrl-C ends it", flush=True)
        try:
            process.wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    sys.exit(main())
