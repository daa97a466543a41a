"""Checkpoints are complete or not there, and loading one runs nothing."""

from __future__ import annotations

import json

import pytest
import torch

from ssl_core.errors import CheckpointError
from ssl_core.runner import checkpoint
from ssl_core.runner.checkpoint import Checkpoint


def make(step: int = 3) -> Checkpoint:
    state = {"optimizer": {"w": {"step": torch.tensor(3.0), "exp_avg": torch.ones(2)}}, "scaler": {}}
    return Checkpoint(step, {"w": torch.arange(4.0)}, state, {"w": torch.zeros(4)})


def test_round_trip(tmp_path):
    path = checkpoint.save(tmp_path, make())
    loaded = checkpoint.load(path)
    assert loaded.step == 3
    assert torch.equal(loaded.model["w"], torch.arange(4.0))
    assert torch.equal(loaded.average["w"], torch.zeros(4))
    assert torch.equal(loaded.state["optimizer"]["w"]["exp_avg"], torch.ones(2))
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-00000003"]


@pytest.mark.parametrize("name", [checkpoint.MODEL, checkpoint.STATE])
def test_one_flipped_byte_is_noticed_and_the_older_one_is_taken(tmp_path, name):
    good, bad = checkpoint.save(tmp_path, make(1)), checkpoint.save(tmp_path, make(2))
    content = bytearray((bad / name).read_bytes())
    content[-1] ^= 1
    (bad / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name} is damaged"):
        checkpoint.load(bad)
    path, passed = checkpoint.newest(tmp_path)
    assert path == good
    assert len(passed) == 1
    assert name in passed[0]


def test_an_interrupted_save_is_not_taken_for_a_checkpoint(tmp_path):
    good = checkpoint.save(tmp_path, make(1))
    half = tmp_path / "step-00000002"
    half.mkdir()
    (half / checkpoint.MODEL).write_bytes(b"")
    assert checkpoint.newest(tmp_path)[0] == good
    (tmp_path / ".tmp-step-00000005").mkdir()
    checkpoint.prune(tmp_path, 2)
    assert not (tmp_path / ".tmp-step-00000005").exists()


def test_only_the_newest_are_kept(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, make(step))
    checkpoint.prune(tmp_path, 2)
    assert [path.name for path in checkpoint.complete(tmp_path)] == ["step-00000002", "step-00000003"]


class Payload:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return (open, (self.marker, "w"))


def test_a_malicious_state_file_runs_nothing(tmp_path):
    path = checkpoint.save(tmp_path, make())
    marker = tmp_path / "marker"
    torch.save({"optimizer": Payload(marker)}, path / checkpoint.STATE)
    manifest = json.loads((path / checkpoint.MANIFEST).read_text())
    manifest["files"][checkpoint.STATE] = {
        "bytes": (path / checkpoint.STATE).stat().st_size,
        "sha256": checkpoint._digest(path / checkpoint.STATE),
    }
    (path / checkpoint.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="more than tensors and plain values"):
        checkpoint.load(path)
    assert not marker.exists()
