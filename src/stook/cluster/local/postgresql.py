"""PostgreSQL under Patroni as nodes: each member's YAML, which is JSON too, and what is made in the first database.

It is a file of its own because only Patroni needs these words. The app takes its nodes. It must never touch a disk or a
network, nor choose asynchronous replication: what was acknowledged must be on two members.
"""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote

from stook.cluster.local.nodes import HOST, ClusterSettings, Node, Surroundings
from stook.core.ports.launcher import Work

KIND: Final = "postgresql"
SCOPE: Final = "records"
DATABASE: Final = "stook"
# A primary's machine that is lost is noticed after `ttl`; Patroni wants at least 20, and loop_wait + 2 * retry_timeout
# within it.
TTL_S: Final = 20
LOOP_WAIT_S: Final = 5
RETRY_TIMEOUT_S: Final = 5


def members(settings: ClusterSettings, around: Surroundings) -> list[Node]:
    """The nodes, `postgresql-1` and on: Patroni, which starts PostgreSQL."""
    return [_member(number, settings, around) for number in range(1, settings.postgresql + 1)]


def _member(number: int, settings: ClusterSettings, around: Surroundings) -> Node:
    name = f"postgresql-{number}"
    folder = around.folder / name
    configuration, prepare, statements = folder / "patroni.yml", folder / "prepare", folder / "prepare.sql"
    environment = {
        "PATH": f"{around.programs.postgresql}:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    }
    command = (*around.programs.as_other, around.programs.python, "-m", "patroni", str(configuration))
    psql = f"{around.programs.postgresql}/psql"
    password = around.secrets["records"].replace("'", "''")
    return Node(
        KIND,
        Work(name, command, str(folder), environment, around.programs.user),
        around.ports[f"patroni-{number}"],
        files={
            configuration: json.dumps(_configuration(number, settings, around), indent=1) + "\n",
            prepare: f'#!/bin/sh\nexec {psql} -v ON_ERROR_STOP=1 -q -f {statements} "$1"\n',
            statements: (
                f"CREATE ROLE {DATABASE} LOGIN PASSWORD '{password}';\n"
                f"CREATE DATABASE {DATABASE} OWNER {DATABASE} ENCODING 'UTF8' TEMPLATE template0;\n"
            ),
        },
        folders=(folder,),
    )


def _configuration(number: int, settings: ClusterSettings, around: Surroundings) -> dict[str, Any]:
    folder = around.folder / f"postgresql-{number}"
    hosts = [around.address(f"zookeeper-{n}") for n in range(1, settings.zookeeper + 1)]
    everywhere = {
        "wal_level": "replica", "hot_standby": "on", "max_connections": 60, "shared_buffers": "32MB",
        "max_wal_senders": 8, "max_replication_slots": 8, "wal_keep_size": "128MB", "max_wal_size": "256MB",
        "wal_log_hints": "on", "password_encryption": "scram-sha-256",
    }  # fmt: skip
    return {
        "scope": SCOPE,
        "namespace": "/service/",
        "name": f"postgresql-{number}",
        "restapi": {
            "listen": around.address(f"patroni-{number}"),
            "connect_address": around.address(f"patroni-{number}"),
        },
        "zookeeper": {"hosts": hosts},
        "bootstrap": {
            "dcs": {
                "ttl": TTL_S,
                "loop_wait": LOOP_WAIT_S,
                "retry_timeout": RETRY_TIMEOUT_S,
                "maximum_lag_on_failover": 1 << 20,
                "synchronous_mode": settings.postgresql > 1,
                "postgresql": {"use_pg_rewind": True, "use_slots": True, "parameters": everywhere},
            },
            "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, "data-checksums"],
            "post_bootstrap": f"/bin/sh {folder / 'prepare'}",
        },
        "postgresql": {
            "listen": around.address(f"postgresql-{number}"),
            "connect_address": around.address(f"postgresql-{number}"),
            "data_dir": str(folder / "data"),
            "bin_dir": around.programs.postgresql,
            "pgpass": str(folder / "pgpass"),
            "basebackup": [{"checkpoint": "fast"}],  # a spread one takes a minute and a half
            "authentication": {
                "superuser": {"username": "postgres", "password": around.secrets["postgres"]},
                "replication": {"username": "replicator", "password": around.secrets["replicator"]},
                "rewind": {"username": "rewinder", "password": around.secrets["rewinder"]},
            },
            "parameters": {"unix_socket_directories": "", "logging_collector": "off"},
            "pg_hba": [
                f"host replication replicator {HOST}/32 scram-sha-256",
                f"host all all {HOST}/32 scram-sha-256",
            ],
        },
    }


def url(settings: ClusterSettings, around: Surroundings) -> str:
    """What `engines.records` says of these members: all of them, whichever is primary."""
    hosts = ",".join(around.address(f"postgresql-{number}") for number in range(1, settings.postgresql + 1))
    return f"postgresql://{DATABASE}:{quote(around.secrets['records'], safe='')}@{hosts}/{DATABASE}"
