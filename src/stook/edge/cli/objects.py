"""Commands about stored objects: list, describe, delete, one group a kind.

They are a file of their own so that a command loads only its like. `main` loads it by name. It must never know
what a kind's spec means.
"""

from __future__ import annotations

import json
from typing import Final

import click

from stook.edge.cli.session import Session, command

group = click.Group("objects")
KINDS: Final = {
    "entities": "entity",
    "feature-views": "feature-view",
    "feature-services": "feature-service",
    "push-sources": "push-source",
    "datasets": "dataset",
    "runs": "run",
    "releases": "release",
    "deployments": "deployment",
}
SUMMARY_CHARACTERS_MAX: Final = 100


def _register(plural: str, kind: str) -> None:
    @command(group, plural, help=f"List or describe {plural}.")
    @click.argument("action", type=click.Choice(["list", "describe"]))
    @click.argument("name", required=False)
    def show(session: Session, action: str, name: str | None) -> None:
        with session.platform() as platform:
            if action == "describe":
                if name is None:
                    raise click.UsageError(f"describe needs NAME; `stook {plural} list` shows them")
                record = platform.get(kind, name)
                value = {"kind": kind, "name": name, "revision": record.revision, **record.spec}
                session.answer(value, lambda: json.dumps(value, indent=2, ensure_ascii=False))
                return
            found = platform.list(kind)
        rows = [(r.name, r.revision, str(r.spec.get("description", ""))[:SUMMARY_CHARACTERS_MAX]) for r in found]
        session.table(("name", "revision", "description"), rows)


for _plural, _kind in KINDS.items():
    _register(_plural, _kind)


@command(group, "delete")
@click.argument("kind")
@click.argument("name")
def delete(session: Session, kind: str, name: str) -> None:
    """Delete the KIND (e.g. feature-view) called NAME; a view's rows go with it."""
    with session.platform() as platform:
        platform.delete(KINDS.get(kind, kind), name)
    session.answer({"deleted": name}, f"deleted {kind} {name}")
