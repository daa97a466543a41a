"""The wheel holds the ssl_* packages and nothing else: a generic folder name would land in site-packages."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"ssl_core", "ssl_benchmarks", *(path.name for path in (ROOT / "plugins").glob("*/ssl_*"))}


@pytest.fixture(scope="module")
def names(tmp_path_factory) -> list[str]:
    from hatchling.builders.wheel import WheelBuilder

    target = tmp_path_factory.mktemp("wheel")
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(target), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_top_level_names_are_the_packages(names):
    top = {name.partition("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == PACKAGES


def test_every_module_is_packed(names):
    for folder in (ROOT / "ssl_core", *(ROOT / "plugins").glob("*/ssl_*"), ROOT / "benchmarks" / "ssl_benchmarks"):
        for module in folder.rglob("*.py"):
            assert module.relative_to(folder.parent).as_posix() in names


def test_the_templates_of_new_plugins_are_packed(names):
    templates = sorted((ROOT / "ssl_core" / "templates").rglob("*.tmpl"))
    assert templates
    assert [str(path) for path in templates if path.relative_to(ROOT).as_posix() not in names] == []


def test_type_marker_and_entry_points_are_packed(names):
    assert "ssl_core/py.typed" in names
    assert any(name.endswith(".dist-info/entry_points.txt") for name in names)
