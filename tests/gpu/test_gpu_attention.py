"""Attention with a bias on a GPU: right numbers from every length and dtype, whichever kernel torch would take."""

from __future__ import annotations

import pytest
import torch

from ssl_beit.attention import attend
from ssl_beit.backbone import BeitVit
from ssl_beit.options import BeitVitOptions
from ssl_core.api import BuildContext

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.01}


def inputs(length: int):
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, length, 64, generator=generator).cuda() for _ in range(3))
    bias = torch.randn(1, 3, length, length + -length % 8, generator=generator).cuda()
    return query, key, value, bias


def reference(query, key, value, bias):
    query, key, value, bias = (tensor.double() for tensor in (query, key, value, bias))
    logits = query @ key.transpose(-2, -1) / 8 + bias[..., : query.shape[-2]]
    return logits.softmax(-1) @ value


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("length", [17, 64, 65, 192, 197])
@pytest.mark.parametrize("trained", ["all", "all but the bias", "the bias"])
def test_values_and_gradients_are_those_of_float64(dtype, length, trained):
    """64 and 192 are 64 more than a multiple of 128, where cuDNN's backward pass gives NaN."""
    query, key, value, bias = inputs(length)
    leaves, exact = [], []
    for number, tensor in enumerate((query.to(dtype), key.to(dtype), value.to(dtype), bias)):
        wanted = trained == "all" or (trained == "the bias") == (number == 3)
        leaves.append(tensor.clone().requires_grad_(wanted))
        exact.append(tensor.double().requires_grad_(wanted))
    found, expected = attend(*leaves), reference(*exact)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, atol=TOLERANCE[dtype], rtol=0)
    found.double().square().mean().backward()
    expected.square().mean().backward()
    for leaf, true in zip(leaves, exact, strict=True):
        if leaf.requires_grad:
            assert leaf.grad.isfinite().all()
            scale = true.grad.abs().max()
            torch.testing.assert_close(leaf.grad.double() / scale, true.grad / scale, atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_without_a_gradient_a_float32_bias_is_read_as_what_it_is(dtype):
    query, key, value, bias = inputs(197)
    with torch.no_grad():
        found = attend(query.to(dtype), key.to(dtype), value.to(dtype), bias)
    torch.testing.assert_close(found.double(), reference(query, key, value, bias), atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("image_size", [32, 224])
def test_the_backbone_gives_what_it_gives_on_a_cpu(image_size):
    torch.manual_seed(0)
    options = BeitVitOptions(model="vit_tiny", depth=3, patch_size=4 if image_size == 32 else 16)
    backbone = BeitVit(options, BuildContext(image_size=image_size)).eval()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.normal_(std=0.02)
        pixels = torch.randn(2, 3, image_size, image_size)
        expected = backbone.double()(pixels.double()).patches
        backbone = backbone.float().cuda()
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.testing.assert_close(backbone(pixels.cuda()).patches.cpu().double(), expected, atol=1e-4, rtol=1e-4)
        with torch.autocast("cuda", torch.bfloat16):
            low = backbone(pixels.cuda()).patches
        torch.testing.assert_close(low.cpu().double(), expected, atol=0.1, rtol=0.05)
