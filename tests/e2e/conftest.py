"""What the tests of this folder share with pytest itself: the summary of how many processes were killed."""

from __future__ import annotations

import pytest

from . import processes


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how many processes were killed in the middle of which operation."""
    if processes.killed:
        terminalreporter.write_line(f"{processes.killed.total()} processes killed (seed {processes.SEED}):")
        for what, number in sorted(processes.killed.items()):
            terminalreporter.write_line(f"  {number:4d}  {what}")
