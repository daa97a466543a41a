"""Memory that does not suffice in the first updates halves the micro-batch, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from toy_runs import losses, toy_registry, train

from ssl_core.contracts.hooks import TrainingHook
from ssl_core.errors import Interrupted, ResourceError, exit_code_of
from ssl_core.runner.micro_batch import BatchPlan, smaller
from ssl_core.training import resume

SCRIPT = Path(__file__).with_name("distributed_memory.py")


class SmallMemory(TrainingHook):
    """Raises what a GPU would, where a micro-batch has more images than `room`.

    Args:
        since: finished updates from which on it does.
        place: which micro-batch of an update it is that fails.
    """

    def __init__(self, room: int, since: int = 0, place: int = 0):
        self.room, self.since, self.place, self.sizes = room, since, place, []
        self._step, self._count = -1, 0

    def before_step(self, batch, progress):
        self._count = self._count + 1 if progress.step == self._step else 0
        self._step = progress.step
        self.sizes.append(len(batch))
        if len(batch) > self.room and progress.step >= self.since and self._count >= self.place:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def weights(out: Path, step: int = 6) -> dict[str, torch.Tensor]:
    return load_file(out / "checkpoints" / f"step-{step:08d}" / "model.safetensors")


def same(one: Path, two: Path) -> bool:
    first, second = weights(one), weights(two)
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("since", "workers"), [(0, 0), (1, 1)], ids=["first update", "second update"])
def test_the_result_is_that_of_a_run_that_began_with_the_smaller_one(tmp_path, since, workers, capsys):
    memory = SmallMemory(room=2, since=since)
    train("toy-dino", tmp_path / "halved", hooks=[memory], data__workers=workers)
    assert set(memory.sizes) == {8, 4, 2}
    assert "out of memory with batch 8: going on with batch 8 (4 x 2)" in capsys.readouterr().out
    train("toy-dino", tmp_path / "small", train__micro_batch_size=2)
    assert same(tmp_path / "halved", tmp_path / "small")
    assert losses(tmp_path / "halved")[-6:] == losses(tmp_path / "small")


def test_what_a_part_of_an_update_has_changed_is_undone(tmp_path):
    """The centre follows each micro-batch: those before the one that failed must not count twice."""
    train("toy-dino", tmp_path / "halved", hooks=[SmallMemory(room=2, place=1)], train__micro_batch_size=4)
    train("toy-dino", tmp_path / "small", train__micro_batch_size=2)
    assert same(tmp_path / "halved", tmp_path / "small")


def test_a_resumed_run_starts_with_the_size_that_fitted(tmp_path):
    class Stop(TrainingHook):
        def after_step(self, method, progress):
            if progress.step == 3:
                os.kill(os.getpid(), 15)

    with pytest.raises(Interrupted):
        train("toy-mae", tmp_path / "a", hooks=[SmallMemory(room=4), Stop()])
    config = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    assert (config["train"]["batch_size"], config["train"]["micro_batch_size"]) == (8, 4)
    memory = SmallMemory(room=4)
    resume(tmp_path / "a", toy_registry(), hooks=[memory])
    assert set(memory.sizes) == {4}


def test_memory_that_is_short_after_a_resume_halves_as_well(tmp_path):
    class Stop(TrainingHook):
        def after_step(self, method, progress):
            if progress.step == 3:
                os.kill(os.getpid(), 15)

    with pytest.raises(Interrupted):
        train("toy-mae", tmp_path / "a", hooks=[Stop()])
    memory = SmallMemory(room=4)
    assert resume(tmp_path / "a", toy_registry(), hooks=[memory])["step"] == 6
    lines = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert [line for line in lines if line.get("event") == "micro_batch"] == [
        {"event": "micro_batch", "step": 3, "from": 8, "to": 4}
    ]


def test_one_image_that_does_not_fit_ends_the_run_with_what_to_do(tmp_path):
    with pytest.raises(ResourceError, match="one image at a time") as caught:
        train("toy-mae", tmp_path / "a", hooks=[SmallMemory(room=0)])
    assert exit_code_of(caught.value) == 5
    assert "data.image_size" in str(caught.value.hint)
    assert json.loads((tmp_path / "a" / "status.json").read_text())["exit_code"] == 5


def test_later_it_ends_the_run_for_the_micro_batch_has_fitted_before(tmp_path):
    memory = SmallMemory(room=4, since=4)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        train("toy-mae", tmp_path / "a", hooks=[memory])
    assert exit_code_of(caught.value) == 5


def test_a_batch_without_an_even_half_takes_the_next_divisor():
    assert smaller(BatchPlan(30, 15, 1, 2)) == BatchPlan(30, 5, 3, 2)
    assert smaller(BatchPlan(8, 1, 8, 1)) is None


def test_all_processes_halve_together_when_one_has_too_little(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT)]
    command.append(str(tmp_path / "two"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    assert result.returncode == 0, result.stderr[-4000:]
    assert "going on with batch 8 (2 x 2 x 2)" in result.stdout
    train("toy-mae", tmp_path / "one", train__steps=3)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
