"""Image cells as coefficients of a cosine transform, and back: where a small discrete VAE starts from."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_COLOUR = 2.5
"""How much faster than with frequency the variance of natural images falls from brightness to colour."""


def cosine_basis(channels: int, cell: int, width: int) -> Tensor:
    """Returns the first vectors of an orthonormal cosine transform over rows, columns and colours.

    They come in the order in which natural images have less and less variance along them: low
    frequencies before high ones, brightness before colour.

    Args:
        channels: C.
        cell: pixels of a cell and side.
        width: how many, at most C * cell * cell.

    Returns:
        (width, C, cell, cell) float32, orthonormal rows.
    """
    space, colour = _cosines(cell), _cosines(channels)
    products = torch.einsum("kc,uy,vx->kuvcyx", colour, space, space)  # (C, cell, cell, C, cell, cell)
    k = torch.arange(channels, dtype=torch.float64).view(-1, 1, 1)
    u, v = torch.arange(cell, dtype=torch.float64).view(-1, 1), torch.arange(cell, dtype=torch.float64)
    variance = 1 / ((1 + (_COLOUR * k).square()) * (1 + u.square() + v.square()))  # (C, cell, cell)
    order = variance.flatten().argsort(descending=True, stable=True)[:width]
    return products.flatten(0, 2)[order].float()  # (width, C, cell, cell)


class CellAnalysis(nn.Conv2d):
    """Turns each cell into coefficients: (B, C, H, W) in [0, 1] to (B, width, H / cell, W / cell), around 0."""

    def __init__(self, channels: int, cell: int, width: int):
        super().__init__(channels, width, cell, stride=cell)
        with torch.no_grad():
            self.weight.zero_()
            basis = cosine_basis(channels, cell, width)
            self.weight[: len(basis)] = basis
            self.bias.zero_()

    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(pixels - 0.5)


class CellSynthesis(nn.ConvTranspose2d):
    """Turns coefficients into cells: (B, width, h, w) to (B, C, h * cell, w * cell), about [0, 1]."""

    def __init__(self, channels: int, cell: int, width: int):
        super().__init__(width, channels, cell, stride=cell)
        with torch.no_grad():
            self.weight.zero_()
            basis = cosine_basis(channels, cell, width)
            self.weight[: len(basis)] = basis
            self.bias.zero_()

    def forward(self, coefficients: Tensor) -> Tensor:
        return super().forward(coefficients) + 0.5


def _cosines(n: int) -> Tensor:
    """Returns the orthonormal DCT-II of n points, (n, n) float64, a frequency a row."""
    k, x = torch.arange(n, dtype=torch.float64).view(-1, 1), torch.arange(n, dtype=torch.float64)
    return F.normalize(torch.cos(math.pi / n * (x + 0.5) * k), dim=1)
