"""File numbers: pure, and never the same for other content."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stook.core.errors import SourceUnreadable
from stook.core.numbering import number
from stook.core.plans import SourceFile
from stook.core.rows import FILE_ORDINALS_MAX

# what a folder holds after each change: path -> content
folders = st.lists(st.dictionaries(st.sampled_from("abcde"), st.integers(0, 3), max_size=5), min_size=2, max_size=8)


def found(folder: dict[str, int]) -> list[SourceFile]:
    return [SourceFile(path, 1, content, -1) for path, content in sorted(folder.items())]


@given(folders)
def test_numbers_follow_paths_and_never_come_back_for_other_content(history: list[dict[str, int]]) -> None:
    before: tuple[SourceFile, ...] = ()
    for folder in history:
        after = number(found(folder), before)
        ordinals = [f.ordinal for f in after]
        assert ordinals == sorted(set(ordinals))
        known = {f.path: f for f in before}
        gone = max((f.ordinal for f in before if f.path not in folder), default=-1)
        for file in after:
            old = known.get(file.path)
            if old is not None:
                assert file.ordinal >= old.ordinal
                assert file.mtime_ns == old.mtime_ns or file.ordinal > old.ordinal
            elif gone >= 0:
                assert file.ordinal > gone
        assert number(found(folder), after) == after
        before = after


def test_a_file_before_an_unchanged_one_moves_it_up() -> None:
    """What is stored from `b` must lose against `b` as read again, for `a` now stands before it."""
    old = number(found({"b": 1, "c": 1}), ())
    assert [(f.path, f.ordinal) for f in number(found({"a": 1, "b": 1, "c": 1}), old)] == [("a", 0), ("b", 1), ("c", 2)]


def test_a_gap_left_by_a_removed_file_stays() -> None:
    old = number(found({"a": 1, "b": 1, "c": 1}), ())
    assert [f.ordinal for f in number(found({"a": 1, "c": 1}), old)] == [0, 2]


def test_numbers_end() -> None:
    old = (SourceFile("a", 1, 1, FILE_ORDINALS_MAX - 1),)
    with pytest.raises(SourceUnreadable, match="more than"):
        number(found({"a": 2}), old)
