"""Every way of computing attention gives the same numbers."""

from __future__ import annotations

import pytest
import torch

from ssl_beit import attention
from ssl_beit.attention import Attention, attend, explicit_attention, uses_explicit_attention


def _inputs(dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(2, 3, 17, 8, generator=generator).to(dtype) for _ in range(3))
    bias = torch.randn(1, 3, 17, 24, generator=generator)
    return query, key, value, bias


def _reference(query, key, value, bias):
    query, key, value, bias = (tensor.double() for tensor in (query, key, value, bias))
    logits = torch.einsum("bhid,bhjd->bhij", query, key) / 8**0.5 + bias[..., :17]
    return torch.einsum("bhij,bhjd->bhid", logits.softmax(-1), value)


def test_explicit_and_fused_attention_agree_and_ignore_padding():
    query, key, value, bias = _inputs()
    expected = _reference(query, key, value, bias).float()
    torch.testing.assert_close(attend(query, key, value, bias), expected)
    with torch.no_grad():
        assert not uses_explicit_attention(query)
        torch.testing.assert_close(attend(query, key, value, bias), expected)
    bias[..., 17:] = torch.nan
    torch.testing.assert_close(attend(query, key, value, bias), expected)


@pytest.mark.parametrize("explicit", [True, False])
def test_bf16_is_close_to_fp32_under_autocast(explicit, monkeypatch):
    monkeypatch.setattr(attention, "_NATIVE_BF16", explicit)
    query, key, value, bias = _inputs(torch.bfloat16)
    expected = _reference(query, key, value, bias).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert uses_explicit_attention(query) is explicit
        found = attend(query, key, value, bias)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0)


def test_gradient_of_the_bias_is_the_same_either_way():
    query, key, value, bias = _inputs()
    gradients = []
    for function in (explicit_attention, torch.nn.functional.scaled_dot_product_attention):
        leaf = bias[..., :17].clone().requires_grad_()
        function(query, key, value, leaf).pow(2).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


def test_keys_have_no_bias():
    layer = Attention(16, 2)
    names = {name for name, _ in layer.named_parameters()}
    assert names == {"qkv.weight", "q_bias", "v_bias", "proj.weight", "proj.bias"}
    x = torch.randn(2, 5, 16)
    before = layer(x)
    with torch.no_grad():
        layer.v_bias += 1
    assert not torch.allclose(layer(x), before)


@pytest.mark.gpu
def test_gpu_attention_with_a_learnt_bias():
    query, key, value, bias = (tensor.cuda() for tensor in _inputs())
    expected = _reference(query, key, value, bias).float()
    leaf = bias.clone().requires_grad_()
    found = attend(query.bfloat16(), key.bfloat16(), value.bfloat16(), leaf)
    torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0)
    found.float().sum().backward()
    assert leaf.grad.isfinite().all()
