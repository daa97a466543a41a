"""The pictures of a tokenizer in training."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_core.api import Tokenizer, to_unit

_IMAGES = 8


def reconstructions(tokenizer: Tokenizer, pixels: Tensor) -> Tensor:
    """Returns the first images above their reconstructions.

    Args:
        tokenizer: one that can decode.
        pixels: (B, C, H, W), uint8 or float in [0, 1].

    Returns:
        (C, 2 * H, n * W) float in [0, 1], n = 8 or fewer.
    """
    shown = to_unit(pixels[:_IMAGES])  # (n, C, H, W)
    rows = torch.stack([shown, tokenizer.decode(tokenizer.encode(shown))])  # (2, n, C, H, W)
    return rows.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)  # (C, 2 * H, n * W)
