"""Writes `docs/reference/` from the code, so that it cannot say anything else.

It is a file of its own because the reference must follow the code and not the memory of whoever changed it.
`make docs` runs it; `tests/docs/test_reference.py` fails when what is committed is not what it writes. It must
never invent a sentence about a thing: texts come from docstrings, help and comments beside the code.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import sys
import textwrap
import tokenize
import tomllib
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_args

import click
import msgspec

import stook
from stook.core import definitions, dtypes, errors, predictions, results, settings, statuses
from stook.edge import wire
from stook.edge.cli.main import COMMANDS, cli

DOCS = Path(__file__).resolve().parent
REFERENCE = DOCS / "reference"
PROJECT = DOCS.parent / "pyproject.toml"
JSON_FORMS = ("to_spec", "from_spec")  # of rooms, for rooms
NOTE = "<!-- Written by `make docs` from the code. Change the code, not this file. -->"


def text_of(thing: object) -> str:
    """A docstring as Markdown: its doctests fenced, its literal blocks indented as they are."""
    doc = inspect.getdoc(thing) or ""
    assert doc, f"{thing!r} has no docstring"
    parts = []
    for part in doc.split("\n\n"):
        if part.lstrip().startswith(">>>"):
            parts.append(f"```pycon\n{textwrap.dedent(part)}\n```")
        else:
            parts.append(part)
    return re.sub(r"::(?=\n\n)", ":", "\n\n".join(parts))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    lines += [
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows
    ]
    return "\n".join(lines)


def signature_of(name: str, call: Callable[..., Any]) -> str:
    """A call as users write it: without `self`, defaults shortened, the answer's type behind an arrow."""
    signature = inspect.signature(call)
    given: list[str] = []
    keyword_only = False
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            given.append("*")
        default = parameter.default
        if default is parameter.empty:
            given.append(parameter.name)
        elif callable(default) or dataclasses.is_dataclass(default):
            given.append(f"{parameter.name}=...")
        else:
            given.append(f"{parameter.name}={default!r}")
    answer = signature.return_annotation
    arrow = (
        ""
        if answer in (signature.empty, "None") and inspect.isclass(call)
        else f" -> {getattr(answer, '__name__', answer)}"
    )
    return f"{name}({', '.join(given)}){arrow}"


def public(cls: type) -> list[tuple[str, Any]]:
    """A class's public methods and properties, inherited ones first, in the order they are written."""
    found: dict[str, Any] = {}
    for owner in (*cls.__mro__[1:-1], cls):
        for name, member in vars(owner).items():
            plain = inspect.isfunction(member) or isinstance(member, property | staticmethod)
            if (
                not name.startswith("_")
                and name not in JSON_FORMS
                and (plain or type(member).__name__ == "cached_property")
            ):
                found[name] = member
    return list(found.items())


def members(cls: type, level: str = "###") -> str:
    """All public members of a class with their docstrings."""
    parts = []
    for name, member in public(cls):
        call = member.__func__ if isinstance(member, staticmethod) else member
        head = signature_of(name, call) if inspect.isfunction(call) else name
        parts.append(f"{level} `{head}`\n\n{text_of(member)}")
    return "\n\n".join(parts)


def every_command(context: click.Context) -> Iterable[tuple[str, click.Command]]:
    """All commands by name, those of a group behind it, as they are typed."""
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None, name
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", each) for inner, each in command.commands.items())


def commands_page() -> str:
    """Every command with its arguments and options."""
    context = click.Context(cli, info_name="stook")
    parts = [
        "# Commands",
        NOTE,
        (cli.help or "").strip(),
        "Options that every command takes: `-C`/`--project DIR`, `--json`, `-v`/`--verbose`. Exit codes: 0 done, 1 "
        "failed (nothing is wrong with the call; trying again may help), 2 the call was wrong.",
        table(("command", "what it does"), [(f"[`{n}`](#{n})", text) for n, (_, text) in COMMANDS.items()]),
    ]
    shared = {"project", "as_json", "verbose", "help"}
    for name, command in every_command(context):
        inner = click.Context(command, info_name=f"stook {name}", parent=None)
        usage = " ".join(command.collect_usage_pieces(inner))
        level = "##" if name in COMMANDS else "###"
        parts.append(f"{level} {name}\n\n```text\nstook {name} {usage}\n```\n\n{inspect.cleandoc(command.help or '')}")
        rows = [
            (f"`{record[0]}`", record[1])
            for option in command.params
            if option.name not in shared and (record := option.get_help_record(inner)) is not None
        ]
        if rows:
            parts.append(table(("option", "meaning"), rows))
    return "\n\n".join(parts) + "\n"


