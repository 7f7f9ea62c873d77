"""Pushes as log entries: the bytes that make a push durable.

It is a file of its own because these bytes outlive the process that wrote them and must be read by newer ones.
Only this room writes and reads them. It must never look at a store or a clock.

An entry is one Arrow IPC stream whose schema metadata holds a JSON header. Its columns are the view's keys and
features, event and knowledge time in microseconds, and the tombstone flag; arrival follows from the position.
"""

from __future__ import annotations

import enum
import json
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from stook.core.errors import CorruptStore, InvalidArgument, NewerStore
from stook.core.ports.log import Entry
from stook.core.rows import ARRIVAL, push_arrival

STREAM: Final = "push"
LAYOUT: Final = 1
ROWS_MAX: Final = 50_000  # rows of one entry
_HEADER_KEY: Final = b"stook"


class Target(enum.Enum):
    """Where a push goes. The values are what users write."""

    ONLINE = "online"
    OFFLINE = "offline"
    BOTH = "both"

    @property
    def online(self) -> bool:
        """Whether reads online see it."""
        return self is not Target.OFFLINE

    @property
    def offline(self) -> bool:
        """Whether history sees it."""
        return self is not Target.ONLINE


def parse_target(text: object) -> Target:
    """The target named `online`, `offline`, `both` or, as Feast says it, `online_and_offline`; any case.

    Raises InvalidArgument for anything else.
    """
    name = getattr(text, "name", text)  # an enum's member, as Feast's PushMode, goes by its name
    if isinstance(name, str):
        lowered = name.lower()
        if lowered == "online_and_offline":
            return Target.BOTH
        if lowered in {t.value for t in Target}:
            return Target(lowered)
    raise InvalidArgument(f"to={text!r} is unknown", hint='one of "both", "online", "offline"')


@dataclass(frozen=True)
class EntryHeader:
    """What an entry says about all of its rows.

    `uid` names the view, `revision` the schema its features were written under. Rows dated or
    known after `online_through_us` (acceptance plus tolerance) wait in history until a materialization after their time.
    """

    uid: str
    view: str
    to: str
    revision: int
    accepted_us: int
    online_through_us: int
    layout: int = LAYOUT


@dataclass(frozen=True)
class PushEntry:
    """A decoded entry; `rows` has the four order columns."""

    header: EntryHeader
    position: int
    rows: pa.Table

    @property
    def to(self) -> Target:
        """Where it goes."""
        return Target(self.header.to)


def encode_entries(header: EntryHeader, rows: pa.Table) -> list[bytes]:
    """The entries of a push, at most ROWS_MAX rows each; none for a push without rows."""
    schema = rows.schema.with_metadata({_HEADER_KEY: json.dumps(asdict(header)).encode()})
    payloads = []
    for start in range(0, rows.num_rows, ROWS_MAX):
        sink = pa.BufferOutputStream()
        part = rows.slice(start, ROWS_MAX).combine_chunks()
        with pa.ipc.new_stream(sink, schema) as writer:
            writer.write_table(part.replace_schema_metadata(schema.metadata))
        payloads.append(sink.getvalue().to_pybytes())
    return payloads


def decode_entry(entry: Entry) -> PushEntry:
    """The inverse, with arrivals filled in. Raises CorruptStore or NewerStore naming the position."""
    try:
        with pa.ipc.open_stream(entry.payload) as reader:
            table = reader.read_all()
        fields = json.loads((table.schema.metadata or {})[_HEADER_KEY])
    except (pa.ArrowInvalid, KeyError, ValueError) as error:
        raise CorruptStore(
            f"push log entry {entry.position} does not read back: {error}", hint="restore the log from a backup"
        ) from None
    if fields.get("layout", 0) > LAYOUT:
        raise NewerStore(f"push log entry {entry.position} was written by a newer stook", hint="upgrade stook")
    first = push_arrival(entry.position, 0)
    arrivals = pa.array(np.arange(first, first + table.num_rows, dtype=np.int64))
    rows = table.replace_schema_metadata(None).append_column(ARRIVAL, arrivals)
    return PushEntry(EntryHeader(**fields), entry.position, rows)
