"""Online = offline = the naive rule, whatever happened before: files added, corrected and late, pushes, deletes,
folds, materializations, a moving clock. Real stores, read by either offline engine in turn; random histories, coarse
times so that ties are common.

A failing run prints its seed; `STOOK_TEST_SEED` repeats it.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import stook
from stook.core.instants import to_datetime
from stook.core.rows import PUSH_ARRIVAL

SEED = int(os.environ.get("STOOK_TEST_SEED", str(random.SystemRandom().randrange(1 << 30))))
HISTORIES = 6
STEPS = 9
HOUR = 3_600_000_000
START = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
KEYS = [(a, b) for a in (1, 11) for b in (11, 1, 111)]  # case 13: never concatenated
TTL_HOURS = 12
READERS = ("duckdb", "memory")
SETTINGS = """
[project]
name = "story"
[engines]
tables = "delta+{reader}:///.stook/tables"
[limits]
chunk_rows = 3
"""

DEFINITIONS = """
from datetime import timedelta
from stook import Entity, FeatureView, Field, FileSource, Int64, PushSource, String
pair = Entity("pair", join_keys={{"a": Int64, "b": Int64}})
view = FeatureView("view", entities=[pair], ttl=timedelta(hours={ttl}), schema=[Field("x", Int64), Field("y", String)],
    source=PushSource("events", batch_source=FileSource("data/*.parquet", created_timestamp_column={created!r})))
