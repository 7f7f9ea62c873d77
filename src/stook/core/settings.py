"""`stook.toml`, parsed once into frozen values.

It is a file of its own because a wrong setting must stop the start, naming field and bounds, and because the
environment is read nowhere else. The app parses; everything below is handed values. It must never open an engine.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

from stook.core.errors import InvalidDefinition, InvalidSettings, NotAProject, did_you_mean
from stook.core.names import check_name

FILE_NAME: Final = "stook.toml"
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_URL: Final = re.compile(r"([a-z][a-z0-9+]*):(.*)\Z", re.DOTALL)


@dataclass(frozen=True)
class EngineUrl:
    """An engine by URL: `scheme` chooses the backend, `path` is absolute where the URL names files.

    `lmdb:///.stook/online` is relative to `stook.toml`, `lmdb:////srv/online` absolute, `memory:` has no path.
    """

    text: str = field(repr=False)  # it may hold a password
    scheme: str
    path: Path | None
    address: str = field(default="", repr=False)
    options: tuple[tuple[str, str], ...] = ()

    @property
    def shown(self) -> str:
        """The text without user and password, for messages and reports.

        >>> parse_url("redis://me:secret@db:6379/0", Path("/"), "online").shown
        'redis://db:6379/0'
        """
        credentials, at, _ = self.address.rpartition("@")
        return self.text.replace(credentials + at, "", 1) if at else self.text

    def option(self, name: str, default: str) -> str:
        """The query option of that name."""
        return dict(self.options).get(name, default)


@dataclass(frozen=True)
class Engines:
    """`[engines]`: one URL per port; the defaults are the embedded platform."""

    records: EngineUrl
    online: EngineUrl
    tables: EngineUrl
    log: EngineUrl
    coordination: EngineUrl
    blobs: EngineUrl
    launcher: EngineUrl


DEFAULT_ENGINES: Final[dict[str, str]] = {
    "records": "sqlite:///.stook/records.db",
    "online": "lmdb:///.stook/online",
    "tables": "delta+duckdb:///.stook/tables",
    "log": "local:///.stook/log",
    "coordination": "sqlite:///.stook/coordination.db",
    "blobs": "file:///.stook/blobs",
    "launcher": "local:",
}


@dataclass(frozen=True)
class Serve:
    """`[serve]`: the HTTP server."""

    host: str = "127.0.0.1"  # the address to listen on; any but this machine's own needs a token, or `--insecure`
    port: int = 6566  # 0: any free port
    workers: int = 1  # processes
    token: str = ""  # a bearer token every call but /health must carry; empty: none asked
    body_limit_mib: int = 16  # the largest request body, in MiB
    json_depth_max: int = 32  # how deep a request's JSON may nest
    entities_max: int = 10_000  # rows of one online request
    answer_limit_mib: int = 64  # what one online request may read: stored values, and 8 bytes a cell, in MiB
    push_rows_max: int = 100_000  # rows of one push over HTTP
    allow_pickle: bool = False  # whether releases stored as pickles, which run code when loaded, may answer


@dataclass(frozen=True)
class Limits:
    """`[limits]`: how much of the machine is used, and how far clocks may differ."""

    future_tolerance_ms: int = 5_000  # rows dated later than now by more stay in history until their time
    memory_mib: int = 2_048  # the offline engine's memory before it spills to disk
    threads: int = 0  # the offline engine's threads; 0: all cores
    chunk_rows: int = 100_000  # rows encoded and written at a time
    fold_rows: int = 100_000  # pushed rows folded into history at a time
    fold_after_s: int = 60  # age at which pushed rows are folded anyway
    generations_kept: int = 2  # live and previous


@dataclass(frozen=True)
class Settings:
    """A project's settings; `root` is the folder of `stook.toml`."""

    root: Path
    name: str
    definitions: tuple[str, ...]
    engines: Engines
    serve: Serve = field(default_factory=Serve)
    limits: Limits = field(default_factory=Limits)


BOUNDS: Final[dict[str, tuple[int, int]]] = {
    "serve.port": (0, 65_535),
    "serve.workers": (1, 64),
    "serve.body_limit_mib": (1, 1_024),
    "serve.json_depth_max": (4, 200),
    "serve.entities_max": (1, 1_000_000),
    "serve.answer_limit_mib": (1, 65_536),
    "serve.push_rows_max": (1, 10_000_000),
    "limits.future_tolerance_ms": (0, 86_400_000),
    "limits.memory_mib": (64, 1_048_576),
    "limits.threads": (0, 1_024),
    "limits.chunk_rows": (1, 10_000_000),
    "limits.fold_rows": (1, 10_000_000),
    "limits.fold_after_s": (0, 86_400),
    "limits.generations_kept": (1, 100),
}


def find_project(folder: str | Path) -> Path:
    """The project's folder: `folder`, which must hold `stook.toml`. Raises NotAProject."""
    root = Path(folder).expanduser().resolve()
    if not (root / FILE_NAME).is_file():
        why = "there is no such folder" if not root.exists() else f"it holds no {FILE_NAME}"
        raise NotAProject(
            f"{root} is not a stook project: {why}", hint="run `stook init NAME`, or name the folder with -C"
        )
    return root


