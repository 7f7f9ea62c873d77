"""Checks a project, its engines and this machine, and says what to mend.

It is a file of its own because it must keep going where everything else stops: each check catches its own
failure. The command line calls it. It must never change anything.
"""

from __future__ import annotations

import platform as machine
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from stook.app.parts import Parts
from stook.app.wiring import Wiring
from stook.core.dtypes import check_fields
from stook.core.errors import StookError
from stook.core.instants import to_rfc3339
from stook.core.ports.keyvalue import GenerationState
from stook.core.settings import load_settings
from stook.core.specs import ViewSpec
from stook.ingest.entries import STREAM
from stook.ingest.materialize import WATERMARK
from stook.ingest.pushes import stored_columns
from stook.online.write import space

LIBRARIES = ("pyarrow", "numpy", "duckdb", "deltalake", "lmdb", "starlette", "granian", "lightgbm", "scikit-learn")
DRIVERS = ("kazoo",)  # optional ones
FREE_BYTES_MIN = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One check: what, whether it is well, and what was seen or how to mend it."""

    what: str
    well: bool
    detail: str


def examine(folder: str | Path) -> list[Finding]:
    """All checks of the project in a folder, in order; stops early only where nothing more can be seen."""
    findings = [Finding("stook and Python", True, f"{_number('stook')}, Python {machine.python_version()}")]
    libraries = [f"{name} {_number(name)}" for name in (*LIBRARIES, *DRIVERS) if _number(name) != "absent"]
    findings.append(Finding("libraries", True, ", ".join(libraries)))
    try:
        settings = load_settings(folder)
        parts = Parts(Wiring(settings))
    except StookError as error:
        return [*findings, Finding("project", False, str(error))]
    findings.append(Finding("project", True, f"{settings.name} in {settings.root}"))
    free = shutil.disk_usage(settings.root).free
    findings.append(Finding("free space", free >= FREE_BYTES_MIN, f"{free / (1 << 30):.1f} GiB"))
    checks = [
        ("records", _records),
        ("clock", _clock),
        ("online store", _online),
        ("push log", _log),
        ("coordination", _coordination),
    ]
    findings += [_checked(what, check, parts) for what, check in checks]
    if all(f.well for f in findings):
        findings += _views(parts)
    parts.wiring.close()
    return findings


def _number(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "absent"


def _checked(what: str, check: Callable[[Parts], str], parts: Parts) -> Finding:
    try:
        return Finding(what, True, check(parts))
    except (StookError, OSError) as error:
        return Finding(what, False, str(error))


def _records(parts: Parts) -> str:
    catalogue = parts.registry.catalogue(fresh=True)
    return f"revision {parts.registry.revision}, {len(catalogue.views)} views, {len(catalogue.services)} services"


def _clock(parts: Parts) -> str:
    clock = parts.wiring.clock
    return to_rfc3339(clock.now_us()) + (" (frozen)" if clock.frozen else "")


def _online(parts: Parts) -> str:
    wiring = parts.wiring
    return f"{wiring.settings.engines.online.shown}, log applied through {wiring.online.position(STREAM)}"


def _log(parts: Parts) -> str:
    log = parts.wiring.log
    return f"{log.end(STREAM)} entries ever, {log.end(STREAM) - log.base(STREAM)} not yet folded into history"


def _coordination(parts: Parts) -> str:
    coordination = parts.wiring.coordination
    coordination.sync()
    session = coordination.session()
    return f"{parts.wiring.settings.engines.coordination.text}, sessions of {session.timeout_s:g} s"


def _views(parts: Parts) -> Iterator[Finding]:
    wiring = parts.wiring
    marks = {record.name: record.spec for record in wiring.records.list(WATERMARK)}
    for view in parts.catalogue().views.values():
        unkeepable = _keepable(view)
        if unkeepable is not None:
            yield Finding(f"view {view.name}", False, unkeepable)
            continue
        if not view.online:
            continue
        live = [g for g in wiring.online.generations(space(view)) if g.state is GenerationState.LIVE]
        rows = f"generation {live[0].number} of {live[0].rows} rows" if live else "no bulk load yet"
        mark = marks.get(view.name)
        through = f"materialized through {to_rfc3339(mark['end_us'])}" if mark else "never materialized"
        yield Finding(f"view {view.name}", True, f"{rows}, {through}")


def _keepable(view: ViewSpec) -> str | None:
    """Why the view's pushed rows cannot be folded into tables, where an older stook let them be declared."""
    try:
        for column in stored_columns(view):
            check_fields(f"feature {column.name!r}", column.dtype)
    except StookError as error:
        return f"what is pushed to it stays in the push log, for tables cannot keep it: {error}"
    return None
