"""Pixel ranges: bytes to [0, 1], [0, 1] to what a backbone was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ssl_core.contracts.batch import Batch
from ssl_core.data.colours import change_colours


def to_unit(pixels: Tensor, colours: Tensor | None = None) -> Tensor:
    """Returns contiguous float32 in [0, 1] of uint8 in 0..255, any shape; floats pass unchanged.

    Args:
        pixels: any shape; (N, 3, H, W) uint8 with `colours`.
        colours: (N, 3, 4), a change of colour for each image, see `change_colours`; None = they stay as they are.
    """
    if pixels.dtype != torch.uint8:
        return pixels
    values = pixels.to(torch.float32, memory_format=torch.contiguous_format)
    return (values if colours is None else change_colours(values, colours)).div_(255)


def unit_views(batch: Batch) -> Batch:
    """Returns a batch of a loader as a method takes it: views in [0, 1], their colours changed. On its device."""
    views = {name: to_unit(view, batch.colours.get(name)) for name, view in batch.views.items()}
    return replace(batch, views=views, colours={})


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
