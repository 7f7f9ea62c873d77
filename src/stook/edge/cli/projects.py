"""Commands about projects and declarations: init, plan, apply, version.

They are a file of their own so that a command loads only its like. `main` loads it by name. It must only
translate.
"""

from __future__ import annotations

from typing import Any

import click

from stook._version import __version__
from stook.edge.cli.session import Session, command

group = click.Group("projects")


def plan_json(plan: Any) -> dict[str, Any]:
    """A registry plan as JSON."""
    return {
        "changes": [
            {
                "action": d.action,
                "kind": d.kind,
                "name": d.name,
                "details": list(d.details),
                "refusals": [why for why, _ in d.refusals],
            }
            for d in plan.changes
        ],
        "undeclared": [list(pair) for pair in plan.undeclared],
    }


@command(group, "init")
@click.argument("name")
def init(session: Session, name: str) -> None:
    """Write a new project NAME, in a folder of that name: stook.toml, features.py and a little data."""
    from stook.app.scaffold import write_project  # start-up time: only this command needs it

    root = write_project(name, session.project)
    text = (
        f"wrote {root}\n\nnext:\n  cd {name}\n  stook apply\n  stook materialize-incremental now\n"
        "  stook get-online-features -f driver_stats:conv_rate -f driver_stats:trips -e driver_id=1001"
    )
    session.answer({"project": str(root)}, text)


@command(group, "plan")
def plan(session: Session) -> None:
    """Show what apply would change; change nothing."""
    with session.platform() as platform:
        found = platform.plan()
    session.answer(plan_json(found), str(found))


@command(group, "apply")
@click.option("--prune", is_flag=True, help="Delete what is stored but no longer defined, with its rows.")
def apply(session: Session, prune: bool) -> None:
    """Store the project's definitions. Deletes nothing without --prune."""
    with session.platform() as platform:
        done = platform.apply(prune=prune)
    lines = [str(done)] + ([f"deleted {len(done.undeclared)} that are no longer defined"] if prune else [])
    session.answer(plan_json(done), "\n".join(lines))


@command(group, "version")
def version(session: Session) -> None:
    """Print stook's version."""
    session.answer({"stook": __version__}, __version__)
