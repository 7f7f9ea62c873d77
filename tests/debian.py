"""Servers from Debian's packages: where their programs are, or a skip that says what is missing.

It is a file of its own because contract, end-to-end and cluster tests start the same ones. It must never start one, nor
skip without naming the package.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ZOOKEEPER_JAR = Path("/usr/share/java/zookeeper.jar")


def program(name: str, package: str) -> str:
    """The program's path; skips the test where it is not installed."""
    found = shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        pytest.skip(f"{name} is missing: apt-get install {package}")
    return found


def redis_server() -> str:
    return program("redis-server", "redis-server")


def haproxy() -> str:
    return program("haproxy", "haproxy")


def zookeeper() -> tuple[str, Path]:
    """Java, and ZooKeeper's jar, whose manifest names all others."""
    java = program("java", "default-jre-headless")
    if not ZOOKEEPER_JAR.exists():
        pytest.skip(f"{ZOOKEEPER_JAR} is missing: apt-get install zookeeper")
    return java, ZOOKEEPER_JAR


def postgresql() -> Path:
    """The folder of the newest PostgreSQL's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if not found:
        pytest.skip("initdb is missing: apt-get install postgresql-15")
    return found[-1].parent


def everything() -> None:
    """Skips the test unless all servers are installed."""
    redis_server()
    haproxy()
    zookeeper()
    postgresql()
