"""`stook.toml`: parsed once, and a wrong setting names the field and its bounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from stook.core.errors import InvalidSettings, NotAProject
from stook.core.settings import load_settings


def load(folder: Path, text: str, environ: dict[str, str] | None = None) -> object:
    (folder / "stook.toml").write_text(text)
    return load_settings(folder, environ or {})


def test_defaults_are_the_embedded_platform(tmp_path: Path) -> None:
    (tmp_path / "stook.toml").write_text('[project]\nname = "p"\n')
    settings = load_settings(tmp_path, {})
    assert settings.definitions == ("features.py",)
    assert settings.engines.online.path == tmp_path.resolve() / ".stook" / "online"
    assert (settings.serve.host, settings.serve.port, settings.limits.future_tolerance_ms) == ("127.0.0.1", 6566, 5_000)


def test_the_environment_is_read_in_this_file_only(tmp_path: Path) -> None:
    text = '[project]\nname = "p"\n[serve]\ntoken = "${TOKEN:-none}-${OTHER}"\n'
    (tmp_path / "stook.toml").write_text(text)
    assert load_settings(tmp_path, {"OTHER": "b"}).serve.token == "none-b"
    assert load_settings(tmp_path, {"TOKEN": "a", "OTHER": "b"}).serve.token == "a-b"


def test_four_slashes_are_absolute(tmp_path: Path) -> None:
    text = '[project]\nname = "p"\n[engines]\nonline = "lmdb:////srv/online?map_gib=2"\n'
    (tmp_path / "stook.toml").write_text(text)
    url = load_settings(tmp_path, {}).engines.online
    assert (url.path, url.option("map_gib", "1024"), url.option("x", "y")) == (Path("/srv/online"), "2", "y")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "project.name"),
        ('[project]\nname = "a b"\n', "project.name"),
        ('[project]\nname = "p"\nnmae = 1\n', "did you mean 'name'"),
        ('[project]\nname = "p"\n[serv]\n', "did you mean 'serve'"),
        ('[project]\nname = "p"\n[serve]\nport = "x"\n', "serve.port is 'x'"),
        ('[project]\nname = "p"\n[serve]\nport = -1\n', "0 to 65535"),
        ('[project]\nname = "p"\n[serve]\nport = true\n', "serve.port is True"),
        ('[project]\nname = "p"\n[engines]\nonline = "lmdb"\n', "is 'lmdb', not a URL"),
        ('[project]\nname = "p"\n[engines]\nonline = "lmdb:x"\n', "use three slashes"),
        ('[project]\nname = "p"\ndefinitions = "f.py"\n', "project.definitions"),
        ('[project]\nname = "p"\n[serve]\ntoken = "${GONE}"\n', "the environment has no GONE"),
        ("project = 3\n", "not a section"),
        ("[project", "stook.toml"),
    ],
)
def test_a_wrong_setting_refuses_to_start(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        load(tmp_path, text)
    assert says in str(caught.value)
    assert "stook.toml" in str(caught.value)


def test_a_folder_that_is_no_project(tmp_path: Path) -> None:
    with pytest.raises(NotAProject, match="stook init"):
        load_settings(tmp_path)
