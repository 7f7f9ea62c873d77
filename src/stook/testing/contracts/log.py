"""The suites of the `Log` port: what holds for any, and what holds for those that outlive a process.

It is a file of its own because there is one suite per port. Backends' tests subclass a suite. It must never assume
that a payload means anything.
"""

# ruff: noqa: D102 - the name of a test says what it tests

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from threading import Lock

import pytest

from stook.core.errors import Conflict, TooLarge
from stook.core.ports.log import PAYLOAD_BYTES_MAX, Entry, Log
from stook.testing.contracts import Contract, Opening, child, in_threads

THREADS = 8
ROUNDS = 25
PROCESSES = 3
KILLED_AFTER = (1, 5, 30, 120)  # acknowledged appends; the last is beyond a checkpoint of any journal
WRITERS = 4
BATCH = 3
ALL = 1_000_000


class LogContract(Contract):
    """Positions grow from 1 without gaps, appends are whole, and what was truncated is said to be."""

    @pytest.fixture
    def log(self, opening: Opening) -> Iterator[Log]:
        """The log under test, empty."""
        opened: Log = opening.open()
        yield opened
        opened.close()

    def test_a_stream_that_nobody_appended_to(self, log: Log) -> None:
        assert log.end("s") == 0
        assert log.base("s") == 0
        assert log.read("s", after=0, limit=10) == []
        log.truncate("s", through=5)
        assert log.end("s") == 0
        assert log.append("s", [b"a"]) == 1

    def test_positions_grow_from_1_in_order(self, log: Log) -> None:
        assert log.append("s", [b"a"]) == 1
        assert log.append("s", [b"b", b"c"]) == 3
        assert log.end("s") == 3
        assert log.read("s", after=0, limit=10) == [Entry(1, b"a"), Entry(2, b"b"), Entry(3, b"c")]

    def test_nothing_appended_changes_nothing(self, log: Log) -> None:
        assert log.append("s", []) == 0
        log.append("s", [b"a"])
        assert log.append("s", []) == 1
        assert log.end("s") == 1

    @pytest.mark.parametrize("payload", [b"", b"\0", bytes(range(256)), "ü".encode() * 1000, b"x" * 5_000_000], ids=len)
    def test_payloads_come_back(self, log: Log, payload: bytes) -> None:
        log.append("s", [payload, b"next"])
        entries = log.read("s", after=0, limit=10)
        assert entries == [Entry(1, payload), Entry(2, b"next")]
        assert type(entries[0].payload) is bytes

    @pytest.mark.parametrize("stream", ["", "a/b", "../x", "Zürich", "a'b\"", "x" * 1000, "_"])
    def test_any_text_names_a_stream(self, log: Log, stream: str) -> None:
        log.append(stream, [b"a"])
        assert log.read(stream, after=0, limit=10) == [Entry(1, b"a")]

    def test_streams_are_apart(self, log: Log) -> None:
        log.append("s", [b"a", b"b"])
        log.append("t", [b"c"])
        log.append("S", [b"d"])
        log.truncate("s", through=2)
        assert [log.end(stream) for stream in ("s", "t", "S")] == [2, 1, 1]
        assert log.read("t", after=0, limit=10) == [Entry(1, b"c")]
        assert log.base("t") == 0

    def test_read_after_and_limit(self, log: Log) -> None:
        log.append("s", [b"%d" % n for n in range(1, 11)])
        assert [entry.position for entry in log.read("s", after=3, limit=4)] == [4, 5, 6, 7]
        assert [entry.position for entry in log.read("s", after=9, limit=4)] == [10]
        assert log.read("s", after=10, limit=4) == []
        assert log.read("s", after=99, limit=4) == []
        assert log.read("s", after=0, limit=0) == []

    def test_read_stops_at_its_bytes_but_gives_one(self, log: Log) -> None:
        log.append("s", [b"x" * 10] * 5)
        assert len(log.read("s", after=0, limit=10, bytes_max=20)) == 2
        assert len(log.read("s", after=0, limit=10, bytes_max=1)) == 1
        assert len(log.read("s", after=0, limit=10, bytes_max=50)) == 5
        assert len(log.read("s", after=0, limit=1, bytes_max=50)) == 1

    def test_a_payload_too_large_is_refused_and_nothing_is_appended(self, log: Log) -> None:
        with pytest.raises(TooLarge, match="'s'"):
            log.append("s", [b"a", b"x" * (PAYLOAD_BYTES_MAX + 1)])
        assert log.end("s") == 0
        assert log.append("s", [b"a"]) == 1

    def test_truncate_forgets_up_to_a_position(self, log: Log) -> None:
        log.append("s", [b"a", b"b", b"c"])
        for _ in range(2):
            log.truncate("s", through=2)
            assert (log.base("s"), log.end("s")) == (2, 3)
            assert log.read("s", after=2, limit=10) == [Entry(3, b"c")]
        log.truncate("s", through=1)
        assert log.base("s") == 2

    def test_reading_what_was_truncated_conflicts(self, log: Log) -> None:
        # Hard case: skipping silently to what is left loses rows.
        log.append("s", [b"a", b"b", b"c"])
        log.truncate("s", through=2)
        for after in (0, 1):
            with pytest.raises(Conflict, match="'s'"):
                log.read("s", after=after, limit=10)
        log.truncate("s", through=3)
        with pytest.raises(Conflict, match="'s'"):
            log.read("s", after=2, limit=10)
        assert log.read("s", after=3, limit=10) == []

    def test_positions_are_never_used_again(self, log: Log) -> None:
        # Hard case: a stream truncated to nothing that counts from what is left starts again at 1.
        log.append("s", [b"a", b"b"])
        log.truncate("s", through=2)
        assert log.append("s", [b"c"]) == 3
        assert log.read("s", after=2, limit=10) == [Entry(3, b"c")]

    def test_truncating_beyond_the_end_spares_what_comes_later(self, log: Log) -> None:
        log.append("s", [b"a"])
        log.truncate("s", through=99)
        assert (log.base("s"), log.end("s")) == (1, 1)
        assert log.append("s", [b"b"]) == 2
        assert log.read("s", after=1, limit=10) == [Entry(2, b"b")]

    def test_threads_append_whole_batches_without_gaps(self, log: Log) -> None:
        answered: dict[int, tuple[bytes, bytes]] = {}

        def work(number: int) -> None:
            for n in range(ROUNDS):
                batch = (b"%d.%d first" % (number, n), b"%d.%d last" % (number, n))
                answered[log.append("s", batch)] = batch

        in_threads(THREADS, work)
        entries = log.read("s", after=0, limit=ALL)
        assert [entry.position for entry in entries] == list(range(1, 2 * THREADS * ROUNDS + 1))
        assert len(answered) == THREADS * ROUNDS
        for last, batch in answered.items():
            assert tuple(entry.payload for entry in entries[last - 2 : last]) == batch

    def test_each_threads_appends_keep_their_order(self, log: Log) -> None:
        def work(number: int) -> None:
            for n in range(ROUNDS):
                log.append("s", [b"%d %d" % (number, n)])

        in_threads(THREADS, work)
        seen: dict[int, list[int]] = {}
        for entry in log.read("s", after=0, limit=ALL):
            number, n = map(int, entry.payload.split())
            seen.setdefault(number, []).append(n)
        assert seen == {number: list(range(ROUNDS)) for number in range(THREADS)}

    def test_readers_follow_writers_and_truncation_without_a_gap(self, log: Log) -> None:
        total = 4 * ROUNDS

        def work(number: int) -> None:
            if number == 0:
                for n in range(1, total + 1):
                    log.append("s", [b"%d" % n])
                return
            after = 0
            while after < total:
                for entry in log.read("s", after=after, limit=7):
                    assert entry == Entry(after + 1, b"%d" % (after + 1))
                    after = entry.position
                log.truncate("s", through=after)

        in_threads(2, work)
        assert (log.base("s"), log.end("s")) == (total, total)

    def test_close_is_idempotent(self, log: Log) -> None:
        log.append("s", [b"a"])
        log.close()
        log.close()


