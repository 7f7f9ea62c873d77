"""Functions that a person names by file: `train.py:fit`.

It is a file of its own because running users' code needs its own care for errors. The command line calls it. It
must never run a file that was not named.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stook.core.errors import InvalidArgument, did_you_mean
from stook.registry.scan import run_file


def load_function(text: str, project: str | Path) -> Callable[..., Any]:
    """The function FUNCTION of FILE for `FILE:FUNCTION`, FILE relative to the project's folder.

    Raises InvalidArgument for another form or no such function, InvalidDefinition naming file and line when the
    file cannot be run.
    """
    file, colon, name = text.rpartition(":")
    if not colon or not file or not name:
        raise InvalidArgument(f"{text!r} names no function", hint="write FILE:FUNCTION, e.g. train.py:fit")
    module = run_file(Path(project) / file)
    found = getattr(module, name, None)
    if not callable(found):
        names = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        raise InvalidArgument(f"{file} has no function {name!r}", hint=did_you_mean(name, names))
    return found
