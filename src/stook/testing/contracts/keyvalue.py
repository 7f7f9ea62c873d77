"""The suite of the `KeyValue` port that every online store passes.

It is a file of its own because there is one suite per port; `keyvalue_durable` adds what holds for stores that
outlive a process. Backends' tests subclass a suite. It must never assume that a value means anything beyond its
header, nor how a store lays rows out.
"""

# ruff: noqa: D102, S106, S311 - the name of a test says what it tests; tokens and random numbers are no secrets

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from itertools import count
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings

from stook.core.errors import Conflict, InvalidArgument, TooLarge, UnknownObject
from stook.core.ports.keyvalue import (
    KEY_BYTES_MAX,
    READ_AT_ONCE,
    Generation,
    GenerationState,
    KeyValue,
    KeyValueAbility,
    Row,
)
from stook.core.rows import HEADER_BYTES, newer, unpack_header
from stook.testing.contracts import PATIENCE_S, Contract, Opening, in_threads
from stook.testing.contracts.keyvalue_model import KEYS, STEPS, Model, Step, value

S = "view"
THREADS = 4
ROUNDS = 40
SWITCHED_KEYS = [b"%04d" % n for n in range(100)]
LOADING, READY, LIVE = GenerationState.LOADING, GenerationState.READY, GenerationState.LIVE
NUMBERS = count(1)


def load_live(store: KeyValue, space: str, rows: Sequence[Row], *, expected: int | None = None) -> int:
    """Loads the rows as one generation, makes it live in place of `expected`, and returns its number."""
    generation = store.begin_load(space, token="load", now_us=0).generation
    store.load(space, generation, rows)
    store.activate(space, generation, expected=expected)
    return generation


def states(store: KeyValue, space: str) -> list[tuple[int, GenerationState]]:
    """(number, state) of the space's generations."""
    return [(generation.number, generation.state) for generation in store.generations(space)]


