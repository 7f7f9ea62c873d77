"""The suites of the `Blobs` port: what holds for any, and what holds for those that outlive a process.

It is a file of its own because there is one suite per port. Backends' tests subclass a suite. It must never know
how a backend spells a key.
"""

# ruff: noqa: D102 - the name of a test says what it tests

from __future__ import annotations

import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

import pytest

from stook.core.errors import Conflict, InvalidArgument, UnknownObject
from stook.core.ports.blobs import Blobs
from stook.testing.contracts import Contract, Opening, child, in_threads

MALFORMED = (
    "", "/", "/a", "a/", "a//b", ".", "..", "...", "../a", "a/../b", "a/..", "./a", "a/./b", "a\\b", "a b", "a\0b",
    "a\n", "a\nb", "ä", "a,b", "a:b", "~", "a*", "C:/x", "%2e%2e/a", "x" * 100_000,
)  # fmt: skip
WELL_FORMED = (
    "a",
    "a/b/c",
    ".hidden",
    "..a",
    "a..",
    "a/.b",
    "-",
    "_",
    "0",
    "A.b-c_d/1.2.3",
    "x" * 128 + "/" + "y" * 100,
)
THREADS = 8


class BlobsContract(Contract):
    """Objects are stored whole, once, and never change."""

    @pytest.fixture
    def blobs(self, opening: Opening) -> Blobs:
        """The blobs under test, empty."""
        return opening.open()

    @pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)), b"\r\n\0" * 500_000])
    def test_bytes_come_back(self, blobs: Blobs, data: bytes) -> None:
        blobs.put("a/b", data)
        assert blobs.get("a/b") == data
        assert blobs.exists("a/b")

    def test_what_is_not_there(self, blobs: Blobs) -> None:
        assert not blobs.exists("a")
        with pytest.raises(UnknownObject, match="a"):
            blobs.get("a")
        assert list(blobs.keys()) == []

    def test_the_same_bytes_again_are_harmless(self, blobs: Blobs) -> None:
        blobs.put("a", b"1")
        blobs.put("a", b"1")
        assert list(blobs.keys()) == ["a"]

    def test_other_bytes_conflict_and_change_nothing(self, blobs: Blobs) -> None:
        blobs.put("a", b"1")
        for other in (b"2", b"", b"12"):
            with pytest.raises(Conflict, match="a"):
                blobs.put("a", other)
        assert blobs.get("a") == b"1"

    def test_a_key_and_a_key_below_it_are_two_objects(self, blobs: Blobs) -> None:
        # Hard case: a folder and a file cannot share a name, while object storage has no folders.
        blobs.put("a/b", b"1")
        blobs.put("a", b"2")
        blobs.put("a/b/c", b"3")
        assert [blobs.get(key) for key in list(blobs.keys())] == [b"2", b"1", b"3"]

    def test_keys_are_in_order_and_start_with_the_prefix(self, blobs: Blobs) -> None:
        stored = ["b", "a/2", "a/10", "a", "a.b", "a-b", "B", "a/1/x", "_"]
        for key in stored:
            blobs.put(key, key.encode())
        assert list(blobs.keys()) == sorted(stored)
        assert list(blobs.keys("a/")) == ["a/1/x", "a/10", "a/2"]
        assert list(blobs.keys("a/1")) == ["a/1/x", "a/10"]
        assert list(blobs.keys("zzz")) == []

    def test_a_listing_survives_changes_made_meanwhile(self, blobs: Blobs) -> None:
        for key in ("a", "b", "c"):
            blobs.put(key, b"")
        listing = blobs.keys()
        first = next(listing)
        blobs.delete("b")
        blobs.put("d", b"")
        assert first == "a"
        assert set(listing) <= {"b", "c", "d"}

    def test_deleted_is_gone_and_may_be_stored_anew(self, blobs: Blobs) -> None:
        blobs.put("a/b", b"1")
        blobs.put("a/c", b"1")
        blobs.delete("a/b")
        blobs.delete("a/b")
        blobs.delete("never")
        assert not blobs.exists("a/b")
        assert list(blobs.keys()) == ["a/c"]
        blobs.put("a/b", b"2")
        assert blobs.get("a/b") == b"2"

    @pytest.mark.parametrize("key", WELL_FORMED)
    def test_well_formed_keys(self, blobs: Blobs, key: str) -> None:
        blobs.put(key, b"1")
        assert blobs.get(key) == b"1"
        assert list(blobs.keys()) == [key]

    @pytest.mark.parametrize("key", MALFORMED, ids=range(len(MALFORMED)))
    def test_malformed_keys_are_refused_everywhere(self, blobs: Blobs, key: str) -> None:
        calls: list[Callable[[], object]] = [
            lambda: blobs.put(key, b"1"),
            lambda: blobs.get(key),
            lambda: blobs.exists(key),
            lambda: blobs.delete(key),
        ]
        for call in calls:
            with pytest.raises(InvalidArgument):
                call()
        assert list(blobs.keys()) == []

    def test_of_many_threads_with_other_bytes_one_wins(self, blobs: Blobs) -> None:
        start = threading.Barrier(THREADS)
        won: list[int] = []

        def work(number: int) -> None:
            start.wait()
            try:
                blobs.put("a", b"%d" % number * 100_000)
                won.append(number)
            except Conflict:
                pass

        in_threads(THREADS, work)
        assert len(won) == 1
        assert blobs.get("a") == b"%d" % won[0] * 100_000

    def test_many_threads_with_the_same_bytes_all_succeed(self, blobs: Blobs) -> None:
        start = threading.Barrier(THREADS)

        def work(_: int) -> None:
            start.wait()
            blobs.put("a", b"x" * 100_000)

        in_threads(THREADS, work)
        assert list(blobs.keys()) == ["a"]


