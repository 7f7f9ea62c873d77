"""How things are timed and how figures are written down: interleaved rounds, medians, spread, ratios.

It is a file of its own because every family of measurements must be fair in the same way. The families call it. It
must never know what is measured.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Samples = dict[str, list[float]]
OURS = "stook"


@dataclass
class Figure:
    """One measured thing: seconds (or rates) of ours and of others, one a round.

    Of the others, `limits` lie underneath: their ratio says how much of their time we take, or what share of their rate
    we reach. The rest are peers, who do the same job for users: their ratio says how many times as fast we are.
    """

    what: str
    samples: Samples
    unit: str
    limits: Sequence[str] = ()
    aim: str = ""

    @property
    def is_rate(self) -> bool:
        """Whether more is better."""
        return self.unit.endswith("/s")

    def median(self, name: str = "") -> float:
        """The median of the rounds."""
        return statistics.median(self.samples[name or OURS])

    def times(self, other: str) -> float:
        """How many times as fast ours is as the other."""
        ratio = self.median(other) / self.median()
        return 1 / ratio if self.is_rate else ratio

    def row(self) -> list[str]:
        """The figure as a table's row: what, ours with its spread, the others with their ratios, the aim."""
        taken = self.samples[OURS]
        spread = f" ({shown(min(taken), self.unit)} to {shown(max(taken), self.unit)})" if len(taken) > 2 else ""
        beside = []
        for name in self.samples:
            if name == OURS:
                continue
            value = f"{name} {shown(self.median(name), self.unit)}"
            if name not in self.limits:
                beside.append(f"{value}: **{ratio_text(self.times(name))}** as fast")
            elif self.is_rate:
                beside.append(f"{value}: **{ratio_text(self.times(name))}** of it")
            else:
                of = "its time" if self.unit == "s" else "of it"
                beside.append(f"{value}: **{ratio_text(1 / self.times(name))}** {of}")
        return [self.what, shown(self.median(), self.unit) + spread, "; ".join(beside), self.aim]


def ratio_text(ratio: float) -> str:
    """`0.43x`, `12x`."""
    return f"{ratio:.2f}x" if ratio < 10 else f"{ratio:,.0f}x"


def shown(value: float, unit: str) -> str:
    """A value with its unit: seconds as us, ms or s by their size."""
    if unit != "s":
        return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    if value < 1e-3:
        return f"{value * 1e6:,.0f} us"
    return f"{value * 1e3:,.1f} ms" if value < 1 else f"{value:.2f} s"


def timed(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def interleaved(cases: Mapping[str, Callable[[], Any]], rounds: int, *, warm: bool = True) -> dict[str, list[float]]:
    """Seconds of each case, each round in turn, so that the machine's moods fall on all alike."""
    if warm:
        for case in cases.values():
            case()
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            taken[name].append(timed(case))
    return taken


def sampled(cases: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each case says of itself (a median, a rate), each round in turn."""
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            taken[name].append(case())
    return taken


def median_call(call: Callable[[Any], Any], arguments: Sequence[Any], calls: int) -> Callable[[], float]:
    """A case that calls with the arguments in turn and says its median seconds."""

    def case() -> float:
        return statistics.median(call_times(call, arguments, calls))

    return case


def call_times(call: Callable[[Any], Any], arguments: Sequence[Any], calls: int) -> list[float]:
    """Seconds of each of the calls, with the arguments in turn; the first tenth, which only warms, left out."""
    spent = []
    warm = calls // 10
    for number in range(calls + warm):
        argument = arguments[number % len(arguments)]
        started = time.perf_counter()
        call(argument)
        taken = time.perf_counter() - started
        if number >= warm:
            spent.append(taken)
    return spent


def percentile(values: Iterable[float], share: float) -> float:
    """The value below which `share` of the values lie."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def as_table(rows: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    """Rows as Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine(versions: Mapping[str, str]) -> str:
    """Hardware and versions."""
    info = Path("/proc/cpuinfo")
    cpu = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    name = cpu.group(1) if cpu else platform.processor()
    libraries = ", ".join(f"{library} {text}" for library, text in versions.items())
    return f"{os.cpu_count()} cores, {name}; Linux {platform.release().split('-')[0]}; Python {platform.python_version()}; {libraries}."


@dataclass
class Plan:
    """What a run measures: how much, how often, beside whom."""

    rounds: int
    quick: bool
    peers: bool
    folder: Path
