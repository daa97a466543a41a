"""`ssl-plugins new`: what it writes works as it is, for every kind."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from made_visible import visible

import ssl_benchmarks.cli
import ssl_core.cli.train
from ssl_core.api import Options
from ssl_core.cli.new_plugin import STARTS
from ssl_core.cli.plugins import main
from ssl_core.plugins.registry import Registry
from ssl_core.testing.check import bound_checks
from ssl_core.testing.conformance import Request

ROOT = Path(__file__).parents[2]
TINY = ["backbone.depth=1", "backbone.width=24", "backbone.heads=2", "train.steps=2", "train.batch_size=8"]
QUICK = [*TINY, "log.every=1", "data.workers=0", "runtime.device=cpu"]
BEIT = ["--method", "beit", "--backbone", "core:vit_tiny"]
TOKENS = ["--tokenizer", "kmeans", "tokenizer.vocab_size=4", "tokenizer.images=8", "tokenizer.iterations=1"]
USE = {
    "masker": [*BEIT, *TOKENS, "--masker", "my-part"],
    "tokenizer": [*BEIT, "--tokenizer", "my-part"],
    "target": [*BEIT, "--tokenizer", "my-part"],
    "head": [*BEIT, *TOKENS, "--head", "my-part"],
    "backbone": ["--method", "beit", *TOKENS, "--backbone", "my-part", "backbone.patch_size=4"],
    "method": ["--method", "my-part", "--backbone", "vit_tiny"],
    "transform": [*BEIT, *TOKENS, "--transform", "my-part"],
    "dataset": [*BEIT, *TOKENS, "--data", "my-part"],
    "evaluator": [*BEIT, *TOKENS],
}


@pytest.fixture
def made(request, tmp_path, capsys) -> Path:
    """Returns the folder of a new plugin `my-part` of the kind that the test is for."""
    folder = tmp_path / "my-part"
    assert main(["new", request.param, "my-part", "--out", str(folder)]) == 0
    capsys.readouterr()
    return folder


@pytest.mark.parametrize(("made", "kind"), [(kind, kind) for kind in STARTS], indirect=["made"])
def test_two_steps_with_the_new_part(made, kind, tmp_path, capsys):
    run = tmp_path / "run"
    images = ["dataset.images=24"]
    with visible(made):
        assert ssl_core.cli.train.main([*USE[kind], *QUICK, *images, "--out", str(run)]) == 0
        config = (run / "config.yaml").read_text()
        if kind != "evaluator":
            assert "name: my-part:my-part" in config
            return
        capsys.readouterr()
        assert ssl_benchmarks.cli.main(["my-part", str(run), "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert 0 <= result["metrics"]["accuracy"] <= 100
        assert 0 <= result["baselines"]["random_init"]["accuracy"] <= 100


@pytest.mark.slow
@pytest.mark.parametrize(("made", "kind"), [(kind, kind) for kind in STARTS], indirect=["made"])
def test_it_passes_the_conformance_checks_that_its_own_test_makes(made, kind):
    assert f'conformance("my-part:my-part", "{kind}")' in (made / "tests" / "test_my_part.py").read_text()
    with visible(made):
        verdicts = [check.run() for check in bound_checks(Request("my-part:my-part", kind))]
    assert [verdict.message for verdict in verdicts if verdict.state == "failed"] == []
    assert sum(verdict.state == "ok" for verdict in verdicts) > 5


@pytest.mark.parametrize(("made", "kind"), [(kind, kind) for kind in STARTS], indirect=["made"])
def test_it_is_listed_with_its_options(made, kind, capsys):
    with visible(made):
        match = Registry.load().find("my-part", kind)
        assert match.qualified == "my-part:my-part"
        assert match.component.summary == STARTS[kind].summary
        assert issubclass(match.component.options, Options)
        assert main(["doctor", "my-part"]) == 0
        assert main(["info", "my-part", "--json"]) == 0
    out = capsys.readouterr().out
    (part,) = json.loads(out[out.index("{") :])["components"]
    assert part["options"]
    assert all(option["help"] for option in part["options"])


@pytest.mark.parametrize(("made", "kind"), [(kind, kind) for kind in STARTS], indirect=["made"])
def test_the_code_keeps_the_house_rules(made, kind):
    config = ["--no-cache", "--config", str(ROOT / "pyproject.toml"), str(made)]
    for command in (["check"], ["format", "--check"]):
        result = subprocess.run([sys.executable, "-m", "ruff", *command, *config], capture_output=True, text=True)
        assert result.returncode == 0, result.stdout
    project = tomllib.loads((made / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["ssl_core"] == {"my-part": "my_part.plugin"}
    assert "$" not in "".join(path.read_text() for path in made.rglob("*.*"))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "give a kind and a name, as in `ssl-plugins new masker my-masks`. Kinds: masker, tokenizer, "),
        (["maskr", "mine"], "no kind 'maskr'. Did you mean 'masker'? Allowed: masker, "),
        (["masker", "mine", "--force"], "'--force' is not expected."),
        (["masker", "My Masks"], "'My Masks' cannot be the name of a package; take small letters"),
        (["masker", "class"], "'class' cannot be the name of a package"),
        (["masker", "beit"], "a plugin 'beit' is installed already; choose another name"),
        (["masker", "random"], "a module 'random' exists already; choose another name"),
        (["masker", "ssl-vision"], "a distribution 'ssl-vision' is installed, which pip would replace; choose another"),
        (["masker", "pillow"], "a distribution 'pillow' is installed, which pip would replace"),
        (["masker", "mask"], "the class would be called Mask, which the new part's code means something else by; "),
        (["backbone", "none"], "the class would be called None, which the new part's code"),
        (["masker", "block"], "a masker 'block' exists already; choose another name"),
        (["masker", "taken"], "taken exists already; remove it, or name another folder with --out"),
    ],
)
def test_what_cannot_be_made_is_one_line(arguments, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    assert main(["new", *arguments]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"error: ssl-plugins new: {line}")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_folder_with_a_space_is_quoted(tmp_path, capsys):
    assert main(["new", "masker", "my-part", "--safe", "--out", str(tmp_path / "my part"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["commands"][0] == f"pip install -e '{tmp_path}/my part'"


def test_it_says_what_to_do_next(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "evaluator", "my-score", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["out"] == "my-score"
    assert answer["commands"][:2] == ["pip install -e my-score", "ssl-plugins check my-score"]
    assert answer["commands"][2].endswith("ssl-eval my-score runs/new")
    assert {str(path.relative_to("my-score")) for path in Path("my-score").rglob("*.*")} == set(answer["files"])
    assert answer["commands"][2] in Path("my-score/README.md").read_text()
