"""Every launcher passes the launcher's contract."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from stook.backends.local.launcher import LocalLauncher, boot_id
from stook.core.errors import EngineUnavailable
from stook.core.ports.launcher import Work, WorkState
from stook.testing.contracts.launcher import LauncherContract, begun, kind, until


class TestLocalLauncher(LauncherContract):
    __test__ = True
    factory, url = "stook.backends.local.launcher:open_launcher", "local:///deep/er/launcher"

    def test_a_number_used_again_is_somebody_else(self, launcher: LocalLauncher, tmp_path: Path) -> None:
        """This very process has the number that a work had before: it is not taken for it, and is not killed."""
        launcher.start(kind(tmp_path))
        until(lambda: begun(tmp_path))
        launcher.kill("kind")
        born = next(tmp_path.glob("deep/er/launcher/kind/born"))
        ours = Path("/proc/self/stat").read_text().split()
        before = born.read_text().split()
        born.write_text(" ".join([before[0], ours[0], *before[2:]]) + "\n")
        assert launcher.observe("kind").state is WorkState.GONE
        launcher.kill("kind")
        ours_as_it_is = " ".join([boot_id(), *ours]) + "\n"
        born.write_text(ours_as_it_is)
        assert launcher.observe("kind").state is WorkState.RUNNING
        born.write_text(ours_as_it_is.replace(boot_id(), "another-boot"))
        assert launcher.observe("kind").state is WorkState.GONE

    def test_as_another_user(self, launcher: LocalLauncher, tmp_path: Path) -> None:
        work = Work("kind", kind(tmp_path).command, "/", user="no-such-user-here")
        with pytest.raises(EngineUnavailable, match="no user 'no-such-user-here'"):
            launcher.start(work)
        if os.geteuid() != 0:
            pytest.skip("only root may start works as another user")
        assert launcher.start(Work("who", ("/usr/bin/id", "-un"), "/", user="nobody"))
        until(lambda: launcher.log("who", lines_max=1))
        assert launcher.log("who", lines_max=1) == [pwd.getpwnam("nobody").pw_name]