class DurableLogContract(LogContract):
    """A log outlives the process and is shared by several."""

    def test_reopened(self, opening: Opening, log: Log) -> None:
        log.append("s", [b"a", b"b"])
        log.truncate("s", through=1)
        log.append("t", [b"c"])
        log.truncate("t", through=1)
        log.close()
        again: Log = opening.open()
        assert (again.base("s"), again.end("s")) == (1, 2)
        assert again.read("s", after=1, limit=10) == [Entry(2, b"b")]
        assert again.append("t", [b"d"]) == 2
        again.close()

    def test_another_opening_sees_an_append_at_once(self, opening: Opening, log: Log) -> None:
        other: Log = opening.open()
        for n in range(1, 4):
            log.append("s", [b"%d" % n])
            assert other.end("s") == n
            assert other.read("s", after=n - 1, limit=10) == [Entry(n, b"%d" % n)]
        other.close()

    def test_processes_append_without_gaps_or_loss(self, opening: Opening) -> None:
        # They also race to create the log.
        with (
            child(_append_some, opening, 0) as a,
            child(_append_some, opening, 1) as b,
            child(_append_some, opening, 2) as c,
        ):
            answered = [a.receive(), b.receive(), c.receive()]
            for process in (a, b, c):
                process.join()
        log: Log = opening.open()
        entries = log.read("s", after=0, limit=ALL)
        assert [entry.position for entry in entries] == list(range(1, PROCESSES * ROUNDS + 1))
        for number, positions in enumerate(answered):
            assert [entries[position - 1].payload for position in positions] == [
                b"%d %d" % (number, n) for n in range(ROUNDS)
            ]
        log.close()

    def test_a_killed_writer_loses_nothing_acknowledged_and_leaves_nothing_half(self, opening: Opening) -> None:
        acknowledged: list[tuple[int, bytes]] = []
        for count in KILLED_AFTER:
            with child(_append_for_ever, opening) as writer:
                acknowledged += [writer.receive() for _ in range(count)]
                writer.kill()
                acknowledged += writer.received()
            log: Log = opening.open()
            entries = log.read("s", after=0, limit=ALL, bytes_max=1 << 40)
            assert [entry.position for entry in entries] == list(range(1, log.end("s") + 1))
            for last, payload in acknowledged:
                assert [entry.payload for entry in entries[last - BATCH : last]] == [payload] * BATCH
            # Those on their way when it was killed may be there too, but then whole, and once.
            counts = Counter(entry.payload for entry in entries)
            assert set(counts.values()) == {BATCH}
            assert len(counts) <= len(acknowledged) + len(KILLED_AFTER) * WRITERS
            log.close()


def _append_some(pipe: Connection, opening: Opening, number: int) -> None:
    log: Log = opening.open()
    pipe.send([log.append("s", [b"%d %d" % (number, n)]) for n in range(ROUNDS)])
    log.close()


def _append_for_ever(pipe: Connection, opening: Opening) -> None:
    log: Log = opening.open()
    start, sending = log.end("s"), Lock()

    def work(number: int) -> None:  # several at once, so that the kill also falls into grouped commits
        for n in range(ALL):
            payload = b"%d %d %d " % (start, number, n) + b"x" * 5_000
            last = log.append("s", [payload] * BATCH)
            with sending:
                pipe.send((last, payload))

    in_threads(WRITERS, work)
