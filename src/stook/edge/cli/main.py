"""The `stook` command: its groups, and where each command's module is.

It is a file of its own because it is what starts, so it must import little: a command's module loads when the
command is named. The script entry point calls `main`. It must never hold a command's work.
"""

from __future__ import annotations

import io
import sys
from importlib import import_module
from typing import Final

import click

from stook._version import __version__
from stook.edge.cli.session import Session, global_options

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "init": ("projects", "Write a new project that works."),
    "plan": ("projects", "Show what apply would change."),
    "apply": ("projects", "Store the project's definitions."),
    "materialize": ("movement", "Bring a span of event time online."),
    "materialize-incremental": ("movement", "Bring online what is new or late."),
    "push": ("movement", "Push the rows of a file to a view."),
    "delete-rows": ("movement", "Delete entities from a view."),
    "generations": ("movement", "List a view's bulk loads, or switch to one."),
    "get-online-features": ("reading", "Read features as they are now."),
    "get-historical-features": ("reading", "Join features to labels, point in time."),
    "parity": ("reading", "Compare online answers with the offline join."),
    "bench": ("reading", "Time online reads of this project."),
    "entities": ("objects", "List or describe entities."),
    "feature-views": ("objects", "List or describe feature views."),
    "feature-services": ("objects", "List or describe feature services."),
    "push-sources": ("objects", "List or describe push sources."),
    "datasets": ("objects", "List or describe saved datasets."),
    "runs": ("objects", "List or describe training runs."),
    "releases": ("objects", "List or describe model releases."),
    "deployments": ("objects", "List or describe deployments."),
    "delete": ("objects", "Delete a declaration and, for a view, its rows."),
    "train": ("learning", "Train a model on a dataset."),
    "release": ("learning", "Make a run's model an immutable release."),
    "deploy": ("learning", "Let a deployment answer with a release."),
    "predict": ("learning", "Ask a deployment for predictions."),
    "rollback": ("learning", "Go back to the release before."),
    "serve": ("serving", "Serve features and models over HTTP."),
    "cluster": ("clustering", "Run a whole cluster on this machine."),
    "znode": ("znodes", "Look at and change nodes of the coordination store."),
    "doctor": ("serving", "Check the project, its engines and this machine."),
    "version": ("projects", "Print stook's version."),
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and help, and loads their modules when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        return import_module(f"stook.edge.cli.{COMMANDS[cmd_name][0]}").group.commands[cmd_name]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from stook.core.errors import did_you_mean  # start-up time: only mistakes need it

            ctx.fail(f"there is no command {args[0]!r}: {did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="stook")
@global_options
@click.pass_context
def cli(context: click.Context, project: str | None, as_json: bool, verbose: bool) -> None:
    """A feature and model platform: define once, train on rows that never see the future, serve both."""
    context.obj = Session(project or ".", as_json, verbose)


def main() -> None:
    """Runs the command line. Exit codes: 0 done, 1 failed, 2 the call was wrong."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # values may hold any letter, whatever the locale has
            stream.reconfigure(encoding="utf-8" if stream.encoding == "ascii" else None, errors="backslashreplace")
    cli([as_utf8(argument) for argument in sys.argv[1:]], prog_name="stook")


def as_utf8(argument: str) -> str:
    """An argument as its bytes say in UTF-8; in a locale without it, Python leaves what it could not read as surrogates.

    >>> as_utf8("na\\udcc3\\udcafve")
    'naïve'
    """
    try:
        return argument.encode("utf-8", "surrogateescape").decode()
    except UnicodeError:
        return argument
