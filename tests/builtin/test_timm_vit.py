"""timm's ViTs as backbones: the same features as timm's own forward pass."""

from __future__ import annotations

import pytest
import timm
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_core.api import BuildContext, UsageError
from ssl_core.builtin.options import TimmVitOptions
from ssl_core.builtin.vit import TimmVit
from ssl_core.builtin.vit_names import SHORT_NAMES, is_timm_vit

SIZE = 64


def _vit(model: str = "vit_tiny", image_size: int = SIZE, **options) -> TimmVit:
    backbone = TimmVit(TimmVitOptions(model=model, **options), BuildContext(image_size=image_size)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return backbone


def _pixels(size: int = SIZE) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("model", "prefix"),
    [
        ("vit_tiny", 1),
        ("deit_tiny_distilled_patch16_224", 2),
        ("deit3_small_patch16_224", 1),
        ("vit_small_patch14_reg4_dinov2", 5),
        ("vit_xsmall_patch16_clip_224", 1),
        ("vit_base_patch16_siglip_gap_224", 0),
        ("beit_base_patch16_224", 1),
    ],
)
def test_features_are_timms(model, prefix):
    backbone = _vit(model, patch_size=16)
    with torch.no_grad():
        features = backbone(_pixels())
        expected = backbone.vit.forward_features(_pixels())
    assert features.prefix.shape[1] == backbone.num_prefix == prefix
    torch.testing.assert_close(torch.cat([features.prefix, features.patches], 1), expected, atol=1e-5, rtol=0)
    summary = expected[:, 0] if prefix else expected.mean(1)
    torch.testing.assert_close(features.summary, summary, atol=1e-5, rtol=0)


def test_a_shared_relative_position_bias_is_used():
    backbone = _vit("beit_base_patch16_224")
    reference = timm.create_model(
        "beit_base_patch16_224", img_size=SIZE, num_classes=0, global_pool="", use_shared_rel_pos_bias=True
    ).eval()
    torch.nn.init.normal_(reference.rel_pos_bias.relative_position_bias_table)
    backbone.vit = reference
    with torch.no_grad():
        expected = reference.forward_features(_pixels())[:, 1:]
        torch.testing.assert_close(backbone(_pixels()).patches, expected, atol=1e-5, rtol=0)


def test_kept_patches_are_those_of_a_smaller_sequence():
    backbone = _vit()
    tokens = backbone.embed(_pixels())
    ids = torch.tensor([[0, 5, 9], [3, 4, 15]])
    kept = backbone.encode(tokens, (4, 4), ids=ids).patches
    assert kept.shape == (2, 3, 192)
    changed = tokens.clone()
    changed[0, 1, 0] += 5
    torch.testing.assert_close(backbone.encode(changed, (4, 4), ids=ids).patches, kept)
    everything = torch.arange(16).expand(2, -1)
    torch.testing.assert_close(
        backbone.encode(tokens, (4, 4), ids=everything).patches, backbone.encode(tokens, (4, 4)).patches
    )


def test_wanted_layers():
    backbone = _vit()
    with torch.no_grad():
        features = backbone(_pixels(), layers=(-1, 3))
        torch.testing.assert_close(backbone.vit.norm(features.layers[0])[:, 1:], features.patches)
    assert features.layers[1].shape == (2, 17, 192)


def test_patch_size_and_dynamic_size():
    assert _vit(image_size=32, patch_size=4).grid(32, 32) == (8, 8)
    backbone = _vit(dynamic=True)
    assert backbone.provides == {"cls", "drop_tokens", "any_size", "attention"}
    assert backbone(_pixels(96)).patches.shape == (2, 36, 192)
    with torch.no_grad():
        expected = backbone.vit.forward_features(_pixels())[:, 1:]
        torch.testing.assert_close(backbone(_pixels()).patches, expected)


@pytest.mark.parametrize("name", ["vit_tiny", "deit_tiny_distilled_patch16_224", "vit_betwixt_patch16_reg4_gap_256"])
def test_other_sizes_have_timms_positions_and_a_gradient_in_fixed_order(name):
    backbone = _vit(name, dynamic=True)
    for size in (96, 48):
        images = _pixels(size)
        expected = backbone.vit.forward_features(images)[:, backbone.num_prefix :]
        weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(0))
        (gradient,) = torch.autograd.grad((expected * weights).sum(), backbone.vit.pos_embed)
        with Operators() as seen:
            found = backbone(images).patches
            (own,) = torch.autograd.grad((found * weights).sum(), backbone.vit.pos_embed)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(own, gradient, atol=1e-4, rtol=1e-4)
        assert not [name for name in seen.names if name.startswith("upsample") and name.endswith("backward")]


class Operators(TorchDispatchMode):
    """Keeps the names of the operators that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_what_cannot_be_built_is_said_in_one_line():
    with pytest.raises(UsageError, match=r"48 or 64"):
        _vit(image_size=50)
    with pytest.raises(UsageError, match=r"'resnet50' is no ViT"):
        _vit("resnet50")
    with pytest.raises(UsageError, match=r"does not take"):
        _vit("beit_base_patch16_224", dynamic=True)
    with pytest.raises(UsageError, match=r"built for 4x4 patches and is given 6x6"):
        _vit()(_pixels(96))


def test_beits_do_not_drop_patches():
    with torch.device("meta"):
        backbone = TimmVit(TimmVitOptions(model="beit_base_patch16_224"), BuildContext(image_size=SIZE))
        assert backbone.provides == {"cls", "attention"}
        with pytest.raises(UsageError, match=r"cannot leave patches out"):
            backbone.encode(torch.zeros(1, 16, 768), (4, 4), ids=torch.zeros(1, 2, dtype=torch.int64))


def test_layer_ids_weight_decay_and_state():
    backbone = _vit()
    names = dict(backbone.named_parameters())
    assert {backbone.layer_id(name) for name in names} == set(range(14))
    assert backbone.layer_id("vit.pos_embed") == 0
    assert backbone.layer_id("vit.blocks.11.mlp.fc1.weight") == 12
    assert backbone.layer_id("vit.norm.weight") == 13
    assert backbone.no_weight_decay() <= names.keys()
    assert "vit.pos_embed" in backbone.no_weight_decay()
    assert all(name.startswith("vit.") for name in backbone.state_dict())
    assert len(backbone.blocks) == backbone.depth == 12


def test_names():
    assert all(map(is_timm_vit, SHORT_NAMES.values()))
    assert is_timm_vit("deit3_base_patch16_224.fb_in1k")
    assert not is_timm_vit("resnet50")
    assert not is_timm_vit("vit_gigantic")
