"""How BEiT's weights start."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def draw_weights(module: nn.Module, std: float, tokens: Iterable[Tensor] = ()) -> None:
    """Draws tokens and weights from a normal distribution, cut off at one standard deviation; biases become 0.

    Args:
        module: whose linear layers and convolutions are drawn.
        std: standard deviation before the cut.
        tokens: drawn first.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    for tensor in (*tokens, *(layer.weight for layer in layers)):
        nn.init.trunc_normal_(tensor, std=std, a=-std, b=std)
    for layer in layers:
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


@torch.no_grad()
def rescale_branches(blocks: Iterable[nn.Module], before: int = 0) -> None:
    """Divides the last layer of each residual branch by sqrt(2 l), l being the block's number, from 1.

    Args:
        blocks: `Block`s in order.
        before: blocks that come before them.
    """
    for number, block in enumerate(blocks, start=before + 1):
        block.attn.proj.weight.div_(math.sqrt(2 * number))
        block.mlp.fc2.weight.div_(math.sqrt(2 * number))
