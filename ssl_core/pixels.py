"""Pixel ranges: bytes to [0, 1], [0, 1] to what a backbone was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def to_unit(pixels: Tensor) -> Tensor:
    """Returns float32 in [0, 1] of uint8 in 0..255, any shape; floats pass unchanged."""
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels


class Normalize(nn.Module):
    """(pixels - mean) / std per channel. The constants live on the device, so that no step copies them.

    Args:
        mean, std: per channel, of pixels in [0, 1].
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalises (B, C, H, W) float in [0, 1]."""
        return (pixels - self.mean) / self.std
