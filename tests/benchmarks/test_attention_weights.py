"""The attention that a backbone shows is the one that its blocks use."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssl_core.api import Backbone, BackboneSpec, Registry, UsageError, build_untrained

SIZE = 32
BEIT = {"model": "vit_tiny", "width": 24, "depth": 3, "heads": 3, "patch_size": 8}
TIMM = {"width": 24, "depth": 3, "heads": 3, "patch_size": 8}
BACKBONES = {
    "shared": ("beit:vit", BEIT),
    "per_block": ("beit:vit", {**BEIT, "rel_pos_bias": "per_block"}),
    "plain": ("beit:vit", {**BEIT, "variant": "plain"}),
    "pooled": ("beit:vit", {**BEIT, "pool": "mean"}),
    "timm": ("core:vit", {"model": "vit_tiny_patch16_224", **TIMM}),
    "registers": ("core:vit", {"model": "vit_small_patch14_reg4_dinov2", **TIMM}),
    "timm_beit": ("core:vit", {"model": "beit_base_patch16_224", **TIMM}),
    "dynamic": ("core:vit", {"model": "vit_tiny_patch16_224", **TIMM, "dynamic": True}),
}


@pytest.fixture(params=BACKBONES)
def backbone(request) -> Backbone:
    component, options = BACKBONES[request.param]
    spec = BackboneSpec(component, options, SIZE, (0.5,) * 3, (0.5,) * 3)
    backbone = build_untrained(spec, registry=Registry.load())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in backbone.parameters():  # zeros in tables and biases would hide them
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / max(parameter.shape[-1], 8) ** 0.5)
    return backbone


def _images() -> Tensor:
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def _by_hand(attention: torch.nn.Module, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Returns the weights (B, H, L, L) and the values (B, H, L, d) of a block, in float64."""
    batch, length, width = x.shape
    projected = x.double() @ attention.qkv.weight.double().T  # (B, L, 3 D)
    if getattr(attention, "q_bias", None) is not None:
        zeros = torch.zeros(width)
        projected = projected + torch.cat([attention.q_bias, zeros, attention.v_bias]).double()
    elif attention.qkv.bias is not None:
        projected = projected + attention.qkv.bias.double()
    query, key, value = projected.view(batch, length, 3, 3, width // 3).permute(2, 0, 3, 1, 4)
    logits = query @ key.transpose(-1, -2) / (width // 3) ** 0.5  # (B, H, L, L)
    if bias is not None:
        logits = logits + bias.double()[..., :length]
    exponentials = (logits - logits.amax(-1, keepdim=True)).exp()
    return exponentials / exponentials.sum(-1, keepdim=True), value


def _relative_bias(backbone: Backbone, attention: torch.nn.Module) -> Tensor | None:
    if hasattr(attention, "_get_rel_pos_bias"):  # timm's
        return attention._get_rel_pos_bias()
    table = getattr(attention, "relative_position_bias_table", None)
    if table is not None:
        index = backbone.relative_position_index
        return table[index.flatten()].view(*index.shape, -1).permute(2, 0, 1)[None]
    shared = getattr(backbone, "rel_pos_bias", None)
    return None if shared is None else shared()


def _scaled(block: torch.nn.Module, number: int, branch: Tensor) -> Tensor:
    """Applies LayerScale, whatever it is called, where there is one."""
    if hasattr(block, f"ls{number}"):
        return getattr(block, f"ls{number}")(branch)
    scale = getattr(block, f"gamma_{number}")
    return branch if scale is None else scale * branch


@pytest.mark.parametrize("layer", [0, 1, -1])
@torch.no_grad()
def test_the_weights_make_the_output_of_their_block(backbone, layer):
    images, number = _images(), range(3)[layer]
    weights = backbone.attention(images, layer)
    length = backbone.num_prefix + 16
    assert weights.shape == (2, 3, length, length)
    assert weights.sum(-1) == pytest.approx(1, abs=1e-5)

    inputs = []
    block = backbone.blocks[number]
    hook = block.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    outputs = backbone(images, layers=(number,)).layers[0]
    hook.remove()
    normed = block.norm1(inputs[0])
    expected, values = _by_hand(block.attn, normed, _relative_bias(backbone, block.attn))
    assert weights.numpy() == pytest.approx(expected.numpy(), abs=1e-5)

    attended = (weights.double() @ values).transpose(1, 2).flatten(2).float()  # (B, L, D)
    x = inputs[0] + _scaled(block, 1, block.attn.proj(attended))
    x = x + _scaled(block, 2, block.mlp(block.norm2(x)))
    assert outputs.numpy() == pytest.approx(x.numpy(), abs=1e-4)


@torch.no_grad()
def test_asking_changes_nothing(backbone):
    before = backbone(_images()).patches
    first, second = backbone.attention(_images()), backbone.attention(_images())
    assert torch.equal(first, second)
    assert torch.equal(backbone(_images()).patches, before)


def test_a_backbone_without_it_says_so():
    backbone = build_untrained(
        BackboneSpec("core:vit", {"model": "vit_tiny_patch16_224", **TIMM}, SIZE, (0.5,) * 3, (0.5,) * 3)
    )
    assert "attention" in backbone.provides
    with pytest.raises(UsageError, match="does not show its attention"):
        Backbone.attention(backbone, _images())
