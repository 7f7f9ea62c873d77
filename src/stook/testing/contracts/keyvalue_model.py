"""What the `KeyValue` port promises of one space, as a naive model, and random histories to hold stores against.

It is a file of its own because a judge should be read apart from the tests it judges. `keyvalue` applies the steps
to a store and to the model. It must never be clever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import strategies as st

from stook.core.ports.keyvalue import GenerationState, KeyValue, Row
from stook.core.rows import Header, newer, pack_header


def value(
    event: int, knowledge: int = 0, arrival: int = 0, *, revision: int = 1, flags: int = 0, payload: bytes = b""
) -> bytes:
    """A stored value of that order and schema revision."""
    return pack_header(Header(event, knowledge, arrival, revision, flags, 0)) + payload


@dataclass
class Model:
    """What the port promises of one space, in its plainest form."""

    overlay: dict[bytes, bytes] = field(default_factory=dict)
    generations: dict[int, tuple[str | None, dict[bytes, bytes]]] = field(default_factory=dict)  # token while loading
    live: int | None = None

    def read(self, key: bytes) -> bytes | None:
        """The winner of overlay and live generation."""
        loaded = None if self.live is None else self.generations[self.live][1].get(key)
        upserted = self.overlay.get(key)
        return upserted if upserted is not None and newer(upserted, loaded) else loaded

    def state(self, number: int) -> GenerationState:
        """Where the generation stands."""
        return (
            GenerationState.LIVE
            if number == self.live
            else GenerationState.READY
            if self.generations[number][0] is None
            else GenerationState.LOADING
        )


Step = Callable[[KeyValue, str, Model], None]
KEYS = [b"", b"a", b"ab", b"b"]


def _keep(rows: dict[bytes, bytes], key: bytes, stored: bytes) -> bool:
    if wins := newer(stored, rows.get(key)):
        rows[key] = stored
    return wins


def _put_step(rows: list[Row]) -> Step:
    def put(store: KeyValue, space: str, model: Model) -> None:
        replaced = 0
        for key, stored in rows:
            replaced += newer(stored, model.read(key))
            _keep(model.overlay, key, stored)
        assert store.put_newest([(space, rows)]) == replaced

    return put


def _load_step(token: str, rows: list[Row]) -> Step:
    def load(store: KeyValue, space: str, model: Model) -> None:
        begun = store.begin_load(space, token=token, now_us=0)
        model.generations = {n: held for n, held in model.generations.items() if held[0] in (None, token)}
        held = model.generations.setdefault(begun.generation, (token, {}))
        assert begun.rows == len(held[1])
        store.load(space, begun.generation, rows)
        for key, stored in rows:
            _keep(held[1], key, stored)

    return load


def _activate_step(which: int) -> Step:
    def activate(store: KeyValue, space: str, model: Model) -> None:
        if model.generations:
            number = sorted(model.generations)[which % len(model.generations)]
            store.activate(space, number, expected=model.live)
            model.live = number
            model.generations[number] = (None, model.generations[number][1])

    return activate


def _drop_step(which: int) -> Step:
    def drop(store: KeyValue, space: str, model: Model) -> None:
        idle = sorted(set(model.generations) - {model.live})
        if idle:
            store.drop(space, idle[which % len(idle)])
            del model.generations[idle[which % len(idle)]]

    return drop


def _clear_step() -> Step:
    def clear(store: KeyValue, space: str, model: Model) -> None:
        store.clear(space)
        model.overlay, model.generations, model.live = {}, {}, None

    return clear


_WHICH = st.integers(0, 5)
_ROWS = st.lists(
    st.tuples(
        st.sampled_from(KEYS),
        st.builds(
            value,
            st.integers(-2, 2),
            revision=st.sampled_from([1, 2, 255, 256]),
            payload=st.sampled_from([b"", b"x", b"y"]),
        ),
    ),
    max_size=6,
)
STEPS = st.lists(
    st.one_of(
        st.builds(_put_step, _ROWS),
        st.builds(_load_step, st.sampled_from(["t", "u"]), _ROWS),
        st.builds(_activate_step, _WHICH),
        st.builds(_drop_step, _WHICH),
        st.builds(_clear_step),
    ),
    min_size=3,
    max_size=20,
)
