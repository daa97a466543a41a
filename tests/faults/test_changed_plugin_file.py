"""A run that has a part of a single file goes on with that file, and with no other one."""

from __future__ import annotations

import hashlib
import json
import sys

import pytest
from stop_at import StopAt
from toy_runs import TOYS

from ssl_core.cli.train import main
from ssl_core.errors import Interrupted
from ssl_core.plugins.registry import Registry
from ssl_core.training import train

MASKER = """
import numpy as np

from ssl_core.api import Component, Mask, Masker, hookimpl


class First(Masker):
    def __init__(self, options, context):
        pass

    def max_hidden(self, grid):
        return grid[0] * grid[1] - 1

    def sample(self, grid, rng, batch_rng):
        hidden = np.ones((1, *grid), bool)
        hidden.flat[rng.randrange(grid[0] * grid[1])] = False
        return Mask(hidden)


@hookimpl
def register_maskers():
    return [Component("masker", "all_but_one", "For tests", "own_masker:First")]
"""
WATCHER = """
from ssl_core.api import hookimpl


@hookimpl
def run_started(out, config):
    pass
"""
TOY = TOYS / "toy_mae.py"


@pytest.fixture
def files(tmp_path):
    """Returns the files of a masker and of a plugin without parts, and forgets them again."""
    masker, watcher = tmp_path / "own_masker.py", tmp_path / "own_watcher.py"
    masker.write_text(MASKER)
    watcher.write_text(WATCHER)
    yield masker, watcher
    for name in ("own_masker", "own_watcher", "toy_mae"):
        sys.modules.pop(name, None)


@pytest.fixture
def stopped(files, tmp_path):
    """A run that was stopped after 1 of 2 updates."""
    settings = {
        "train.steps": 2,
        "train.batch_size": 8,
        "dataset.images": 24,
        "data.workers": 0,
        "masker": "own_masker:all_but_one",
    }
    settings |= {"runtime.device": "cpu"}
    registry = Registry.load(files=[TOY, *files])
    with pytest.raises(Interrupted):
        train("toy-mae", out=tmp_path / "run", settings=settings, registry=registry, hooks=[StopAt(1)])
    return tmp_path / "run"


def resume(run, *files, flags=()) -> int:
    for file in files:
        sys.modules.pop(file.stem, None)
    return main(["--resume", str(run), *flags, *(word for file in files for word in ("--plugin", str(file)))])


def test_the_sum_is_kept(stopped, files):
    plugins = {plugin["name"]: plugin for plugin in json.loads((stopped / "env.json").read_text())["plugins"]}
    for file in files:
        assert plugins[file.stem]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_sum_is_in_each_checkpoint(stopped, files):
    (manifest,) = (json.loads(path.read_text()) for path in stopped.glob("checkpoints/step-*/manifest.json"))
    expected = {file.stem: hashlib.sha256(file.read_bytes()).hexdigest() for file in (TOY, *files)}
    assert manifest["plugin_files"] == expected


def test_the_same_file_elsewhere_is_no_change(stopped, files, tmp_path, capsys):
    moved = tmp_path / "moved" / files[0].name
    moved.parent.mkdir()
    moved.write_bytes(files[0].read_bytes())
    assert resume(stopped, TOY, moved) == 0
    assert "changed" not in capsys.readouterr().out


def test_another_file_is_refused_and_can_be_forced(stopped, files, capsys):
    before = hashlib.sha256(files[0].read_bytes()).hexdigest()[:12]
    files[0].write_text(MASKER + "# a change\n")
    after = hashlib.sha256(files[0].read_bytes()).hexdigest()[:12]
    assert resume(stopped, TOY, *files) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"error: --resume {stopped}: {files[0]}: sha256 {before} -> sha256 {after}"
    assert said[1].startswith("hint: this changes what is computed. --force")
    assert len(said) == 2
    assert resume(stopped, TOY, *files, flags=["--force"]) == 0
    assert f"changed   {files[0]}: sha256 {before} -> sha256 {after}" in capsys.readouterr().out


def test_a_file_without_a_part_of_the_run_may_change(stopped, files):
    files[1].write_text(WATCHER + "# a change\n")
    assert resume(stopped, TOY, *files) == 0


def test_a_missing_file_is_named(stopped, files, capsys):
    assert resume(stopped, TOY) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: masker 'own_masker:all_but_one' comes from a single file: add --plugin {files[0]}"
    ]
