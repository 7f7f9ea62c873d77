"""How rows lie in Redis: the names of keys, and the bytes of what is not a row.

It is a file of its own because readers, writers and a clean-up after a kill must agree on these bytes. The other
modules of this backend call it. It must never speak to a server, nor name two things alike.

Layout 1, `P` being the prefix of the URL::

    key                     value
    P:layout                "1"
    P:numbers               the last generation's number
    P:unclean               set of the spaces that have something to delete
    P:position{stream}      the largest position of the stream, 20 decimal digits
    P:meta{space}           the space's state, JSON (`states`)
    P:seen{space}           what a read must know of it: uid, whether there is an overlay, live generation's uid
    P:UID{.key}             a row: of a generation by its uid, of an overlay by the space's uid
    P:list{UID.n}           keys of some rows of the generation UID, sorted and packed
    P:over{UID.n}           sorted set of keys of the overlay UID, bucket n, by when their rows end (ms)

What stands in braces decides a key's slot, so all rows of one entity key lie in one slot, whatever their view. Uids
are random and never used twice, so that what a failover loses cannot make old rows part of new generations.
"""

from __future__ import annotations

import base64
import struct
import zlib
from binascii import crc_hqx
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

from stook.core.errors import CorruptStore

LAYOUT: Final = b"1"
SLOTS: Final = 16_384
BUCKETS: Final = 64  # sorted sets that hold one overlay's keys
LIST_KEYS: Final = 4_096  # keys that one packed list holds
UID_BYTES: Final = 9
_LENGTH: Final = struct.Struct(">H")


class Seen(NamedTuple):
    """What a read must know of a space: the uid that its overlay has, whether that holds rows, the live generation's
    uid; empty where there is none."""

    uid: str
    has_overlay: bool
    live: str


NOWHERE: Final = Seen("", False, "")


class Names:
    """The names of keys under a prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()
        self.layout = self._prefix + b":layout"
        self.numbers = self._prefix + b":numbers"
        self.unclean = self._prefix + b":unclean"

    def position(self, stream: str) -> bytes:
        return b"%b:position{.%b}" % (self._prefix, escape(stream.encode()))

    def meta(self, space: str) -> bytes:
        return b"%b:meta{.%b}" % (self._prefix, escape(space.encode()))

    def seen(self, space: str) -> bytes:
        return b"%b:seen{.%b}" % (self._prefix, escape(space.encode()))

    def list_of(self, uid: str, number: int) -> bytes:
        return b"%b:list{%b.%d}" % (self._prefix, uid.encode(), number)

    def bucket(self, uid: str, number: int) -> bytes:
        return b"%b:over{%b.%d}" % (self._prefix, uid.encode(), number)

    def row(self, uid: str, key: bytes) -> bytes:
        return b"%b:%b{.%b}" % (self._prefix, uid.encode(), escape(key))

    def rows(self, uid: str, keys: Sequence[bytes]) -> list[bytes]:
        """`row` of many keys, which is what a read spends its time on."""
        head = b"%b:%b{." % (self._prefix, uid.encode())
        joined = b"".join(keys)
        if b"}" in joined or b"~" in joined:
            keys = list(map(escape, keys))
        return [head + key + b"}" for key in keys]


def escape(key: bytes) -> bytes:
    """A key's bytes without a closing brace, which would end the part that decides the slot; two keys stay two.

    >>> escape(b"a}b~")
    b'a~1b~0'
    """
    return key.replace(b"~", b"~0").replace(b"}", b"~1")


def slot_of(name: bytes) -> int:
    """The slot of a key that `Names` made: CRC16 of what stands in its braces, or of all where it has none."""
    start = name.find(b"{") + 1
    return crc_hqx(name[start : name.index(b"}", start)] if start else name, 0) % SLOTS


def new_uid(random_bytes: bytes) -> str:
    """A uid of UID_BYTES random bytes."""
    return base64.urlsafe_b64encode(random_bytes).decode()


def pack_seen(seen: Seen | None) -> bytes:
    """The bytes of a Seen; none at all for a space that is not there."""
    return b"" if seen is None else f"{seen.uid} {seen.has_overlay:d} {seen.live}".encode()


def unpack_seen(found: bytes | None) -> Seen:
    """The inverse of `pack_seen`; nothing found is nowhere."""
    if not found:
        return NOWHERE
    uid, has_overlay, live = found.decode().split(" ")
    return Seen(uid, has_overlay == "1", live)


def bucket_of(key: bytes) -> int:
    """Which of an overlay's BUCKETS holds the key."""
    return zlib.crc32(key) % BUCKETS


def pack_keys(keys: Sequence[bytes]) -> list[bytes]:
    """Sorted keys as packed lists of at most LIST_KEYS."""
    return [
        zlib.compress(b"".join(_LENGTH.pack(len(key)) + key for key in keys[start : start + LIST_KEYS]))
        for start in range(0, len(keys), LIST_KEYS)
    ]


def unpack_keys(packed: bytes) -> list[bytes]:
    """The keys of a packed list. Raises CorruptStore."""
    try:
        return list(_keys_in(zlib.decompress(packed)))
    except (zlib.error, struct.error) as error:
        raise CorruptStore(
            f"a list of keys in Redis does not read back: {error}", hint="materialize the view again with replace"
        ) from None


def _keys_in(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        start = at + _LENGTH.size
        at = start + _LENGTH.unpack_from(data, at)[0]
        yield data[start:at]


def is_ascending(keys: Sequence[bytes]) -> bool:
    """Whether each key is larger than the one before."""
    return all(a < b for a, b in zip(keys, islice(keys, 1, None), strict=False))
