"""What importing costs: `import stook` defines names and loads nothing heavy (docs/design.md, "Budgets")."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAVY = (
    "numpy",
    "pyarrow",
    "sqlite3",
    "duckdb",
    "deltalake",
    "lmdb",
    "kazoo",
    "granian",
    "starlette",
    "click",
    "rich",
    "msgspec",
    "sqlalchemy",
    "alembic",
    "psycopg",
    "redis",
    "hiredis",
)


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_stook_loads_nothing_heavy() -> None:
    loaded = loaded_by("import stook")
    assert "stook.core.definitions" in loaded
    assert not {name for name in loaded if name.partition(".")[0] in HEAVY}
    assert not {name for name in loaded if name.startswith(("stook.backends", "stook.app", "stook.edge"))}


def test_help_loads_no_engine() -> None:
    loaded = loaded_by("import stook.edge.cli.main")
    assert not {name for name in loaded if name.partition(".")[0] in set(HEAVY) - {"click"}}


def test_the_embedded_records_load_no_sql_toolkit() -> None:
    """A project that does not name PostgreSQL pays nothing for it, even where it is installed."""
    opened = "import stook, tempfile, pathlib; root = pathlib.Path(tempfile.mkdtemp())"
    wrote = "(root / 'stook.toml').write_text('[project]\\nname = \"p\"\\n')"
    loaded = loaded_by(f"{opened}; {wrote}; p = stook.open(root); p.list('feature-view'); p.close()")
    assert "stook.backends.sqlite.records" in loaded
    assert not {name for name in loaded if name.partition(".")[0] in {"sqlalchemy", "alembic", "psycopg"}}
    assert not {name for name in loaded if name.startswith("stook.backends.sql.")}


def test_records_on_postgresql_load_alembic_only_to_migrate() -> None:
    loaded = loaded_by("import stook.backends.sql.records")
    assert "sqlalchemy" in loaded
    assert "alembic" not in loaded


def test_a_project_loads_the_engine_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "stook.toml").write_text('[project]\nname = "p"\n')
    online = f"Wiring(load_settings({str(tmp_path)!r})).online"
    loaded = loaded_by(f"from stook.app.wiring import Wiring; from stook.core.settings import load_settings; {online}")
    assert "lmdb" in loaded
    assert not loaded & {"redis", "hiredis", "stook.backends.redis"}


def test_every_public_name_is_there() -> None:
    import stook

    for name in stook.__all__:
        assert getattr(stook, name) is not None
    assert len(set(stook.__all__)) == len(stook.__all__)
