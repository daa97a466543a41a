"""Every way of computing attention gives the same numbers."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

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


@pytest.fixture
def called(monkeypatch) -> list:
    """Keeps what the fused call is given, and which kernels it may take, and computes nothing."""
    calls = []

    def sdpa(query, key, value, attn_mask=None):
        cuda = torch.backends.cuda
        kernels = {
            "cudnn": cuda.cudnn_sdp_enabled(),
            "flash": cuda.flash_sdp_enabled(),
            "efficient": cuda.mem_efficient_sdp_enabled(),
            "math": cuda.math_sdp_enabled(),
        }
        calls.append((attn_mask, {name for name, enabled in kernels.items() if enabled}))
        return query

    monkeypatch.setattr(attention.F, "scaled_dot_product_attention", sdpa)
    return calls


def _on_a_gpu(length=17, dtype=torch.bfloat16, gradient=True, bias_gradient=True):
    """Returns tensors without contents, which say that they are on a GPU."""
    query = torch.empty(2, 3, length, 8, device="cuda", dtype=dtype, requires_grad=gradient)
    bias = torch.empty(1, 3, length, length + 7, device="cuda", requires_grad=bias_gradient)
    return query, query, query, bias


@pytest.mark.parametrize("length", [17, 64, 192, 197])
@pytest.mark.parametrize("bias_gradient", [True, False])
def test_a_gpu_never_trains_with_cudnn_and_a_bias(called, length, bias_gradient):
    with FakeTensorMode():
        attend(*_on_a_gpu(length, bias_gradient=bias_gradient))
    assert called[0][1] == {"efficient", "math"}


def test_a_bias_that_alone_is_trained_takes_plain_products(called):
    with FakeTensorMode():
        attend(*_on_a_gpu(gradient=False))
    assert called[0][1] == {"math"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("gradient", [True, False])
def test_the_bias_is_given_in_the_dtype_of_the_query(called, dtype, gradient):
    with FakeTensorMode(), torch.set_grad_enabled(gradient):
        attend(*_on_a_gpu(dtype=dtype))
    bias, kernels = called[0]
    assert (bias.dtype, tuple(bias.shape)) == (dtype, (1, 3, 17, 17))
    assert ("cudnn" in kernels) is not gradient


def test_without_a_bias_every_kernel_is_allowed(called):
    with FakeTensorMode():
        attend(*_on_a_gpu()[:3], None)
    assert "flash" in called[0][1]


def test_choosing_kernels_leaves_no_break_in_a_graph():
    query, key, value, bias = _inputs()
    bias = bias[..., :17].requires_grad_()
    torch._dynamo.reset()
    found = torch.compile(attention.chosen_attention, backend="eager", fullgraph=True)(query, key, value, bias)
    torch.testing.assert_close(found, _reference(query, key, value, bias).float())
