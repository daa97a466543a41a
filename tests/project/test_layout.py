"""House rules that a tool would not notice."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("ssl_core", "plugins", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LONGEST = 500


def test_folders_that_are_no_packages_stay_none():
    # With an __init__.py they would be importable as `plugins` and `benchmarks`, and be packed as such.
    folders = [ROOT / "plugins", ROOT / "benchmarks", *(path for path in (ROOT / "plugins").iterdir() if path.is_dir())]
    assert [str(folder) for folder in folders if (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_short_enough_to_read_in_one_sitting(path):
    assert len(path.read_text().splitlines()) <= LONGEST


def test_no_module_is_a_drawer_for_everything():
    assert [str(path) for path in SOURCES if path.stem in ("utils", "util", "helpers", "common", "misc")] == []


def test_test_files_have_names_of_their_own():
    # Without packages in tests/, pytest cannot tell two files of one name apart.
    names = [path.name for path in TESTS if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))
    assert [str(path) for path in TESTS if path.name == "__init__.py"] == []
