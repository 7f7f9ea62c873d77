"""The remote client without a stook server: spelling, verbs, and a server that loses connections."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from decimal import Decimal as PyDecimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import stook
from stook import Entity, FeatureService, FeatureView, Field, FileSource, Int64
from stook.app import Platform
from stook.client import Remote, answers, spelling
from stook.client.remote import NOT_REMOTE
from stook.core.errors import EngineUnavailable, InvalidArgument, NotRemote, NotSupported, SchemaMismatch
from stook.core.instants import to_us
from stook.core.specs import Column

driver = Entity("driver", join_keys={"driver_id": Int64})
stats = FeatureView("stats", entities=[driver], schema=[Field("trips", Int64)], source=FileSource("a.parquet"))


def answer(status: int, body: bytes, content_type: str = "application/json") -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def scripted(*answers: bytes | None) -> Iterator[tuple[str, list[bytes]]]:
    """A server that gives each request the next answer; None closes the connection without one."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def run() -> None:
            script = list(answers)
            while script:
                connection, _ = listener.accept()
                with connection:
                    while script:
                        request = read_request(connection)
                        if not request:
                            break
                        heard.append(request)
                        reply = script.pop(0)
                        if reply is None:
                            break
                        connection.sendall(reply)

        thread = threading.Thread(target=run)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heard
        thread.join(10)
        assert not thread.is_alive()


def read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return b""
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    while lengths and len(body) < lengths[0]:
        body += connection.recv(65536)
    return data


OBJECTS = answer(200, b'{"objects": [{"kind": "entity", "name": "a", "spec": {}, "revision": 3, "created": 1}]}')
PUSHED = answer(200, b'{"rows": 1, "views": ["stats"], "position": 9}')


def test_a_lost_connection_repeats_a_read() -> None:
    with scripted(None, None, OBJECTS) as (url, heard), Remote(url) as p:
        assert [r.revision for r in p.list("entity")] == [3]
        assert len(heard) == 3


def test_a_read_is_not_repeated_for_ever() -> None:
    with scripted(None, None, None) as (url, heard), Remote(url) as p:
        with pytest.raises(EngineUnavailable, match="lost the connection"):
            p.list("entity")
        assert len(heard) == 3


def test_a_lost_connection_never_repeats_a_push() -> None:
    with scripted(None, PUSHED) as (url, heard), Remote(url) as p:
        with pytest.raises(EngineUnavailable, match=r"127\.0\.0\.1"):
            p.push("stats", pa.table({"driver_id": [1]}))
        assert len(heard) == 1
        assert p.push("stats", pa.table({"driver_id": [1]})).position == 9


def test_a_connection_the_server_closed_while_idle_is_noticed_before_a_push() -> None:
    with scripted(OBJECTS, PUSHED) as (url, _), Remote(url) as p:
        p.list("entity")
        connection = p._transport._connection()
        assert connection.sock is not None
        connection.sock.shutdown(socket.SHUT_RDWR)  # what a closed peer looks like: readable, at its end
        assert p.push("stats", pa.table({"driver_id": [1]})).position == 9


def test_the_token_is_sent_with_every_request() -> None:
    with scripted(OBJECTS) as (url, heard), Remote(url, token="s3cret") as p:
        p.list("entity")
        assert b"Authorization: Bearer s3cret" in heard[0]


def test_nobody_there_names_the_url_and_the_mend() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(EngineUnavailable) as caught:
        stook.open(f"http://127.0.0.1:{port}").list("entity")
    assert f"127.0.0.1:{port}" in caught.value.message
    assert "stook serve" in caught.value.hint


def test_a_server_that_is_not_stooks_is_told_apart() -> None:
    page = answer(502, b"<html>bad gateway</html>", "text/html")
    not_ours = pytest.raises(EngineUnavailable, match="answers 502, not as a stook server does")
    with scripted(page) as (url, _), Remote(url) as p, not_ours:
        p.list("entity")


