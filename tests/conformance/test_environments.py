"""The same answers whatever the process around them: hash seed, time zone, locale, threads, sizes of chunks.

Environments are drawn by a seed, which is printed; `STOOK_TEST_SEED` repeats it. Each runs some cases through one way
in and every way out, random histories against the oracle, and a random story, in a process of its own.
`STOOK_TEST_ENVIRONMENTS` says how many (2 where it is not set).
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from stook.testing.cases.case import FEEDS
from stook.testing.cases.every import CASES

ROOT = Path(__file__).resolve().parents[2]
SEED = int(os.environ.get("STOOK_TEST_SEED", str(random.SystemRandom().randrange(1 << 30))))
ENVIRONMENTS = int(os.environ.get("STOOK_TEST_ENVIRONMENTS", "2"))
CASES_EACH = 15
ZONES = (
    "UTC",
    "Asia/Tokyo",
    "America/New_York",
    "Europe/Berlin",
    "Asia/Kathmandu",
    "Pacific/Chatham",
    "America/St_Johns",
)
PROPERTIES = "two_threads and (joined_together or breaks_ties or (equals_the_oracle and own_time))"


def drawn(choose: random.Random) -> dict[str, str]:
    """An environment: what a process inherits, and the project's limits."""
    cases = choose.sample([case.name for case in CASES], CASES_EACH)
    chunk, threads, fold = (
        choose.choice([1, 2, 3, 7, 100_000]),
        choose.choice([1, 2, 4]),
        choose.choice([1, 3, 100_000]),
    )
    return {
        "PYTHONHASHSEED": str(choose.randrange(1 << 32)),
        "TZ": choose.choice(ZONES),
        "STOOK_TEST_SERVER_TZ": choose.choice(ZONES),
        "LC_ALL": choose.choice(["C", "C.UTF-8", "POSIX"]),
        "PYTHONUTF8": choose.choice(["0", "1"]),
        "PYTHONCOERCECLOCALE": choose.choice(["0", "1"]),
        "OMP_NUM_THREADS": choose.choice(["1", "2"]),
        "STOOK_TEST_LIMITS": f"chunk_rows = {chunk}\nthreads = {threads}\nfold_rows = {fold}",
        "STOOK_TEST_CASES": " ".join(cases),
        "STOOK_TEST_SEED": str(choose.randrange(1 << 30)),
    }


@pytest.mark.case(13, 21, 40)
@pytest.mark.parametrize("number", range(ENVIRONMENTS))
def test_the_environment_changes_no_answer(number: int) -> None:
    print(f"STOOK_TEST_SEED={SEED}")
    choose = random.Random(SEED + number)
    environment = drawn(choose)
    print("\n".join(f"{name}={value!r}" for name, value in environment.items()))
    feed = choose.choice(FEEDS).replace(" ", "_")
    runs = [
        ["tests/conformance/test_cases.py", "-k", f"embedded-{feed}-"],
        ["tests/property/test_pointintime.py", "-k", PROPERTIES, f"--hypothesis-seed={environment['STOOK_TEST_SEED']}"],
        ["tests/e2e/test_parity.py", "-k", f"-{number % 6}] or [{number % 6}-"],
    ]
    for arguments in runs:
        command = [sys.executable, "-m", "pytest", "--tb=short", *arguments]
        done = subprocess.run(
            command, capture_output=True, timeout=600, check=False, cwd=ROOT, env={**os.environ, **environment}
        )
        assert done.returncode == 0, f"{' '.join(arguments)}:\n{done.stdout.decode(errors='replace')[-4000:]}"
