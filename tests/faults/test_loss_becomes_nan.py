"""NaN and Inf: the update is skipped, then the run goes back once with a lower rate, then it ends and says why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy_runs import toy_registry, train

from ssl_core.contracts.hooks import TrainingHook
from ssl_core.errors import NumericError, exit_code_of
from ssl_core.training import resume


class Poison(TrainingHook):
    """Makes the images of some updates NaN.

    Args:
        updates: their numbers, as in metrics.jsonl.
        times: how often each is poisoned: what is only sometimes wrong may be right after a roll-back.
    """

    def __init__(self, *updates: int, times: int = 100):
        self.left = dict.fromkeys(updates, times)

    def before_step(self, batch, progress):
        if self.left.get(progress.step + 1, 0) > 0:
            self.left[progress.step + 1] -= 1
            batch.views["image"].fill_(torch.nan)


class Weights(TrainingHook):
    """Copies all that an update may move."""

    def __init__(self):
        self.after: dict[int, list[torch.Tensor]] = {}

    def after_step(self, method, progress):
        self.after[progress.step] = [tensor.clone() for tensor in method.state_dict().values()]


def lines(out: Path, event: str | None = None) -> list[dict]:
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line.get("event") == event]


def test_one_bad_batch_moves_neither_weights_nor_moments(tmp_path):
    weights = Weights()
    result = train("toy-mae", tmp_path / "a", hooks=[Poison(4), weights], train__checkpoint_every=1, train__steps=5)
    assert result["step"] == 5
    assert all(torch.equal(one, two) for one, two in zip(weights.after[3], weights.after[4], strict=True))
    assert not all(torch.equal(one, two) for one, two in zip(weights.after[4], weights.after[5], strict=True))
    checkpoints = tmp_path / "a" / "checkpoints"
    before, after = _moments(tmp_path), torch.load(checkpoints / "step-00000005" / "state.pt", weights_only=True)
    assert {float(moments["step"]) for moments in before.values()} == {3.0}
    assert {float(moments["step"]) for moments in after["optimizer"].values()} == {4.0}
    assert [line["step"] for line in lines(tmp_path / "a", "skipped")] == [4]
    assert [line["skipped"] for line in lines(tmp_path / "a")] == [0, 0, 0, 1, 0]
    assert lines(tmp_path / "a")[3]["loss"] is None


def _moments(folder: Path) -> dict:
    return torch.load(folder / "a" / "checkpoints" / "step-00000004" / "state.pt", weights_only=True)["optimizer"]


def test_a_log_line_over_several_updates_leaves_out_the_bad_one(tmp_path):
    train("toy-mae", tmp_path / "a", hooks=[Poison(2)], log__every=3)
    first, second = lines(tmp_path / "a")
    assert first["loss"] > 0
    assert (first["skipped"], second["skipped"]) == (1, 0)


def test_an_infinite_loss_with_finite_gradients_is_skipped_as_well(tmp_path):
    class Infinite(TrainingHook):
        def before_step(self, batch, progress):
            method.offset = torch.inf if progress.step == 2 else 0.0

        def before_run(self, of, progress, out):
            nonlocal method
            method, step = of, of.training_step

            def with_offset(batch, progress):
                output = step(batch, progress)
                return type(output)(output.loss + method.offset, output.logs, output.targets)

            of.training_step = with_offset

    method = None
    train("toy-mae", tmp_path / "a", hooks=[Infinite()])
    assert [line["step"] for line in lines(tmp_path / "a", "skipped")] == [3]


def test_several_in_a_row_take_the_run_back_once_with_a_lower_rate(tmp_path):
    poison = Poison(5, 6, 7, times=1)
    options = {"train__checkpoint_every": 2, "train__steps": 10}
    result = train("toy-mae", tmp_path / "a", hooks=[poison], **options)
    assert result["step"] == 10
    assert lines(tmp_path / "a", "rollback") == [{"event": "rollback", "step": 7, "to": 4, "lr_factor": 0.5}]
    train("toy-mae", tmp_path / "b", **options)
    mine, plain = ({line["step"]: line["lr"] for line in lines(tmp_path / name)} for name in "ab")
    assert mine == {step: rate * (0.5 if step > 4 else 1) for step, rate in plain.items()}


def test_a_run_that_was_killed_after_going_back_ends_as_if_it_had_not_been(tmp_path):
    """The checkpoint that it went back to does not know of the lower rate."""

    class Killed(TrainingHook):
        def after_step(self, method, progress):
            if progress.step == 5:
                raise KeyboardInterrupt

    options = {"train__checkpoint_every": 2, "train__steps": 8, "train__ema": 0.9}
    train("toy-mae", tmp_path / "whole", hooks=[Poison(5, 6, 7, times=1)], **options)
    poison = Poison(5, 6, 7, times=1)
    with pytest.raises(KeyboardInterrupt):
        # Before it goes back, the fifth update is skipped like the others; afterwards the run is killed there.
        train("toy-mae", tmp_path / "cut", hooks=[poison, _Second(Killed())], **options)
    assert not any(poison.left.values())
    resume(tmp_path / "cut", toy_registry())
    for name in ("model.safetensors", "average.safetensors"):
        one, two = (load_file(tmp_path / run / "checkpoints" / "step-00000008" / name) for run in ("whole", "cut"))
        assert all(torch.equal(one[key], two[key]) for key in one)


class _Second(TrainingHook):
    """Leaves a hook out until the run begins for the second time."""

    def __init__(self, hook):
        self.hook, self.starts = hook, 0

    def before_run(self, method, progress, out):
        self.starts += 1

    def after_step(self, method, progress):
        if self.starts == 2:
            self.hook.after_step(method, progress)


def test_the_second_time_it_ends_and_names_the_batch(tmp_path):
    out = tmp_path / "a"
    with pytest.raises(NumericError, match="after one roll-back") as caught:
        train("toy-mae", out, hooks=[Poison(4, 5, 6)], train__checkpoint_every=2, train__steps=10)
    assert exit_code_of(caught.value) == 4
    assert f"ssl-train --replay {out}" in str(caught.value.hint)
    assert len(lines(out, "rollback")) == 1
    kept = json.loads((out / "nan_batch.json").read_text())
    assert (kept["step"], kept["epoch"], kept["seed"], len(kept["indices"])) == (6, 1, 0, 8)
    status = json.loads((out / "status.json").read_text())
    assert (status["state"], status["exit_code"]) == ("failed", 4)
    for path in (out / "checkpoints").glob("step-*/*.safetensors"):
        assert all(tensor.isfinite().all() for tensor in load_file(path).values())


def test_without_a_checkpoint_it_ends_at_once(tmp_path):
    with pytest.raises(NumericError, match="before the first checkpoint"):
        train("toy-mae", tmp_path / "a", hooks=[Poison(1, 2, 3)])
    assert not list((tmp_path / "a" / "checkpoints").glob("step-*"))
    assert (tmp_path / "a" / "nan_batch.json").is_file()


def test_a_run_in_which_no_update_counted_does_not_succeed(tmp_path):
    with pytest.raises(NumericError, match="no update of this run"):
        train("toy-mae", tmp_path / "a", hooks=[Poison(1, 2)], train__steps=2)


def test_a_statistic_that_is_not_finite_never_reaches_a_checkpoint(tmp_path):
    class Centre(TrainingHook):
        broken = False

        def after_step(self, method, progress):
            if progress.step == 3 and not self.broken:
                self.broken = True
                method.teacher[1].bias.fill_(torch.nan)  # the teacher follows slowly: the loss is NaN from now on

    result = train("toy-dino", tmp_path / "a", hooks=[Centre()], train__checkpoint_every=2, train__steps=8)
    assert result["step"] == 8
    (event,) = lines(tmp_path / "a", "rollback")
    assert (event["step"], event["to"]) == (4, 2)
    for path in (tmp_path / "a" / "checkpoints").glob("step-*/*.safetensors"):
        assert all(tensor.isfinite().all() for tensor in load_file(path).values())


def test_images_that_end_too_early_are_no_success(tmp_path, monkeypatch):
    monkeypatch.setattr("ssl_core.data.loader.MicroBatchSampler.__iter__", lambda self: iter(()))
    with pytest.raises(Exception, match="the images ended after 0 of 6 updates") as caught:
        train("toy-mae", tmp_path / "a")
    assert exit_code_of(caught.value) == 3
