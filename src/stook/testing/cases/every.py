"""All cases, in the order of the report.

It is a file of its own so that nobody who adds a module of cases has to look for those who run them. It must never
hold a case.
"""

from __future__ import annotations

from typing import Final

from stook.testing.cases import exact_types, keys, pointintime
from stook.testing.cases.case import Case

CASES: Final[tuple[Case, ...]] = (*pointintime.CASES, *keys.CASES, *exact_types.CASES)
assert len({case.name for case in CASES}) == len(CASES), "two cases share a name"
