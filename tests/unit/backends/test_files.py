"""Blob files and lock files: full disks, folders in the way, what killed processes leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stook.backends.files.blobs import LEFTOVER_AGE_MIN_S, FileBlobs, open_blobs
from stook.backends.local.locks import FileLocks
from stook.backends.memory.clock import FrozenClock, open_clock
from stook.core.errors import EngineUnavailable, InvalidArgument, InvalidSettings
from stook.core.settings import parse_url


def test_leftovers_of_killed_writers_are_no_keys_and_go_when_old(tmp_path: Path) -> None:
    old, young = tmp_path / ",incoming-0", tmp_path / ",incoming-1"
    for path in (old, young):
        path.write_bytes(b"half")
    past = young.stat().st_mtime - LEFTOVER_AGE_MIN_S - 60
    os.utime(old, (past, past))
    blobs = FileBlobs(tmp_path)
    assert list(blobs.keys()) == []
    assert [path.name for path in tmp_path.iterdir()] == [",incoming-1"]


def test_a_key_cannot_name_a_leftover_or_a_file_outside(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    blobs = FileBlobs(tmp_path / "blobs")
    for key in ("../secret", "x/../../secret", str(tmp_path / "secret"), ",incoming-0"):
        with pytest.raises(InvalidArgument, match="malformed"):
            blobs.get(key)


def test_a_put_leaves_only_the_object(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    blobs.put("a/b", b"1")
    blobs.put("a/b", b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["a,b"]


FULL = """
import resource, sys
from pathlib import Path
from stook.backends.files.blobs import FileBlobs
from stook.core.errors import DiskFull
blobs = FileBlobs(Path(sys.argv[1]))
blobs.put("small", b"x" * 1000)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    blobs.put("large", b"x" * 100_000)
except DiskFull as error:
    assert sys.argv[1] in str(error), error
else:
    sys.exit("no error")
blobs.put("small-too", b"y" * 1000)
"""


def test_a_full_disk_leaves_no_half_object(tmp_path: Path) -> None:
    # A limit on file size fails a write half-way, as a full disk does.
    subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], check=True, timeout=60)
    assert list(FileBlobs(tmp_path).keys()) == ["small", "small-too"]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("opener", [FileBlobs, FileLocks])
def test_a_folder_that_cannot_be_made(tmp_path: Path, opener: type) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineUnavailable, match=r"file/deep.*writable"):
        opener(tmp_path / "file" / "deep")


def test_a_url_without_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="file:///"):
        open_blobs(parse_url("file:", tmp_path, "test"), tmp_path)


INHERIT = """
import os, signal, sys
from pathlib import Path
from stook.backends.local.locks import FileLocks
with FileLocks(Path(sys.argv[1])).hold("fold", wait_s=0):
    child = os.fork()
    if child == 0:
        os.read(0, 1)  # lives on until the test closes this pipe
        os._exit(0)
    print(child, flush=True)
    signal.pause()
"""


def test_a_forked_child_does_not_keep_a_killed_holders_lock(tmp_path: Path) -> None:
    locks = FileLocks(tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-c", INHERIT, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        orphan = int(holder.stdout.readline())
        holder.send_signal(signal.SIGKILL)
        holder.wait(60)
        os.kill(orphan, 0)  # still there
        with locks.hold("fold", wait_s=10):  # its first act drops the descriptor
            pass


def test_a_frozen_clock_moves_by_hand_only(tmp_path: Path) -> None:
    clock = FrozenClock(5)
    clock.advance(10)
    assert clock.now_us() == 15
    clock.set(3)
    assert clock.now_us() == 3
    assert open_clock(parse_url("frozen://1970-01-01T00:00:01Z", tmp_path, "test"), tmp_path).now_us() == 1_000_000
    with pytest.raises(InvalidSettings, match="frozen://"):
        open_clock(parse_url("frozen:", tmp_path, "test"), tmp_path)
