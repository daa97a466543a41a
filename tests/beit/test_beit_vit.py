"""BEiT's ViT: features, sizes, initialisation, parameter groups."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from beit_parts import beit_method, randomise

from ssl_beit.backbone import BeitVit
from ssl_beit.options import BeitVitOptions
from ssl_beit.sizes import SIZES
from ssl_core.api import BuildContext, UsageError


def _vit(image_size: int = 32, **options) -> BeitVit:
    return BeitVit(BeitVitOptions(**options), BuildContext(image_size=image_size))


def _timm(backbone: BeitVit, **options):
    reference = timm.create_model("beit_base_patch16_224", num_classes=0, global_pool="token", **options)
    state = {name: value.detach() for name, value in backbone.named_parameters()}
    loaded = reference.load_state_dict(state, strict=False)
    assert not loaded.unexpected_keys
    assert all("index" in name for name in loaded.missing_keys)
    return reference.eval()


@pytest.mark.parametrize("variant", ["beit+", "plain"])
def test_features_equal_timms_at_base_size(variant, monkeypatch):
    for module in (torch.nn.init, timm.models.beit):  # every parameter is overwritten anyway
        monkeypatch.setattr(module, "trunc_normal_", lambda tensor, *_, **__: tensor)
    backbone = _vit(224, variant=variant)
    randomise(backbone)
    shared = variant == "beit+"
    reference = _timm(
        backbone,
        use_shared_rel_pos_bias=shared,
        use_rel_pos_bias=False,
        use_abs_pos_emb=not shared,
        init_values=0.1 if shared else 0.0,
    )
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = backbone.eval()(pixels)
        expected = reference.forward_features(pixels)
    assert features.patches.shape == (1, 196, 768)
    torch.testing.assert_close(torch.cat([features.prefix, features.patches], 1), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(features.summary, expected[:, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"model": "vit_base"}, 91_965_776),
        ({"model": "vit_base", "variant": "plain"}, 92_089_856),
        ({"model": "vit_large"}, 311_534_016),
    ],
)
def test_parameters_with_head_and_mask_token_as_in_the_reference(options, count):
    with torch.device("meta"):
        method = beit_method(8192, 1, 224, **options)
    assert sum(parameter.numel() for parameter in method.parameters()) == count


def test_decay_groups_as_in_the_reference():
    with torch.device("meta"):
        method = beit_method(8192, 1, 224)
    parameters = dict(method.named_parameters())
    decayed, plain = method.param_groups()
    assert (len(decayed.names), len(plain.names)) == (52, 137)
    assert sum(parameters[name].numel() for name in decayed.names) == 91_825_488
    assert {"mask_token", "backbone.rel_pos_bias.relative_position_bias_table"} <= set(decayed.names)
    assert "backbone.cls_token" in plain.names


def test_initialisation_is_cut_at_one_sigma_and_rescaled_with_depth():
    method = beit_method(512, 1, 32, model="vit_tiny", patch_size=8)
    backbone = method.backbone
    for weight in (
        backbone.blocks[3].attn.qkv.weight,
        backbone.blocks[3].mlp.fc1.weight,
        backbone.patch_embed.proj.weight,
        method.head.lm_head.weight,
    ):
        assert weight.abs().max() <= 0.02
        assert weight.std().item() == pytest.approx(0.0108, abs=1e-4)
    for number in (1, 6, 12):
        block = backbone.blocks[number - 1]
        for weight in (block.attn.proj.weight, block.mlp.fc2.weight):
            assert weight.std().item() == pytest.approx(0.0108 / math.sqrt(2 * number), rel=0.01)
    for token in (backbone.cls_token, method.mask_token):
        assert 0.008 < token.std() < 0.013
        assert token.abs().max() <= 0.02
    zero = ("bias", "table")
    assert all(not parameter.any() for name, parameter in method.named_parameters() if name.endswith(zero))
    assert torch.equal(backbone.blocks[0].gamma_1, torch.full((192,), 0.1))


def test_layer_scale_by_size_and_variant():
    def gamma(**options):
        with torch.device("meta"):
            return _vit(224, **options).blocks[0].gamma_1

    assert _vit(depth=1, width=8, heads=1, model="vit_large").blocks[0].gamma_1[0].item() == pytest.approx(1e-5)
    assert gamma(variant="plain") is None
    assert gamma(init_values=0.0) is None
    assert gamma(variant="plain", init_values=0.1) is not None


def test_sizes():
    for model, (width, depth, heads, patch_size) in SIZES.items():
        with torch.device("meta"):
            backbone = _vit(224, model=model)
        found = backbone.width, backbone.depth, backbone.heads, backbone.patch_size
        assert found == (width, depth, heads, patch_size)
        assert len(backbone.blocks) == depth


def test_drop_path_grows_linearly():
    backbone = _vit(drop_path=0.1, width=8, heads=1, depth=3)
    assert isinstance(backbone.blocks[0].drop_path, torch.nn.Identity)
    assert [backbone.blocks[k].drop_path.drop_prob for k in (1, 2)] == pytest.approx([0.05, 0.1])


def test_layer_ids():
    backbone = _vit(model="vit_tiny", depth=4)
    expected = {
        "cls_token": 0,
        "patch_embed.proj.weight": 0,
        "blocks.0.gamma_1": 1,
        "blocks.3.attn.qkv.weight": 4,
        "norm.weight": 5,
        "rel_pos_bias.relative_position_bias_table": 5,
    }
    assert {name: backbone.layer_id(name) for name in expected} == expected
    assert _vit(variant="plain", width=8, heads=1, depth=2).layer_id("pos_embed") == 0


def test_wanted_layers_come_unnormalised_in_the_order_asked_for():
    backbone = _vit(width=32, heads=2, depth=3, patch_size=8).eval()
    randomise(backbone, 0.2)
    features = backbone(torch.randn(2, 3, 32, 32), layers=(-1, 0))
    last, first = features.layers
    assert last.shape == first.shape == (2, 17, 32)
    torch.testing.assert_close(backbone.norm(last)[:, 1:], features.patches)
    assert not torch.allclose(first, last)


def test_plain_variant_encodes_the_patches_it_is_given():
    """Attention of the kept patches alone: as if the others were not in the image."""
    backbone = _vit(variant="plain", width=32, heads=2, depth=2, patch_size=8).eval()
    randomise(backbone, 0.2)
    tokens = torch.randn(2, 16, 32)
    ids = torch.tensor([[0, 3, 7], [2, 5, 15]])
    kept = backbone.encode(tokens, (4, 4), ids=ids)
    assert kept.patches.shape == (2, 3, 32)
    assert kept.ids is ids
    changed = tokens.clone()
    changed[0, 1, 0] += 5
    torch.testing.assert_close(backbone.encode(changed, (4, 4), ids=ids).patches, kept.patches)
    changed[0, 3, 0] += 5
    assert not torch.allclose(backbone.encode(changed, (4, 4), ids=ids).patches[0], kept.patches[0])
    everything = torch.arange(16).expand(2, -1)
    whole = backbone.encode(tokens, (4, 4))
    torch.testing.assert_close(backbone.encode(tokens, (4, 4), ids=everything).patches, whole.patches)


def test_what_does_not_fit_is_said_in_one_line():
    with pytest.raises(
        UsageError, match=r"32 is not a multiple of backbone.patch_size 12; set data.image_size to 24 or 36"
    ):
        _vit(patch_size=12)
    with pytest.raises(UsageError, match=r"backbone.width 30 does not divide into 4 heads"):
        _vit(width=30, heads=4)
    backbone = _vit(width=8, heads=1, depth=1)
    with pytest.raises(UsageError, match=r"built for 2x2 patches and is given 4x4"):
        backbone(torch.zeros(1, 3, 64, 64))
    with pytest.raises(UsageError, match=r"backbone.variant=plain"):
        backbone.encode(torch.zeros(1, 4, 8), (2, 2), ids=torch.zeros(1, 2, dtype=torch.int64))
