"""Commands that serve and check: serve, doctor.

They are a file of their own so that a command loads only its like. `main` loads it by name. It must only
translate; the server itself is another face, found by entry point.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

import click

from stook.edge.cli.session import Session, command

group = click.Group("serving")


@command(group, "serve")
@click.option("--host", help="Address to listen on. Default: the setting serve.host.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port; 0: any free one. Default: the setting serve.port.")
@click.option("--workers", type=click.IntRange(1, 64), help="Worker processes. Default: the setting serve.workers.")
@click.option("--clock", metavar="TIME", help="Freeze the platform's clock.")
@click.option("--insecure", is_flag=True, help="Listen beyond this machine without a token.")
@click.option(
    "--join", metavar="NAME", help="Stand among the project's gateways under this name, for balancers to find."
)
@click.option("--advertise", metavar="HOST:PORT", help="Where balancers reach it. Default: where it listens.")
def serve(session: Session, **options: Any) -> None:
    """Serve features and models over HTTP until stopped (Ctrl-C or SIGTERM ends it gracefully)."""
    run = entry_points(group="stook.faces")["http"].load()
    run(session.project, **options)


@command(group, "doctor")
def doctor(session: Session) -> None:
    """Check the project, its engines and this machine. Exit code 1 when something is not well."""
    from stook.app.doctor import examine  # start-up time: only this command needs it

    findings = examine(session.project)
    session.table(("check", "", "detail"), [(f.what, "ok" if f.well else "NOT WELL", f.detail) for f in findings])
    if not all(f.well for f in findings):
        raise click.exceptions.Exit(1)
