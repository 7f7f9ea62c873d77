"""The reference is what the code says, nothing in the code is missing from it, and no link of ours leads nowhere."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType

import click
import pytest

from stook.app import Platform
from stook.core import errors, settings
from stook.edge import wire
from stook.edge.cli.main import COMMANDS, cli

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def test_what_is_committed_is_what_the_code_says(generate: ModuleType) -> None:
    pages = generate.pages()
    assert sorted(pages) == sorted(path.name for path in REFERENCE.glob("*.md"))
    stale = [name for name, text in pages.items() if page(name) != text]
    assert not stale, f"{stale}: run `make docs`"


def test_every_setting_has_a_meaning(generate: ModuleType) -> None:
    text = page("settings.md")
    for section, cls in (("serve", settings.Serve), ("limits", settings.Limits)):
        for row in generate.settings_rows(section, cls):
            assert len(row[3]) > 5, row
        for field in dataclasses.fields(cls):
            assert f"`{section}.{field.name}`" in text
    for name in settings.DEFAULT_ENGINES:
        assert f"`engines.{name}`" in text
    for name in settings.BOUNDS:
        assert f"`{name}`" in text


def test_every_error_is_there_with_its_status(generate: ModuleType) -> None:
    text = page("errors.md")
    ours = [e for e in vars(errors).values() if inspect.isclass(e) and issubclass(e, errors.StookError)]
    assert {cls.__name__ for cls in ours} == {cls.__name__ for cls in generate.error_classes()}
    for cls in ours:
        row = next(line for line in text.splitlines() if f"`{cls.__name__}`" in line and line.startswith("|"))
        assert f"`{cls.code}`" in row and f" {wire.status_of(cls(''))} " in row
        assert cls.__doc__ is not None and len(cls.__doc__) > 10
    codes = [cls.code for cls in ours]
    assert len(set(codes)) == len(codes)


def test_every_command_and_option_says_what_it_is(generate: ModuleType) -> None:
    text = page("commands.md")
    every = dict(generate.every_command(click.Context(cli)))
    assert set(COMMANDS) < set(every)
    for name, command in every.items():
        assert command.help, name
        assert f"## {name}\n" in text
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, f"{name} {option.name}"
                if option.name not in ("project", "as_json", "verbose"):
                    assert option.opts[-1] in text


def test_every_verb_says_what_it_does(generate: ModuleType) -> None:
    text = page("sdk.md")
    verbs = [name for name in dir(Platform) if not name.startswith("_")]
    assert len(verbs) > 25
    for name in verbs:
        assert (getattr(Platform, name).__doc__ or "").strip(), name
        assert re.search(rf"^### `{name}\b", text, re.MULTILINE), name
    for cls in (*generate.definition_classes(), *generate.answer_classes()):
        assert re.search(rf"^### `?{cls.__name__}\b", text, re.MULTILINE), cls


def test_every_endpoint_is_there() -> None:
    routes = importlib.import_module("stook.edge.http.routes")
    text = page("http.md")
    guide = (DOCS / "guides" / "serving.md").read_text(encoding="utf-8")
    for endpoint in routes.ENDPOINTS:
        assert f"`{endpoint.method} {endpoint.path}`" in text
        assert endpoint.handler.__doc__, endpoint.path
        assert endpoint.path in guide, endpoint.path


def anchors(path: Path) -> set[str]:
    headings = _HEADING.findall(path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in _LINK.findall(document.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (document.parent / file).resolve() if file else document
        assert path.exists(), f"{document.name}: {target}"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{document.name}: {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_no_machine(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|work|Users)/", text)


def test_every_decision_has_its_four_parts() -> None:
    records = sorted((DOCS / "decisions").glob("[0-9]*.md"))
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    for path in records:
        headings = re.findall(r"^## (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert headings == ["Context", "Alternatives", "Measurement", "Choice"], path.name
