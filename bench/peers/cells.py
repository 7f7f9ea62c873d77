"""Turns the questions' literal rows into Arrow tables, and what a feature store answers into comparable JSON values.

It is a file of its own because both interpreters, ours and the peer's, must build the same input and write answers the
same way; so it may import nothing but the standard library and pyarrow. The two adapters call it. It must never know
which store is being asked.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
SIMPLE = {
    "Int32": pa.int32(),
    "Int64": pa.int64(),
    "Float32": pa.float32(),
    "Float64": pa.float64(),
    "Bool": pa.bool_(),
    "String": pa.string(),
    "Bytes": pa.binary(),
    "Timestamp": pa.timestamp("us", tz="UTC"),
    "Timestamp[ns]": pa.timestamp("ns", tz="UTC"),
}
UNITS = {"d": 86_400, "h": 3_600, "s": 1}
MESSAGE_LIMIT = 150


def arrow_type(name: str) -> pa.DataType:
    """The Arrow type that a question's word means: `Int64`, `Decimal(20, 10)`, `Array(String)`."""
    if name.startswith("Array("):
        return pa.list_(arrow_type(name[6:-1]))
    if name.startswith("Decimal("):
        return pa.decimal128(*(int(digits) for digits in name[8:-1].split(",")))
    return SIMPLE[name]


def nanos(text: str) -> int:
    """Nanoseconds since 1970 of `2024-01-10`, `2024-01-10 00:00:00.000000001`, or `now-4000d`."""
    relative = re.fullmatch(r"now([+-]\d+)([dhs])", text)
    if relative:
        now = dt.datetime.now(dt.UTC).replace(microsecond=0)
        return (int((now - EPOCH).total_seconds()) + int(relative[1]) * UNITS[relative[2]]) * 1_000_000_000
    whole, _, fraction = text.partition(".")
    seconds = int((dt.datetime.fromisoformat(whole).replace(tzinfo=dt.UTC) - EPOCH).total_seconds())
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0") or 0)


def moment(text: str) -> dt.datetime:
    """The same as a datetime in UTC."""
    return EPOCH + dt.timedelta(microseconds=nanos(text) // 1000)


def array(kind: str | None, values: Sequence[Any]) -> pa.Array:
    """One column; without a type, text is text and whole numbers are int64."""
    if kind is None:
        return pa.array(values)
    wanted = arrow_type(kind)
    if pa.types.is_timestamp(wanted):
        whole = pa.array([None if value is None else nanos(value) for value in values], pa.int64())
        return whole.cast(pa.timestamp("ns", tz="UTC")).cast(wanted)
    if kind == "Bytes":
        values = [None if value is None else bytes.fromhex(value) for value in values]
    if kind.startswith("Decimal"):
        values = [None if value is None else Decimal(value) for value in values]
    return pa.array(values, wanted)


def table(rows: Mapping[str, Any], types: Mapping[str, str]) -> pa.Table:
    """A table of `{"columns": [...], "rows": [[...], ...]}`."""
    columns = {}
    for place, name in enumerate(rows["columns"]):
        columns[name] = array(types.get(name), [row[place] for row in rows["rows"]])
    return pa.table(columns)


def view_types(view: Mapping[str, Any]) -> dict[str, str]:
    """The types of all columns of a view's source."""
    times = dict.fromkeys(("event_timestamp", "created"), view.get("time", "Timestamp"))
    return {**times, **view["keys"], **view["features"]}


def plain(value: Any) -> Any:  # one answer's value, so that JSON keeps what == would lose
    """A value as JSON can carry it without loss: NaN, -0.0, bytes, decimals and times become text that says so."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, bytes):
        return "bytes " + value.hex()
    if isinstance(value, Decimal):
        return f"decimal {value}"
    if isinstance(value, dt.datetime):
        return _time(value)
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if hasattr(value, "tolist"):  # NumPy's arrays and scalars
        return plain(value.tolist())
    if isinstance(value, Iterable):
        return [plain(inner) for inner in value]
    return f"{type(value).__name__} {value}"


def _float(value: float) -> Any:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value) or (value == 0 and math.copysign(1, value) < 0):
        return str(value)
    return value


def _time(value: dt.datetime) -> str | None:
    if value != value:  # pandas' NaT  # noqa: PLR0124
        return None
    return (value if value.tzinfo else value.replace(tzinfo=dt.UTC)).astimezone(dt.UTC).isoformat()


def raised(error: BaseException, folder: str) -> dict[str, str]:
    """What an error says, in its first line, without the paths of the machine it happened on."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return {"raised": f"{type(error).__name__}: {shorten(text, folder)}" if text else type(error).__name__}


def shorten(text: str, folder: str) -> str:
    """`text` without the project's folder or other absolute paths, at most MESSAGE_LIMIT characters."""
    text = text.replace(folder, "project")
    text = re.sub(r"(?<![\w:/.])/(?:[\w.@+-]+/)+([\w.@+-]+)", r"\1", text)
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 3].rstrip() + "..."


def fresh_folder(folder: str) -> Path:
    """An empty folder for a project."""
    shutil.rmtree(folder, ignore_errors=True)
    Path(folder).mkdir(parents=True)
    return Path(folder)


def joined(answer: pa.Table, show: Sequence[str], shown_types: bool) -> dict[str, Any]:
    """The answer of a point-in-time join: rows in the order they came, of the columns asked for."""
    missing = [name for name in show if name not in answer.column_names]
    if missing:
        return {"columns": sorted(answer.column_names)}
    columns = [answer.column(name).to_pylist() for name in show]
    found: dict[str, Any] = {"rows": [[plain(cell) for cell in row] for row in zip(*columns, strict=True)]}
    if shown_types:
        found["types"] = [str(answer.schema.field(name).type) for name in show]
    return found


def counted(values: Sequence[Any], statuses: Sequence[str]) -> dict[str, Any]:
    """A long answer in short."""
    return {"rows": len(values), "present": list(statuses).count("PRESENT"), "sum": sum(v for v in values if v)}


def free_port() -> int:
    """A port that nobody listens on right now."""
    import socket  # only the HTTP questions need it

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def scratch() -> str:
    """A folder for the projects of one run."""
    return tempfile.mkdtemp(prefix="beside-")
