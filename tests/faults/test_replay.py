"""`ssl-train --replay RUN` shows which tensor of a batch is not finite first."""

from __future__ import annotations

import json

import pytest
import torch
from toy_runs import toy_registry, train

from ssl_core.cli.train import main
from ssl_core.errors import CheckpointError, NumericError
from ssl_core.replay import replay
from ssl_core.runner.first_break import FirstBreak, gradients


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A run that a learning rate beyond all reason has ended."""
    out = tmp_path_factory.mktemp("runs") / "a"
    with pytest.raises(NumericError, match="before the first checkpoint"):
        train("toy-mae", out, optim__lr=1e30, optim__weight_decay=0)
    return out


def test_the_first_broken_tensor_of_the_kept_batch_is_named(ended, capsys):
    result = replay(ended, toy_registry())
    assert result["step"] == json.loads((ended / "nan_batch.json").read_text())["step"]
    assert result["first"].startswith("the output of backbone.")
    assert "first not finite: the output of backbone." in capsys.readouterr().out


def test_replay_writes_nothing(ended):
    before = {path: path.stat().st_mtime_ns for path in ended.rglob("*")}
    replay(ended, toy_registry())
    assert {path: path.stat().st_mtime_ns for path in ended.rglob("*")} == before


def test_a_run_without_such_a_batch_is_refused(tmp_path):
    train("toy-mae", tmp_path / "a", train__steps=1)
    with pytest.raises(CheckpointError, match="no batch was kept"):
        replay(tmp_path / "a", toy_registry())


def test_options_beside_it_are_refused(capsys):
    assert main(["--replay", "runs/x", "optim.lr=1"]) == 2
    assert "optim.lr cannot be given" in capsys.readouterr().err


def test_a_gradient_that_breaks_is_named():
    class Root(torch.nn.Module):
        def forward(self, x):
            return (x - x.detach()).abs().sqrt()  # 0, with an infinite slope

    model = torch.nn.Sequential(torch.nn.Linear(2, 2), Root())
    look = FirstBreak(model)
    look.weights()
    with look.watching():
        model(torch.ones(1, 2)).sum().backward()
    look.tensors(gradients(model))
    assert look.found is not None
    assert look.found.startswith("the gradient of the output of 0 (Linear): 2 NaN")