def load_settings(folder: str | Path, environ: Mapping[str, str] | None = None) -> Settings:
    """Parses `stook.toml` of the folder, with `${NAME}` and `${NAME:-default}` from the environment.

    Raises NotAProject, or InvalidSettings naming the file, the field and its bounds.
    """
    root = find_project(folder)
    path = root / FILE_NAME
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InvalidSettings(f"{path}: {error}", hint="mend the file") from None
    expanded = _expand(document, os.environ if environ is None else environ, str(path))
    return parse_settings(expanded, root)


def parse_settings(document: Mapping[str, Any], root: Path) -> Settings:
    """Settings from an already read document. Raises InvalidSettings."""
    where = str(root / FILE_NAME)
    _check_names(document, ("project", "engines", "serve", "limits"), where, "section")
    for section, value in document.items():
        if not isinstance(value, dict):
            raise InvalidSettings(f"{where}: {section} is {value!r}, not a section", hint=f"write [{section}]")
    project = document.get("project", {})
    _check_names(project, ("name", "definitions"), where, "field of [project]")
    try:
        name = check_name("project", project.get("name"))
    except InvalidDefinition as error:
        raise InvalidSettings(f"{where}: project.name: {error.message}", hint=error.hint) from None
    definitions = project.get("definitions", ["features.py"])
    if not isinstance(definitions, list) or not all(isinstance(d, str) and d for d in definitions):
        raise InvalidSettings(
            f"{where}: project.definitions is {definitions!r}", hint='a list of files, ["features.py"]'
        )
    engines = document.get("engines", {})
    _check_names(engines, tuple(DEFAULT_ENGINES), where, "field of [engines]")
    urls = {
        key: parse_url(engines.get(key, text), root, f"{where}: engines.{key}") for key, text in DEFAULT_ENGINES.items()
    }
    return Settings(
        root=root,
        name=name,
        definitions=tuple(definitions),
        engines=Engines(**urls),
        serve=Serve(**_section(Serve, "serve", document.get("serve", {}), where)),
        limits=Limits(**_section(Limits, "limits", document.get("limits", {}), where)),
    )


def parse_url(text: object, root: Path, where: str) -> EngineUrl:
    """An engine URL, its path made absolute against `root`. Raises InvalidSettings naming `where`.

    >>> parse_url("lmdb:///.stook/online", Path("/p"), "engines.online").path
    PosixPath('/p/.stook/online')
    """
    match = _URL.match(text) if isinstance(text, str) else None
    if match is None:
        raise InvalidSettings(
            f"{where} is {without_password(text)!r}, not a URL",
            hint="write it as scheme:///path, e.g. lmdb:///.stook/online",
        )
    scheme, rest = match.groups()
    rest, _, query = rest.partition("?")
    path, address = None, ""
    if rest.startswith("///"):
        path = root / rest[3:] if not rest.startswith("////") else Path(rest[3:])
    elif rest.startswith("//"):
        address = rest[2:]
    elif rest:
        raise InvalidSettings(
            f"{where} is {without_password(text)!r}: no slashes after the scheme",
            hint="use three slashes: scheme:///path",
        )
    return EngineUrl(match.string, scheme, path, address, tuple(parse_qsl(query, keep_blank_values=True)))


def without_password(text: object) -> object:
    """What was written as a URL, fit for a message.

    >>> without_password("postgresql:me:secret@host/shop")
    'postgresql:***@host/shop'
    """
    if not isinstance(text, str) or "@" not in text:
        return text
    return f"{text.partition(':')[0]}:***@{text.rpartition('@')[2]}"


def _check_names(section: Mapping[str, Any], known: tuple[str, ...], where: str, kind: str) -> None:
    for key in section:
        if key not in known:
            raise InvalidSettings(f"{where}: unknown {kind} {key!r}", hint=did_you_mean(key, known))


def _section(cls: type[Serve] | type[Limits], section: str, values: dict[str, Any], where: str) -> dict[str, Any]:
    types: dict[str, type] = {f.name: type(f.default) for f in fields(cls)}
    _check_names(values, tuple(types), where, f"field of [{section}]")
    for key, value in values.items():
        full = f"{section}.{key}"
        if types[key] is not type(value):
            raise InvalidSettings(f"{where}: {full} is {value!r}", hint=f"it must be {types[key].__name__}")
        if full == "serve.token" and not (str(value).isascii() and str(value).isprintable()):
            raise InvalidSettings(f"{where}: {full} has characters that HTTP cannot carry", hint="use printable ASCII")
        if full in BOUNDS:
            low, high = BOUNDS[full]
            if not low <= value <= high:  # type: ignore[operator]  # typed above
                raise InvalidSettings(f"{where}: {full} is {value}, out of bounds", hint=f"{low} to {high}")
    return values


def _expand(value: Any, environ: Mapping[str, str], where: str) -> Any:
    if isinstance(value, dict):
        return {key: _expand(inner, environ, where) for key, inner in value.items()}
    if isinstance(value, list):
        return [_expand(inner, environ, where) for inner in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name, default = match.groups()
        found = environ.get(name) or default
        if found is None:
            raise InvalidSettings(
                f"{where}: the environment has no {name}", hint=f"set it, or write ${{{name}:-default}}"
            )
        return found

    return _VARIABLE.sub(replace, value)
