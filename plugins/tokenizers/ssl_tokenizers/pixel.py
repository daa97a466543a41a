"""Pixels as targets: BEiT without visual tokens, SimMIM's and MAE's targets."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ssl_core.api import BuildContext, Grid, Normalize, TargetSource
from ssl_tokenizers.options import PixelOptions
from ssl_tokenizers.patches import backbone_patch, patchify, unpatchify

_EPS = 1e-6
"""Added to a patch's variance before the root is taken (MAE's)."""


class PixelTarget(TargetSource):
    """The target of a patch is its own pixels.

    They are normalised per channel as the method normalises what the backbone sees. With
    `normalize`, each patch then has its mean subtracted and is divided by its standard deviation,
    which MAE (He et al. 2021, section 4.1, "reconstruction target") found to be the better target.

    Attributes:
        width: p * p * C, values in the order row, column, channel.

    Args:
        options: see `PixelOptions`.
        context: with the backbone in `parts`.

    Raises:
        ConfigError: the method has no backbone.
    """

    can_decode = True

    def __init__(self, options: PixelOptions, context: BuildContext):
        super().__init__()
        self.options = options
        self.channels = context.channels
        self.width = backbone_patch(context, "tokenizers:pixel") ** 2 * context.channels
        self.normalize = Normalize(context.mean, context.std)

    @torch.no_grad()
    def targets(self, views: Mapping[str, Tensor], grid: Grid) -> Tensor:
        """Returns (B, N, p * p * C) float32; see `TargetSource.targets` for the arguments."""
        patches = self._patches(views, grid)
        if not self.options.normalize:
            return patches
        mean, deviation = _moments(patches)
        return (patches - mean) / deviation

    @torch.no_grad()
    def picture(self, targets: Tensor, views: Mapping[str, Tensor], grid: Grid) -> Tensor:
        """Puts the patches together. With `normalize`, each gets the mean and the deviation of the true one, as
        in MAE's pictures: they are no part of what was predicted."""
        if self.options.normalize:
            mean, deviation = _moments(self._patches(views, grid))
            targets = targets * deviation + mean
        pixels = unpatchify(targets.float(), grid, self.channels)  # (B, C, H, W)
        return (pixels * self.normalize.std + self.normalize.mean).clamp(0, 1)

    def _patches(self, views: Mapping[str, Tensor], grid: Grid) -> Tensor:
        return patchify(self.normalize(views["image"].float()), grid)  # (B, N, p * p * C)


def _moments(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mean and the standard deviation of each patch, (B, N, 1) each."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return mean, (variance + _EPS).sqrt()
