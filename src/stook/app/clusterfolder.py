"""A local cluster's folder: what was chosen once, the nodes' files, and where this machine keeps programs.

It is a file of its own because it alone touches disk and machine for the cluster verbs. `app.clusters` calls it. It must
never choose a port or a password twice, nor change a file that is right already.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from stook.cluster.local.nodes import FILE_NAME, HOST, ClusterSettings, Node, Programs, parse_cluster
from stook.core.errors import CorruptStore, EngineUnavailable, InvalidSettings, NotSupported

FOLDER: Final = Path(".stook") / "cluster"
SECRETS: Final = ("records", "postgres", "replicator", "rewinder")
SECRET_BYTES: Final = 18
SOCKET_PATH_BYTES_MAX: Final = 95  # Linux takes 107, of which HAProxy adds twelve while it starts
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./+@,-]+")
ZOOKEEPER_JAR: Final = Path("/usr/share/java/zookeeper.jar")
POSTGRESQL: Final = Path("/usr/lib/postgresql")
USERS: Final = ("postgres", "nobody")
RUN_WAIT_S: Final = 20.0
SEARCH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Kept:
    """What was chosen when the cluster first came up, and which of its nodes somebody took down since."""

    settings: ClusterSettings
    ports: dict[str, int]
    secrets: dict[str, str]
    run_as: tuple[str, tuple[str, ...]] = ("", ())
    down: list[str] = field(default_factory=list)
    redis_made: bool = False


def read_settings(project: Path) -> ClusterSettings:
    """`cluster.toml` beside `stook.toml`; the defaults where there is none. Raises InvalidSettings."""
    path = project / FILE_NAME
    if not path.exists():
        return ClusterSettings()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InvalidSettings(f"{path}: {error}", hint="mend the file") from None
    return parse_cluster(document, str(path))


def read_kept(folder: Path) -> Kept | None:
    """What was kept; None where the cluster was never up. Raises CorruptStore."""
    path = folder / "kept.json"
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        run_as = (said["run_as"][0], tuple(said["run_as"][1]))
        return Kept(**{**said, "settings": ClusterSettings(**said["settings"]), "run_as": run_as})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        raise CorruptStore(f"{path} does not read back: {error}", hint="restore it, or delete the cluster") from None


def write_kept(folder: Path, kept: Kept) -> None:
    """Keeps it, readable by its owner alone, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "kept.json", json.dumps(asdict(kept), indent=1) + "\n", mode=0o600)


def choose(
    settings: ClusterSettings, names: Sequence[str], before: Kept | None, run_as: tuple[str, tuple[str, ...]]
) -> Kept:
    """Ports and secrets for what has none yet; all others stay. Nothing is down any more."""
    ports = {} if before is None else dict(before.ports)
    if settings.port:
        ports["balancer"] = settings.port
    missing = [name for name in names if name not in ports]
    ports |= dict(zip(missing, _free_ports(len(missing)), strict=True))
    words = {} if before is None else dict(before.secrets)
    words |= {name: secrets.token_urlsafe(SECRET_BYTES) for name in SECRETS if name not in words}
    return Kept(settings, ports, words, run_as, [], before is not None and before.redis_made)


def _free_ports(count: int) -> list[int]:
    """As many ports as nobody listens on now. Below the range from which connections take theirs, so that they stay free;
    Redis Cluster listens on port + 10000 too, which is kept below 65536 by that."""
    low, high = 20_000, 32_000
    found: list[int] = []
    with ExitStack() as held:
        for port in range(low + secrets.randbelow(8_000), high):
            if len(found) == count:
                return found
            try:
                for number in (port, port + 10_000):
                    door = held.enter_context(socket.socket())
                    door.bind((HOST, number))
            except OSError:
                continue
            found.append(port)
    raise NotSupported(f"{count} free ports were not found from {low} to {high}", hint="end what uses them")


def write_files(nodes: Iterable[Node]) -> None:
    """Makes the nodes' folders and files, owned by who runs them."""
    for node in nodes:
        owner = pwd.getpwnam(node.work.user) if node.work.user else pwd.getpwuid(os.geteuid())
        for folder in node.folders:
            folder.mkdir(parents=True, exist_ok=True)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        for path, text in node.files.items():
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                _write(path, text, mode=0o600)
            os.chown(path, owner.pw_uid, owner.pw_gid)


