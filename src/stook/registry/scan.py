"""Definitions found in a project's Python files.

It is a file of its own because running users' code is the one impure thing about declaring: it must fail with
file and line, and leave the importing process as it was. `plan` and `apply` call it. It must never keep the
modules it ran.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from stook.core.definitions import Definition, Entity, FeatureService, FeatureView, PushSource
from stook.core.errors import InvalidDefinition, StookError

MODULE_PREFIX = "stook_definitions_"


def scan(root: Path, names: Sequence[str]) -> list[Definition]:
    """All Entity, FeatureView, FeatureService and PushSource objects that the files' globals hold, in order.

    Files are run with `root` first on the module search path, so that they can import each other; an object
    found twice counts once. Raises InvalidDefinition naming file and line when a file is absent, does not parse,
    or fails.
    """
    found: dict[int, Definition] = {}
    before = set(sys.modules)
    sys.path.insert(0, str(root))
    try:
        for number, name in enumerate(names):
            module = _run(root / name, f"{MODULE_PREFIX}{number}")
            for value in vars(module).values():
                if isinstance(value, Entity | FeatureView | FeatureService | PushSource):
                    found[id(value)] = value
    finally:
        sys.path.remove(str(root))
        for name in set(sys.modules) - before:
            if _is_below(sys.modules.get(name), root) or name.startswith(MODULE_PREFIX):
                del sys.modules[name]
    return list(found.values())


def run_file(path: Path) -> ModuleType:
    """Runs one of the user's files, with its folder first on the module search path, and keeps it imported.

    Raises InvalidDefinition naming file and line when it is absent, does not parse, or fails.
    """
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        return _run(path, path.stem)
    finally:
        sys.path.remove(folder)


def _is_below(module: ModuleType | None, root: Path) -> bool:
    file = getattr(module, "__file__", None)
    return bool(file) and Path(str(file)).is_relative_to(root) and "site-packages" not in str(file)


def _run(path: Path, module_name: str) -> ModuleType:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise InvalidDefinition(
            f"definitions file {path} cannot be read: {error.strerror}", hint="see project.definitions in stook.toml"
        ) from None
    try:
        code = compile(source, str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise InvalidDefinition(f"{path}{f':{line}' if line else ''}: {error}", hint="mend the file") from None
    module = ModuleType(module_name)
    module.__file__ = str(path)
    sys.modules[module_name] = module
    try:
        exec(code, vars(module))  # noqa: S102  definitions are the user's own code
    except StookError as error:
        error.args = (f"{path}:{_line(error, path)}: {error.message}",)
        error.message = error.args[0]
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001  whatever the user's file raises is the user's to mend
        where = f"{path}:{_line(error, path)}"
        raise InvalidDefinition(f"{where}: {type(error).__name__}: {error}", hint="mend the file") from None
    return module


def _line(error: BaseException, path: Path) -> int | str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines and lines[-1] is not None else "?"
