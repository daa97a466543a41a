"""How the ViTs of MAE, and those that follow it, start: fixed positions and Xavier's weights."""

from __future__ import annotations

import torch
from timm.layers import build_sincos2d_pos_embed
from torch import Tensor, nn

from ssl_core.contracts.masker import Grid
from ssl_core.errors import UsageError


def sincos_positions(grid: Grid, width: int, prefix: int = 0) -> Tensor:
    """Returns the two-dimensional sine-cosine positions of a grid, which are not learnt.

    A quarter of the channels each: sines, then cosines of the column; sines, then cosines of the row, at
    wavelengths from 2 pi to 20,000 pi. It is the order of MAE's published weights.

    Args:
        grid: (h, w), N = h * w.
        width: D, a multiple of 4.
        prefix: P, tokens that are no patch; their positions are 0.

    Returns:
        (1, P + N, D) float32.

    Raises:
        UsageError: the width is no multiple of 4.
    """
    if width % 4:
        raise UsageError(f"sine-cosine positions need a width that is a multiple of 4, not {width}")
    rows_first = build_sincos2d_pos_embed(list(grid), width, interleave_sin_cos=True)  # (N, D)
    patches = rows_first.roll(width // 2, dims=1)
    return torch.cat([patches.new_zeros(prefix, width), patches]).unsqueeze(0)  # (1, P + N, D)


@torch.no_grad()
def xavier_init(module: nn.Module) -> None:
    """Starts linear layers and patch projections as Xavier-uniform with biases of 0, as MAE does.

    A projection counts as the linear layer of a flattened patch. Nothing else is touched.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight.flatten(1))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