class DurableBlobsContract(BlobsContract):
    """Objects outlive the object and the process that stored them."""

    def test_reopened(self, opening: Opening, blobs: Blobs) -> None:
        blobs.put("a/b", b"1")
        again = opening.open()
        assert again.get("a/b") == b"1"
        assert list(again.keys()) == ["a/b"]

    def test_a_killed_writer_loses_nothing_acknowledged_and_leaves_nothing_half(
        self, opening: Opening, blobs: Blobs
    ) -> None:
        with child(_put_for_ever, opening) as writer:
            acknowledged = [writer.receive() for _ in range(20)]
            writer.kill()
            acknowledged += writer.received()
        keys = list(blobs.keys())
        assert set(acknowledged) <= set(keys)
        assert len(keys) <= len(acknowledged) + 1
        for key in keys:
            assert blobs.get(key) == _content(key)

    def test_processes_agree_on_one_winner(self, opening: Opening, blobs: Blobs) -> None:
        with child(_race, opening, b"1") as first, child(_race, opening, b"2") as second:
            for racer in (first, second):
                assert racer.receive() == "ready"
            for racer in (first, second):
                racer.send("go")
            won = first.receive(), second.receive()
        for number in range(len(won[0])):
            assert won[0][number] != won[1][number]
            assert blobs.get(f"race/{number}") == (b"1" if won[0][number] else b"2") * 10_000


def _content(key: str) -> bytes:
    return key.encode() * 20_000


def _put_for_ever(pipe: Connection, opening: Opening) -> None:
    blobs = opening.open()
    number = 0
    while True:
        key = f"many/{number}"
        blobs.put(key, _content(key))
        pipe.send(key)
        number += 1


def _race(pipe: Connection, opening: Opening, byte: bytes) -> None:
    blobs = opening.open()
    pipe.send("ready")
    pipe.recv()
    won = []
    for number in range(20):
        try:
            blobs.put(f"race/{number}", byte * 10_000)
            won.append(True)
        except Conflict:
            won.append(False)
    pipe.send(won)
