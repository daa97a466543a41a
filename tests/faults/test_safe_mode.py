"""Safe mode: a foreign plugin, which is installed and would make a marker file on import, is not imported."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from ssl_benchmarks.bench_cli import main as ssl_bench
from ssl_benchmarks.cli import main as ssl_eval
from ssl_core.cli.plugins import main as ssl_plugins
from ssl_core.cli.train import main as ssl_train
from ssl_core.errors import PluginError, UsageError
from ssl_core.plugins.loader import DISTRIBUTION
from ssl_core.plugins.registry import Registry
from ssl_tokenizers.cli import main as ssl_tokenizer

ROOT = Path(__file__).parents[2]
SMALL = ["--data", "textures", "--backbone", "vit_tiny", "train.steps=1", "train.batch_size=4", "dataset.images=20"]
SMALL += ["dataset.size=16", "backbone.depth=1", "log.pictures_every=0", "runtime.precision=fp32"]
TRAIN = ["--method", "beit", "--tokenizer", "pixel", *SMALL]


@pytest.fixture(params=["beit", "zzz"])
def marker(request, tmp_path, monkeypatch):
    """Installs a plugin of another distribution, once with a name that we use; returns the file it makes on import."""
    site, marker = tmp_path / "site", tmp_path / "imported"
    information = site / "aaa_foreign-1.0.dist-info"
    information.mkdir(parents=True)
    (site / "aaa_foreign.py").write_text(f"open({str(marker)!r}, 'w')\n")
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: aaa-foreign\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[ssl_core]\n{request.param} = aaa_foreign\nanother = aaa_foreign\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.delenv("SSL_SAFE", raising=False)
    yield marker
    sys.modules.pop("aaa_foreign", None)


def test_the_plugin_is_imported_otherwise(marker):
    registry = Registry.load()
    assert marker.exists()
    assert registry.find("beit", "method").plugin.distribution.startswith(DISTRIBUTION), "nobody takes our names"


def test_only_our_plugins_are_loaded(marker):
    registry = Registry.load(safe=True)
    assert not marker.exists()
    assert {plugin.name for plugin in registry.plugins if plugin.state == "ok"} >= {"core", "beit", "benchmarks"}
    with pytest.raises(PluginError, match=r"'another' \(aaa-foreign 1\.0\) is disabled: safe mode loads only"):
        registry.find("another:part")


@pytest.mark.parametrize(("value", "safe"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_the_environment_asks_for_it(marker, monkeypatch, value, safe):
    monkeypatch.setenv("SSL_SAFE", value)
    Registry.load()
    assert marker.exists() != safe


def test_a_run_and_its_evaluation_import_nothing_foreign(marker, tmp_path, capsys):
    out = tmp_path / "run"
    assert ssl_train([*TRAIN, "--safe", "--out", str(out)]) == 0, capsys.readouterr().err
    assert ssl_train(["--resume", str(out), "--safe"]) == 0
    assert ssl_eval(["knn", str(out), "--safe"]) == 0, capsys.readouterr().err
    assert not marker.exists()


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (ssl_train, [*TRAIN, "--print-config"]),
        (ssl_train, ["--method", "beit", "--help"]),
        (ssl_eval, ["knn", "--help"]),
        (ssl_plugins, ["list"]),
        (ssl_plugins, ["info", "beit"]),
        (ssl_tokenizer, ["report", "nowhere"]),
        (ssl_bench, ["compare", "methods", "--no-gpu", "--out", "/dev/null/out"]),
    ],
)
def test_every_command_has_it(marker, command, arguments, capsys):
    command([*arguments, "--safe"])
    assert not marker.exists()
    assert "unknown flag" not in capsys.readouterr().err
    command(arguments)
    assert marker.exists(), "this command loads no plugins at all, and the test says nothing"


def test_single_files_are_refused(marker, tmp_path, capsys):
    file, touched = tmp_path / "mine.py", tmp_path / "touched"
    file.write_text(f"open({str(touched)!r}, 'w')\n")
    with pytest.raises(UsageError, match=r"--plugin .*mine\.py: safe mode runs no code from files"):
        Registry.load(files=[file], safe=True)
    assert ssl_plugins(["list", "--safe", "--plugin", str(file)]) == 2
    assert not touched.exists()


def test_our_distribution_is_called_so():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"] == DISTRIBUTION
