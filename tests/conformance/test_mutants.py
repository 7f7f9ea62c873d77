"""The suite notices typical bugs: each is planted in a copy of the product, and one named test must fail of it.

A test that fails for another reason (the copy does not start, say) does not count: the failure must be one of the
suite's own comparisons.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import stook

from .mutants import MUTANTS, Mutant
from .record import Caught, caught_of

HERE = Path(__file__).parent
COMPARED = re.compile(r"^E +(AssertionError: |assert ).*(answers|statuses|event times|==|own columns)", re.MULTILINE)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.bug.replace(" ", "_"))
def test_a_planted_bug_is_noticed(tmp_path: Path, mutant: Mutant, request: pytest.FixtureRequest) -> None:
    source = Path(stook.__file__).parent
    shutil.copytree(source, tmp_path / "stook", ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "stook" / mutant.file
    text = file.read_text()
    assert text.count(mutant.before) == 1, f"{mutant.file} has changed: plant the bug anew"
    file.write_text(text.replace(mutant.before, mutant.after))
    tests = HERE / ("test_cases.py" if mutant.case else "test_scenarios.py")
    command = [sys.executable, "-m", "pytest", str(tests), "-k", mutant.test, "--tb=short"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "STOOK_TEST_CASES": mutant.case}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 1, f"nothing failed:\n{done.stdout[-3000:]}"
    assert COMPARED.search(done.stdout), f"it failed, but not of a comparison:\n{done.stdout[-3000:]}"
    caught_of(request.config).add(Caught(mutant.bug, mutant.test))
