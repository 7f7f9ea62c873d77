"""The catalogue is covered, and the report is what this run showed.

`STOOK_WRITE_CONFORMANCE=1` writes the page instead of comparing it (`make conformance`).
"""

from __future__ import annotations

import os

import pytest

from stook.testing.cases.catalogue import CATALOGUE
from stook.testing.cases.every import CASES

from .mutants import MUTANTS
from .record import caught_of, record_of
from .report import PAGE, marked_tests, render
from .test_cases import ASKED, REFUSED, WAYS_IN


@pytest.mark.parametrize("number", CATALOGUE)
def test_a_hard_case_is_shown_or_waits_for_something(number: int) -> None:
    shown = any(number in case.numbers for case in CASES) or number in marked_tests()
    assert shown != bool(CATALOGUE[number].later), "it is shown by nothing" if not shown else "it waits no longer"


def test_no_test_bears_a_number_that_is_none() -> None:
    assert set(marked_tests()) | {n for case in CASES for n in case.numbers} <= set(CATALOGUE)


def test_the_report_is_what_this_run_showed(request: pytest.FixtureRequest) -> None:
    records, caught = record_of(request.config), caught_of(request.config)
    asked = {(record.engines, record.feed, record.case) for record in records}
    if len(asked) < len(ASKED) + len(REFUSED) or len(caught) < len(MUTANTS):
        pytest.skip("only a run of this whole folder can say, in which all passed")
    page = render(CASES, records, caught, WAYS_IN)
    if os.environ.get("STOOK_WRITE_CONFORMANCE"):
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page, "run `make conformance`"
