"""Definition files: what is found, and what a mistake in them says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stook.core.errors import InvalidDefinition
from stook.registry.scan import scan

GOOD = """
from stook import Entity, FeatureView, Field, Float64, PushSource
from parts import driver
stats = FeatureView("stats", entities=[driver], schema=[Field("rate", Float64)], source=PushSource("events"))
again = stats
"""


def test_objects_are_found_once_and_files_may_import_each_other(tmp_path: Path) -> None:
    (tmp_path / "features.py").write_text(GOOD)
    (tmp_path / "parts.py").write_text("from stook import Entity, Int64\ndriver = Entity('driver', {'id': Int64})\n")
    modules, path = set(sys.modules), list(sys.path)
    assert [d.name for d in scan(tmp_path, ["features.py"])] == ["driver", "stats"]
    assert "parts" not in sys.modules and sys.path == path
    assert not {m for m in set(sys.modules) - modules if m.startswith("stook_definitions")}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("x = 1\nstats = FeatureView(", 2, "was never closed"),
        ("import nothing_like_this", 1, "No module named"),
        ("from stook import Entity\n\nEntity('a b')", 3, "entity name 'a b' is not possible"),
        ("def f():\n    return 1 / 0\nf()", 2, "ZeroDivisionError"),
    ],
)
def test_a_mistake_names_file_and_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    (tmp_path / "features.py").write_text(text)
    with pytest.raises(InvalidDefinition) as caught:
        scan(tmp_path, ["features.py"])
    assert f"features.py:{line}" in str(caught.value) and words in str(caught.value)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidDefinition, match=r"features\.py cannot be read"):
        scan(tmp_path, ["features.py"])
