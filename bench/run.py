"""The speed of stook on this machine, beside its limits and its peers: `make bench`.

Each figure is the median of several rounds, interleaved with what it stands beside, in the same run and through the
public interface. The tables go into docs/benchmarks.md and the README, with hardware and versions. `--quick` takes less
than three minutes, asks no peers and writes nothing; `--guard` then fails where a ratio to what lies underneath is far off.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import clusters
import joins
import light
import loads
import reads
import serving
from measuring import Figure, Plan, as_table, machine
from peers import environments

HERE = Path(__file__).resolve().parent
REPORT = HERE.parent / "docs" / "benchmarks.md"
README = HERE.parent / "README.md"
MARKS = ("<!-- figures:begin -->", "<!-- figures:end -->")
HEAD = ("what", "stook", "beside it, in the same run", "aim")
FAMILIES: dict[str, tuple[str, Sequence[Callable[[Plan], list[Figure]]]]] = {
    "light": ("Light", (light.measure,)),
    "reads": ("Online reads in process", (reads.measure,)),
    "growth": ("As entities grow", (reads.measure_million, reads.measure_growth, reads.measure_disk)),
    "loads": ("Loads, upserts, pushes", (loads.measure, loads.measure_pushes, loads.measure_under_load)),
    "serving": ("Over HTTP", (serving.measure, serving.measure_predict)),
    "joins": ("Point-in-time joins", (joins.measure,)),
    "cluster": ("On a cluster of this machine", (clusters.measure,)),
}
IN_README = (
    "import stook", "installed", "read 1 x 50 over 1 view", "read 100 x 50 over 1 view", "read 1,000 x 50 over 1 view",
    "materialize 300,000 x 50 doubles, Parquet", "HTTP 1 x 50 as JSON, 1 client", "HTTP 100 x 50 as JSON, 1 client",
    "join 50,000 labels x 1,000,000 rows x 10, 10 k keys x 100", "join 1,000,000 labels x 10,000,000 rows x 10, 100 k keys x 100",
    "push of one row",
)  # fmt: skip
# times what lies underneath takes: about twice what was measured when they were set, so that moods do not trip them
GUARDS = {
    "read 1 x 50 over 1 view, to_dict": 45.0,
    "read 100 x 50 over 1 view, to_arrow": 13.0,
    "read 1,000 x 50 over 1 view, to_arrow": 5.0,
    "materialize 50,000 x 50 doubles, Parquet to online": 20.0,
    "HTTP 1 x 50 as JSON, 1 client": 4.0,
    "join 50,000 labels x 1,000,000 rows x 10, 10 k keys x 100": 2.5,
}


def main() -> int:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, small data, no peers; writes nothing")
    parser.add_argument("--guard", action="store_true", help="fail where a ratio to what lies underneath is far off")
    parser.add_argument("--no-peers", action="store_true", help="do not install or ask Feast and Redis")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of each measurement (5; 3 with --quick)")
    parser.add_argument("--only", nargs="*", default=[], choices=list(FAMILIES), help="these families; writes nothing")
    options = parser.parse_args()
    peers = not (options.quick or options.no_peers)
    if peers:
        environments.prepare_feast()
        if not environments.redis_installed():
            parser.error("redis-server is missing: apt-get install redis-server, or say --no-peers")
    found: dict[str, list[Figure]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (family, (title, measures)) in enumerate(FAMILIES.items()):
            wanted = family in options.only if options.only else peers or family != "cluster"
            if not wanted:
                continue
            started = time.monotonic()
            place = Path(folder, str(number))
            place.mkdir()
            plan = Plan(options.rounds or (3 if options.quick else 5), options.quick, peers, place)
            found[family] = [figure for measure in measures for figure in measure(plan)]
            print(f"\n### {title}\n\n{as_table([f.row() for f in found[family]], HEAD)}", flush=True)
            print(f"\n({time.monotonic() - started:.0f} s)", flush=True)
    if not (options.quick or options.only or options.no_peers):
        write(found)
    return guarded(found) if options.guard else 0


def guarded(found: dict[str, list[Figure]]) -> int:
    """The number of ratios that are far off; each is printed."""
    bad = 0
    for figure in (one for figures in found.values() for one in figures):
        limit = GUARDS.get(figure.what)
        if limit is None:
            continue
        beside = figure.limits[0]  # the first is what lies right underneath
        taken = 1 / figure.times(beside)
        if taken > limit:
            bad += 1
            print(f"{figure.what}: {taken:.1f} times what {beside} takes, over {limit}")
    return bad


def versions() -> dict[str, str]:
    """Of what is measured."""
    known = {name: version(name) for name in ("stook", "pyarrow", "duckdb", "lmdb", "numpy", "granian", "starlette")}
    child = environments.Child(
        environments.FEAST_PYTHON, HERE / "peers" / "time_feast.py", environments.feast_surroundings()
    )
    known |= child.ask("versions")
    child.close()
    return known


def write(found: dict[str, list[Figure]]) -> None:
    """Puts the tables where the pages have the marks."""
    on = machine(versions())
    parts = [
        f"### {FAMILIES[family][0]}\n\n{as_table([f.row() for f in figures], HEAD)}"
        for family, figures in found.items()
    ]
    between_marks(REPORT, "\n\n".join([on, *parts]))
    chosen = [
        f.row() for figures in found.values() for f in figures if f.what.startswith(IN_README) and ": " not in f.what
    ]
    between_marks(README, f"Measured on {on}\n\n{as_table(chosen, HEAD)}")


def between_marks(page: Path, text: str) -> None:
    """Puts the text where the page has the two marks."""
    before, _, rest = page.read_text().partition(MARKS[0])
    page.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}")


if __name__ == "__main__":
    sys.exit(main())
