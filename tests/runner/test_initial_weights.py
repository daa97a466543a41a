"""`--init-from`: any checkpoint, another image size, another method."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from toy_runs import SETTINGS, toy_registry, train

import ssl_core
from ssl_core.errors import CheckpointError

BEIT = {"backbone.width": 32, "backbone.depth": 2, "backbone.heads": 2, "backbone.patch_size": 8}
CODES = {"tokenizer.vocab_size": 8, "tokenizer.images": 40}
ONE = {**SETTINGS, "train.steps": 1, "optim.warmup_steps": 1}
"""One update, at a learning rate of 0."""


@pytest.fixture(scope="module")
def registry():
    return toy_registry()


@pytest.fixture(scope="module")
def pretrained(registry, tmp_path_factory):
    out = tmp_path_factory.mktemp("first") / "run"
    ssl_core.train("beit", out=out, settings={**ONE, **BEIT, **CODES}, registry=registry)
    with torch.no_grad():  # positions that are all zero would hide a wrong resize
        file = out / "export" / "backbone.safetensors"
        state = load_file(file)
        state["rel_pos_bias.relative_position_bias_table"].normal_()
    from ssl_core.tensor_file import write_tensors

    write_tensors(file, state, {"format": "ssl-export-1"})
    return out


def _start(method, start, out, registry, **settings):
    settings = {**ONE, **BEIT, **{name.replace("__", "."): value for name, value in settings.items()}}
    ssl_core.train(method, out=out, settings=settings, init_from=start, registry=registry)
    return load_file(out / "export" / "backbone.safetensors"), (out / "train.log").read_text()


def test_another_size_goes_through_adapt_state(registry, pretrained, tmp_path, monkeypatch):
    from ssl_beit.backbone import BeitVit

    asked = []
    adapt = BeitVit.adapt_state
    monkeypatch.setattr(
        BeitVit,
        "adapt_state",
        lambda own, state, source: (asked.append(source.image_size), adapt(own, state, source))[1],
    )
    found, log = _start("beit", pretrained, tmp_path / "run", registry, data__image_size=64, **CODES)
    assert 32 in asked
    assert "made fit for 64 pixels" in log
    expected = ssl_core.load(pretrained, registry, image_size=64).state_dict()
    name = "rel_pos_bias.relative_position_bias_table"
    assert found[name].shape == (15 * 15 + 3, 2)
    torch.testing.assert_close(found[name], expected[name])


def test_the_shared_table_is_expanded_for_fine_tuning(registry, pretrained, tmp_path):
    found, _ = _start("finetune", pretrained, tmp_path / "run", registry)
    table = load_file(pretrained / "export" / "backbone.safetensors")["rel_pos_bias.relative_position_bias_table"]
    for number in range(2):
        torch.testing.assert_close(found[f"blocks.{number}.attn.relative_position_bias_table"], table)
    assert not any(name.startswith("rel_pos_bias") for name in found)


def test_a_backbone_itself_is_a_start(registry, pretrained, tmp_path):
    backbone = ssl_core.load(pretrained, registry)
    found, log = _start("beit", backbone, tmp_path / "run", registry, **CODES)
    assert all(torch.allclose(found[name], tensor, atol=1e-6) for name, tensor in backbone.state_dict().items())
    assert "weights   backbone of" in log


def test_a_checkpoint_of_the_same_method_is_taken_whole_and_of_another_its_backbone(registry, pretrained, tmp_path):
    checkpoint = pretrained / "checkpoints" / "step-00000001"
    _, log = _start("beit", checkpoint, tmp_path / "same", registry, **CODES)
    assert f"weights   all of {checkpoint}" in log
    _, log = _start("finetune", checkpoint, tmp_path / "other", registry)
    assert "weights   backbone of" in log


def test_another_architecture_is_one_clear_line(registry, pretrained, tmp_path):
    with pytest.raises(CheckpointError, match=r"weights of a beit:vit.*a toy_mae:tiny; set --backbone beit:vit"):
        train("toy-mae", tmp_path / "run", registry, init_from=pretrained)
    assert not (tmp_path / "run").exists()
    with pytest.raises(CheckpointError, match=r"does not fit BeitVit"):
        _start("finetune", pretrained, tmp_path / "run", registry, backbone__depth=3)


def test_pixels_normalised_in_another_way_are_pointed_out(registry, pretrained, tmp_path):
    _, log = _start("finetune", pretrained, tmp_path / "run", registry, data__mean=(0.4, 0.4, 0.4))
    assert "warning: --init-from" in log
    assert "set data.mean and data.std to these" in log