"""

Key = tuple[int, int]


@dataclass
class Row:
    key: Key
    event: int
    known: int
    arrival: tuple[int, ...]
    x: int | None
    deleted: bool = False

    @property
    def order(self) -> tuple[object, ...]:
        return self.event, self.known, self.arrival


@dataclass
class Model:
    """Everything that happened, by the naive rule."""

    files: dict[str, list[Row]] = field(default_factory=dict)
    pushed: list[Row] = field(default_factory=list)

    def answer(self, key: Key, now: int) -> int | None:
        """The newest row of the key known and dated by now; null when it is deleted or older than the ttl."""
        rows = [row for name in sorted(self.files) for row in self.files[name]] + self.pushed
        found = [row for row in rows if row.key == key and row.event <= now and row.known <= now]
        if not found:
            return None
        newest = max(found, key=lambda row: row.order)
        return None if newest.deleted or now - newest.event > TTL_HOURS * HOUR else newest.x


class Story:
    """One random history on a real project."""

    def __init__(self, root: Path, seed: int, *, created: bool) -> None:
        self.root, self.created, self.choose = root, created, random.Random(seed)
        self.model, self.now, self.values = Model(), START + 24 * HOUR, 0
        (root / "data").mkdir(parents=True)
        (root / "features.py").write_text(DEFINITIONS.format(ttl=TTL_HOURS, created="created" if created else None))
        self.add_file()
        with self.open() as p:
            p.apply()

    def open(self, reader: str = "") -> Any:
        settings = SETTINGS.format(reader=reader or self.choose.choice(READERS))
        (self.root / "stook.toml").write_text(settings)
        return stook.open(self.root, clock=self.now)

    def hour(self) -> int:
        """An event time around now, on the hour."""
        return (self.now // HOUR - self.choose.randrange(-3, 20)) * HOUR

    def row(self, arrival: tuple[int, ...]) -> Row:
        self.values += 1
        event = self.hour()
        known = event + self.choose.randrange(0, 4) * HOUR if self.created else event
        x = None if self.choose.random() < 0.15 else self.values
        return Row(self.choose.choice(KEYS), event, known, arrival, x)

    def add_file(self) -> None:
        """Case 28: a new file may hold rows of any age, and may sort before others."""
        name = f"{self.choose.randrange(100):02d}-{len(self.model.files)}.parquet"
        self.model.files[name] = [self.row((0,)) for _ in range(self.choose.randrange(1, 6))]
        self.write(name)

    def correct_file(self) -> None:
        """Case 27: a file is written again with other values and more rows; the correction must land."""
        name = self.choose.choice(sorted(self.model.files))
        rows = self.model.files[name]
        for row in rows:
            if self.choose.random() < 0.5:
                self.values += 1
                row.x = self.values
        rows.append(self.row((0,)))
        self.write(name)

    def write(self, name: str) -> None:
        rows = self.model.files[name]
        columns = {
            "a": [r.key[0] for r in rows],
            "b": pa.array([r.key[1] for r in rows], pa.int32()),
            "event_timestamp": [to_datetime(r.event) for r in rows],
            "created": [to_datetime(r.known) for r in rows],
            "x": pa.array([r.x for r in rows], pa.int64()),
            "y": pa.array([None if r.x is None else str(r.x) for r in rows], pa.string()),
        }
        pq.write_table(pa.table(columns), self.root / "data" / name)
        for number, name_ in enumerate(sorted(self.model.files)):
            for position, row in enumerate(self.model.files[name_]):
                row.arrival = (number, position)

    def push(self) -> None:
        rows = [self.row((PUSH_ARRIVAL, len(self.model.pushed) + n)) for n in range(self.choose.randrange(1, 4))]
        columns: dict[str, Any] = {
            "a": [r.key[0] for r in rows],
            "b": [r.key[1] for r in rows],
            "event_timestamp": [to_datetime(r.event) for r in rows],
            "x": pa.array([r.x for r in rows], pa.int64()),
            "y": pa.array([None if r.x is None else str(r.x) for r in rows], pa.string()),
        }
        if self.created:
            columns["created"] = [to_datetime(r.known) for r in rows]
        else:
            for row in rows:
                row.known = self.now
        with self.open() as p:
            p.push("events", pa.table(columns), to=self.choose.choice(["both", "offline"]))
        self.model.pushed += rows

    def delete(self) -> None:
        """Case 33."""
        key = self.choose.choice(KEYS)
        with self.open() as p:
            p.delete_rows("view", [{"a": key[0], "b": key[1]}])
        self.model.pushed.append(Row(key, self.now, self.now, (PUSH_ARRIVAL, len(self.model.pushed)), None, True))

    def fold(self) -> None:
        with self.open() as p:
            p.fold()

    def load_again(self) -> None:
        """Case 34 and 36: a new generation, and back to the old one, lose no upsert."""
        with self.open() as p:
            p.materialize(None, self.now, ["view"], replace=True)

    def wait(self) -> None:
        self.now += self.choose.randrange(1, 8) * HOUR

    def check(self) -> None:
        expected = [self.model.answer(key, self.now) for key in KEYS]
        entities = {"a": [a for a, _ in KEYS], "b": [b for _, b in KEYS]}
        with self.open() as p:
            p.materialize_incremental(self.now)
            online = p.get_online_features(["view:x", "view:y"], entities=entities)
        assert online.to_dict()["x"] == expected
        assert online.to_dict()["y"] == [None if x is None else str(x) for x in expected]
        for reader in READERS:
            with self.open(reader) as p:
                labels = pa.table({**entities, "event_timestamp": [to_datetime(self.now)] * len(KEYS)})
                offline = p.get_historical_features(labels, ["view:x"], as_known_at="event_timestamp").to_arrow()
                report = p.parity(["view:x", "view:y"], entities)
            assert offline["x"].to_pylist() == expected, reader
            assert report, f"{reader}: {report}"


@pytest.mark.parametrize("created", [True, False], ids=["bitemporal", "plain"])
@pytest.mark.parametrize("number", range(HISTORIES))
@pytest.mark.case(13, 26, 27, 28, 32, 33, 34)
def test_online_equals_offline_equals_the_rule(tmp_path: Path, number: int, created: bool) -> None:
    seed = SEED + number
    print(f"STOOK_TEST_SEED={SEED}")
    story = Story(tmp_path / "story", seed, created=created)
    story.check()
    acts = [story.add_file, story.correct_file, story.push, story.delete, story.fold, story.load_again, story.wait]
    for _ in range(STEPS):
        for _ in range(story.choose.randrange(1, 4)):
            story.choose.choice(acts)()
        story.check()
