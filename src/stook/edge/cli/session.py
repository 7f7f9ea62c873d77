"""What every command shares: global options, the platform it opens, output as text or JSON, exit codes.

It is a file of its own so that commands stay three lines of translation. All command modules use it. It must
never print a traceback for a user's mistake, nor anything but JSON on standard output with `--json`.
"""

from __future__ import annotations

import base64
import csv
import functools
import io
import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

import click

from stook.core.errors import CallerError, StookError
from stook.core.instants import to_rfc3339, to_us

if TYPE_CHECKING:
    from stook.app import Platform

P = ParamSpec("P")
R = TypeVar("R")
DONE, FAILED, WRONG_CALL = 0, 1, 2


@dataclass
class Session:
    """The global options of one invocation."""

    project: str = "."
    as_json: bool = False
    verbose: bool = False

    @contextmanager
    def platform(self, clock: str | None = None) -> Iterator[Platform]:
        """The project's platform, closed at the end."""
        from stook.app import open_platform  # start-up time: --help needs no platform

        with open_platform(self.project, clock) as platform:
            yield platform

    def say(self, text: str) -> None:
        """A line for people; nothing with `--json`."""
        if not self.as_json:
            click.echo(text)

    def note(self, text: str) -> None:
        """A line on standard error, so that it never mixes with an answer."""
        click.echo(text, err=True)

    def answer(self, value: Any, text: Callable[[], str] | str) -> None:
        """The command's result: `value` as one JSON document with `--json`, else `text`."""
        if self.as_json:
            plain = not sys.stdout.encoding.lower().startswith("utf")  # then only JSON's own escapes stay JSON
            click.echo(json.dumps(json_ready(value), ensure_ascii=plain, allow_nan=False))
        else:
            click.echo(text() if callable(text) else text)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]], value: Any = None) -> None:
        """Rows as a table, or as a JSON list of objects (or `value`) with `--json`."""
        if self.as_json:
            self.answer([dict(zip(columns, row, strict=True)) for row in rows] if value is None else value, "")
            return
        from rich.console import Console  # start-up time: only tables need it
        from rich.table import Table

        grid = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            grid.add_column(column, overflow="fold")
        for row in rows:
            grid.add_row(*("" if cell is None else str(cell) for cell in row))
        width = None if sys.stdout.isatty() else 160
        Console(width=width, highlight=False, markup=False, emoji=False).print(grid)


def command(group: click.Group, name: str, **settings: Any) -> Callable[[Callable[..., None]], click.Command]:
    """Registers a command whose first argument is the Session, with the global options accepted after its name too,
    and with errors turned into one line and an exit code."""

    def register(function: Callable[..., None]) -> click.Command:
        @functools.wraps(function)
        def run(project: str | None, as_json: bool, verbose: bool, **arguments: Any) -> None:
            session: Session = click.get_current_context().ensure_object(Session)
            session.project = project or session.project
            session.as_json |= as_json
            session.verbose |= verbose
            with errors_as_exit_codes(session):
                function(session, **arguments)

        return group.command(name, **settings)(global_options(run))

    return register


def global_options(function: Callable[P, R]) -> Callable[P, R]:
    """Adds -C/--project, --json and -v."""
    options = [
        click.option("-C", "--project", metavar="DIR", help="The project's folder. Default: this one."),
        click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output."),
        click.option("-v", "--verbose", is_flag=True, help="Show where an error comes from."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@contextmanager
def errors_as_exit_codes(session: Session) -> Iterator[None]:
    """Ends the process with code 2 for a wrong call, 1 for everything else that fails; prints one message."""
    try:
        yield
    except StookError as error:
        _fail(session, error.code, error.message, error.hint, WRONG_CALL if isinstance(error, CallerError) else FAILED)
    except KeyboardInterrupt:
        _fail(session, "interrupted", "interrupted", "", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except OSError as error:
        _fail(session, "os_error", str(error), "", FAILED)


def _fail(session: Session, code: str, message: str, hint: str, status: int) -> NoReturn:
    if session.verbose:
        traceback.print_exc()
    if session.as_json:
        click.echo(json.dumps({"error": {"code": code, "message": message, "hint": hint}}))
    click.echo(f"error: {message}" + (f"\n  hint: {hint}" if hint else ""), err=True)
    sys.exit(status)


def json_ready(value: Any) -> Any:
    """A value as JSON has it, by the rules of the HTTP face: times RFC 3339 in UTC, bytes base64, NaN and infinities
    as text, decimals and all else as text.

    >>> json_ready({"x": float("inf"), "y": [b"a", None]})
    {'x': 'Infinity', 'y': ['YQ==', None]}
    """
    if isinstance(value, Mapping):
        return {str(key): json_ready(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, datetime):
        return to_rfc3339(to_us(value))
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


class ProgressLines:
    """Progress of long work: a bar on a terminal, one line a step elsewhere."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._bars: dict[str, Any] = {}
        self._live: Any = None
        self._shown: dict[str, int] = {}

    def __enter__(self) -> ProgressLines:
        if sys.stderr.isatty() and not self._session.as_json:
            from rich.console import Console  # start-up time: only terminals need it
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._live = Progress(*columns, console=Console(stderr=True), transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, view: str, rows: int, total: int) -> None:
        """Shows that `rows` of about `total` rows of a view are done."""
        if self._live is None:
            if rows == 0 or rows >= total or rows - self._shown.get(view, 0) >= max(total // 10, 1):
                self._shown[view] = rows
                self._session.note(f"{view}: {rows} of {total} rows")
            return
        if view not in self._bars:
            self._bars[view] = self._live.add_task(view, total=total)
        self._live.update(self._bars[view], completed=rows, total=total)


def parse_entities(pairs: Sequence[str]) -> dict[str, list[str]]:
    """`-e driver_id=1 -e driver_id=2,3` as columns of text; values keep their order.

    As in CSV, a value that holds a comma or a quote stands in double quotes, with quotes inside doubled.

    >>> parse_entities(["driver_id=1", "driver_id=2,3", 'city="Paris, Texas",Rome'])
    {'driver_id': ['1', '2', '3'], 'city': ['Paris, Texas', 'Rome']}
    """
    columns: dict[str, list[str]] = {}
    for pair in pairs:
        name, equals, values = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="-e")
        columns.setdefault(name, []).extend(_split(pair, values))
    return columns


def _split(pair: str, values: str) -> list[str]:
    """Values as one line of CSV has them; line ends count as they are."""
    try:
        rows = list(csv.reader(io.StringIO(values, newline=""), strict=True)) if '"' in values else [values.split(",")]
    except csv.Error as error:
        raise click.BadParameter(f"{pair!r} does not read as CSV: {error}", param_hint="-e") from None
    if len(rows) != 1:
        raise click.BadParameter(f"{pair!r} has a line end outside quotes", param_hint="-e")
    return rows[0]


def as_rows(columns: Mapping[str, Sequence[Any]]) -> list[list[Any]]:
    """Columns as rows, for tables."""
    return [list(row) for row in zip(*columns.values(), strict=True)]
