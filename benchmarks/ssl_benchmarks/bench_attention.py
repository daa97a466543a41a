"""`ssl-bench attention`: attention with a learnt bias, as matrix products and as one fused call."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from timm.models.beit import Attention
from torch import Tensor
from torch.nn import functional as F

from ssl_benchmarks.bench_help import add_common_flags, bench_parser, run_bench
from ssl_benchmarks.bench_parts import beit_vit
from ssl_benchmarks.timing import compare_times
from ssl_core.api import Device, Parser, at_least

_HEAD_WIDTH = 64
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def command(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Measures, prints the rows, and returns them as JSON-ready values."""
    summary = "Attention with a learnt bias: as matrix products against a fused call, and BEiT's layer against timm's."
    return run_bench(arguments, parser(), summary, measure)


def measure(flags: argparse.Namespace, device: Device) -> list[dict[str, Any]]:
    """Measures what the flags ask for."""
    batch_size = flags.batch_size or (256 if device.device.type == "cuda" else 4)
    found = []
    for precision in precisions(device):
        there = Device(device.device, precision)
        for gradient in (True, False):
            found.append(function_row(there, flags.heads, flags.tokens, batch_size, gradient, flags.repeats))
        found.append(layer_row(there, flags.heads, batch_size, flags.repeats))
    return found


def precisions(device: Device) -> tuple[str, ...]:
    """Returns those that the device computes in natively."""
    return ("fp32",) if device.precision == "fp32" else ("fp32", device.precision)


def function_row(
    device: Device, heads: int, tokens: int, batch_size: int, gradient: bool, repeats: int
) -> dict[str, Any]:
    """Measures two matrix products and a softmax against `scaled_dot_product_attention` with the bias as its mask.

    Args:
        device: where, and in which precision.
        heads: H, of 64 channels.
        tokens: L.
        batch_size: images.
        gradient: forward and backward, also to the bias; else forward alone.
        repeats: pairs of measurements.
    """
    dtype, shape = _DTYPES[device.precision], (batch_size, heads, tokens, _HEAD_WIDTH)
    query, key, value = (torch.randn(shape, device=device.device, dtype=dtype, requires_grad=gradient) for _ in "qkv")
    bias = torch.randn(1, heads, tokens, tokens, device=device.device, dtype=dtype, requires_grad=gradient)

    def explicit() -> Tensor:
        logits = (query * _HEAD_WIDTH**-0.5) @ key.transpose(-2, -1) + bias  # (B, H, L, L)
        return logits.softmax(-1) @ value  # (B, H, L, d)

    def fused() -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)

    name = f"attention as matrix products, {device.precision}, {'with' if gradient else 'without'} gradient"
    compared = compare_times(_work(explicit, gradient), _work(fused, gradient), repeats, name)
    line = compared.row(name, "scaled_dot_product_attention with the bias", device.device)
    return {**line, "heads": heads, "tokens": tokens, "batch_size": batch_size}


def layer_row(device: Device, heads: int, batch_size: int, repeats: int) -> dict[str, Any]:
    """Measures BEiT's attention layer on 14x14 patches, forward and backward, in the way that it chooses here, against
    timm's layer with a fused call.

    Args:
        device: where, and in which precision.
        heads: H, of 64 channels.
        batch_size: images.
        repeats: pairs of measurements.
    """
    width = heads * _HEAD_WIDTH
    backbone = beit_vit(224, model="vit_base", width=width, heads=heads, depth=1).to(device.device)
    ours, rel_pos_bias = (backbone.get_submodule(name) for name in ("blocks.0.attn", "rel_pos_bias"))
    theirs = Attention(width, num_heads=heads, qkv_bias=True).to(device.device).train()
    theirs.fused_attn = True
    x = torch.randn(batch_size, 197, width, device=device.device, requires_grad=True)

    def through_ours() -> Tensor:
        with device.autocast():
            return ours(x, rel_pos_bias()).float()

    def through_theirs() -> Tensor:
        with device.autocast():
            return theirs(x, rel_pos_bias()[..., :197]).float()

    name = f"attention layer of BEiT, {device.precision}"
    compared = compare_times(_work(through_ours, True), _work(through_theirs, True), repeats, name)
    line = compared.row(name, "timm's, fused", device.device)
    return {**line, "heads": heads, "tokens": 197, "batch_size": batch_size}


def _work(forward: Callable[[], Tensor], gradient: bool) -> Callable[[], None]:
    def work() -> None:
        with torch.set_grad_enabled(gradient):
            found = forward()
        if gradient:
            found.sum().backward()

    return work


def parser() -> Parser:
    """Returns the flags."""
    found = bench_parser("attention")
    add = found.add_argument
    add("--heads", metavar="H", type=at_least(1), default=12, help="of 64 channels (default 12)")
    add("--tokens", metavar="L", type=at_least(2), default=197, help="of the bare functions (default 197)")
    add("--batch-size", metavar="N", type=at_least(1), help="images; 256 on a GPU, 4 on a CPU by default")
    return add_common_flags(found)
