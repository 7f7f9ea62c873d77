"""The tutorial, the README's example and the guides, typed in by a reader who does exactly what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import debian

from stook.app.clusters import LocalCluster
from stook.app.scaffold import write_project

from . import blocks

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "docs" / "guides" / "cluster.md"
GUIDES = sorted(set((ROOT / "docs" / "guides").glob("*.md")) - {CLUSTER})


@pytest.mark.server
def test_the_tutorial_is_what_happens(tmp_path: Path) -> None:
    reader = blocks.Reader(tmp_path, ROOT / "docs" / "tutorial.md")
    assert reader.follow() >= 25


def test_the_readme_example_runs_as_printed(tmp_path: Path) -> None:
    reader = blocks.Reader(tmp_path, ROOT / "README.md")
    assert reader.follow() >= 2


@pytest.mark.server
def test_the_cluster_guide_starts_a_whole_cluster(tmp_path: Path) -> None:
    debian.everything()
    project = write_project("first", tmp_path)
    try:
        assert blocks.Reader(project, CLUSTER).follow() >= 5
        assert not LocalCluster(project).works()
    finally:
        LocalCluster(project).down(print, delete_data=True)


@pytest.mark.server
@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_a_guide_runs_in_a_fresh_project(guide: Path, tmp_path: Path) -> None:
    """Every guide starts in a project just written, applied and materialized, and says so."""
    reader = blocks.Reader(write_project("first", tmp_path), guide)
    assert reader.follow() >= 1


def test_the_reader_notices_a_wrong_output(tmp_path: Path) -> None:
    document = tmp_path / "wrong.md"
    document.write_text("```console\n$ echo three\ntwo\n```\n")
    with pytest.raises(AssertionError, match=r"wrong\.md:2"):
        blocks.Reader(tmp_path, document).follow()


def test_the_reader_notices_a_failing_command(tmp_path: Path) -> None:
    document = tmp_path / "fails.md"
    document.write_text("```console\n$ false\n```\n")
    with pytest.raises(AssertionError, match="exit code 1"):
        blocks.Reader(tmp_path, document).follow()


def test_a_failure_announced_must_fail(tmp_path: Path) -> None:
    document = tmp_path / "works.md"
    document.write_text("```console\n$ stook version # fails\n```\n")
    with pytest.raises(AssertionError, match="exit code 0"):
        blocks.Reader(tmp_path, document).follow()


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a ... c", "a  b  c\n", True),
        ("a", "a\nb", False),
        ("[1, 2]", "[1, 2]", True),
        ("[12]", "1", False),  # brackets in what is expected are no character class
        ("x*", "xy", False),
        ("1  2", "1 2   ", True),
        ("a\n...\nc", "a\nc", True),
        ("a\n...\nc", "a\nb\nb\nc", True),
        ("a\n...", "a", True),
        ("a\n...\nc", "a\nb", False),
    ],
)
def test_what_counts_as_the_same_output(expected: str, printed: str, same: bool) -> None:
    assert blocks.matches(expected, printed) is same