def field_comments(cls: type) -> dict[str, str]:
    """The comment behind each field of a settings class."""
    source = inspect.getsource(cls).splitlines(keepends=True)
    found = {}
    name = ""
    for token in tokenize.generate_tokens(iter(source).__next__):
        if token.type == tokenize.NAME and token.line.strip().startswith(f"{token.string}:"):
            name = token.string
        elif token.type == tokenize.COMMENT and name:
            found[name] = token.string.lstrip("# ")
    return found


def settings_rows(section: str, cls: type) -> list[tuple[str, str, str, str]]:
    """(name, default, bounds, meaning) of a section of `stook.toml`."""
    comments = field_comments(cls)
    rows = []
    for field in dataclasses.fields(cls):
        full = f"{section}.{field.name}"
        bounds = settings.BOUNDS.get(full)
        if isinstance(field.default, bool):
            default = str(field.default).lower()
        else:
            default = f'"{field.default}"' if isinstance(field.default, str) else f"{field.default}"
        meaning = comments[field.name]
        rows.append((f"`{full}`", f"`{default}`", f"{bounds[0]} to {bounds[1]}" if bounds else "", meaning))
    return rows


def settings_page() -> str:
    """`stook.toml`, section by section."""
    head = ("setting", "default", "bounds", "meaning")
    engines = [(f"`engines.{name}`", f"`{url}`") for name, url in settings.DEFAULT_ENGINES.items()]
    return (
        "\n\n".join(
            [
                "# Settings",
                NOTE,
                "A project's settings stand in `stook.toml`. Everything but `project.name` may be left out. An unknown name "
                "or a value out of bounds is refused when the project is opened, naming the field. `${NAME}` and "
                "`${NAME:-default}` read the environment, in this file only.",
                "## [project]",
                table(
                    ("setting", "default", "meaning"),
                    [
                        ("`project.name`", "required", "the project's name, shown by `/health` and `stook doctor`"),
                        ("`project.definitions`", '`["features.py"]`', "the files that `stook plan` and `apply` run"),
                    ],
                ),
                "## [engines]",
                text_of(settings.EngineUrl),
                table(("setting", "default"), engines),
                "`engines.launcher` is read and checked; nothing uses it yet. Which schemes "
                "there are: [entry points](entry-points.md).",
                "## [serve]",
                table(head, settings_rows("serve", settings.Serve)),
                "## [limits]",
                table(head, settings_rows("limits", settings.Limits)),
            ]
        )
        + "\n"
    )


def error_classes() -> list[type[errors.StookError]]:
    """The tree of errors, each class behind its base."""
    found: list[type[errors.StookError]] = []

    def walk(cls: type[errors.StookError]) -> None:
        found.append(cls)
        for sub in cls.__subclasses__():
            if sub.__module__ == errors.__name__:
                walk(sub)

    walk(errors.StookError)
    return found


def _error_row(cls: type[errors.StookError]) -> tuple[str, str, str, str, str]:
    depth = len([c for c in cls.__mro__ if issubclass(c, errors.StookError)]) - 1
    example = cls("")
    return (
        f"{'&nbsp;&nbsp;' * depth}`{cls.__name__}`",
        f"`{cls.code}`",
        f"{wire.status_of(example)}",
        f"{wire.exit_code_of(example)}",
        (inspect.getdoc(cls) or "").replace("\n", " "),
    )


def errors_page() -> str:
    """The tree, with codes, HTTP statuses and exit codes."""
    return (
        "\n\n".join(
            [
                "# Errors",
                NOTE,
                "All errors are subclasses of `stook.errors.StookError`. The tree branches by what to do: a `CallerError` "
                "is mended in the call, a `TryAgain` by repeating the same call after `retry_after_s` seconds (over HTTP "
                "the `Retry-After` header), a `Fault` is not your doing. `str(error)` is the message with the hint in "
                "brackets; `error.message`, `error.hint` and `error.code` are its parts.",
                table(("error", "code", "HTTP", "exit", "meaning"), [_error_row(cls) for cls in error_classes()]),
                'Over HTTP an error is `{"error": {"code": ..., "message": ..., "hint": ...}}`. Two codes exist there only: '
                + " and ".join(f"`{code}` ({status})" for status, code in wire.HTTP_CODES.items())
                + ".",
            ]
        )
        + "\n"
    )


