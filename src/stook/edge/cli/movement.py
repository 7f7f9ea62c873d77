"""Commands that move data: materialize, materialize-incremental, push, delete-rows, generations.

They are a file of their own so that a command loads only its like. `main` loads it by name. It must only
translate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from stook.core.instants import to_rfc3339
from stook.edge.cli.session import ProgressLines, Session, command, parse_entities

group = click.Group("movement")
VIEWS = click.option(
    "--view", "views", multiple=True, metavar="VIEW", help="Only these views. Default: all online ones."
)


def _report(session: Session, done: Sequence[Any]) -> None:
    columns = ("view", "rows", "seconds", "rows/s", "how", "generation", "through")
    rows = [
        (
            m.view,
            m.rows,
            f"{m.seconds:.2f}",
            int(m.rows / m.seconds) if m.seconds else None,
            m.mode
            + (f", resumed after {m.resumed_rows}" if m.resumed_rows else "")
            + (f", times of {m.rounded_rows} rows rounded up" if m.rounded_rows else ""),
            m.generation,
            to_rfc3339(m.end_us),
        )
        for m in done
    ]
    session.table(columns, rows)


def _instant(platform: Any, text: str) -> str | int:
    return platform.clock.now_us() if text == "now" else text


@command(group, "materialize")
@click.argument("start")
@click.argument("end")
@click.option("--replace", is_flag=True, help="Load a new generation, then switch to it.")
@VIEWS
@click.option("--clock", metavar="TIME", help="Freeze the platform's clock.")
def materialize(
    session: Session, start: str, end: str, replace: bool, views: tuple[str, ...], clock: str | None
) -> None:
    """Bring online each entity's newest row with START <= event time <= END.

    Times are RFC 3339 (UTC where no zone is given), or `now`. Killed, it resumes when called again.
    """
    with session.platform(clock) as platform, ProgressLines(session) as progress:
        done = platform.materialize(
            _instant(platform, start), _instant(platform, end), views or None, replace=replace, progress=progress
        )
    _report(session, done)


@command(group, "materialize-incremental")
@click.argument("end")
@VIEWS
@click.option("--clock", metavar="TIME", help="Freeze the platform's clock.")
def materialize_incremental(session: Session, end: str, views: tuple[str, ...], clock: str | None) -> None:
    """Bring online what is new since the last run, through END (a time, or `now`), and whatever arrived late."""
    with session.platform(clock) as platform, ProgressLines(session) as progress:
        done = platform.materialize_incremental(_instant(platform, end), views or None, progress=progress)
    _report(session, done)


@command(group, "push")
@click.argument("view")
@click.argument("file", type=click.Path(exists=False))
@click.option("--to", default="both", show_default=True, help="both, online or offline.")
def push(session: Session, view: str, file: str, to: str) -> None:
    """Push the rows of FILE (Parquet, CSV or JSON lines) to VIEW (or to a push source)."""
    from stook.app.files import read_table  # start-up time: only commands that read files need it

    with session.platform() as platform:
        done = platform.push(view, read_table(file, platform.columns(view), platform.pushed_times(view)), to=to)
    value = {"rows": done.rows, "views": list(done.views), "position": done.position}
    session.answer(value, f"pushed {done.rows} rows to {', '.join(done.views)}")


@command(group, "delete-rows")
@click.argument("view")
@click.option(
    "-e", "--entity", "entities", multiple=True, required=True, metavar="KEY=VALUE", help="Entities to delete."
)
def delete_rows(session: Session, view: str, entities: tuple[str, ...]) -> None:
    """Delete entities from VIEW, online and from now on in history."""
    from stook.app.texts import typed_columns  # start-up time: Arrow loads with it

    with session.platform() as platform:
        keys = typed_columns(platform.join_keys(view), parse_entities(entities))
        done = platform.delete_rows(view, keys)
    session.answer({"rows": done.rows, "position": done.position}, f"deleted {done.rows} entities from {view}")


@command(group, "generations")
@click.argument("action", type=click.Choice(["list", "activate"]))
@click.argument("view")
@click.argument("generation", type=int, required=False)
def generations(session: Session, action: str, view: str, generation: int | None) -> None:
    """List VIEW's bulk loads, or make GENERATION live."""
    with session.platform() as platform:
        if action == "activate":
            if generation is None:
                raise click.UsageError("activate needs GENERATION; `stook generations list VIEW` shows them")
            platform.activate(view, generation)
        found = platform.generations(view)
    rows = [(g.number, g.rows, g.state.value, to_rfc3339(g.created_us)) for g in found]
    session.table(("generation", "rows", "state", "created"), rows)
