"""Makes a distribution visible as an installation would, without pip: a `.dist-info` folder beside its code."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def visible(*folders: Path) -> Iterator[None]:
    """Installs the distributions in these folders for a while: each has a `pyproject.toml` beside its packages."""
    known = set(sys.modules)
    for folder in folders:
        _write_metadata(folder)
    paths = [str(folder) for folder in folders]
    sys.path[:0] = paths
    try:
        yield
    finally:
        sys.path[:] = [path for path in sys.path if path not in paths]
        for name in set(sys.modules) - known:
            if any(str(getattr(sys.modules[name], "__file__", None) or "").startswith(path) for path in paths):
                del sys.modules[name]


def _write_metadata(folder: Path) -> None:
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    points = [f"{key} = {target}" for key, target in project["entry-points"]["ssl_core"].items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[ssl_core]", *points, ""]))
