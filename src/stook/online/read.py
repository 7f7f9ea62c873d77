"""The read path: a plan compiled once, then entities in, values with status and age out.

It is a file of its own because it is the one place where plan, store and clock meet. The app prepares one per
feature list and registry revision, and calls it for every request. It must never look a name up, take a lock or
ask the store twice: one `get_many` answers all views, so that with SNAPSHOT they come from one state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pyarrow as pa

from stook.core.arrow import to_arrow
from stook.core.dtypes import DType
from stook.core.errors import InvalidArgument, TooLarge
from stook.core.plans import ReadPlan, ViewRead
from stook.core.ports.clock import Clock
from stook.core.ports.keyvalue import KeyValue
from stook.core.results import OnlineResult
from stook.core.specs import Column
from stook.core.statuses import OnlineColumn
from stook.online.keys import Keys, encode_column, join_columns, join_parts, part_encoder, shorten
from stook.online.request import checked, gather
from stook.online.view_reader import Answer, ViewReader
from stook.online.write import space

FEW_ROWS_MAX: Final = 64  # up to here rows are read one by one; whole columns win above
KEYS_ONE_BY_ONE_MAX: Final = 256  # the same for the encoding of keys
ENTITIES_MAX: Final = 1_000_000
CELL_BYTES: Final = 8
KeyColumn = tuple[str, DType]
_column: Final = partial(tuple.__new__, OnlineColumn)  # its own constructor takes as long as reading the row, for 50


@dataclass(frozen=True)
class _View:
    """One view's part: the space it is stored in, which of the request's key sets finds it, and its reader."""

    space: str
    key_set: int
    reader: ViewReader


class PreparedRead:
    """Answers one plan's features for any entities.

    Compiled once; safe to call from several threads. `entities_max` bounds the rows of one request, `bytes_max` what
    it may read: the stored values, and CELL_BYTES for each cell answered.
    """

    def __init__(
        self,
        plan: ReadPlan,
        store: KeyValue,
        clock: Clock,
        *,
        entities_max: int = ENTITIES_MAX,
        bytes_max: int | None = None,
    ) -> None:
        self.plan = plan
        self._store = store
        self._clock = clock
        self._entities_max = entities_max
        self._bytes_max = bytes_max
        self._types = {key.name: key.dtype for key in plan.keys}
        self._key_sets: list[tuple[KeyColumn, ...]] = []
        self._encoders = {key: part_encoder(key[1]) for read in plan.views for key in _key_columns(read)}
        self._views = [self._compile(read) for read in plan.views]
        stored = [(name, _known(read.view.feature(feature))) for read in plan.views for feature, name in read.outputs]
        places = {name: (at, column.dtype) for at, (name, column) in enumerate(stored)}
        self._dtypes = [places[name][1] for name in plan.names]
        order = [places[name][0] for name in plan.names]
        self._order = None if order == list(range(len(stored))) else order

    def _compile(self, read: ViewRead) -> _View:
        if not read.view.online:
            raise InvalidArgument(
                f"feature view {read.view.name!r} is not online", hint="declare it with online=True and apply"
            )
        keys = _key_columns(read)
        if keys not in self._key_sets:
            self._key_sets.append(keys)
        features = [_known(read.view.feature(feature)) for feature, _ in read.outputs]
        return _View(space(read.view), self._key_sets.index(keys), ViewReader(read.view, features))

    def read(
        self, entities: Mapping[str, Any] | None = None, entity_rows: Sequence[Mapping[str, Any]] | None = None
    ) -> OnlineResult:
        """Every feature of the plan for each entity row, in their order, duplicates each for themselves.

        `entities` maps key columns to lists, Arrow or NumPy arrays or Series of one length (or is a table);
        `entity_rows` is a list of mappings instead. Raises InvalidArgument or SchemaMismatch naming what is
        wrong with the request, TooLarge, EngineUnavailable, CorruptStore, NewerStore, and Conflict when a row
        was written under definitions newer than the plan's.
        """
        columns, count = gather(entities, entity_rows, self.plan.keys, rows_max=self._entities_max)
        self._check_cells(count)
        few = count <= FEW_ROWS_MAX
        sets = [self._encode(keys, columns, count) for keys in self._key_sets]
        stored = self._fetch(sets) if count else [[] for _ in self._views]
        now_us = self._clock.now_us()
        answers: list[Answer] = []
        for view, values in zip(self._views, stored, strict=True):
            read = view.reader.few if few else view.reader.many
            answers.append(read(values, sets[view.key_set].full, now_us))
        values, statuses, event_us = answers[0]
        times = [event_us] * len(values)
        for answer in answers[1:]:
            values, statuses = values + answer.values, statuses + answer.statuses
            times += [answer.event_us] * len(answer.values)
        if self._order is not None:
            values, statuses, times = ([part[at] for at in self._order] for part in (values, statuses, times))
        answered = list(map(_column, zip(self.plan.names, self._dtypes, values, statuses, times, strict=True)))
        keys = [(key.name, key.dtype, columns[key.name]) for key in self.plan.keys]
        return OnlineResult(keys, answered, now_us=now_us)

    __call__ = read

    def _check_cells(self, count: int) -> None:
        cells = count * len(self.plan.names)
        if self._bytes_max is not None and cells * CELL_BYTES > self._bytes_max:
            raise TooLarge(
                f"{count} rows of {len(self.plan.names)} features are {cells} values, over the limit of "
                f"{self._bytes_max // CELL_BYTES}",
                hint="split the request, or raise serve.answer_limit_mib in stook.toml",
            )

    def _encode(self, keys: tuple[KeyColumn, ...], columns: Mapping[str, Any], count: int) -> Keys:
        """The rows' keys. `gather` has checked the columns for the plan's types; a view may have others."""
        columns = {name: self._as_key(name, dtype, columns[name]) for name, dtype in keys}
        if count <= KEYS_ONE_BY_ONE_MAX:
            full = join_parts([self._one_by_one(key, columns[key[0]]) for key in keys], count)
        else:
            full = join_columns([_all_at_once(key, columns[key[0]]) for key in keys], count)
        return shorten(full, "the request", [dtype for _, dtype in keys])

    def _as_key(self, name: str, dtype: DType, values: Any) -> Any:
        if dtype is self._types[name] or dtype == self._types[name]:
            return values
        return checked(values, Column(name, dtype))

    def _one_by_one(self, key: KeyColumn, values: Any) -> list[bytes | None]:
        encode = self._encoders[key]
        if not isinstance(values, list):
            values = values.to_pylist()
        if None in values:
            return [None if value is None else encode(value) for value in values]
        return list(map(encode, values))

    def _fetch(self, sets: Sequence[Keys]) -> list[Sequence[bytes | None]]:
        """Each view's stored values: None where the key is null or nothing is stored, UNREAD where nobody can tell."""
        present = [
            [key for key in keys.stored if key is not None] if None in keys.stored else keys.stored for keys in sets
        ]
        wants = [(view.space, present[view.key_set]) for view in self._views]
        found = self._store.get_many(wants, bytes_max=self._bytes_max)  # type: ignore[arg-type]
        answer: list[Sequence[bytes | None]] = []
        for view, values in zip(self._views, found, strict=True):
            wanted = sets[view.key_set].stored
            if len(present[view.key_set]) < len(wanted):
                remaining = iter(values)
                values = [None if key is None else next(remaining) for key in wanted]
            answer.append(values)
        return answer


def _key_columns(read: ViewRead) -> tuple[KeyColumn, ...]:
    """The request's columns that find the view's rows, in the order of the view's keys, with the view's types."""
    columns = dict(read.keys)
    return tuple((columns[key.name], key.dtype) for key in read.view.keys)


def _known(column: Column | None) -> Column:
    assert column is not None, "the plan names a feature that its view lacks"
    return column


def _all_at_once(key: KeyColumn, values: Any) -> Any:
    _, dtype = key
    return encode_column(pa.array(values, to_arrow(dtype)) if isinstance(values, list) else values, dtype)
