"""The command line as its user types it: every verb on a project from `stook init`, and every mistake of issue one.

Commands run in this process through click's runner; `tests/docs` runs them as real processes.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

import stook
from stook.edge.cli.main import cli


def run(*words: object) -> Result:
    result = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert "Traceback" not in result.output
    return result


def answer(*words: object) -> Any:
    """The JSON answer of a command that must succeed."""
    result = run("--json", *words)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refusal(*words: object, code: int = 2) -> str:
    """What a command that must fail says on standard error."""
    result = run(*words)
    assert result.exit_code == code, result.output
    return result.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    run("-C", tmp_path, "init", "first")
    root = tmp_path / "first"
    assert run("-C", root, "apply").exit_code == 0
    return root


def test_from_init_to_an_online_answer_and_a_training_set(project: Path) -> None:
    assert "0 to change, 3 unchanged" in run("plan", "-C", project).output
    (done,) = answer("-C", project, "materialize-incremental", "now")
    assert (done["view"], done["rows"], done["how"]) == ("driver_stats", 5, "load")
    found = answer("-C", project, "get-online-features", "-f", "driver_stats:trips", "-e", "driver_id=1001,77")
    assert found["values"] == {"driver_id": [1001, 77], "trips": [25, None]}
    assert found["statuses"] == {"trips": ["PRESENT", "NOT_FOUND"]}
    out = project / "out.parquet"
    labels = project / "data" / "labels.parquet"
    joined = answer("-C", project, "get-historical-features", labels, "-f", "ranking", "-o", out, "--save", "set1")
    assert joined["rows"] == 4
    assert pq.read_table(out)["trips"].to_pylist() == [21, 8, 15, None]
    assert [d["name"] for d in answer("-C", project, "datasets", "list")] == ["set1"]
    parity = answer("-C", project, "parity", "-f", "ranking", "-e", "driver_id=1001,1002,1003,9")
    assert (parity["differing"], parity["entities"], parity["values"]) == (0, 4, 8)


def test_push_delete_and_generations(project: Path, tmp_path: Path) -> None:
    run("-C", project, "materialize", "2024-01-01", "2024-01-10")
    run("-C", project, "materialize", "2024-01-01", "2024-01-20", "--replace")
    assert [g["state"] for g in answer("-C", project, "generations", "list", "driver_stats")] == ["ready", "live"]

    def trips() -> Any:
        return answer("-C", project, "get-online-features", "-f", "driver_stats:trips", "-e", "driver_id=1001")

    before = trips()
    run("-C", project, "generations", "activate", "driver_stats", 1)
    assert trips()["event_timestamps"] != before["event_timestamps"]
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"driver_id": 1001, "trips": 99, "conv_rate": 0.5}\n')
    assert answer("-C", project, "push", "driver_stats", rows)["rows"] == 1
    assert trips()["values"]["trips"] == [99]
    run("-C", project, "delete-rows", "driver_stats", "-e", "driver_id=1001")
    assert trips()["statuses"]["trips"] == ["NOT_FOUND"]


def test_prune_deletes_only_when_asked(project: Path) -> None:
    (project / "features.py").write_text("from stook import Entity, Int64\nx = Entity('x', {'x': Int64})\n")
    assert "feature-view driver_stats    no longer defined; kept" in run("-C", project, "apply").output
    assert [v["name"] for v in answer("-C", project, "feature-views", "list")] == ["driver_stats"]
    run("-C", project, "apply", "--prune")
    assert answer("-C", project, "feature-views", "list") == []
    assert [e["name"] for e in answer("-C", project, "entities", "list")] == ["x"]


def test_train_release_deploy_predict_rollback(project: Path) -> None:
    (project / "train.py").write_text(
        "from sklearn.linear_model import LogisticRegression\n"
        "import numpy as np\n"
        "def fit(data, params, run):\n"
        "    table = data.filter(data['trips'].is_valid())\n"
        "    run.log_metrics({'rows': float(table.num_rows)})\n"
        "    x = np.column_stack([table[c].to_numpy() for c in ('conv_rate', 'trips')])\n"
        "    return LogisticRegression(C=params['C']).fit(x, table['completed'].to_numpy(zero_copy_only=False))\n"
    )
    run("-C", project, "materialize-incremental", "now")
    labels = project / "data" / "labels.parquet"
    assert run("-C", project, "get-historical-features", labels, "-f", "ranking", "--save", "set1").exit_code == 0
    words = ("train", "trip", "--fit", "train.py:fit", "--dataset", "set1", "--label", "completed", "-p", "C=0.5")
    trained = answer("-C", project, *words)
    assert (trained["status"], trained["metrics"]) == ("finished", {"rows": 3.0})
    for number in (1, 2):
        made = answer("-C", project, "release", "trip", trained["run"], "-f", "ranking")
        assert made == {"release": f"trip-{number}", "request_inputs": []}
        run("-C", project, "deploy", "trip", made["release"])
    predicted = answer("-C", project, "predict", "trip", "-e", "driver_id=1001")
    assert predicted["release"] == "trip-2" and predicted["predictions"][0] in (True, False)
    assert answer("-C", project, "rollback", "trip")["release"] == "trip-1"
    assert "no release before" in refusal("-C", project, "rollback", "trip").lower()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("get-online-features", "-f", "driver_stat:trips", "-e", "driver_id=1"), "did you mean 'driver_stats'"),
        (("get-online-features", "-f", "driver_stats:trip", "-e", "driver_id=1"), "did you mean 'trips'"),
        (("get-online-features", "-f", "driver_stats:trips", "-e", "driver=1"), "did you mean 'driver_id'"),
        (
            ("get-online-features", "-f", "driver_stats:trips", "-e", "driver_id=x"),
            "'driver_id' is 'x' in row 0, not exactly int64",
        ),
        (("get-online-features", "-f", "rankin", "-e", "driver_id=1"), "did you mean 'ranking'"),
        (("materialize", "2024-02-01", "2024-01-01"), "is before start"),
        (("materialize", "yesterday", "2024-01-01"), "'yesterday' is not a time"),
        (("materialize-incremental", "now", "--view", "driver_stat"), "did you mean 'driver_stats'"),
        (("push", "driver_stats", "absent.parquet"), "there is no file absent.parquet"),
        (("push", "driver_stats", "features.py"), "files ending in '.py' are not read"),
        (("generations", "activate", "driver_stats", "7"), "has no generation 7"),
        (("predict", "nothing", "-e", "driver_id=1"), "there is no deployment 'nothing'"),
        (("feature-views", "describe", "driver_stat"), "did you mean 'driver_stats'"),
        (("releases", "describe", "trip-1"), "there is no release yet"),
        (("deployments", "describe", "trip"), "there is no deployment yet"),
        (("get-historical-features", "data/labels.parquet", "-f", "ranking"), "give -o FILE or --save NAME"),
        (
            ("get-historical-features", "data/labels.parquet", "-f", "ranking", "-o", "nowhere/x.parquet"),
            "No such file",
        ),
        (("materialize", "2999-01-01", "2999-02-01"), "is later than now"),
        (("matrialize", "now"), "did you mean 'materialize'"),
    ],
)
def test_a_wrong_call_gets_one_message_and_a_mend(
    project: Path, words: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    assert says in refusal(*words)


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("features.py", "from stook import Entity\n\nEntity(", "features.py:3"),
        ("features.py", "import sys\nsys.exit(3)\n", "features.py:2"),
        ("features.py", "from stook import *\nEntity('a', {'a': Int64})\nx = Entity('b b')", "features.py:3"),
        ("stook.toml", "[project]\nname = 'x'\n[serve]\nprot = 1\n", "did you mean 'port'"),
        ("stook.toml", "[project]\nname = 'x'\n[serve]\nport = 99999\n", "0 to 65535"),
        ("stook.toml", "[project\n", "stook.toml"),
        ("stook.toml", "[project]\nname = 'x'\n[engines]\nonline = 'redos:'\n", "no engine for 'redos'"),
        ("stook.toml", "[project]\nname = 'x'\n[serve]\ntoken = '${NOT_THERE_AT_ALL}'\n", "NOT_THERE_AT_ALL"),
    ],
)
def test_a_wrong_file_is_named_with_its_place(project: Path, file: str, text: str, says: str) -> None:
    (project / file).write_text(text)
    said = refusal("-C", project, "plan")
    assert says in said and "hint" in said


def view_over(project: Path, source: str) -> None:
    (project / "features.py").write_text(
        "from stook import *\nd = Entity('driver', {'driver_id': Int64})\n"
        f"v = FeatureView('v', entities=[d], source={source}, schema=[Field('x', Float64)])\n"
    )


def test_sources_that_cannot_be_read(project: Path) -> None:
    view_over(project, "FileSource('data/driver_stat.parquet')")
    assert "driver_stats.parquet" in refusal("-C", project, "apply")
    (project / "data" / "empty.parquet").write_bytes(b"")
    view_over(project, "FileSource('data/empty.parquet')")
    assert "empty.parquet" in refusal("-C", project, "apply")
    (project / "data" / "empty.csv").write_text("")
    view_over(project, "FileSource('data/empty.csv')")
    assert "empty.csv" in refusal("-C", project, "apply")
    pq.write_table(pa.table({"driver_id": [1], "x": [1.0]}), project / "data" / "timeless.parquet")
    view_over(project, "FileSource('data/timeless.parquet')")
    assert "no timestamp column 'event_timestamp'" in refusal("-C", project, "apply")
    view_over(project, "SqlSource('select * from nowhere')")
    assert "nowhere" in refusal("-C", project, "apply")
    assert [v["name"] for v in answer("-C", project, "feature-views", "list")] == ["driver_stats"]


@pytest.mark.case(41)
def test_a_source_that_vanished_harms_nothing_stored(project: Path) -> None:
    run("-C", project, "materialize-incremental", "now")
    (project / "data" / "driver_stats.parquet").unlink()
    assert "driver_stats.parquet" in refusal("-C", project, "materialize-incremental", "now")
    found = answer("-C", project, "get-online-features", "-f", "ranking", "-e", "driver_id=1001")
    assert found["statuses"]["trips"] == ["PRESENT"]


def test_a_folder_that_is_no_project(tmp_path: Path) -> None:
    assert "run `stook init NAME`" in refusal("-C", tmp_path, "plan")
    assert "there is no such folder" in refusal("-C", tmp_path / "nowhere", "plan")
    run("-C", tmp_path, "init", "first")
    assert "is not empty" in refusal("-C", tmp_path, "init", "first")
    assert "is not possible" in refusal("-C", tmp_path, "init", "1st")


@pytest.mark.case(62)
def test_a_damaged_or_newer_store_is_refused_and_left_alone(project: Path) -> None:
    store = project / ".stook" / "records.db"
    with sqlite3.connect(store) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    connection.close()
    whole = store.read_bytes()
    store.write_bytes(b"not a database at all, " * 100)
    assert "records.db" in refusal("-C", project, "feature-views", "list", code=1)
    assert store.read_bytes().startswith(b"not a database")
    store.write_bytes(whole)
    assert run("-C", project, "feature-views", "list").exit_code == 0
    data = project / ".stook" / "online" / "data.mdb"
    run("-C", project, "materialize-incremental", "now")
    kept = data.read_bytes()
    data.write_bytes(b"\x00" * 8192)
    assert "online" in refusal("-C", project, "get-online-features", "-f", "ranking", "-e", "driver_id=1", code=1)
    data.write_bytes(kept)
    assert run("-C", project, "get-online-features", "-f", "ranking", "-e", "driver_id=1").exit_code == 0


LIMITED = """
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
sys.argv = ["stook", *sys.argv[1:]]
runpy.run_module("stook", run_name="__main__")
"""


@pytest.mark.case(41)
def test_a_full_disk_is_said_and_harms_nothing(project: Path, tmp_path: Path) -> None:
    """Files of this process may not grow beyond 64 KiB, which a full disk looks like to every store."""
    run("-C", project, "materialize-incremental", "now")
    rows = tmp_path / "rows.parquet"
    many = pa.table({"driver_id": range(50_000), "trips": range(50_000), "conv_rate": [0.1] * 50_000})
    pq.write_table(many, rows)
    command = [sys.executable, "-c", LIMITED, "-C", str(project), "push", "driver_stats", str(rows)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONWARNINGS": "ignore"}
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "space" in done.stderr or "full" in done.stderr
    found = answer("-C", project, "get-online-features", "-f", "ranking", "-e", "driver_id=1001")
    assert found["values"]["trips"] == [25]
    assert answer("-C", project, "push", "driver_stats", rows)["rows"] == 50_000


def test_machine_output_of_a_mistake_is_json_too(project: Path) -> None:
    result = run("-C", project, "--json", "feature-views", "describe", "nothing")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["code"] == "unknown_object"


def test_json_is_json_and_csv_is_read_as_declared(project: Path, tmp_path: Path) -> None:
    view_over(project, "PushSource('p')")
    text = (project / "features.py").read_text() + "z = Entity('zip', {'zip': String})\n"
    text += "w = FeatureView('w', entities=[z], source=PushSource('q'), schema=[Field('x', Float32)])\n"
    (project / "features.py").write_text(text)
    run("-C", project, "apply")
    rows = tmp_path / "rows.csv"
    rows.write_text("zip,x,event_timestamp\n01234,0.1,2024-01-01T00:00:00Z\n01235,nan,2024-01-01T00:00:00Z\n")
    assert answer("-C", project, "push", "q", rows)["rows"] == 2
    found = answer("-C", project, "get-online-features", "-f", "w:x", "-e", "zip=01234,01235")
    assert found["values"]["x"][1] in ("NaN", None) and round(found["values"]["x"][0], 6) == 0.1
    assert found["event_timestamps"]["x"][0] == "2024-01-01T00:00:00Z"


def test_doctor_and_version(project: Path) -> None:
    findings = answer("-C", project, "doctor")
    assert {f["check"] for f in findings} >= {"project", "online store", "push log", "view driver_stats"}
    assert run("version").output.strip()
    assert run("bench", "-C", project, "-f", "ranking", "-e", "driver_id=1001", "--reads", "10").exit_code == 0


@pytest.mark.case(45)
@pytest.mark.parametrize(
    "surroundings",
    [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C"}],
    ids=["ascii", "latin-1", "C"],
)
def test_any_letter_passes_in_any_locale(tmp_path: Path, surroundings: dict[str, str]) -> None:
    (tmp_path / "stook.toml").write_text('[project]\nname = "p"\n')
    (tmp_path / "features.py").write_text(
        "from stook import *\nitem = Entity('item', join_keys={'id': String})\n"
        "v = FeatureView('v', entities=[item], schema=[Field('naïve', String)], source=PushSource('s'))\n",
        encoding="utf-8",
    )
    (tmp_path / "rows.json").write_text('{"id": "é", "naïve": "😀"}\n', encoding="utf-8")

    def typed(*words: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "stook", "-C", str(tmp_path), *words]
        return subprocess.run(command, capture_output=True, check=False, env={**os.environ, **surroundings})

    assert run("-C", tmp_path, "apply").exit_code == 0
    assert typed("push", "v", str(tmp_path / "rows.json")).returncode == 0
    asked = ("get-online-features", "-f", "v:naïve", "-e", "id=é")
    found = json.loads(typed("--json", *asked).stdout)
    assert found["values"] == {"id": ["é"], "naïve": ["😀"]}
    shown = typed(*asked)
    assert shown.returncode == 0 and b"PRESENT" in shown.stdout and b"Traceback" not in shown.stderr


@pytest.mark.case(45)
def test_a_pushed_csv_tells_nothing_from_quoted_nothing(tmp_path: Path) -> None:
    (tmp_path / "stook.toml").write_text('[project]\nname = "p"\n')
    (tmp_path / "features.py").write_text(
        "from stook import *\nitem = Entity('item', join_keys={'id': Int64})\n"
        "v = FeatureView('v', entities=[item], schema=[Field('w', String), Field('n', Int64)], source=PushSource('s'))\n"
    )
    (tmp_path / "rows.csv").write_text('id,w,n\n1,,\n2,"",2\n3,NA,3\n')
    assert run("-C", tmp_path, "apply").exit_code == 0
    assert run("-C", tmp_path, "push", "v", tmp_path / "rows.csv").exit_code == 0
    found = answer("-C", tmp_path, "get-online-features", "-f", "v:w", "-f", "v:n", "-e", "id=1,2,3")
    assert found["values"] == {"id": [1, 2, 3], "w": [None, "", "NA"], "n": [None, 2, 3]}


TYPED = {
    "w": "2024-01-01",
    "t": "12:30:00.000001",
    "d": "1.50",
    "b": "aé",
    "i": "9007199254740993",
    "f": "0.1",
    "s": "007",
}
TYPED_JSON = {"w": "2024-01-01", "t": "12:30:00.000001", "d": "1.50", "b": "YcOp", "i": 2**53 + 1, "f": 0.1, "s": "007"}


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    """A project whose deployment `m` answers its inputs of many types, as text."""
    (tmp_path / "stook.toml").write_text('[project]\nname = "p"\n[serve]\nallow_pickle = true\n')
    rows = {
        "w": [date(2024, 1, 1)], "t": [time(1)], "d": pa.array([Decimal("1.50")], pa.decimal128(5, 2)), "b": [b"a"],
        "i": [1], "f": [0.5], "s": ["a"],
    }  # fmt: skip
    with stook.open(tmp_path) as p:
        data = pa.table({**rows, "y": [0]})
        run = p.train(
            "m", lambda d, ps, r: lambda t: [str(x) for x in t.to_pylist()], data=data, label="y", allow_pickle=True
        )
        p.deploy("m", p.release("m", run))
    return tmp_path


def test_inputs_of_a_prediction_are_read_as_what_they_are(echo: Path) -> None:
    expected = {
        "w": date(2024, 1, 1), "t": time(12, 30, 0, 1), "d": Decimal("1.50"), "b": "aé".encode(), "i": 2**53 + 1, "f": 0.1,
        "s": "007",
    }  # fmt: skip
    words = [word for name, text in TYPED.items() for word in ("-r", f"{name}={text}")]
    assert answer("-C", echo, "predict", "m", *words)["predictions"] == [str(expected)]
    assert answer("-C", echo, "predict", "m", "--request-json", json.dumps(TYPED_JSON))["predictions"] == [
        str(expected)
    ]
    two = {**TYPED_JSON, "w": ["2024-01-01", None], "f": "NaN"}
    said = answer("-C", echo, "predict", "m", "--request-json", json.dumps(two))["predictions"]
    assert len(said) == 2 and "'w': None" in said[1] and "'f': nan" in said[1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--request-json", "[1]"), "it is no JSON object"),
        (("--request-json", "5"), "it is no JSON object"),
        (("--request-json", "[" * 100_000), "not JSON"),
        (("--request-json", '{"w": 5}'), "request value 'w' is 5 in row 0, not date"),
        (("--request-json", json.dumps({**TYPED_JSON, "wat": 1})), "takes no request value 'wat'"),
        (("-r", "w=soon"), "request value 'w' is 'soon' in row 0, not exactly date"),
        (("-r", "d=1.555"), "request value 'd' holds a text that is not exactly decimal(5, 2)"),
        (("-r", "wat=1"), "takes no request value 'wat'"),
        (("-r", "w"), "'w' is not NAME=VALUE"),
    ],
    ids=str,
)
def test_a_wrong_request_of_a_prediction_is_told(echo: Path, words: Any, says: str) -> None:
    assert says in " ".join(refusal("-C", echo, "predict", "m", *words).split())


BIG = 2**63


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    (tmp_path / "stook.toml").write_text('[project]\nname = "p"\n')
    (tmp_path / "features.py").write_text(
        "from stook import *\nu = Entity('u', join_keys={'u': UInt64})\ni = Entity('i', join_keys={'i': Int64})\n"
        "a = FeatureView('a', entities=[u], schema=[Field('x', String)], source=PushSource('pa'))\n"
        "b = FeatureView('b', entities=[i], schema=[Field('y', String)], source=PushSource('pb'))\n"
        "fields = [Field('f32', Float32), Field('f64', Float64), Field('u64', UInt64)]\n"
        "n = FeatureView('n', entities=[i], schema=fields, source=PushSource('pn', created_timestamp_column='seen'))\n"
    )
    assert run("-C", tmp_path, "apply").exit_code == 0
    rows = tmp_path / "rows.jsonl"
    old = "2020-01-01T00:00:00Z"
    rows.write_text("".join(f'{{"u": {k}, "x": "{k}", "event_timestamp": "{old}"}}\n' for k in (BIG, BIG + 1)))
    assert answer("-C", tmp_path, "push", "a", rows)["rows"] == 2
    rows.write_text("".join(f'{{"i": {k}, "y": "{k}", "event_timestamp": "{old}"}}\n' for k in (1, 2**53, 2**53 + 1)))
    assert answer("-C", tmp_path, "push", "b", rows)["rows"] == 3
    return tmp_path


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_labels_of_large_keys_get_their_own_rows(wide: Path, ending: str) -> None:
    labels, out = wide / f"labels.{ending}", wide / "out.parquet"
    if ending == "csv":
        labels.write_text(
            "u,i,event_timestamp,zip,long\n"
            f"{BIG + 1},9007199254740993,2024-01-01T00:00:00Z,007,12345678901234567890\n"
            f"{BIG},1{'.0'},2024-01-01T00:00:00Z,,1\n"
        )
    else:
        labels.write_text(
            f'{{"u": {BIG + 1}, "i": 9007199254740993, "event_timestamp": "2024-01-01T00:00:00Z", "zip": "007",'
            ' "long": 12345678901234567890}\n'
            f'{{"u": {BIG}, "i": 1, "event_timestamp": "2024-01-01T00:00:00Z", "long": 1}}\n'
        )
    asked = ("get-historical-features", labels, "-f", "a:x", "-f", "b:y", "-o", out)
    assert run("-C", wide, *asked).exit_code == 0
    found = pq.read_table(out)
    assert found["x"].to_pylist() == [str(BIG + 1), str(BIG)] and found["y"].to_pylist() == [str(2**53 + 1), "1"]
    assert found["u"].to_pylist() == [BIG + 1, BIG] and found["i"].to_pylist() == [2**53 + 1, 1]
    assert found["zip"].to_pylist() == ["007", None] and found["long"].to_pylist() == [12345678901234567890, 1]
    assert pa.types.is_timestamp(found["event_timestamp"].type)


def test_label_times_in_a_file_round_down(wide: Path) -> None:
    labels, out = wide / "labels.csv", wide / "out.parquet"
    seen = "2024-01-01T02:00:00+02:00"
    labels.write_text(f"u,at,seen\n{BIG},2019-12-31T23:59:59.999999999Z,{seen}\n{BIG},2020-01-01T00:00:00Z,{seen}\n")
    options = ("--timestamp-field", "at", "--as-known-at", "seen", "-o", out)
    assert run("-C", wide, "get-historical-features", labels, "-f", "a:x", *options).exit_code == 0
    found = pq.read_table(out)
    assert found["x"].to_pylist() == [None, None], "pushed later than it is known by"
    assert found["at"].cast(pa.int64()).to_pylist() == [1577836799999999999, 1577836800000000000]
    options = ("--timestamp-field", "at", "-o", out)
    assert run("-C", wide, "get-historical-features", labels, "-f", "a:x", *options).exit_code == 0
    assert pq.read_table(out)["x"].to_pylist() == [None, str(BIG)]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_parity_of_a_file_of_large_keys(wide: Path, ending: str) -> None:
    entities = wide / f"entities.{ending}"
    entities.write_text(f"u\n{BIG + 1}\n" if ending == "csv" else f'{{"u": {BIG + 1}}}\n')
    report = answer("-C", wide, "parity", "-f", "a:x", "--entities-file", entities)
    assert (report["entities"], report["values"], report["differing"]) == (1, 1, 0)
    entities.write_text("u\n-1\n" if ending == "csv" else '{"u": -1}\n')
    assert "'u'" in refusal("-C", wide, "parity", "-f", "a:x", "--entities-file", entities)


@pytest.mark.parametrize(
    ("ending", "text", "says"),
    [
        ("csv", "i,f64\n7,1e400\n", "column 'f64' is '1e400' in row 0"),
        ("csv", "i,f32\n7,1e39\n", "column 'f32' is '1e39' in row 0"),
        ("csv", "i,f32\n7,16777217\n", "which float32 would round"),
        ("csv", f"i,u64\n7,{2**64}\n", "column 'u64'"),
        ("csv", "i,f64,event_timestamp\n7,1,soon\n", "column 'event_timestamp' is 'soon' in row 0, not exactly a time"),
        ("jsonl", '{"i": 7, "f64": 1e400}\n', "1e400 is beyond a double"),
        ("jsonl", '{"i": 7, "f32": 16777217}\n', "f32"),
        ("jsonl", '{"i": 9007199254740993.0}\n', "column 'i'"),
    ],
)
def test_a_pushed_file_is_read_exactly_or_refused(wide: Path, ending: str, text: str, says: str) -> None:
    rows = wide / f"rows.{ending}"
    rows.write_text(text)
    assert says in refusal("-C", wide, "push", "n", rows)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_pushed_files_keep_every_digit(wide: Path, ending: str) -> None:
    rows = wide / f"rows.{ending}"
    if ending == "csv":
        rows.write_text(f"i,f64,u64,event_timestamp,seen\n7,0.1,{BIG + 1},2024-01-01,2024-01-01T00:00:00.5Z\n")
    else:
        times = '"event_timestamp": "2024-01-01", "seen": "2024-01-01T00:00:00.5Z"'
        rows.write_text(f'{{"i": 7, "f64": 0.1, "u64": {BIG + 1}, {times}}}\n')
    assert answer("-C", wide, "push", "n", rows)["rows"] == 1
    found = answer("-C", wide, "get-online-features", "-f", "n:f64", "-f", "n:u64", "-e", "i=7")
    assert found["values"] == {"i": [7], "f64": [0.1], "u64": [BIG + 1]}
    assert found["event_timestamps"]["u64"] == ["2024-01-01T00:00:00Z"]
