"""What the tests of this folder share through pytest: the project that operations are tried on, and the summary of how
many processes were killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import acts, processes


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of `acts`, which tests copy and nobody opens."""
    return acts.make_base(tmp_path_factory.mktemp("acts") / "base")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how many processes were killed in the middle of which operation."""
    if processes.killed:
        terminalreporter.write_line(f"{processes.killed.total()} processes killed (seed {processes.SEED}):")
        for what, number in sorted(processes.killed.items()):
            terminalreporter.write_line(f"  {number:4d}  {what}")
