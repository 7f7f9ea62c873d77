"""The suites of the `Records` port: what holds for any, and what holds for those that outlive a process.

It is a file of its own because there is one suite per port. Backends' tests subclass a suite. It must never know a
kind that the platform uses.
"""

# ruff: noqa: D102 - the name of a test says what it tests

from __future__ import annotations

import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import pytest

from stook.core.errors import Conflict, InvalidArgument, TooLarge
from stook.core.ports.records import ABSENT, ANY, SPEC_BYTES_MAX, Change, Delete, Put, Record, Records
from stook.testing.contracts import Contract, Opening, child, in_threads

THREADS = 6
ROUNDS = 20
PROCESSES = 3
KILLS = 3
SPECS: list[dict[str, Any]] = [
    {},
    {"b": 1, "a": 2},
    {"text": "Zürich → \U0001f600 \0 \ud800 ' \" \\"},
    {"int": 2**63, "negative": -(2**70), "float": 0.1, "tiny": 5e-324, "yes": True, "none": None},
    {"deep": [[[{"x": [1, [2, {"y": []}]]}]]], "": {"": ""}},
]


class RecordsContract(Contract):
    """Records change by compare-and-set, all changes of a commit or none, one revision for the whole store."""

    @pytest.fixture
    def records(self, opening: Opening) -> Iterator[Records]:
        """The records under test, empty."""
        opened: Records = opening.open()
        yield opened
        opened.close()

    def test_empty_at_first(self, records: Records) -> None:
        assert records.revision() == 0
        assert records.get("view", "a") is None
        assert records.list() == []
        assert records.list("view") == []

    @pytest.mark.parametrize("spec", SPECS, ids=range(len(SPECS)))
    def test_a_spec_comes_back_as_it_was(self, records: Records, spec: dict[str, Any]) -> None:
        records.commit([Put("view", "a", spec)])
        found = records.get("view", "a")
        assert found == Record("view", "a", spec, 1, 1)
        assert list(found.spec) == list(spec)
        assert [record.spec for record in records.list()] == [spec]

    def test_each_commit_is_one_revision(self, records: Records) -> None:
        assert records.commit([Put("view", "a", {}), Put("view", "b", {})]) == 1
        assert records.commit([Put("view", "b", {"x": 1}), Put("view", "c", {})]) == 2
        assert records.revision() == 2
        assert [(r.name, r.created, r.revision) for r in records.list()] == [("a", 1, 1), ("b", 1, 2), ("c", 2, 2)]

    def test_no_changes_are_no_commit(self, records: Records) -> None:
        assert records.commit([]) == 0
        records.commit([Put("view", "a", {})])
        assert records.commit([]) == 1
        assert records.commit([], expected_revision=1) == 1
        assert records.revision() == 1
        with pytest.raises(Conflict):
            records.commit([], expected_revision=0)

    def test_lists_are_in_order_of_kind_and_name(self, records: Records) -> None:
        # Hard case: "b" after "B", "10" before "9", and letters beyond the basic plane after all others.
        names = ["b", "B", "10", "9", "ä", "\U0001f600", "\uffff", "a.b", "a-b", "a_b", "a", "ab"]
        records.commit([Put(kind, name, {}) for kind in ("view", "entity", "views") for name in names])
        listed = [(record.kind, record.name) for record in records.list()]
        assert listed == sorted(listed)
        assert len(listed) == 3 * len(names)
        assert [record.name for record in records.list("view")] == sorted(names)
        assert records.list("vie") == []

    def test_kinds_are_apart(self, records: Records) -> None:
        records.commit([Put("view", "a", {"x": 1}), Put("entity", "a", {"x": 2})])
        records.commit([Delete("view", "a")])
        found = records.get("entity", "a")
        assert found is not None
        assert found.spec == {"x": 2}
        assert records.get("view", "a") is None

    def test_put_where_absent(self, records: Records) -> None:
        records.commit([Put("view", "a", {"x": 1}, ABSENT)])
        with pytest.raises(Conflict, match="'a'"):
            records.commit([Put("view", "a", {"x": 2}, ABSENT)])
        assert [record.spec for record in records.list()] == [{"x": 1}]
        assert records.revision() == 1

    def test_put_where_the_revision_is_known(self, records: Records) -> None:
        records.commit([Put("view", "a", {"x": 1})])
        records.commit([Put("view", "b", {})])
        assert records.commit([Put("view", "a", {"x": 2}, 1)]) == 3
        for stale in (1, 2, 4):
            with pytest.raises(Conflict, match="'a'"):
                records.commit([Put("view", "a", {"x": 3}, stale)])
        with pytest.raises(Conflict, match="'c'"):
            records.commit([Put("view", "c", {}, 1)])
        assert [record.spec for record in records.list()] == [{"x": 2}, {}]

    def test_delete(self, records: Records) -> None:
        records.commit([Put("view", "a", {}), Put("view", "b", {})])
        with pytest.raises(Conflict):
            records.commit([Delete("view", "a", 2)])
        with pytest.raises(Conflict):
            records.commit([Delete("view", "never", 1)])
        assert records.commit([Delete("view", "a", 1)]) == 2
        assert records.commit([Delete("view", "a"), Delete("view", "never", ANY)]) == 3
        assert [record.name for record in records.list()] == ["b"]

    def test_deleted_and_made_anew_is_another(self, records: Records) -> None:
        # Hard case: a revision that counts per record starts again at 1, and a stale writer wins.
        records.commit([Put("view", "a", {"x": 1})])
        records.commit([Delete("view", "a")])
        records.commit([Put("view", "a", {"x": 2}, ABSENT)])
        assert records.get("view", "a") == Record("view", "a", {"x": 2}, 3, 3)
        with pytest.raises(Conflict):
            records.commit([Put("view", "a", {"x": 3}, 1)])

    def test_changes_of_one_commit_see_those_before(self, records: Records) -> None:
        records.commit([Put("view", "a", {"x": 1})])
        records.commit([Delete("view", "a", 1), Put("view", "a", {"x": 2}, ABSENT), Put("view", "a", {"x": 3}, 2)])
        assert records.get("view", "a") == Record("view", "a", {"x": 3}, 2, 2)

    def test_one_conflict_undoes_all(self, records: Records) -> None:
        records.commit([Put("view", "a", {"x": 1}), Put("view", "b", {})])
        before = records.list()
        changes: list[Change] = [
            Put("view", "a", {"x": 2}),
            Delete("view", "b"),
            Put("view", "c", {}),
            Put("view", "a", {}, 1),
        ]
        with pytest.raises(Conflict):
            records.commit(changes)
        assert records.list() == before
        assert records.revision() == 1

    def test_the_whole_store_may_be_expected_unchanged(self, records: Records) -> None:
        assert records.commit([Put("view", "a", {})], expected_revision=0) == 1
        for stale in (0, 2):
            with pytest.raises(Conflict):
                records.commit([Put("view", "b", {})], expected_revision=stale)
        assert records.commit([Put("view", "b", {})], expected_revision=1) == 2

    def test_what_is_kept_cannot_be_changed_from_outside(self, records: Records) -> None:
        spec = {"x": [1]}
        records.commit([Put("view", "a", spec)])
        spec["x"].append(2)
        found = records.get("view", "a")
        assert found is not None
        found.spec["x"].append(3)
        assert records.get("view", "a") == Record("view", "a", {"x": [1]}, 1, 1)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), {1}, object(), b"x"], ids=repr)
    def test_what_is_not_json_is_refused_and_changes_nothing(self, records: Records, bad: object) -> None:
        with pytest.raises(InvalidArgument, match="'a'"):
            records.commit([Put("view", "b", {}), Put("view", "a", {"x": bad})])
        assert records.list() == []

    def test_too_large_a_spec_is_refused(self, records: Records) -> None:
        with pytest.raises(TooLarge, match="'a'"):
            records.commit([Put("view", "a", {"x": "y" * SPEC_BYTES_MAX})])
        records.commit([Put("view", "a", {"x": "y" * (SPEC_BYTES_MAX - 8)})])
        assert records.revision() == 1

    def test_threads_lose_no_update(self, records: Records) -> None:
        records.commit([Put("view", "count", {"n": 0})])
        in_threads(THREADS, lambda _: _count(records, ROUNDS))
        found = records.get("view", "count")
        assert found is not None
        assert found.spec == {"n": THREADS * ROUNDS}
        assert records.revision() == 1 + THREADS * ROUNDS

    def test_a_list_is_one_state(self, records: Records) -> None:
        # Two records always change together; a list that sees one changed and not the other is torn.
        records.commit([Put("view", "a", {"n": 0}), Put("view", "b", {"n": 0})])
        done = threading.Event()

        def work(number: int) -> None:
            if number == 0:
                for n in range(1, 100):
                    records.commit([Put("view", "a", {"n": n}), Put("view", "b", {"n": n})])
                done.set()
            else:
                while not done.is_set():
                    first, second = records.list()
                    assert first.spec == second.spec
                    assert first.revision == second.revision

        in_threads(3, work)

    def test_close_is_idempotent(self, records: Records) -> None:
        records.commit([Put("view", "a", {})])
        records.close()
        records.close()


