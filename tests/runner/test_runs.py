"""Every method, those that the engine has never heard of among them, trains, exports and resumes."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from toy_runs import SMALL_CLASSIFIER, SMALL_DINO, SMALL_MAE, SMALL_SIMMIM, SMALL_VQKD, losses, toy_registry, train

import ssl_core
from ssl_core.contracts.hooks import TrainingHook
from ssl_core.errors import CheckpointError, DataError, Interrupted, UsageError
from ssl_core.training import resume

SMALL_BEIT = {
    "backbone__width": 32,
    "backbone__depth": 2,
    "backbone__heads": 2,
    "backbone__patch_size": 8,
    "backbone__drop_path": 0.1,
    "optim__warmup_steps": 2,
}
SMALL_BEITV2 = {
    **SMALL_BEIT,
    **{name: value for name, value in SMALL_VQKD.items() if name.startswith("tokenizer__")},
}
METHODS = {
    "toy-mae": {},
    "toy-dino": {},
    "beit": {**SMALL_BEIT, "tokenizer__vocab_size": 8, "tokenizer__images": 40},
    "beit pixel": SMALL_BEIT,
    "beit hog": SMALL_BEIT,
    "beitv2": SMALL_BEITV2,
    "dvae": {"tokenizer__vocab_size": 8, "tokenizer__hidden": 8, "tokenizer__blocks": 1, "optim__warmup_steps": 2},
    "finetune": {
        **SMALL_CLASSIFIER,
        "backbone__drop_path": 0.1,
        "transform__policy": "rand-m9-mstd0.5-inc1",
        "method__mixup": 0.8,
        "method__cutmix": 1.0,
        "method__erasing": 0.25,
    },
    "supervised": {**SMALL_CLASSIFIER, "method__mixup": 0.8, "method__cutmix": 1.0},
    "vqkd": SMALL_VQKD,
    "dino": {**SMALL_DINO, "backbone__drop_path": 0.1},
    "mae": SMALL_MAE,
    "simmim": SMALL_SIMMIM,
}
"""Name, perhaps with that of a target -> options that make it small."""


@pytest.fixture(scope="module")
def registry():
    return toy_registry()


@pytest.mark.parametrize("method", METHODS)
def test_a_run_leaves_what_it_promises(method, registry, tmp_path):
    result = train(method, tmp_path / "run", registry, train__checkpoint_every=2, **METHODS[method])
    assert result["step"] == 6
    assert result["images_seen"] == 48
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {
        "config.yaml",
        "env.json",
        "status.json",
        "train.log",
        "metrics.jsonl",
        "checkpoints",
        "export",
        "report.md",
    } <= names
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "finished"
    assert len(losses(tmp_path / "run")) == 6
    assert [path.name for path in sorted((tmp_path / "run" / "checkpoints").iterdir())] == [
        "step-00000004",
        "step-00000006",
    ]
    assert (tmp_path / "run" / "export").is_dir()


@pytest.mark.parametrize("method", ["toy-mae", "toy-dino", "beit", "dino"])
def test_a_trained_backbone_is_one_call_away(method, registry, tmp_path):
    train(method, tmp_path / "run", registry, **METHODS[method])
    backbone = ssl_core.load(tmp_path / "run", registry)
    features = backbone(torch.rand(2, 3, 32, 32))
    assert features.patches.shape == (2, 16, backbone.width)
    assert backbone.spec.data == "core:textures"
    assert backbone.spec.image_size == 32


class StopAt(TrainingHook):
    def __init__(self, step):
        self.step = step

    def after_step(self, method, progress):
        import os
        import signal

        if progress.step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_run_ends_as_if_nothing_had_happened(method, registry, tmp_path):
    options = {"train__ema": 0.9, **METHODS[method]}
    train(method, tmp_path / "whole", registry, **options)
    with pytest.raises(Interrupted, match=r"stopped by SIGTERM at step 3.*ssl-train --resume"):
        train(method, tmp_path / "cut", registry, **options, hooks=[StopAt(3)])
    status = json.loads((tmp_path / "cut" / "status.json").read_text())
    assert (status["state"], status["exit_code"]) == ("stopped", 75)
    result = resume(tmp_path / "cut", registry)
    assert result["step"] == 6
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    for name in ("model.safetensors", "average.safetensors"):
        one, two = (load_file(tmp_path / run / "checkpoints" / "step-00000006" / name) for run in ("whole", "cut"))
        assert all(torch.equal(one[key], two[key]) for key in one)
    events = [json.loads(line) for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert {"event": "resume", "step": 3} in events


def test_accumulation_changes_nothing_but_rounding(registry, tmp_path):
    train("toy-mae", tmp_path / "one", registry)
    train("toy-mae", tmp_path / "four", registry, train__micro_batch_size=2)
    assert losses(tmp_path / "four") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)


def test_two_runs_with_one_seed_agree_bit_for_bit(registry, tmp_path):
    for name in ("a", "b"):
        train("toy-dino", tmp_path / name, registry)
    one, two = (load_file(tmp_path / name / "export" / "backbone.safetensors") for name in ("a", "b"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_resuming_a_finished_run_says_so(registry, tmp_path, capsys):
    train("toy-dino", tmp_path / "run", registry)
    assert resume(tmp_path / "run", registry)["finished_before"]
    assert "finished already" in capsys.readouterr().out


def test_a_folder_in_use_is_not_touched(registry, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"already in use.*--resume.*--overwrite"):
        train("toy-dino", tmp_path, registry)
    with pytest.raises(UsageError, match="will not delete"):
        train("toy-dino", tmp_path, registry, overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


def test_resuming_what_is_no_run(registry, tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        resume(tmp_path / "nothing", registry)
    with pytest.raises(CheckpointError, match="not a run folder"):
        resume(tmp_path, registry)


def test_weights_of_an_earlier_run_are_a_start(registry, tmp_path):
    train("toy-mae", tmp_path / "first", registry)
    settings = {
        "data.image_size": 32,
        "dataset.images": 40,
        "train.steps": 1,
        "optim.warmup_steps": 1,
        "train.batch_size": 8,
    }
    out = tmp_path / "second"
    ssl_core.train("toy-dino", out=out, settings=settings, init_from=tmp_path / "first", registry=registry)
    one, two = (load_file(tmp_path / name / "export" / "backbone.safetensors") for name in ("first", "second"))
    assert all(torch.allclose(one[key], two[key], atol=1e-6) for key in one)  # the only update has learning rate 0


def test_a_batch_larger_than_the_data_is_refused(registry, tmp_path):
    with pytest.raises(DataError, match=r"train.batch_size"):
        train("toy-dino", tmp_path / "run", registry, train__batch_size=64)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_compiled_blocks_train_like_plain_ones(registry, tmp_path):
    train("beit", tmp_path / "plain", registry, **METHODS["beit"])
    train("beit", tmp_path / "compiled", registry, runtime__compile=True, **METHODS["beit"])
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), rel=1e-3)
    assert ssl_core.load(tmp_path / "compiled", registry).width == 32
