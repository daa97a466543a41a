"""`load` for another image size or with other options, and timm's own weights by name."""

from __future__ import annotations

import json
import logging

import pytest
import timm
import torch
from foreign_models import SIZE, encoder, pixels, randomised, small_vit
from safetensors.torch import save_file

import ssl_core
from ssl_core.api import BackboneSpec, CheckpointError, ConfigError, UsageError, build_untrained, write_export
from ssl_core.loading import spec_values


@pytest.fixture
def file(tmp_path):
    torch.save(encoder(small_vit()), tmp_path / "vit.pth")
    return tmp_path / "vit.pth"


@pytest.mark.parametrize("size", [48, 16])
def test_positions_are_resized_as_timm_does_it(file, size):
    backbone = ssl_core.load(file, image_size=size)
    assert backbone.spec.image_size == size
    reference = timm.create_model(
        "vit_base_patch16_224", img_size=size, patch_size=8, embed_dim=64, depth=2, num_heads=1, num_classes=0
    ).eval()
    state = timm.models.vision_transformer.checkpoint_filter_fn(torch.load(file), reference)
    reference.load_state_dict(state)
    assert not torch.equal(state["pos_embed"].mean(1), torch.load(file)["pos_embed"].mean(1))
    with torch.no_grad():
        expected = reference.forward_features(pixels(size))[:, 1:]
        torch.testing.assert_close(backbone(pixels(size)).patches, expected, atol=1e-6, rtol=0)


def test_the_same_size_changes_nothing(file):
    given, same = ssl_core.load(file), ssl_core.load(file, image_size=SIZE)
    assert given.spec == same.spec
    assert all(torch.equal(a, b) for a, b in zip(given.state_dict().values(), same.state_dict().values(), strict=True))


def test_options_go_over_those_of_the_file(file):
    backbone = ssl_core.load(file, options={"drop_path": "0.25", "heads": 4})
    assert backbone.spec.options["drop_path"] == 0.25
    assert backbone.blocks[-1].drop_path1.drop_prob == 0.25
    assert backbone.blocks[0].attn.num_heads == 4
    assert not torch.equal(backbone(pixels()).patches, ssl_core.load(file)(pixels()).patches)


def test_an_own_export_is_rebuilt_too(tmp_path):
    options = {"model": "vit_base", "width": 64, "depth": 2, "heads": 2, "patch_size": 8}
    spec = BackboneSpec("core:vit", options, SIZE, (0.5,) * 3, (0.5,) * 3)
    state = randomised(build_untrained(spec)).state_dict()
    write_export(tmp_path / "export" / "backbone.safetensors", state, spec_values(spec))
    backbone = ssl_core.load(tmp_path, image_size=64, options={"drop_path": 0.1})
    assert backbone(pixels(64)).patches.shape == (2, 64, 64)
    assert backbone.spec.image_size == 64
    assert torch.equal(backbone.state_dict()["vit.norm.weight"], state["vit.norm.weight"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"image_size": 30}, UsageError, "not a multiple of backbone.patch_size 8"),
        ({"options": {"drop_pth": 0.1}}, ConfigError, r"backbone\.drop_pth: no such option\. Did you mean"),
        ({"options": {"depth": 3}}, CheckpointError, r"missing: vit\.blocks\.2\.norm1\.weight"),
        ({"options": {"width": 32}}, CheckpointError, r"other shape: .* not \(1, 1, 32\)"),
        ({"options": {"heads": 5}}, UsageError, "width 64 does not divide into 5 heads"),
    ],
)
def test_what_cannot_be_rebuilt_is_one_line(file, arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        ssl_core.load(file, **arguments)
    assert "\n" not in str(caught.value)


def test_timm_names_carry_their_normalisation_and_their_size(monkeypatch):
    create = timm.create_model
    made = []

    def pretrained(name, *, pretrained=False, **options):
        if pretrained:
            made.append(randomised(create(name)))
        return made[-1] if pretrained else create(name, **options)

    monkeypatch.setattr(timm, "create_model", pretrained)
    backbone = ssl_core.load("timm:vit_tiny_patch16_224")
    cfg = timm.get_pretrained_cfg("vit_tiny_patch16_224")
    assert backbone.spec.mean == cfg.mean == (0.5, 0.5, 0.5)
    assert backbone.spec.std == cfg.std
    assert backbone.spec.image_size == 224
    assert backbone.spec.source is None
    with torch.no_grad():
        expected = made[0].forward_features(pixels(224))
        torch.testing.assert_close(backbone(pixels(224)).patches, expected[:, 1:], atol=1e-5, rtol=0)
    assert ssl_core.load("timm:vit_tiny_patch16_224", image_size=64)(pixels(64)).patches.shape == (2, 16, 192)


def test_timm_without_a_network_is_one_line(monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("[Errno 101] Network\nis unreachable")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(
        CheckpointError, match=r"^timm:vit_tiny_patch16_224: timm cannot load .*Network is unr"
    ) as caught:
        ssl_core.load("timm:vit_tiny_patch16_224")
    assert "\n" not in str(caught.value)


def test_the_attempts_of_the_hub_are_not_printed_one_by_one(monkeypatch, caplog, capsys):
    hub = logging.getLogger("huggingface_hub")
    level = hub.level

    def offline(*_, **__):
        hub.warning("Retrying in 1s [Retry 1/5].")
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(CheckpointError, match="no route to host"):
        ssl_core.load("timm:vit_tiny_patch16_224")
    assert not caplog.records
    assert capsys.readouterr().err == "timm:vit_tiny_patch16_224: looking for the weights here, then on the network\n"
    assert hub.level == level


def test_a_name_that_timm_does_not_know():
    with pytest.raises(CheckpointError, match=r"no model 'vit_tiny_pach16_224'\. Did you mean 'vit_tiny_patch16_224"):
        ssl_core.load("timm:vit_tiny_pach16_224")


def test_an_own_export_without_its_description_is_not_somebody_elses(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "backbone.safetensors", {"format": "ssl-export-1"})
    with pytest.raises(CheckpointError, match=r"backbone\.json is missing"):
        ssl_core.load(tmp_path / "backbone.safetensors")
    (tmp_path / "backbone.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(CheckpointError, match="not the description of an exported part"):
        ssl_core.load(tmp_path / "backbone.safetensors")