class DurableRecordsContract(RecordsContract):
    """Records outlive the process and are shared by several."""

    def test_reopened(self, opening: Opening, records: Records) -> None:
        records.commit([Put("view", "a", {"x": 1})])
        records.close()
        again: Records = opening.open()
        assert again.get("view", "a") == Record("view", "a", {"x": 1}, 1, 1)
        assert again.revision() == 1
        assert again.commit([Put("view", "a", {"x": 2}, 1)]) == 2
        again.close()

    def test_another_opening_sees_a_commit_at_once(self, opening: Opening, records: Records) -> None:
        other: Records = opening.open()
        for n in range(1, 4):
            records.commit([Put("view", "a", {"n": n})])
            assert other.revision() == n
            assert [record.spec for record in other.list()] == [{"n": n}]
        other.close()

    def test_processes_lose_no_update(self, opening: Opening) -> None:
        # They also race to create the store.
        with child(_count_in, opening) as a, child(_count_in, opening) as b, child(_count_in, opening) as c:
            for process in (a, b, c):
                process.join()
        records: Records = opening.open()
        found = records.get("view", "count")
        assert found is not None
        assert found.spec == {"n": PROCESSES * ROUNDS}
        records.close()

    def test_a_killed_writer_loses_nothing_acknowledged_and_leaves_nothing_half(self, opening: Opening) -> None:
        for _ in range(KILLS):
            with child(_commit_pairs, opening) as writer:
                last = [writer.receive() for _ in range(10)][-1]
                writer.kill()
                last = [last, *writer.received()][-1]
            records: Records = opening.open()
            first, second = records.list()
            assert first.spec == second.spec
            assert records.revision() in (last, last + 1)
            assert first.spec == {"n": records.revision()}
            records.close()


def _count(records: Records, rounds: int) -> None:
    for _ in range(rounds):
        while True:
            found = records.get("view", "count")
            n, expected = (0, ABSENT) if found is None else (found.spec["n"], found.revision)
            try:
                records.commit([Put("view", "count", {"n": n + 1}, expected)])
                break
            except Conflict:
                pass


def _count_in(pipe: Connection, opening: Opening) -> None:
    del pipe
    records: Records = opening.open()
    _count(records, ROUNDS)
    records.close()


def _commit_pairs(pipe: Connection, opening: Opening) -> None:
    records: Records = opening.open()
    while True:
        n = records.revision() + 1
        pipe.send(records.commit([Put("view", "a", {"n": n}), Put("view", "b", {"n": n})]))