@pytest.mark.parametrize("url", ["http://", "http://host:port", "ftp://host", "http://host:1/?a=1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument, match="is not a server's address"):
        Remote(url)


def test_every_verb_of_the_platform_is_there_or_says_where_it_is() -> None:
    verbs = {name for name in dir(Platform) if not name.startswith("_")}
    there = {name for name in dir(Remote) if not name.startswith("_")}
    assert verbs - there == set(NOT_REMOTE) & verbs
    assert not there & set(NOT_REMOTE)
    p: Any = Remote("http://127.0.0.1:1")
    for name in verbs - there:
        with pytest.raises(NotRemote) as caught:
            getattr(p, name)()
        assert caught.value.hint
    with pytest.raises(AttributeError):
        _ = p.no_such_verb
    assert not hasattr(p, "__array__")


def test_features_are_spelled() -> None:
    assert spelling.features_json("ranking") == {"feature_service": "ranking"}
    assert spelling.features_json("stats:trips") == {"features": ["stats:trips"]}
    assert spelling.features_json(FeatureService("ranking", [stats])) == {"feature_service": "ranking"}
    whole = {"view": "stats", "features": None, "name": None, "join_key_map": {}}
    assert spelling.features_json(stats) == {"features": [whole]}
    part = stats[["trips"]].with_name("home").with_join_key_map({"driver_id": "home_id"})
    assert spelling.features_json([part, "a:b"]) == {
        "features": [
            {"view": "stats", "features": ["trips"], "name": "home", "join_key_map": {"driver_id": "home_id"}},
            "a:b",
        ]
    }
    for wrong in (3, [3], None):
        with pytest.raises(InvalidArgument):
            spelling.features_json(wrong)


@pytest.mark.parametrize(
    ("column", "spelled"),
    [
        ([1, None], [1, None]),
        (range(2), [0, 1]),
        (np.array([1, 2]), [1, 2]),
        (pa.array([1, None]), [1, None]),
        ([np.int64(7)], [7]),
        ([b"ab"], ["YWI="]),
        ([datetime(2013, 1, 1, 12, tzinfo=UTC)], ["2013-01-01T12:00:00Z"]),
        ([date(2013, 1, 1)], ["2013-01-01"]),
        (["é"], ["é"]),
    ],
    ids=str,
)
def test_entities_are_spelled(column: Any, spelled: list[Any]) -> None:
    assert spelling.entities_json({"id": column}, None) == {"entities": {"id": spelled}}


def test_entities_as_a_table() -> None:
    assert spelling.entities_json(pa.table({"id": [1]}), None) == {"entities": {"id": [1]}}


@pytest.mark.parametrize("entities", [{"id": "abc"}, {"id": 7}, 7], ids=str)
def test_entities_that_are_no_columns_are_refused(entities: Any) -> None:
    with pytest.raises(SchemaMismatch):
        spelling.entities_json(entities, None)


def test_what_json_cannot_say_is_refused_before_it_is_sent() -> None:
    with pytest.raises(SchemaMismatch):
        spelling.dump({"entities": {"id": [object()]}})


def test_other_inputs_are_single_or_columns() -> None:
    spelled = spelling.request_json({"a": 1, "b": [1, float("nan")], "c": "text", "d": np.array([1.5]), "e": None})
    assert spelled == {"request": {"a": 1, "b": [1, "NaN"], "c": "text", "d": [1.5], "e": None}}
    assert spelling.request_json(None) == {}


TYPED = (
    Column("n", Int64), Column("x", stook.Float64), Column("s", stook.String), Column("b", stook.Bytes), Column("d", stook.Date),
    Column("t", stook.Time), Column("at", stook.Timestamp), Column("m", stook.Decimal(9, 2)),
    Column("a", stook.Array(stook.Bytes)), Column("f", stook.Array(stook.Float64)), Column("o", stook.Struct({"x": stook.Float64})), Column("k", stook.Map(stook.String, Int64)),
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "sent"),
    [
        ("n", 2**63 - 1, 2**63 - 1),
        ("n", np.int64(7), 7),
        ("n", 1.0, 1.0),
        ("x", np.float32(0.5), 0.5),
        ("f", np.array([1.0, 2.0], np.float32), [1.0, 2.0]),
        ("f", [np.float64(1.5), None], [1.5, None]),
        ("at", np.datetime64("2024-05-01T00:00:00"), "2024-05-01T00:00:00Z"),
        ("at", pd.NaT, None),
        ("x", float("-inf"), "-Infinity"),
        ("x", 1, 1),
        ("s", "NaN", "NaN"),
        ("b", b"ab", "YWI="),
        ("d", date(2024, 5, 1), "2024-05-01"),
        ("t", time(1, 2, 3, 4), "01:02:03.000004"),
        ("at", datetime(2024, 5, 1), "2024-05-01T00:00:00Z"),
        ("m", PyDecimal("1E+3"), "1000"),
        ("a", [b"ab", None], ["YWI=", None]),
        ("o", {"x": float("nan")}, {"x": "NaN"}),
        ("k", {"one": 1, "none": None}, [["one", 1], ["none", None]]),
        ("k", [("one", 1)], [["one", 1]]),
        ("event_timestamp", datetime(2024, 5, 1, tzinfo=UTC), "2024-05-01T00:00:00Z"),
    ],
    ids=repr,
)
def test_pushed_values_are_spelled_by_their_type(name: str, value: Any, sent: Any) -> None:
    for data in ([{name: value}, {}], {name: [value, None]}):
        assert answers.pushed_columns(data, "rows", TYPED) == {name: [sent, None]}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("s", float("nan")),  # would come as text
        ("s", b"ab"),
        ("n", float("nan")),
        ("n", datetime(2024, 5, 1)),
        ("n", "1"),
        ("f", bytearray(b"ab")),
        ("f", ["1"]),
        ("f", {1.0}),
        ("at", np.datetime64(1_999, "ns")),
        ("x", "NaN"),  # would come as a number
        ("b", "YWI="),  # would come as other bytes
        ("d", "2024-05-01"),
        ("d", datetime(2024, 5, 1)),
        ("t", time(1, tzinfo=UTC)),
        ("at", "2024-05-01"),
        ("m", 1.5),
        ("a", b"ab"),
        ("a", ["ab"]),
        ("o", {"y": 1.0}),
        ("k", [1]),
        ("a", 5),
    ],
    ids=repr,
)
def test_what_would_arrive_as_something_else_is_refused_before_it_is_sent(name: str, value: Any) -> None:
    with pytest.raises(SchemaMismatch, match=rf"rows: column '{name}' is .* in row 1, not "):
        answers.pushed_columns([{name: None}, {name: value}], "rows", TYPED)


