"""A backbone is loaded from whatever a run has left: an export, or a checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy_runs import toy_registry, train

import ssl_core
from ssl_core.errors import CheckpointError

LAST, BEFORE = "step-00000006", "step-00000004"


@pytest.fixture(scope="module")
def registry():
    return toy_registry()


@pytest.fixture(scope="module")
def finished(registry, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    train("toy-mae", out, registry, train__ema=0.5, train__checkpoint_every=2)
    return out


@pytest.fixture
def run(finished, tmp_path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def holds(backbone, file: Path) -> bool:
    """Returns whether these are the weights of a checkpoint's file."""
    state = load_file(file)
    return all(torch.equal(tensor, state[f"backbone.{name}"]) for name, tensor in backbone.state_dict().items())


def test_a_checkpoint_is_loaded_as_the_export_is(run, registry):
    export = ssl_core.load(run, registry)
    folder = run / "checkpoints" / LAST
    backbone = ssl_core.load(folder, registry)
    assert all(torch.equal(tensor, export.state_dict()[name]) for name, tensor in backbone.state_dict().items())
    assert not backbone.training
    assert backbone.spec.source == folder
    assert {**vars(backbone.spec), "source": None} == {**vars(export.spec), "source": None}


@pytest.mark.parametrize("name", ["model.safetensors", "average.safetensors"])
def test_a_weight_file_is_the_one_that_is_read(run, registry, name):
    folder = run / "checkpoints" / BEFORE
    other = {"model.safetensors": "average.safetensors", "average.safetensors": "model.safetensors"}[name]
    backbone = ssl_core.load(folder / name, registry)
    assert holds(backbone, folder / name)
    assert not holds(backbone, folder / other)


def test_a_run_that_has_not_finished_is_its_newest_complete_checkpoint(run, registry):
    shutil.rmtree(run / "export")
    assert ssl_core.load(run, registry).spec.source == run / "checkpoints" / LAST
    (run / "checkpoints" / LAST / "state.pt").write_bytes(b"cut")
    backbone = ssl_core.load(run, registry)
    assert backbone.spec.source == run / "checkpoints" / BEFORE
    assert holds(backbone, run / "checkpoints" / BEFORE / "average.safetensors")


def test_a_run_without_a_backbone(registry, tmp_path):
    options = {"tokenizer__vocab_size": 8, "tokenizer__hidden": 8, "tokenizer__blocks": 1}
    train("dvae", tmp_path / "run", registry, train__steps=1, optim__warmup_steps=1, **options)
    with pytest.raises(CheckpointError, match="of a run of method 'dvae', which has no backbone"):
        ssl_core.load(tmp_path / "run", registry)


def test_a_checkpoint_without_its_run(run, registry, tmp_path):
    alone = shutil.copytree(run / "checkpoints" / LAST, tmp_path / "elsewhere" / "checkpoints" / LAST)
    with pytest.raises(CheckpointError, match=r"built by its run's config.*config\.yaml"):
        ssl_core.load(alone, registry)


def test_a_damaged_config_is_one_line(run, registry):
    (run / "config.yaml").write_text("train: {epochs: many}\nmethod: toy-mae\n")
    with pytest.raises(CheckpointError, match=r"config\.yaml: damaged, or of another version: train\.epochs") as caught:
        ssl_core.load(run / "checkpoints" / LAST, registry)
    assert "\n" not in str(caught.value)


def test_a_damaged_checkpoint_is_refused(run, registry):
    (run / "checkpoints" / LAST / "average.safetensors").write_bytes(b"cut")
    with pytest.raises(CheckpointError, match=r"average\.safetensors is damaged"):
        ssl_core.load(run / "checkpoints" / LAST, registry)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"width": "wide"}}, r"no options of .*: width: "),
        ({"options": {"wdith": 8}}, r"no options of .*: wdith: "),
        ({"options": 5}, "damaged"),
        ({"image_size": "large"}, "damaged"),
        ({"mean": 1}, "damaged"),
    ],
)
def test_a_damaged_description_is_one_line(run, registry, changes, message):
    file = run / "export" / "backbone.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(CheckpointError, match=message) as caught:
        ssl_core.load(run, registry)
    assert "\n" not in str(caught.value)