class KeyValueContract(Contract):
    """A read answers the newest of what was upserted and of the live generation; a load is unseen until live."""

    @pytest.fixture
    def store(self, opening: Opening) -> Iterator[KeyValue]:
        """The store under test, empty."""
        opened: KeyValue = opening.open()
        yield opened
        opened.close()

    def test_nothing_is_there(self, store: KeyValue) -> None:
        assert store.get_many([]) == []
        assert store.get_many([(S, [b"a", b""]), ("other", [])]) == [[None, None], []]
        assert list(store.scan(S)) == []
        assert store.generations(S) == []
        assert store.position("stream") == 0

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ((1, 9, 9), (2, 0, 0)),
            ((1, 1, 9), (1, 2, 0)),
            ((1, 1, 1), (1, 1, 2)),
            ((-5, 0, 0), (-4, 0, 0)),
            ((-1, 0, 0), (0, 0, 0)),
            ((255, 0, 0), (256, 0, 0)),
            ((-(1 << 63), 0, 0), ((1 << 63) - 1, 0, 0)),
        ],
    )
    def test_the_newest_wins(self, store: KeyValue, old: tuple[int, int, int], new: tuple[int, int, int]) -> None:
        first, second = value(*old), value(*new)
        assert store.put_newest([(S, [(b"a", first), (b"b", second)])]) == 2
        assert store.put_newest([(S, [(b"a", second), (b"b", first)])]) == 1
        assert store.get_many([(S, [b"a", b"b"])]) == [[second, second]]

    def test_an_equal_order_replaces(self, store: KeyValue) -> None:
        # So that a retry, and a correction under the same times, are harmless and take effect.
        for payload in (b"1", b"2", b"2"):
            assert store.put_newest([(S, [(b"a", value(5, payload=payload))])]) == 1
        assert store.get_many([(S, [b"a"])]) == [[value(5, payload=b"2")]]

    @pytest.mark.parametrize(("old", "new"), [(1, 2), (255, 256), (0xFFFFFF, 1 << 24), (0x01020304, 0x01020401)])
    def test_of_equal_orders_the_larger_schema_revision_wins(self, store: KeyValue, old: int, new: int) -> None:
        # A row under a newer definition may be loaded beside an upserted one under an older, which lies over it.
        first, dead = value(5, 5, 5, revision=old), value(5, 5, 5, revision=old, flags=1)
        second, later = value(5, 5, 5, revision=new), value(5, 5, 6, revision=0)
        assert store.put_newest([(S, [(b"a", first), (b"b", second), (b"c", dead), (b"d", later)])]) == 4
        load_live(store, S, [(b"a", second), (b"a", first), (b"b", first), (b"c", second), (b"d", second)])
        won = [(b"a", second), (b"b", second), (b"c", second), (b"d", later)]
        for rows, replaced in (([], 0), ([(b"a", first), (b"b", first), (b"c", dead)], 0), (won[1:2] + won[3:], 2)):
            assert store.put_newest([(S, rows)]) == replaced
            assert store.get_many([(S, [key for key, _ in won])]) == [[stored for _, stored in won]]
            assert list(store.scan(S)) == won

    def test_a_batch_may_repeat_keys_in_any_order(self, store: KeyValue) -> None:
        rows = [(b"a", value(2)), (b"a", value(3, payload=b"1")), (b"a", value(1)), (b"a", value(3, payload=b"2"))]
        assert store.put_newest([(S, rows)]) == 3
        assert store.put_newest([(S, [(b"b", value(1))]), (S, [(b"b", value(2))])]) == 2
        assert list(store.scan(S)) == [(b"a", value(3, payload=b"2")), (b"b", value(2))]

    def test_a_tombstone_is_a_value_and_obeys_the_rule(self, store: KeyValue) -> None:
        dead = value(5, flags=1)
        store.put_newest([(S, [(b"a", value(4)), (b"b", value(6))])])
        assert store.put_newest([(S, [(b"a", dead), (b"b", dead)])]) == 1
        assert store.put_newest([(S, [(b"a", value(3))])]) == 0
        assert store.get_many([(S, [b"a", b"b"])]) == [[dead, value(6)]]
        load_live(store, S, [(b"a", value(4)), (b"b", dead)])
        assert list(store.scan(S)) == [(b"a", dead), (b"b", value(6))]

    def test_a_read_takes_the_winner_of_overlay_and_live_generation(self, store: KeyValue) -> None:
        store.put_newest([(S, [(b"both-", value(1)), (b"both+", value(9)), (b"upserted", value(1))])])
        load_live(store, S, [(b"both+", value(5)), (b"both-", value(5)), (b"loaded", value(5))])
        expected = [value(5), value(9), value(1), value(5), None]
        keys = [b"both-", b"both+", b"upserted", b"loaded", b"neither"]
        assert store.get_many([(S, keys)]) == [expected]
        assert list(store.scan(S)) == sorted(zip(keys[:4], expected[:4], strict=True))
        assert store.put_newest([(S, [(b"loaded", value(4)), (b"both-", value(5, payload=b"x"))])]) == 1
        assert store.get_many([(S, [b"loaded", b"both-"])]) == [[value(5), value(5, payload=b"x")]]

    def test_switch_and_rollback_keep_what_was_upserted(self, store: KeyValue) -> None:
        first = load_live(store, S, [(b"a", value(1)), (b"b", value(1)), (b"only1", value(1))])
        store.put_newest([(S, [(b"a", value(2)), (b"new", value(2))])])
        second = load_live(store, S, [(b"a", value(1)), (b"b", value(3)), (b"only2", value(1))], expected=first)
        keys = [b"a", b"b", b"new", b"only1", b"only2"]
        assert store.get_many([(S, keys)]) == [[value(2), value(3), value(2), None, value(1)]]
        assert states(store, S) == [(first, READY), (second, LIVE)]
        store.activate(S, first, expected=second)
        assert store.get_many([(S, keys)]) == [[value(2), value(1), value(2), value(1), None]]
        assert states(store, S) == [(first, LIVE), (second, READY)]

    def test_answers_stand_where_they_were_asked(self, store: KeyValue) -> None:
        store.put_newest([(S, [(b"a", value(1)), (b"b", value(2))]), ("t", [(b"a", value(3))])])
        a, b, other = value(1), value(2), value(3)
        reads = [(S, [b"b", b"a", b"b", b"x", b"b"]), ("t", [b"a", b"b"]), ("none", [b"a"]), (S, [b"a"])]
        assert store.get_many(reads) == [[b, a, b, None, b], [other, None], [None], [a]]

    def test_many_keys_at_once(self, store: KeyValue) -> None:
        rows = [(b"%06d" % n, value(n, payload=b"x" * 100)) for n in range(0, 20_000, 2)]
        load_live(store, S, rows)
        store.put_newest([(S, [(b"%06d" % n, value(n + 1)) for n in range(0, 20_000, 20)])])
        order = list(range(20_000))
        Random(1).shuffle(order)
        answers = store.get_many([(S, [b"%06d" % n for n in order])])[0]
        for n, answer in zip(order, answers, strict=True):
            assert answer == (None if n % 2 else value(n + 1) if n % 20 == 0 else rows[n // 2][1])

    def test_keys_of_all_lengths(self, store: KeyValue) -> None:
        # A view without entities has the empty key; keys that begin alike must stay apart.
        keys = [b"", b"\0", b"\0\0", b"\xff", b"\xff" * KEY_BYTES_MAX, b"a" * (KEY_BYTES_MAX - 1), b"a" * KEY_BYTES_MAX]
        rows = sorted((key, value(n)) for n, key in enumerate(keys))
        store.put_newest([(S, rows)])
        load_live(store, "loaded", rows)
        for space in (S, "loaded"):
            assert store.get_many([(space, [key for key, _ in rows])]) == [[stored for _, stored in rows]]
            assert list(store.scan(space)) == rows

    def test_too_long_a_key_is_refused_and_nothing_written(self, store: KeyValue) -> None:
        rows = [(b"a", value(1)), (b"k" * (KEY_BYTES_MAX + 1), value(1))]
        generation = store.begin_load(S, token="t", now_us=0).generation
        with pytest.raises(InvalidArgument, match=str(KEY_BYTES_MAX)):
            store.put_newest([("t", rows[:1]), (S, rows)], position=("stream", 1))
        with pytest.raises(InvalidArgument, match=str(KEY_BYTES_MAX)):
            store.load(S, generation, rows)
        store.activate(S, generation, expected=None)
        assert (list(store.scan(S)), list(store.scan("t")), store.position("stream")) == ([], [], 0)

    @pytest.mark.parametrize("size", [0, 1, 400, 5_000, 1_000_000])
    def test_values_of_all_sizes(self, store: KeyValue, size: int) -> None:
        stored = value(1, payload=b"\xa5" * size)
        store.put_newest([(S, [(b"a", stored), (b"b", value(9))])])
        load_live(store, S, [(b"b", stored), (b"c", stored)])
        assert len(stored) == HEADER_BYTES + size
        assert store.get_many([(S, [b"a", b"b", b"c"])]) == [[stored, value(9), stored]]

    def test_spaces_stay_apart(self, store: KeyValue) -> None:
        names = ["a", "ab", "a:b", "ä", "A", "a" * 200]
        for n, name in enumerate(names):
            store.put_newest([(name, [(b"pushed", value(n))])])
            load_live(store, name, [(b"loaded", value(n))])
        store.clear(names[2])
        for n, name in enumerate(names):
            expected = [] if n == 2 else [(b"loaded", value(n)), (b"pushed", value(n))]
            assert list(store.scan(name)) == expected

    def test_a_load_is_not_seen_until_it_is_live(self, store: KeyValue) -> None:
        load = store.begin_load(S, token="t", now_us=7)
        store.load(S, load.generation, [(b"a", value(1)), (b"b", value(1))])
        store.load(S, load.generation, [])
        assert store.get_many([(S, [b"a"])]) == [[None]]
        assert list(store.scan(S)) == []
        assert store.generations(S) == [Generation(load.generation, 2, LOADING, 7)]
        store.activate(S, load.generation, expected=None)
        assert store.get_many([(S, [b"a"])]) == [[value(1)]]
        assert store.generations(S) == [Generation(load.generation, 2, LIVE, 7)]

    def test_a_load_resumes_by_its_token(self, store: KeyValue) -> None:
        first = store.begin_load(S, token="t", now_us=1)
        assert first[1:] == (0, None)
        store.load(S, first.generation, [(b"a", value(1)), (b"b", value(1))])
        assert store.begin_load(S, token="t", now_us=2) == (first.generation, 2, b"b")
        store.load(S, first.generation, [(b"z", value(1)), (b"", value(1))])  # the last one, not the largest
        assert store.begin_load(S, token="t", now_us=3) == (first.generation, 4, b"")
        store.activate(S, first.generation, expected=None)
        again = store.begin_load(S, token="t", now_us=4)  # that load is complete: this is another
        assert again.generation > first.generation
        assert again[1:] == (0, None)

    def test_unfinished_loads_under_other_tokens_are_dropped(self, store: KeyValue) -> None:
        live = load_live(store, S, [(b"a", value(1))])
        elsewhere = store.begin_load("other", token="old", now_us=0)
        old = store.begin_load(S, token="old", now_us=0)
        store.load(S, old.generation, [(b"a", value(2))])
        new = store.begin_load(S, token="new", now_us=0)
        assert states(store, S) == [(live, LIVE), (new.generation, LOADING)]
        assert states(store, "other") == [(elsewhere.generation, LOADING)]
        with pytest.raises(InvalidArgument):
            store.load(S, old.generation, [(b"b", value(2))])
        with pytest.raises(UnknownObject):
            store.activate(S, old.generation, expected=live)
        assert list(store.scan(S)) == [(b"a", value(1))]

    def test_rows_load_in_any_order_under_the_rule(self, store: KeyValue) -> None:
        # Two loads at once, so that neither always writes at the end of the store.
        chunks = [
            [(b"m", value(3)), (b"c", value(1)), (b"m", value(2)), (b"c", value(1, payload=b"later"))],
            [(b"d", value(1)), (b"n", value(1)), (b"z", value(1))],
            [(b"a", value(9)), (b"m", value(9)), (b"z", value(0)), (b"n", value(1, payload=b"later"))],
            [(b"zz", value(1))],
        ]
        expected = {b"a": 9, b"c": 1, b"d": 1, b"m": 9, b"n": 1, b"z": 1, b"zz": 1}
        loads = [store.begin_load(space, token="t", now_us=0).generation for space in (S, "other")]
        for chunk in chunks:
            for space, generation in zip((S, "other"), loads, strict=True):
                store.load(space, generation, chunk)
        for space, generation in zip((S, "other"), loads, strict=True):
            assert store.begin_load(space, token="t", now_us=0) == (generation, len(expected), b"zz")
            store.activate(space, generation, expected=None)
            found = list(store.scan(space))
            assert {key: unpack_header(stored).event_us for key, stored in found} == expected
            assert [key for key, stored in found if stored.endswith(b"later")] == [b"c", b"n"]

    def test_only_an_unfinished_generation_takes_rows(self, store: KeyValue) -> None:
        first = load_live(store, S, [(b"a", value(1))])
        second = load_live(store, S, [(b"a", value(2))], expected=first)
        for space, generation in [(S, first), (S, second), (S, 999), (S, 0), (S, -1), ("other", first)]:
            with pytest.raises(InvalidArgument, match=str(generation)):
                store.load(space, generation, [(b"b", value(1))])
        assert list(store.scan(S)) == [(b"a", value(2))]

    def test_activation_is_a_compare_and_set(self, store: KeyValue) -> None:
        first = load_live(store, S, [(b"a", value(1))])
        second = store.begin_load(S, token="t", now_us=0).generation
        for wrong in (None, second, 999):
            with pytest.raises(Conflict, match=str(first)):
                store.activate(S, second, expected=wrong)
        assert states(store, S) == [(first, LIVE), (second, LOADING)]
        for space, absent in [(S, 999), (S, 0), ("other", first)]:
            with pytest.raises(UnknownObject, match=str(absent)):
                store.activate(space, absent, expected=first)
        store.activate(S, second, expected=first)
        store.activate(S, second, expected=second)
        assert states(store, S) == [(first, READY), (second, LIVE)]

    def test_of_several_activations_one_wins(self, store: KeyValue) -> None:
        live = load_live(store, S, [])
        generations = [live]
        for _ in range(THREADS):
            generations.append(load_live(store, S, [], expected=generations[-1]))
        store.activate(S, live, expected=generations[-1])
        won: list[int] = []

        def activate(number: int) -> None:
            try:
                store.activate(S, generations[number + 1], expected=live)
            except Conflict:
                return
            won.append(generations[number + 1])

        in_threads(THREADS, activate)
        assert [number for number, state in states(store, S) if state is LIVE] == won
        assert len(won) == 1

    def test_dropped_generations(self, store: KeyValue) -> None:
        rows = [(b"%05d" % n, value(1)) for n in range(25_000)]
        first = load_live(store, S, rows)
        second = load_live(store, S, rows[:3], expected=first)
        third = store.begin_load(S, token="t", now_us=0).generation
        store.load(S, third, rows[:3])
        with pytest.raises(InvalidArgument, match=str(second)):
            store.drop(S, second)
        for generation in (first, third, first, 999):
            store.drop(S, generation)
        store.drop("other", second)
        assert states(store, S) == [(second, LIVE)]
        assert list(store.scan(S)) == rows[:3]
        with pytest.raises(UnknownObject):
            store.activate(S, first, expected=second)
        assert store.begin_load(S, token="t", now_us=0).generation > third  # numbers are not used again

    def test_clear(self, store: KeyValue) -> None:
        generation = load_live(store, S, [(b"%05d" % n, value(1)) for n in range(15_000)])
        store.begin_load(S, token="t", now_us=0)
        store.put_newest([(S, [(b"%05d" % n, value(2)) for n in range(12_000)])], position=("stream", 5))
        for _ in range(2):
            store.clear(S)
            assert store.get_many([(S, [b"00001", b"14000"])]) == [[None, None]]
            assert list(store.scan(S)) == []
            assert store.generations(S) == []
        assert store.position("stream") == 5
        with pytest.raises(InvalidArgument):
            store.load(S, generation, [(b"a", value(1))])
        assert store.put_newest([(S, [(b"00001", value(0))])]) == 1
        assert load_live(store, S, [(b"x", value(0))]) > generation
        assert list(store.scan(S)) == [(b"00001", value(0)), (b"x", value(0))]

    def test_a_position_never_moves_back(self, store: KeyValue) -> None:
        for n, expected in [(3, 3), (2, 3), (3, 3), (0, 3), (1 << 60, 1 << 60), (4, 1 << 60)]:
            store.put_newest([(S, [(b"a", value(n))])], position=("stream", n))
            assert store.position("stream") == expected
        store.put_newest([], position=("other", 1))
        assert (store.position("stream"), store.position("other"), store.position("strea")) == (1 << 60, 1, 0)

    def test_a_scan_is_in_key_order_and_of_one_state(self, store: KeyValue) -> None:
        loaded = [(b"%05d" % n, value(1)) for n in range(0, 5_000, 3)]
        upserted = [(b"%05d" % n, value(2)) for n in range(0, 5_000, 2)]
        first = load_live(store, S, loaded)
        store.put_newest([(S, upserted)])
        expected = sorted((dict(loaded) | dict(upserted)).items())
        assert list(store.scan(S)) == expected
        if KeyValueAbility.STEADY_SCAN in store.abilities:
            scanning = store.scan(S)
            begun = [next(scanning)]
            load_live(store, S, [], expected=first)
            store.put_newest([(S, [(key, value(3)) for key, _ in expected])])
            store.drop(S, first)
            assert begun + list(scanning) == expected
        store.scan(S)  # never begun, or left half way: neither holds anything up
        next(store.scan(S))

    def test_a_read_holds_no_more_than_it_may(self, store: KeyValue) -> None:
        """Of overlay and live generation, of all spaces together, and a key that repeats counts each time."""
        large = value(1, payload=b"x" * 1_000)
        load_live(store, S, [(b"a", large)])
        store.put_newest([(S, [(b"b", large)]), ("other", [(b"a", large)])])
        for keys in ([b"a"], [b"a", b"none", b"b"], [b"a", b"b"] * READ_AT_ONCE * 2):
            reads = [(S, keys), ("other", [b"a"])]
            answer = store.get_many(reads)
            size = sum(len(found) for values in answer for found in values if found is not None)
            assert store.get_many(reads, bytes_max=size) == answer
            with pytest.raises(TooLarge, match="ask for fewer"):
                store.get_many(reads, bytes_max=size - 1)
        assert store.get_many([(S, [b"none"])], bytes_max=0) == [[None]]

    def test_lifetimes_are_kept_at_least(self, store: KeyValue) -> None:
        rows = [(b"ever", value(1)), (b"long", value(2)), (b"moment", value(3)), (b"over", value(4))]
        lifetimes: list[int | None] = [None, 3_600_000, 300, 0]
        generation = store.begin_load("loaded", token="t", now_us=0).generation
        store.load("loaded", generation, rows, lifetimes_ms=lifetimes)
        store.activate("loaded", generation, expected=None)
        store.put_newest([(S, rows), ("bare", [])], lifetimes_ms=[lifetimes, None])
        for space in (S, "loaded"):
            assert store.get_many([(space, [b"ever", b"long"])]) == [[value(1), value(2)]]
            if KeyValueAbility.EXPIRY not in store.abilities:
                assert list(store.scan(space)) == rows
                continue
            await_end(store, space, [b"moment", b"over"])
            assert list(store.scan(space)) == rows[:2]

    def test_a_row_never_ends_before_what_it_hides(self, store: KeyValue) -> None:
        # Under a ttl that was lowered, a newer row has the shorter life; the older one must not come back behind it.
        load_live(store, S, [(b"loaded", value(1))])
        store.put_newest([(S, [(b"pushed", value(1))])])
        for lifetime in (50, 0):
            rows = [(b"loaded", value(2)), (b"pushed", value(2))]
            store.put_newest([(S, rows)], lifetimes_ms=[[lifetime, lifetime]])
        store.put_newest([(S, [(b"witness", value(1))])], lifetimes_ms=[[100]])
        if KeyValueAbility.EXPIRY in store.abilities:
            await_end(store, S, [b"witness"])
        assert store.get_many([(S, [b"loaded", b"pushed"])]) == [[value(2), value(2)]]

    def test_a_row_that_is_replaced_lives_longer(self, store: KeyValue) -> None:
        store.put_newest([(S, [(b"a", value(1)), (b"witness", value(1))])], lifetimes_ms=[[200, 300]])
        assert store.put_newest([(S, [(b"a", value(2))])], lifetimes_ms=[[3_600_000]]) == 1
        if KeyValueAbility.EXPIRY in store.abilities:
            await_end(store, S, [b"witness"])
        assert store.get_many([(S, [b"a"])]) == [[value(2)]]

    def test_closing_twice_is_harmless(self, store: KeyValue) -> None:
        store.close()
        store.close()
        with pytest.raises(InvalidArgument, match="closed"):
            store.get_many([(S, [b"a"])])

    def test_a_read_sees_one_generation_while_threads_switch(self, store: KeyValue) -> None:
        done = threading.Event()

        def work(number: int) -> None:
            if number == 0:
                try:
                    switch(store)
                finally:
                    done.set()
            while not done.is_set():
                check_one_generation(store)

        load_live(store, S, [(key, value(0)) for key in SWITCHED_KEYS])
        in_threads(THREADS, work)

    def test_threads_race_and_the_newest_wins(self, store: KeyValue) -> None:
        def work(number: int) -> None:
            for n in range(ROUNDS):
                store.put_newest([(S, race_rows(number, n))], position=("stream", n * THREADS + number))

        in_threads(THREADS, work)
        check_race(store, THREADS)
        assert store.position("stream") == ROUNDS * THREADS - 1

    @settings(
        max_examples=60,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    @given(steps=STEPS)
    def test_any_history_gives_what_the_model_gives(self, store: KeyValue, steps: list[Step]) -> None:
        space, model = f"view{next(NUMBERS)}", Model()
        for step in steps:
            step(store, space, model)
            assert store.get_many([(space, KEYS)]) == [[model.read(key) for key in KEYS]]
            assert dict(store.scan(space)) == {key: model.read(key) for key in KEYS if model.read(key)}
            assert states(store, space) == [(n, model.state(n)) for n in sorted(model.generations)]
            assert [found.rows for found in store.generations(space)] == [
                len(rows) for _, (_, rows) in sorted(model.generations.items())
            ]
        store.clear(space)


def check_one_generation(store: KeyValue) -> int:
    """Reads all switched keys at once and asserts that they come from one generation; returns its number of switch.

    Piece by piece, so that a store that looks the live generation up per piece is caught.
    """
    pieces = [(S, SWITCHED_KEYS[n : n + 5]) for n in range(0, len(SWITCHED_KEYS), 5)]
    found = {stored and unpack_header(stored).event_us for answers in store.get_many(pieces) for stored in answers}
    assert len(found) == 1
    (only,) = found
    assert isinstance(only, int)
    return only


def await_end(store: KeyValue, space: str, keys: list[bytes]) -> None:
    """Waits until nothing is stored under the keys."""
    deadline_s = time.monotonic() + PATIENCE_S
    while store.get_many([(space, keys)]) != [[None] * len(keys)]:
        assert time.monotonic() < deadline_s, "a row outlives its lifetime"
        time.sleep(0.01)


def check_race(store: KeyValue, writers: int) -> None:
    """Asserts that every raced key holds the newest of all that was written to it."""
    newest: dict[bytes, bytes] = {}
    for number in range(writers):
        for n in range(ROUNDS):
            for key, stored in race_rows(number, n):
                if newer(stored, newest.get(key)):
                    newest[key] = stored
    assert dict(store.scan(S)) == newest


def switch(store: KeyValue) -> None:
    """Loads, activates and drops generations, each with its number of switch in every row."""
    live = next(generation.number for generation in store.generations(S) if generation.state is LIVE)
    for n in range(1, ROUNDS + 1):
        before, live = live, load_live(store, S, [(key, value(n)) for key in SWITCHED_KEYS], expected=live)
        store.drop(S, before)


def race_rows(number: int, n: int) -> list[Row]:
    """The rows that writer `number` puts in round `n`."""
    random = Random(number * ROUNDS + n)
    return [(b"%02d" % random.randrange(30), value(random.randrange(1_000), 0, number * ROUNDS + n)) for _ in range(20)]
