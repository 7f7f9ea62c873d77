"""What `stook-client` holds: the core, the client and nothing else of the tree that `stook` is built from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

PARTS = ("__init__.py", "_version.py", "py.typed", "core", "client")


def package(root: str) -> Path:
    """The package's source: beside this file in an sdist, two folders up in the repository."""
    here = Path(root)
    return next(found for found in (here / "src" / "stook", here.parents[1] / "src" / "stook") if found.is_dir())


class Version(MetadataHookInterface):
    """The version is the tree's."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Reads it without importing anything."""
        text = (package(self.root) / "_version.py").read_text(encoding="utf-8")
        found = re.search(r'__version__ = "(.+)"', text)
        assert found is not None
        metadata["version"] = found[1]


class Parts(BuildHookInterface[Any]):
    """The modules of the client."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Names each part's place in the archive."""
        source = package(self.root)
        folder = "src/stook" if self.target_name == "sdist" else "stook"
        build_data["force_include"] |= {str(source / part): f"{folder}/{part}" for part in PARTS}
