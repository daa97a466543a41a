"""Other people's distributions, made visible to the real commands: a good one, and three that are in its way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from made_visible import visible

import ssl_benchmarks.cli
import ssl_core.cli.train
from ssl_core.cli.plugins import main
from ssl_core.plugins.component import API_VERSION

SAMPLES = Path(__file__).parents[1] / "samples"
RUN = ["--method", "beit", "--backbone", "vit_tiny", "--tokenizer", "kmeans", "tokenizer.vocab_size=4"]
TINY = ["tokenizer.images=8", "tokenizer.iterations=1", "backbone.depth=1", "backbone.width=24", "backbone.heads=2"]
SHORT = ["train.batch_size=8", "dataset.images=24", "data.workers=0", "runtime.device=cpu"]


@pytest.fixture
def install(tmp_path):
    """Returns a context in which the samples of these names are installed."""

    def installed(*names: str):
        for name in names:
            shutil.copytree(SAMPLES / name, tmp_path / name)
        return visible(*(tmp_path / name for name in names))

    return installed


def train(*arguments: str) -> int:
    return ssl_core.cli.train.main([*arguments, *RUN, *TINY, *SHORT])


def test_a_good_one_is_used_by_name_in_every_command(install, tmp_path, capsys):
    run = str(tmp_path / "run")
    others = ("broken", "conflicting", "incompatible")  # they hurt nobody who does not ask for them
    with install("good", *others):
        assert train("--masker", "sample-good:stripes", "masker.direction=rows", "train.steps=1", "--out", run) == 0
        assert "name: sample-good:stripes" in (tmp_path / "run/config.yaml").read_text()
        assert ssl_core.cli.train.main(["--resume", run, "train.steps=2", "--force"]) == 0
        assert json.loads((tmp_path / "run/status.json").read_text())["step"] == 2
        capsys.readouterr()
        assert ssl_benchmarks.cli.main(["spread", run, "images=4", "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert result["metrics"]["spread"] > 0
        assert result["protocol"]["images"] == 4
        plugins = json.loads((tmp_path / "run/env.json").read_text())["plugins"]
        assert {plugin["distribution"] for plugin in plugins if plugin["name"] == "sample-good"} == {
            "ssl-sample-good 1.2"
        }
    assert ssl_core.cli.train.main(["--resume", run, "train.steps=3", "--force"]) == 2
    assert "unknown masker 'sample-good:stripes'" in capsys.readouterr().err


def test_the_list_says_what_is_wrong_with_each(install, capsys):
    with install("good", "broken", "conflicting", "incompatible"):
        assert main(["list", "--json"]) == 0
    plugins = {plugin["name"]: plugin for plugin in json.loads(capsys.readouterr().out)["plugins"]}
    found = {name.removeprefix("sample-"): plugin for name, plugin in plugins.items() if name.startswith("sample-")}
    assert {name: plugin["state"] for name, plugin in found.items()} == {
        "good": "ok",
        "broken": "broken",
        "conflicting": "ok",
        "incompatible": "incompatible",
    }
    assert "No module named 'a_package_that_nobody_has'" in found["broken"]["reason"]
    assert "ssl_sample_broken.py:3" in found["broken"]["reason"]
    assert f"api version {API_VERSION + 1}, this is version {API_VERSION}" in found["incompatible"]["reason"]
    assert (found["good"]["distribution"], found["good"]["version"]) == ("ssl-sample-good", "1.2")
    assert found["good"]["components"] == {"masker": ["stripes"], "evaluator": ["spread"]}


@pytest.mark.parametrize(
    ("masker", "line"),
    [
        ("stripes", "masker 'stripes' is ambiguous: sample-conflicting:stripes, sample-good:stripes. Write one of "),
        (
            "sample-broken:any",
            "masker 'sample-broken:any': the plugin 'sample-broken' (ssl-sample-broken 0.3) is broken",
        ),
        (
            "sample-incompatible:future",
            "masker 'sample-incompatible:future': the plugin 'sample-incompatible' (ssl-sample-incompatible 9.0) is "
            "incompatible: 'future' was written for api version",
        ),
    ],
)
def test_whoever_asks_for_a_bad_one_is_told_in_one_line(install, masker, line, tmp_path, capsys):
    with install("good", "broken", "conflicting", "incompatible"):
        assert train("--masker", masker, "train.steps=1", "--out", str(tmp_path / "run")) == 2
    said = [text for text in capsys.readouterr().err.splitlines() if text.startswith("error: ")]
    assert len(said) == 1
    assert said[0].startswith(f"error: {line}")
    assert not (tmp_path / "run").exists()
