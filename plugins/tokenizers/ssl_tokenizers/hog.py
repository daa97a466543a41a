"""Histograms of oriented gradients as targets: MaskFeat's."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_core.api import BuildContext, ConfigError, Grid, TargetSource
from ssl_tokenizers.options import HogOptions
from ssl_tokenizers.patches import backbone_patch

_LARGEST_CELL = 8
"""Pixels of MaskFeat's cells."""


class HogTarget(TargetSource):
    """The target of a patch is how its gradients are oriented (Wei et al. 2021, section 3.2).

    Every pixel of every colour channel votes for the one bin that holds its gradient's orientation,
    with the gradient's magnitude. The histogram of each cell and channel is scaled to unit L2
    length, so that brightness and contrast do not matter; the histograms of a patch's cells are put
    side by side.

    Attributes:
        cell: pixels per side of a cell.
        width: C * bins * cells in a patch, values in the order channel, bin, row and column of the cell.

    Args:
        options: see `HogOptions`.
        context: with the backbone in `parts`.

    Raises:
        ConfigError: the method has no backbone, or `cell` does not divide its patches.
    """

    def __init__(self, options: HogOptions, context: BuildContext):
        super().__init__()
        self.bins = options.bins
        patch = backbone_patch(context, "tokenizers:hog")
        cells = [size for size in range(1, patch + 1) if patch % size == 0]
        self.cell = options.cell or max(size for size in cells if size <= _LARGEST_CELL)
        if self.cell not in cells:
            raise ConfigError(
                [
                    f"tokenizer.cell={self.cell} does not divide patches of {patch} pixels; "
                    f"give one of {', '.join(map(str, cells))}"
                ]
            )
        self.width = context.channels * self.bins * (patch // self.cell) ** 2

    @torch.no_grad()
    def targets(self, views: Mapping[str, Tensor], grid: Grid) -> Tensor:
        """Returns (B, N, C * bins * cells) float32; see `TargetSource.targets` for the arguments."""
        histograms = self._histograms(views["image"].float())  # (B, C, bins, H / cell, W / cell)
        h, w = grid
        cells = histograms.unflatten(4, (w, -1)).unflatten(3, (h, -1))  # (B, C, bins, h, n, w, n)
        return cells.permute(0, 3, 5, 1, 2, 4, 6).flatten(3).flatten(1, 2)  # (B, N, C * bins * n * n)

    def _histograms(self, pixels: Tensor) -> Tensor:
        """Returns unit histograms (B, C, bins, H / cell, W / cell) of (B, C, H, W) float32."""
        across, down = _gradients(pixels)
        magnitude = torch.hypot(across, down)  # (B, C, H, W)
        # Opposite directions are one orientation: the angle modulo pi.
        bins = (torch.atan2(across, down) * (self.bins / math.pi)).floor().remainder(self.bins)
        # One bin after the other takes a ninth of the memory of a scatter, and adds in a fixed order on a GPU too.
        votes = [
            F.avg_pool2d(torch.where(bins == which, magnitude, 0.0), self.cell)  # (B, C, H / cell, W / cell)
            for which in range(self.bins)
        ]
        return F.normalize(torch.stack(votes, dim=2), dim=2)


def _gradients(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Returns Sobel's derivatives, across and down, (B, C, H, W) each; the image is mirrored at its edges.

    Sums, not a convolution, which a GPU would compute in TF32 or bf16: an angle needs all its bits.
    """
    padded = F.pad(pixels, (1, 1, 1, 1), mode="reflect")  # (B, C, H + 2, W + 2)
    left_right = padded[..., :-2] - padded[..., 2:]  # (B, C, H + 2, W)
    up_down = padded[..., :-2, :] - padded[..., 2:, :]  # (B, C, H, W + 2)
    across = left_right[..., :-2, :] + 2 * left_right[..., 1:-1, :] + left_right[..., 2:, :]
    down = up_down[..., :-2] + 2 * up_down[..., 1:-1] + up_down[..., 2:]
    return across, down
