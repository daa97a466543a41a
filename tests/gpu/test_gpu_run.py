"""Whole runs on a GPU: two of them agree bit for bit where that is asked for, also when one was interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy_runs import StopAt, losses, toy_registry, train

from ssl_core.api import resume
from ssl_core.errors import Interrupted

SMALL = {
    "backbone__width": 32,
    "backbone__depth": 2,
    "backbone__heads": 2,
    "backbone__patch_size": 8,
    "backbone__drop_path": 0.1,
    "optim__warmup_steps": 2,
    "runtime__device": "cuda",
    "runtime__deterministic": True,
}
KMEANS = {"tokenizer__vocab_size": 8, "tokenizer__images": 40}


def same_weights(one: Path, other: Path) -> bool:
    states = [load_file(run / "checkpoints" / "step-00000006" / "model.safetensors") for run in (one, other)]
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize(("method", "more"), [("beit", KMEANS), ("beit pixel", {})])
def test_interrupted_equals_uninterrupted(method, more, precision, tmp_path):
    options = {**SMALL, **more, "runtime__precision": precision}
    train(method, tmp_path / "whole", **options)
    with pytest.raises(Interrupted):
        train(method, tmp_path / "cut", **options, hooks=[StopAt(3)])
    assert resume(tmp_path / "cut", toy_registry())["step"] == 6
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert same_weights(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.parametrize("compiled", [False, True])
def test_two_runs_with_one_seed_are_one(compiled, tmp_path):
    for name in ("a", "b"):
        train("beit pixel", tmp_path / name, **SMALL, runtime__compile=compiled)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert same_weights(tmp_path / "a", tmp_path / "b")
