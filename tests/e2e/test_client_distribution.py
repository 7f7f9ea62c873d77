"""`stook-client`: built from the tree, installed alone into an empty environment, asking a real server.

What it answers is compared, value by value, with the embedded platform; what it cannot do it says, with the mend.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.servers import serving

import stook
from stook import Bytes, Decimal, Entity, FeatureView, Field, Float64, Int64, Map, PushSource, String, Timestamp

pytestmark = pytest.mark.server
ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "distributions" / "client"
NOW = "2024-05-01T12:00:00Z"
MIB_MAX = 60

view = FeatureView(
    "stats",
    entities=[Entity("driver", join_keys={"driver_id": Int64})],
    schema=[
        Field("rate", Float64),
        Field("money", Decimal(9, 2)),
        Field("blob", Bytes),
        Field("city", String),
        Field("at", Timestamp),
        Field("tags", Map(String, Int64)),
    ],
    source=PushSource("stats.pushed"),
)
PROGRAM = """
import sys
import stook
from datetime import UTC, datetime
from decimal import Decimal

url, folder = sys.argv[1:]
at = datetime(2024, 5, 1, 11, 0, 0, 1, tzinfo=UTC)
row = {"driver_id": 2**53 + 1, "rate": float("nan"), "money": Decimal("0.10"), "blob": bytes([0, 255]), "city": "NaN",
       "at": at, "tags": {"a": 1, "b": None}, "event_timestamp": at}
with stook.open(url) as p:
    print(p.push("stats", [row]).rows)
    found = p.get_online_features(["stats:" + n for n in row if n not in ("driver_id", "event_timestamp")],
                                  entities={"driver_id": [2**53 + 1, 5, None]})
    print(found.to_dict(), found.statuses, found.event_timestamps, found.ages, sep="\\n")
    print(p.get("feature-view", "stats").name)
    for call in (found.to_arrow, found.to_df, lambda: stook.open(folder), lambda: p.push("stats", object()),
                 lambda: p.get_online_features(["stats:rat"], entities={"driver_id": [1]})):
        try:
            call()
        except stook.errors.StookError as error:
            print(type(error).__name__, error)
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("pyarrow", "numpy", "msgspec")))
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds `stook-client` and nothing else; its Python."""
    folder = tmp_path_factory.mktemp("client")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(CLIENT)]
    subprocess.run(command, check=True, capture_output=True)
    return python


def test_it_answers_as_the_platform_does(client: Path, tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    (root / "stook.toml").write_text('[project]\nname = "demo"\n')
    with stook.open(root, clock=NOW) as p:
        p.apply([view])
    with serving(root, clock=NOW) as server:
        command = [str(client), "-c", PROGRAM, server.url, str(root)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    pushed, values, statuses, times, ages, name, *refused, loaded = done.stdout.splitlines()
    assert (pushed, name, loaded) == ("1", "stats", "[]")
    with stook.open(root, clock=NOW) as p:
        features = [f"stats:{field.name}" for field in view.schema or ()]
        found = p.get_online_features(features, entities={"driver_id": [2**53 + 1, 5, None]})
        assert values == repr(found.to_dict()).replace("zoneinfo.ZoneInfo(key='UTC')", "datetime.timezone.utc")
        assert (statuses, ages) == (repr(found.statuses), repr(found.ages))
        assert times == repr(found.event_timestamps)
    for line, words in zip(
        refused,
        (
            "NotSupported to_arrow() needs",
            "NotSupported to_df() needs",
            "stook-client alone only asks servers",
            "which only Arrow can read",
            "UnknownFeature",
        ),
        strict=True,
    ):
        assert words in line


def test_it_is_small_and_needs_nothing(client: Path) -> None:
    site = next((client.parents[1] / "lib").glob("python*")) / "site-packages"
    held = {found.name for found in site.iterdir()} - {"pip", "setuptools", "_distutils_hack", "pkg_resources"}
    held = {name for name in held if not name.startswith(("pip-", "setuptools-", "distutils-"))}
    assert held == {"stook", f"stook_client-{stook.__version__}.dist-info"}
    assert sum(f.stat().st_size for f in site.rglob("*") if f.is_file() and "stook" in f.parts) < MIB_MAX << 20
    assert not (site / "stook" / "app").exists()


def test_its_licence_is_the_projects() -> None:
    assert (CLIENT / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