def _write(path: Path, text: str, *, mode: int) -> None:
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def find_programs(settings: ClusterSettings) -> Programs:
    """Where everything is that these settings need. Raises NotSupported naming all that is missing and how to get it."""
    debian: list[str] = []
    python: list[str] = []

    def program(name: str, package: str, wanted: object) -> str:
        found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SEARCH}") if wanted else ""
        if found is None:
            debian.append(package)
        return found or ""

    java = program("java", "default-jre-headless", settings.zookeeper)
    if settings.zookeeper and not ZOOKEEPER_JAR.exists():
        debian.append("zookeeper")
    releases = sorted(POSTGRESQL.glob("*/bin/postgres"), key=lambda path: path.parts[4])
    if settings.postgresql and not releases:
        debian.append("postgresql")
    for module, wanted in (("kazoo", settings.zookeeper), ("patroni", settings.postgresql), ("psycopg", settings.postgresql),
                           ("sqlalchemy", settings.postgresql), ("redis", settings.redis_masters)):  # fmt: skip
        if wanted and find_spec(module) is None:
            python.append(module)
    found = Programs(
        python=sys.executable,
        java=java,
        zookeeper_jar=str(ZOOKEEPER_JAR),
        postgresql=str(releases[-1].parent) if releases else "",
        redis_server=program("redis-server", "redis-server", settings.redis_masters),
        redis_cli=program("redis-cli", "redis-tools", settings.redis_masters),
        haproxy=program("haproxy", "haproxy", settings.gateways),
    )
    mends = [f"apt-get install {' '.join(dict.fromkeys(debian))}"] if debian else []
    mends += ["pip install 'stook[cluster]'"] if python else []
    if mends:
        raise NotSupported(f"this cluster needs {', '.join(debian + python)}", hint=" and ".join(mends))
    return found


def not_root(settings: ClusterSettings, project: Path) -> tuple[str, tuple[str, ...]]:
    """Who runs PostgreSQL where this is root: one of Debian's users; or, where that user may not start our Python in the
    project, the command that runs a program in a namespace in which root has that user's number.

    Decided once a cluster, since its files then belong to them. Raises NotSupported.
    """
    if os.geteuid() != 0 or not settings.postgresql:
        return "", ()
    accounts = [account for account in pwd.getpwall() if account.pw_name in USERS]
    if not accounts:
        raise NotSupported(
            "PostgreSQL does not run as root, and there is no user postgres", hint="useradd --system postgres"
        )
    account = min(accounts, key=lambda account: USERS.index(account.pw_name))
    try_it = (sys.executable, "-c", f"import os; os.listdir({str(project)!r})")
    if _runs(try_it, user=account.pw_uid, group=account.pw_gid, extra_groups=[]):
        return account.pw_name, ()
    unshare = shutil.which("unshare", path=SEARCH) or ""
    as_other = (unshare, "--user", f"--map-user={account.pw_uid}", f"--map-group={account.pw_gid}")
    if unshare and _runs((*as_other, *try_it)):
        return "", as_other
    raise NotSupported(
        f"PostgreSQL does not run as root, and user {account.pw_name} may not start {sys.executable} in {project}",
        hint="move both where all users may read them, or run as another user",
    )


def _runs(command: tuple[str, ...], **account: Any) -> bool:
    """Whether it runs well. A machine too busy to tell raises EngineUnavailable: it is no answer."""
    try:
        done = subprocess.run(command, check=False, capture_output=True, timeout=RUN_WAIT_S, cwd="/", **account)  # noqa: S603
    except PermissionError:
        return False
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineUnavailable(f"{command[0]} cannot be tried: {error}", hint="repeat it") from None
    return done.returncode == 0


def check_path(project: Path) -> None:
    """Raises InvalidSettings where the project's path cannot be written into the servers' files as it is, or is longer than
    Linux and HAProxy take for a socket."""
    socket_path = project / FOLDER / "haproxy" / "s"
    if not _PLAIN.fullmatch(str(project)) or len(str(socket_path).encode()) > SOCKET_PATH_BYTES_MAX:
        raise InvalidSettings(
            f"a cluster cannot live in {project}",
            hint=f"a path of at most {SOCKET_PATH_BYTES_MAX - 24} letters, digits and _ . / + @ , -",
        )


def delete(folder: Path, say: Callable[[str], None]) -> None:
    """Deletes a cluster's folder: in one step out of the way, so that one that was half deleted is never taken for one that
    is there."""
    if not folder.exists():
        return
    aside = folder.with_name(f"{folder.name}.deleted.{os.getpid()}")
    folder.rename(aside)
    for left in folder.parent.glob(f"{folder.name}.deleted.*"):
        shutil.rmtree(left)
    say(f"{folder} deleted")


def surroundings_of(environ: Any) -> dict[str, str]:
    """What gateways inherit: everything, since `stook.toml` may name any of it."""
    return {name: value for name, value in environ.items() if name != "STOOK_WORK"}
