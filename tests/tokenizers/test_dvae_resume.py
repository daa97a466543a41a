"""A dVAE that goes on, or begins with what another run learnt, keeps its codebook."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import ssl_core
from ssl_core.api import Batch, BuildContext, Progress, Registry, TrainingHook
from ssl_core.errors import Interrupted
from ssl_core.training import resume
from ssl_tokenizers import dvae_method
from ssl_tokenizers.dvae import DvaeTokenizer
from ssl_tokenizers.dvae_method import DvaeTraining
from ssl_tokenizers.options import DvaeOptions, DvaeTrainingOptions

SETTINGS = {
    "tokenizer.vocab_size": 8,
    "tokenizer.hidden": 8,
    "tokenizer.blocks": 1,
    "method.restart_every": 2,
    "data.image_size": 32,
    "dataset.images": 40,
    "train.batch_size": 8,
    "train.steps": 10,
    "optim.lr": 1e-3,
    "optim.warmup_steps": 2,
    "log.every": 1,
    "log.pictures_every": 0,
    "runtime.device": "cpu",
    "runtime.precision": "fp32",
    "runtime.threads": 1,
}


class StopAt(TrainingHook):
    def __init__(self, step: int):
        self.step = step

    def after_step(self, method, progress) -> None:
        if progress.step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "step-00000010" / "model.safetensors")


def training(seed: int, **options) -> DvaeTraining:
    torch.manual_seed(seed)
    part = DvaeTokenizer(DvaeOptions(vocab_size=24, hidden=8, blocks=1, downsample=4), BuildContext(image_size=16))
    return DvaeTraining(DvaeTrainingOptions(**options), BuildContext(image_size=16, parts={"tokenizer": part}))


def batch() -> Batch:
    zeros = torch.zeros(8, dtype=torch.long)
    return Batch({"image": torch.rand(8, 3, 16, 16)}, zeros, zeros, zeros)


def test_a_run_that_is_resumed_before_codes_move_ends_as_if_nothing_had_happened(tmp_path):
    registry = Registry.load()
    ssl_core.train("dvae", out=tmp_path / "whole", settings=SETTINGS, registry=registry)
    with pytest.raises(Interrupted):
        ssl_core.train("dvae", out=tmp_path / "cut", settings=SETTINGS, registry=registry, hooks=[StopAt(3)])
    resume(tmp_path / "cut", registry)
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def test_weights_of_another_run_are_not_started_again():
    first = training(0)
    first(batch(), Progress(0, 10, 10))
    first.after_step(Progress(1, 10, 10))
    second = training(1)
    second.load_state_dict(first.state_dict())
    second(batch(), Progress(0, 10, 10))
    second.after_step(Progress(1, 10, 10))
    assert torch.equal(second.tokenizer.codebook, first.tokenizer.codebook)


def test_the_first_update_counts_as_a_start_without_k_means():
    method = training(0, kmeans_start=False)
    method(batch(), Progress(0, 10, 10))
    assert not method.started
    method.after_step(Progress(1, 10, 10))
    assert method.started


def test_usage_is_that_of_all_processes(monkeypatch):
    everyone = torch.arange(24.0) / 276
    monkeypatch.setattr(dvae_method, "mean_over_processes", lambda shares: everyone)
    method = training(0)
    method(batch(), Progress(3, 10, 10))
    torch.testing.assert_close(method.usage, 0.98 / 24 + 0.02 * everyone)
