"""The house's budgets, checked on the source itself (docs/design.md, "Budgets")."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "stook"
FILES = sorted(SOURCE.rglob("*.py"))
PRODUCT = [f for f in FILES if "testing" not in f.relative_to(SOURCE).parts]

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 800
FILE_LINES_SOFT = 500
CLASS_METHODS_MAX = 20
PORT_METHODS_MAX = 12
PARAMETERS_MAX = 6
POSITIONAL_MAX = 2
BANNED_MODULES = {"util", "utils", "helper", "helpers", "common", "misc", "base"}
SUPERVISORS = {
    "registry/scan.py",  # runs the definition files of users
    "models/predict.py",  # runs the models of users
    "models/training.py",  # runs the training code of users
    "models/usercode.py",  # asks the exceptions of users for their text
    "backends/delta/tables.py",  # deltalake raises a bare Exception for names it cannot hold
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, Function))


def name_of(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def over(lines: list[str]) -> None:
    assert not lines, "\n" + "\n".join(lines)


def test_functions_fit_a_screen() -> None:
    over(
        [
            f"{name_of(f)}:{n.lineno} {n.name} has {n.end_lineno - n.lineno + 1} lines"
            for f in FILES
            for n in functions(f)
            if n.end_lineno is not None and n.end_lineno - n.lineno + 1 > FUNCTION_LINES_MAX
        ]
    )


def test_files_fit_a_head() -> None:
    sizes = {name_of(f): len(f.read_text().splitlines()) for f in FILES}
    over([f"{f} has {n} lines" for f, n in sizes.items() if n > FILE_LINES_MAX])
    assert sum(n > FILE_LINES_SOFT for n in sizes.values()) <= 1, sizes  # a ratchet: it only goes down


def test_classes_and_ports_are_small() -> None:
    found = []
    for f in FILES:
        limit = PORT_METHODS_MAX if "ports" in f.parts else CLASS_METHODS_MAX
        for node in ast.walk(tree(f)):
            if isinstance(node, ast.ClassDef) and "testing" not in f.parts:
                methods = sum(isinstance(item, Function) for item in node.body)
                if methods > limit:
                    found.append(f"{name_of(f)}:{node.lineno} {node.name} has {methods} methods")
    over(found)


def test_parameters_are_few_and_named() -> None:
    """At most six, keyword-only beyond two; definitions (what users declare) are exempt."""
    found = []
    for f in PRODUCT:
        if name_of(f) == "core/definitions.py" or f.parent.name == "cli":
            continue
        for node in functions(f):
            arguments = node.args
            positional = [a for a in (*arguments.posonlyargs, *arguments.args) if a.arg not in {"self", "cls"}]
            every = len(positional) + len(arguments.kwonlyargs)
            public = not node.name.startswith("_")
            optional = len(arguments.defaults)
            if every > PARAMETERS_MAX:
                found.append(f"{name_of(f)}:{node.lineno} {node.name} takes {every} parameters")
            elif public and len(positional) - optional > POSITIONAL_MAX + 2:
                found.append(f"{name_of(f)}:{node.lineno} {node.name} takes {len(positional)} positional parameters")
    over(found)


def test_modules_say_what_they_are() -> None:
    found = []
    for f in FILES:
        text = " ".join((ast.get_docstring(tree(f)) or "").split())
        if not text or "TODO" in text:
            found.append(f"{name_of(f)} has no docstring")
        elif (
            f.name != "__init__.py" and f.name != "_version.py" and "must never" not in text and "must only" not in text
        ):
            found.append(f"{name_of(f)} does not say what it must never do")
    over(found)


def test_public_names_are_documented() -> None:
    """Every public function, class and method of the product, but methods a port or parent documents."""
    found = []
    for f in PRODUCT:
        if "backends" in f.parts:
            continue
        for node in tree(f).body:
            public = isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_")
            if public and ast.get_docstring(node) is None:
                found.append(f"{name_of(f)}:{node.lineno} {node.name}")
    over(found)


def test_everything_is_annotated() -> None:
    found = []
    for f in FILES:
        for node in functions(f):
            arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            bare = [a.arg for a in arguments if a.annotation is None and a.arg not in {"self", "cls"}]
            if bare or node.returns is None:
                found.append(f"{name_of(f)}:{node.lineno} {node.name} {bare}")
    over(found)


def test_names_say_something() -> None:
    found = [name_of(f) for f in FILES if f.stem in BANNED_MODULES]
    for f in PRODUCT:
        for node in ast.walk(tree(f)):
            if isinstance(node, ast.Name) and node.id == "version" and isinstance(node.ctx, ast.Store):
                found.append(f"{name_of(f)}:{node.lineno} 'version' alone: of what?")
    over(found)


def test_late_imports_give_a_reason() -> None:
    """Imports inside functions are for optional drivers and start-up time, and say so beside them."""
    found = []
    for f in PRODUCT:
        lines = f.read_text().splitlines()
        for function in functions(f):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    near = " ".join(lines[max(node.lineno - 3, 0) : node.end_lineno])
                    if not re.search(r"#.*(start-up time|optional driver)|except ImportError|try:", near):
                        found.append(f"{name_of(f)}:{node.lineno} {lines[node.lineno - 1].strip()}")
    over(found)


def test_broad_except_only_in_supervisors() -> None:
    found = []
    for f in PRODUCT:
        for node in ast.walk(tree(f)):
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type is not None else "everything"
                if caught in {"Exception", "BaseException", "everything"}:
                    found.append(name_of(f))
    over(sorted(set(found) - SUPERVISORS))


@pytest.mark.parametrize("word", ["FIXME", "XXX", "HACK", "TODO"])
def test_nothing_is_left_for_later(word: str) -> None:
    over([name_of(f) for f in FILES if word in f.read_text()])
