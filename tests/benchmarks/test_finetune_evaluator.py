"""`ssl-eval finetune`: a checkpoint, its random twin, and an evaluation that goes on after a kill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import ssl_core
from ssl_benchmarks.bootstrap import accuracy_interval
from ssl_benchmarks.cli import main
from ssl_benchmarks.finetune.evaluator import FinetuneEvaluator
from ssl_benchmarks.finetune.options import FinetuneOptions
from ssl_core.api import BuildContext, DataError, Registry, open_source

FEW = {"dataset.images": 60}
PRETRAINING = {
    "data.image_size": 32,
    "backbone.width": 32,
    "backbone.depth": 2,
    "backbone.heads": 2,
    "backbone.patch_size": 8,
    "backbone.drop_path": 0.3,
    "tokenizer.vocab_size": 8,
    "tokenizer.images": 40,
    "train.steps": 2,
    "runtime.device": "cpu",
    "runtime.precision": "fp32",
    "monitor.every_epochs": 0,
    **FEW,
}
SHORT = ["device=cpu", "precision=fp32", "steps=2", "batch_size=20"]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("pretrained") / "run"
    ssl_core.train("beit", out=out, settings=PRETRAINING)
    return out


@pytest.fixture
def run(pretrained, tmp_path) -> Path:
    import shutil

    return Path(shutil.copytree(pretrained, tmp_path / "run"))


def _evaluate(run, *more, capsys):
    code = main(["finetune", str(run), "--json", *SHORT, *more])
    out = capsys.readouterr()
    return code, json.loads(out.out), out.err


def test_a_number_beside_random_weights_and_the_majority(run, capsys):
    code, result, _ = _evaluate(run, "scratch=true", "layer_decay=0.8", "lr=0.01", "ema=0.9", capsys=capsys)
    assert code == 0
    assert set(result["metrics"]) == {"top1", "top1_ci", "top5", "loss"}
    assert set(result["baselines"]["random_init"]) == {"top1", "top1_ci", "top5", "loss"}
    assert result["baselines"]["majority"] == 10
    correct = round(result["metrics"]["top1"] / 100 * 20)
    assert result["metrics"]["top1_ci"] == list(accuracy_interval(correct, 20, 1000, 0))
    protocol = result["protocol"]
    assert protocol["train"]["images"] == 60
    assert protocol["test"] == {"split": "test", "images": 20}
    settings = protocol["settings"]
    assert settings["method"]["layer_decay"] == 0.8
    assert settings["optim"]["lr"] == 0.01
    assert settings["train"]["ema"] == 0.9
    assert "against random init" in result["notes"][0]
    assert {path.name for path in (run / "eval").iterdir()} == {"finetune-1", "finetune-1-scratch", "finetune-1.json"}
    assert "finetune on" in (run / "report.md").read_text()

    # What the checkpoint is, and not how it was regularised.
    config = yaml.safe_load((run / "eval" / "finetune-1" / "config.yaml").read_text())
    backbone = config["backbone"]
    assert (backbone["width"], backbone["patch_size"], backbone["drop_path"]) == (32, 8, 0.0)
    first = {name: _first_weights(run / "eval" / name) for name in ("finetune-1", "finetune-1-scratch")}
    trained = load_file(run / "export" / "backbone.safetensors")["blocks.1.mlp.fc1.weight"]
    assert torch.equal(first["finetune-1"]["backbone.blocks.1.mlp.fc1.weight"], trained)
    assert first["finetune-1-scratch"] is None


def _first_weights(run):
    """Returns what a run that began with given weights has saved at once."""
    file = run / "checkpoints" / "step-00000000" / "model.safetensors"
    return load_file(file) if file.is_file() else None


def test_the_same_command_goes_on_after_a_kill(run, capsys, monkeypatch):
    """A kill in the second run, from random weights: the first is not repeated, and the numbers are the same."""
    import ssl_benchmarks.finetune.evaluator as module

    whole = _evaluate(run, "scratch=true", capsys=capsys)[1]
    original = module.fine_tune

    def killed(path, request, component, settings, start, registry):
        if start is None:
            raise KeyboardInterrupt
        return original(path, request, component, settings, start, registry)

    monkeypatch.setattr(module, "fine_tune", killed)
    assert main(["finetune", str(run), *SHORT, "scratch=true"]) == 130
    log = run / "eval" / "finetune-2" / "train.log"
    before = log.read_text()
    monkeypatch.setattr(module, "fine_tune", original)
    assert main(["finetune", str(run), *SHORT, "scratch=true", "seed=1"]) == 0  # another request: a folder of its own
    assert (run / "eval" / "finetune-3-scratch").is_dir()
    capsys.readouterr()
    result = _evaluate(run, "scratch=true", capsys=capsys)[1]
    assert log.read_text().startswith(before)
    assert log.read_text().count("schedule") == 1
    assert result["protocol"]["runs"]["model"].endswith("finetune-2")
    assert (result["metrics"], result["baselines"]) == (whole["metrics"], whole["baselines"])


def test_a_run_that_was_stopped_is_resumed_by_either_command(run, capsys, monkeypatch):
    from ssl_core.runner.stopping import StopRequest

    whole = _evaluate(run, capsys=capsys)[1]
    with monkeypatch.context() as patched:
        patched.setattr(StopRequest, "__bool__", lambda own: True)
        code = main(["finetune", str(run), *SHORT])
    assert code == 75
    assert f"ssl-train --resume {run / 'eval' / 'finetune-2'}" in capsys.readouterr().err
    result = _evaluate(run, capsys=capsys)[1]
    assert result["protocol"]["runs"]["model"].endswith("finetune-2")
    assert result["metrics"] == whole["metrics"]


def test_few_labels_and_another_size(run, capsys):
    code, result, _ = _evaluate(run, "per_class=2", "image_size=48", "epochs=1", capsys=capsys)
    assert code == 2  # epochs and steps
    code, result, _ = _evaluate(run, "per_class=2", "image_size=48", capsys=capsys)
    assert code == 0
    assert result["protocol"]["train"]["images"] == 20
    assert result["protocol"]["image_size"] == 48
    config = yaml.safe_load((run / "eval" / "finetune-1" / "config.yaml").read_text())
    assert (config["data"]["per_class"], config["data"]["image_size"]) == (2, 48)


@pytest.mark.parametrize(
    ("protocol", "depth", "recipes", "lr"),
    [
        ("beit", 2, ["none"], 4e-3),
        ("mae", 2, ["mae"], 2e-3),
        ("mae", 24, ["mae-large"], 4e-3),
        ("beit", 24, ["large"], 1e-3),
    ],
)
def test_protocols_are_recipes_of_the_method(pretrained, protocol, depth, recipes, lr):
    from ssl_benchmarks.finetune.recipes import PROTOCOLS, RECIPES

    settings = next(recipe.settings for recipe in PROTOCOLS if recipe.name == protocol)
    backbone, data = ssl_core.load(pretrained), open_source(None, settings=FEW)
    found = FinetuneEvaluator(FinetuneOptions(**settings), BuildContext())._settings(backbone.spec, data.spec, depth)
    assert found["recipe"] == recipes[0]
    rates = {recipe.name: recipe.settings["optim.lr"] for recipe in RECIPES if "optim.lr" in recipe.settings}
    assert rates.get(recipes[0], 4e-3) == lr


@pytest.mark.parametrize("pair", [("epochs", "steps"), ("fraction", "per_class")])
def test_two_options_that_say_the_same_are_refused(run, capsys, pair):
    assert main(["finetune", str(run), *(f"{name}=1" for name in pair)]) == 2
    assert f"{' and '.join(pair)}: give only one of them" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "instead"), [("drop_path", "; write drop_path=VALUE"), ("pool", "would be lost\n")])
def test_a_backbone_option_that_would_be_lost_is_refused(run, capsys, name, instead):
    assert main(["finetune", str(run), f"backbone.{name}=cls"]) == 2
    error = capsys.readouterr().err
    assert f"backbone.{name}: finetune sets this by itself" in error
    assert instead in error


def test_nothing_is_kept_where_nothing_is_asked_for(pretrained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = FinetuneOptions(device="cpu", precision="fp32", steps=1, batch_size=20)
    evaluator = FinetuneEvaluator(options, BuildContext(registry=Registry.load()))
    result = evaluator.run(ssl_core.load(pretrained), open_source(None, settings=FEW), None)
    assert result["protocol"]["runs"] is None
    assert list(tmp_path.iterdir()) == []


def test_a_training_split_alone_cannot_be_scored(pretrained, tmp_path):
    import numpy as np
    from PIL import Image

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / name / "1.png")
    with pytest.raises(DataError, match=r"has a training split alone; put train/ and test/"):
        FinetuneEvaluator(FinetuneOptions(), BuildContext()).run(
            ssl_core.load(pretrained), open_source(str(tmp_path)), None
        )
    assert main(["finetune", str(pretrained), "--data", str(tmp_path)]) == 3