def types_page() -> str:
    """Logical types."""
    arrow = importlib.import_module("stook.core.arrow")
    plain = [
        (
            f"`{export}`",
            f"`{dtypes.PRIMITIVES[name]}`",
            f"`{arrow.to_arrow(dtypes.PRIMITIVES[name])}`",
            "yes" if dtypes.PRIMITIVES[name] in dtypes.KEY_TYPES else "",
        )
        for name, export in dtypes.PRIMITIVE_EXPORTS.items()
    ]
    examples = (
        dtypes.Decimal(12, 2),
        dtypes.Array(dtypes.Int64),
        dtypes.Vector(dtypes.Float32, 3),
        dtypes.Struct({"lat": dtypes.Float64, "lon": dtypes.Float64}),
        dtypes.Map(dtypes.String, dtypes.Int64),
    )
    nested = [
        (f"`{_spelled(e)}`", f"`{e}`", f"`{arrow.to_arrow(e)}`", (inspect.getdoc(type(e)) or "").partition("\n")[0])
        for e in examples
    ]
    primitives = list(dtypes.PRIMITIVES.values())
    widening = [
        (f"`{old!r}`", ", ".join(f"`{new!r}`" for new in primitives if new != old and dtypes.widens(old, new)))
        for old in primitives
    ]
    return (
        "\n\n".join(
            [
                "# Types",
                NOTE,
                "The names in the first column are exported by `stook`. Any value may be null, except in keys.",
                table(("type", "in messages", "as Arrow", "may be a key"), plain),
                table(("type", "in messages", "as Arrow", "meaning"), nested),
                f"Limits: Decimal precision {dtypes.DECIMAL_PRECISION_MAX}, Vector length {dtypes.VECTOR_LENGTH_MAX}, "
                f"nesting {dtypes.NESTING_DEPTH_MAX} levels deep.",
                "## What may become what",
                "A feature's type may be changed to one that holds every value of the old one exactly; rows stored before "
                "stay readable. A Decimal may grow on both sides of its point. Everything else is refused.",
                table(("from", "to"), [row for row in widening if row[1]]),
            ]
        )
        + "\n"
    )


def _spelled(dtype: dtypes.DType) -> str:
    match dtype:
        case dtypes.Array(element):
            return f"Array({element!r})"
        case dtypes.Vector(element, length):
            return f"Vector({element!r}, {length})"
        case dtypes.Map(key, value):
            return f"Map({key!r}, {value!r})"
        case dtypes.Struct(fields):
            return "Struct({" + ", ".join(f'"{n}": {t!r}' for n, t in fields) + "})"
        case dtypes.Decimal(precision, scale):
            return f"Decimal({precision}, {scale})"
    return repr(dtype)


