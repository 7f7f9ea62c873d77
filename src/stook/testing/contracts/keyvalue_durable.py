"""The suite of the `KeyValue` port for stores that outlive a process and serve several at once.

It is a file of its own, beside `keyvalue`, because its tests start real processes and kill some. Backends' tests
subclass it. It must never wait for a time where a process can say how far it is.
"""

# ruff: noqa: D102, S106 - the name of a test says what it tests; tokens are no secrets

from __future__ import annotations

from itertools import count
from multiprocessing.connection import Connection
from typing import Any

import pytest

from stook.core.ports.keyvalue import KeyValue, KeyValueAbility
from stook.testing.contracts import Child, Opening, child
from stook.testing.contracts.keyvalue import (
    LIVE,
    LOADING,
    ROUNDS,
    SWITCHED_KEYS,
    KeyValueContract,
    S,
    check_one_generation,
    check_race,
    load_live,
    race_rows,
    states,
    switch,
)
from stook.testing.contracts.keyvalue_model import value

KILLED_AFTER = (1, 12, 60)  # acknowledged calls
KILLED_BATCH = 50
LOAD_CHUNKS, CHUNK_ROWS = 400, 250


class DurableKeyValueContract(KeyValueContract):
    """A store outlives the process and is shared by several."""

    def test_processes_are_promised(self, store: KeyValue) -> None:
        assert KeyValueAbility.PROCESSES in store.abilities

    def test_reopened(self, opening: Opening, store: KeyValue) -> None:
        live = load_live(store, S, [(b"a", value(1)), (b"b", value(1))])
        store.put_newest([(S, [(b"b", value(2)), (b"c", value(2))])], position=("stream", 9))
        load = store.begin_load(S, token="t", now_us=3)
        store.load(S, load.generation, [(b"a", value(5))])
        store.close()
        again: KeyValue = opening.open()
        assert list(again.scan(S)) == [(b"a", value(1)), (b"b", value(2)), (b"c", value(2))]
        assert again.position("stream") == 9
        assert again.begin_load(S, token="t", now_us=4) == (load.generation, 1, b"a")
        assert states(again, S) == [(live, LIVE), (load.generation, LOADING)]
        again.close()

    def test_processes_see_each_other_at_once(self, opening: Opening, store: KeyValue) -> None:
        with child(_obey, opening) as other:
            live = None
            for n in range(ROUNDS):
                assert _ask(other, "put_newest", [(S, [(b"pushed", value(n))])], position=("stream", n)) == 1
                assert store.get_many([(S, [b"pushed"])]) == [[value(n)]]
                assert store.position("stream") == n
                live = load_live(store, S, [(b"loaded", value(-n))], expected=live)
                assert _ask(other, "get_many", [(S, [b"loaded", b"pushed"])]) == [[value(-n), value(n)]]
                assert _ask(other, "generations", S) == store.generations(S)
            other.send(None)
            other.join()

    def test_a_read_sees_one_generation_while_a_process_switches(self, opening: Opening, store: KeyValue) -> None:
        load_live(store, S, [(key, value(0)) for key in SWITCHED_KEYS])
        with child(_switch_in_child, opening) as switching:
            assert switching.receive() == "ready"
            seen = {check_one_generation(store)}
            switching.send("go")
            while max(seen) < ROUNDS:
                seen.add(check_one_generation(store))
            switching.join()
        assert len(seen) > 2

    def test_processes_race_and_the_newest_wins(self, opening: Opening) -> None:
        # They also race to create the store.
        with child(_race, opening, 0) as a, child(_race, opening, 1) as b:
            for racer in (a, b):
                assert racer.receive() == "ready"
                racer.send("go")
            a.join()
            b.join()
        store: KeyValue = opening.open()
        check_race(store, 2)
        store.close()

    @pytest.mark.kill
    def test_a_killed_writer_loses_nothing_acknowledged(self, opening: Opening, store: KeyValue) -> None:
        for acknowledged in KILLED_AFTER:
            with child(_put_for_ever, opening) as writer:
                last = [writer.receive() for _ in range(acknowledged)][-1]
                writer.kill()
                last = max([last, *writer.received()])
            position = store.position("stream")
            assert position in (last, last + 1)
            # A position is stored only once its rows are in, and here all rows belong to some position.
            keys = [b"%d %d" % (n, k) for n in range(1, position + 1) for k in range(KILLED_BATCH)]
            assert None not in store.get_many([(S, keys)])[0]
            assert store.get_many([(S, [b"last"])]) == [[value(position)]]

    @pytest.mark.kill
    def test_a_killed_load_resumes_after_what_was_acknowledged(self, opening: Opening, store: KeyValue) -> None:
        for acknowledged in KILLED_AFTER:
            with child(_load_for_ever, opening) as loader:
                rows = [loader.receive() for _ in range(acknowledged)][-1]
                loader.kill()
                rows = max([rows, *loader.received()])
            load = store.begin_load(S, token="t", now_us=0)
            assert load.rows in (rows, rows + CHUNK_ROWS)
            assert load.last_key == b"%08d" % (load.rows - 1)
        store.activate(S, load.generation, expected=None)
        assert [key for key, _ in store.scan(S)] == [b"%08d" % n for n in range(load.rows)]


def _ask(other: Child, method: str, *arguments: object, **named: object) -> Any:
    other.send((method, arguments, named))
    return other.receive()


def _obey(pipe: Connection, opening: Opening) -> None:
    store: KeyValue = opening.open()
    while (order := pipe.recv()) is not None:
        method, arguments, named = order
        pipe.send(getattr(store, method)(*arguments, **named))
    store.close()


def _switch_in_child(pipe: Connection, opening: Opening) -> None:
    store: KeyValue = opening.open()
    pipe.send("ready")
    pipe.recv()
    switch(store)
    store.close()


def _race(pipe: Connection, opening: Opening, number: int) -> None:
    store: KeyValue = opening.open()
    pipe.send("ready")
    pipe.recv()
    for n in range(ROUNDS):
        store.put_newest([(S, race_rows(number, n))])
    store.close()


def _put_for_ever(pipe: Connection, opening: Opening) -> None:
    store: KeyValue = opening.open()
    for n in count(store.position("stream") + 1):
        rows = [(b"%d %d" % (n, k), value(n)) for k in range(KILLED_BATCH)]
        store.put_newest([(S, [*rows, (b"last", value(n))])], position=("stream", n))
        pipe.send(n)


def _load_for_ever(pipe: Connection, opening: Opening) -> None:
    store: KeyValue = opening.open()
    load = store.begin_load(S, token="t", now_us=0)
    for start in range(load.rows, LOAD_CHUNKS * CHUNK_ROWS, CHUNK_ROWS):
        chunk = [(b"%08d" % n, value(n, payload=b"x" * 200)) for n in range(start, start + CHUNK_ROWS)]
        store.load(S, load.generation, chunk)
        pipe.send(start + CHUNK_ROWS)
