"""A process that is killed while it saves leaves checkpoints that are complete, and nothing else under their name."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time

import pytest
import torch

from ssl_core.runner import checkpoint
from ssl_core.runner.checkpoint import Checkpoint

KILLS = 12


def captured(step: int) -> Checkpoint:
    weights = {f"w{number}": torch.full((64, 64), float(step)) for number in range(20)}
    moments = {name: {"exp_avg": tensor * 2} for name, tensor in weights.items()}
    return Checkpoint(step, weights, {"optimizer": moments, "scaler": {}}, weights)


def save_forever(folder, first: int) -> None:
    for step in itertools.count(first):
        checkpoint.save(folder, captured(step))
        checkpoint.prune(folder, 2, upto=step)


def test_killed_at_random_moments(tmp_path):
    rng = random.Random(0)
    start = time.perf_counter()
    checkpoint.save(tmp_path, captured(1))
    duration = time.perf_counter() - start
    reached = 1
    for number in range(20 * KILLS):
        child = os.fork()
        if child == 0:
            try:
                save_forever(tmp_path, reached + 1)
            finally:
                os._exit(1)
        # Longer and longer: on a busy machine a fork alone may take as long as a save did.
        time.sleep(rng.uniform(0.2, 3) * duration * (1 + number / KILLS))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        newest, passed = checkpoint.newest(tmp_path)
        assert passed == []
        loaded = checkpoint.load(newest)
        assert loaded.step >= reached
        assert torch.equal(loaded.model["w3"], torch.full((64, 64), float(loaded.step)))
        reached = loaded.step
        if number >= KILLS and reached > KILLS / 3:
            break
    assert reached > KILLS / 3


def broken_off(monkeypatch, name):
    """Makes a save stop, as a kill would, when it comes to a certain function."""

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.shutil, "rmtree", lambda *_, **__: None)  # nobody cleans up after a kill
    monkeypatch.setattr(checkpoint, name, stop)


@pytest.mark.parametrize("name", ["_sync", "stream_tensors", "remove"])
def test_what_is_half_saved_or_half_deleted_has_not_the_name_of_a_checkpoint(name, tmp_path, monkeypatch):
    for step in (1, 2):
        checkpoint.save(tmp_path, captured(step))
    with monkeypatch.context() as patch:
        broken_off(patch, name)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(tmp_path, captured(2))
    path, passed = checkpoint.newest(tmp_path)
    assert path == tmp_path / "step-00000002"
    assert passed == []
    checkpoint.prune(tmp_path, 1)
    assert [left.name for left in tmp_path.iterdir()] == ["step-00000002"]


def test_the_multiples_of_keep_every_stay(tmp_path):
    for step in (2, 3, 4, 5, 6, 7):
        checkpoint.save(tmp_path, captured(step))
        checkpoint.prune(tmp_path, 2, every=3, upto=step)
    assert [checkpoint.step_of(path) for path in checkpoint.complete(tmp_path)] == [3, 6, 7]


def test_a_damaged_newer_one_does_not_push_out_the_good_ones(tmp_path):
    for step in (2, 4):
        checkpoint.save(tmp_path, captured(step))
    (tmp_path / "step-00000004" / checkpoint.MODEL).write_bytes(b"damaged")
    checkpoint.save(tmp_path, captured(3))
    checkpoint.prune(tmp_path, 1, upto=3)
    path, passed = checkpoint.newest(tmp_path)
    assert path == tmp_path / "step-00000003"
    assert "model.safetensors is damaged" in passed[0]
