"""What docs/beside-feast.md says of stook stays true: the same questions, asked of stook alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(__file__).parents[2] / "bench" / "peers" / "feast_cases.py"


@pytest.mark.server
@pytest.mark.case(2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 18, 21, 22, 23, 24, 26, 27, 28)
@pytest.mark.case(31, 33, 37, 38, 42, 43, 44, 45, 46, 49, 51, 52, 54, 55)
def test_stook_answers_as_the_page_beside_feast_says() -> None:
    done = subprocess.run([sys.executable, COMMAND, "--stook-alone"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stook: 50 as expected, 1 differs by design, 1 not offered" in done.stdout