def sdk_page() -> str:
    """`stook.open`, the platform's verbs, definitions and results."""
    from stook.app import Platform  # beside its only use: the page's subject

    parts = ["# SDK", NOTE, f"## `{signature_of('stook.open', stook.open)}`", text_of(stook.open)]
    parts += ["## Platform", text_of(Platform), members(Platform)]
    parts.append("## Definitions")
    for cls in definition_classes():
        parts += [f"### `{signature_of(cls.__name__, cls)}`", text_of(cls)]
    parts.append("## Answers")
    for cls in answer_classes():
        names = [field.name for field in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []
        fields = "Fields: " + ", ".join(f"`{name}`" for name in names) + "." if names else ""
        parts += [f"### {cls.__name__}", text_of(cls), fields, members(cls, "####")]
    names = ", ".join(f"`{name}`" for name in statuses.STATUS_NAMES)
    parts += ["### Status", text_of(statuses.Status), f"{names}."]
    return "\n\n".join(part for part in parts if part) + "\n"


def definition_classes() -> list[type]:
    """What users declare."""
    names = ("Entity", "Field", "FeatureView", "FeatureService", "Projection", "FileSource", "SqlSource", "PushSource")
    return [getattr(definitions, name) for name in names]


def answer_classes() -> list[type]:
    """What the verbs answer with."""
    found = [results.OnlineResult, predictions.PredictResult]
    for module, name in (
        ("stook.app.reading", "Prepared"),
        ("stook.offline.retrieval", "Retrieval"),
        ("stook.offline.datasets", "Dataset"),
        ("stook.offline.manifest", "Manifest"),
        ("stook.core.outcomes", "Acknowledgement"),
        ("stook.core.outcomes", "Materialized"),
        ("stook.core.ports.keyvalue", "Generation"),
        ("stook.ingest.parity", "ParityReport"),
        ("stook.models.runlog", "ActiveRun"),
        ("stook.models.training", "Run"),
        ("stook.models.releases", "Release"),
        ("stook.models.rollout", "Deployment"),
    ):
        found.append(getattr(importlib.import_module(module), name))
    return found


def http_page() -> str:
    """Every endpoint, and every message's shape."""
    routes = importlib.import_module("stook.edge.http.routes")
    messages = importlib.import_module("stook.edge.http.messages")
    parts = [
        "# HTTP",
        NOTE,
        "The running server describes itself at `GET /openapi.json`. What the endpoints mean, with examples: "
        "[serving](../guides/serving.md). Errors and their statuses: [errors](errors.md).",
        table(
            ("endpoint", "what it does", "body", "answer"),
            [
                (
                    f"`{e.method} {e.path}`",
                    (inspect.getdoc(e.handler) or "").partition("\n")[0],
                    _message(e.body) + (" or an Arrow stream" if e.arrow_body else ""),
                    _message(e.answer) + (" or an Arrow stream" if e.arrow else ""),
                )
                for e in routes.ENDPOINTS
            ],
        ),
        "## Messages",
    ]
    for name, cls in vars(messages).items():
        if inspect.isclass(cls) and cls.__module__ == messages.__name__:
            rows = [(f"`{f.encode_name}`", f"`{cls.__annotations__[f.name]}`") for f in msgspec.structs.fields(cls)]
            parts += [f"### {name}", text_of(cls), table(("field", "type"), rows)]
    short = [
        (f"`{name}`", f"`{kind}`".replace("typing.", "")) for name, kind in vars(messages).items() if get_args(kind)
    ]
    parts += ["## Short names", table(("name", "type"), short)]
    return "\n\n".join(parts) + "\n"


def _message(shape: Any) -> str:
    if shape is None:
        return ""
    name = getattr(shape, "__name__", "")
    return f"[{name}](#{name.lower()})" if shape.__module__.endswith("messages") else "JSON"


def entry_points_page() -> str:
    """What `pyproject.toml` registers, and how others register theirs."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    groups = project["entry-points"]
    ours = {point.name for point in entry_points(group="stook.backends")}
    backends = [(f"`{name}`", f"`{target}`") for name, target in sorted(groups["stook.backends"].items())]
    assert ours >= set(groups["stook.backends"]), "stook is not installed as pyproject.toml says; install it again"
    return (
        "\n\n".join(
            [
                "# Entry points",
                NOTE,
                "An engine is found by the name `PORT.SCHEME` in the entry-point group `stook.backends`, where the scheme is "
                "that of its URL in `stook.toml`. The target is called with the URL (`stook.core.settings.EngineUrl`) and "
                "the project's folder, and answers an object with the port's methods. A package of yours registers its "
                "own the same way; `CONTRIBUTING.md` says how to write one.",
                table(("name", "target"), backends),
                "`delta+duckdb` in `engines.tables` names two: what stores tables, and the engine that reads them.",
                "Faces that another face starts without knowing it, in the group `stook.faces`:",
                table(("name", "target"), [(f"`{n}`", f"`{t}`") for n, t in sorted(groups["stook.faces"].items())]),
                "Optional parts, by `pip install 'stook[NAME]'`:",
                table(
                    ("name", "installs"),
                    [(f"`{n}`", ", ".join(f"`{r}`" for r in rs)) for n, rs in project["optional-dependencies"].items()],
                ),
            ]
        )
        + "\n"
    )


def pages() -> dict[str, str]:
    """Every page by its file name."""
    return {
        "commands.md": commands_page(),
        "settings.md": settings_page(),
        "sdk.md": sdk_page(),
        "http.md": http_page(),
        "types.md": types_page(),
        "errors.md": errors_page(),
        "entry-points.md": entry_points_page(),
    }


def main() -> None:
    """Writes the pages that differ."""
    REFERENCE.mkdir(exist_ok=True)
    for name, text in pages().items():
        path = REFERENCE / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote {path.relative_to(DOCS.parent)}\n")


if __name__ == "__main__":
    main()
