"""A run that was interrupted ends as one that was not: the same samples, the same weights to the last bit."""

from __future__ import annotations

import hashlib
import json
from collections import Counter

import pytest
import torch
from stop_at import CrashAt, Seen, StopAt
from test_runs import METHODS
from toy_runs import SMALL_KMEANS_BEIT, losses, toy_registry, train

from ssl_core.errors import Interrupted
from ssl_core.runner import checkpoint
from ssl_core.training import resume


@pytest.fixture(scope="module")
def registry():
    return toy_registry()


def assert_same(one, two, where=""):
    """Compares nested tensors and values without any tolerance."""
    if isinstance(one, torch.Tensor):
        assert one.dtype == two.dtype, where
        assert torch.equal(one, two), where
    elif isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for key in one:
            assert_same(one[key], two[key], f"{where} {key}")
    else:
        assert one == two, where


def assert_same_end(one, two, step=6):
    """Compares all that a checkpoint holds: weights, their average, optimizer, scaler and counters."""
    first, second = (checkpoint.load(run / "checkpoints" / f"step-{step:08d}") for run in (one, two))
    assert first.average is not None
    for name in ("model", "average", "state"):
        assert_same(dict(getattr(first, name)), dict(getattr(second, name)), name)


def contents(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_every_installed_method_is_tried_here(registry):
    installed = {match.component.name for match in registry.components("method")}
    assert installed <= {name.partition(" ")[0] for name in METHODS}


@pytest.mark.parametrize("method", METHODS)
def test_a_crash_changes_nothing(method, registry, tmp_path):
    options = {"train__ema": 0.9, "train__micro_batch_size": 4, "train__checkpoint_every": 2, **METHODS[method]}
    options |= {"train__keep_checkpoints": 3}
    whole, cut = Seen(), Seen()
    train(method, tmp_path / "whole", registry, **options, hooks=[whole])
    with pytest.raises(ZeroDivisionError):
        train(method, tmp_path / "cut", registry, **options, hooks=[cut, CrashAt(3)])
    older = tmp_path / "cut" / "checkpoints" / "step-00000002"
    before = contents(older)
    assert resume(tmp_path / "cut", registry, hooks=[cut])["step"] == 6
    assert_same_end(tmp_path / "whole", tmp_path / "cut")
    assert contents(older) == before
    assert cut.steps == whole.steps
    lines = [json.loads(line) for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert {"event": "resume", "step": 2} in lines


@pytest.mark.parametrize("workers", [(0, 2), (2, 0), (2, 3)])
def test_no_sample_is_seen_twice_or_left_out(workers, registry, tmp_path):
    before, after = workers
    options = {"train__ema": 0.9, "train__micro_batch_size": 4, "train__steps": 10}
    whole, cut = Seen(), Seen()
    train("toy-dino", tmp_path / "whole", registry, **options, hooks=[whole])
    with pytest.raises(Interrupted):  # in the middle of the first of two epochs of 5 updates
        train("toy-dino", tmp_path / "cut", registry, data__workers=before, **options, hooks=[cut, StopAt(3)])
    assert sorted(cut.steps) == [0, 1, 2]
    again = Seen()
    resume(tmp_path / "cut", registry, settings={"data.workers": after}, hooks=[again])
    assert sorted(again.steps) == [3, 4, 5, 6, 7, 8, 9]
    cut.steps |= again.steps
    assert cut.steps == whole.steps
    assert Counter(cut.every()) == dict.fromkeys(range(40), 2)
    assert_same_end(tmp_path / "whole", tmp_path / "cut", step=10)


def test_loss_scaling_goes_on_where_it_was(registry, tmp_path, monkeypatch):
    monkeypatch.setattr("ssl_core.runner.device._precision", lambda *_: "fp16")
    options = {"train__ema": 0.9, "train__micro_batch_size": 4}
    train("toy-mae", tmp_path / "whole", registry, **options)
    with pytest.raises(Interrupted):
        train("toy-mae", tmp_path / "cut", registry, **options, hooks=[StopAt(3)])
    kept = checkpoint.load(tmp_path / "cut" / "checkpoints" / "step-00000003").state["scaler"]
    assert kept["scale"] < 65536 or kept["_growth_tracker"] == 3
    resume(tmp_path / "cut", registry)
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


def test_watching_a_run_and_its_tokenizer_change_nothing(registry, tmp_path):
    options = {**SMALL_KMEANS_BEIT, "train__ema": 0.9, "dataset__images": 80}
    watched = {"monitor__max_share": 1.0, "monitor__every_epochs": 0.2}
    train("beit kmeans", tmp_path / "whole", registry, monitor__every_epochs=0, **options)
    with pytest.raises(Interrupted):
        train("beit kmeans", tmp_path / "cut", registry, **options, **watched, hooks=[StopAt(3)])
    resume(tmp_path / "cut", registry)
    assert_same_end(tmp_path / "whole", tmp_path / "cut")
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    lines = [json.loads(line) for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert len([line for line in lines if line.get("event") == "monitor"]) >= 2


def test_interrupted_twice_and_with_a_damaged_checkpoint(registry, tmp_path, capsys):
    options = {"train__ema": 0.9, "train__checkpoint_every": 1}
    train("toy-dino", tmp_path / "whole", registry, **options)
    with pytest.raises(Interrupted):
        train("toy-dino", tmp_path / "cut", registry, **options, hooks=[StopAt(3)])
    damaged = tmp_path / "cut" / "checkpoints" / "step-00000003" / checkpoint.STATE
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(Interrupted):
        resume(tmp_path / "cut", registry, hooks=[StopAt(5)])
    assert "passed over: " in (said := capsys.readouterr().out)
    assert "state.pt is damaged" in said
    resume(tmp_path / "cut", registry)
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("background", [True, False])
def test_how_checkpoints_are_written_changes_nothing(background, registry, tmp_path):
    options = {"train__ema": 0.9, "train__checkpoint_every": 1, "train__keep_checkpoints": 9}
    train("toy-dino", tmp_path / "run", registry, train__async_checkpoints=background, **options)
    train("toy-dino", tmp_path / "short", registry, train__ema=0.9)
    assert_same_end(tmp_path / "run", tmp_path / "short")
    steps = [checkpoint.step_of(path) for path in checkpoint.complete(tmp_path / "run" / "checkpoints")]
    assert steps == [1, 2, 3, 4, 5, 6]