def test_what_only_arrow_can_read_is_refused_without_it() -> None:
    with pytest.raises(NotSupported, match="which only Arrow can read"):
        answers.pushed_columns(pa.table({"n": [1]}), "rows", TYPED)
    with pytest.raises(SchemaMismatch, match="not a list"):
        answers.pushed_columns({"n": "abc"}, "rows", TYPED)


@pytest.mark.parametrize(
    ("column", "sent"),
    [
        (pd.Series([1, None], dtype="Int64"), [1, None]),
        (pd.Series([2**64 - 1, None], dtype="UInt64"), [2**64 - 1, None]),
        (pd.Series([1.0, float("nan")]), [1.0, None]),
        (pd.Series(["a", pd.NA, None], dtype=object), ["a", None, None]),
        (pd.Index([1, 2]), [1, 2]),
        (pd.Series([pd.Timestamp("2024-05-01T00:00:00.000001"), pd.NaT]), ["2024-05-01T00:00:00.000001Z", None]),
        (np.array(["2024-05-01T00:00:00.000001", "NaT"], "M8[ns]"), ["2024-05-01T00:00:00.000001Z", None]),
        (np.array(["2024-05-01T01", "NaT"], "M8[h]"), ["2024-05-01T01:00:00Z", None]),
        (pa.array([date(2024, 5, 1), None]), ["2024-05-01", None]),
        ([PyDecimal("7.00"), PyDecimal(2**64 - 1)], [7, 2**64 - 1]),
    ],
    ids=lambda v: str(getattr(v, "dtype", getattr(v, "type", type(v).__name__))),
)
def test_key_columns_are_sent_as_the_embedded_platform_reads_them(column: Any, sent: list[Any]) -> None:
    assert spelling.entities_json({"k": column}, None) == {"entities": {"k": sent}}
    if not isinstance(column, list | pd.Index | pa.Array):
        assert spelling.entities_json(pd.DataFrame({"k": column}), None) == {"entities": {"k": sent}}


def test_keys_that_are_no_times_say_so() -> None:
    with pytest.raises(SchemaMismatch, match="below a microsecond"):
        spelling.entities_json({"k": np.array([1], "M8[ns]")}, None)
    assert spelling.entities_json(None, [{"k": pd.NaT}, {"k": pd.NA}]) == {"entity_rows": [{"k": None}, {"k": None}]}
    with pytest.raises(InvalidArgument, match="start is NaT, not a time"):
        to_us(pd.NaT, "start")
