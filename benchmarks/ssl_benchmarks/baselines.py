"""What a trained backbone has to beat."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_core.api import to_unit

RAW_PIXELS = "32x32 RGB in [0, 1] minus 0.5, L2-normalised"
"""How raw pixels become a feature, for the protocol."""


class RawPixels:
    """Embeds images as their own pixels at 32x32: anything below this has learnt nothing."""

    size = 32

    def __call__(self, pixels: Tensor) -> Tensor:
        """Returns (B, 3072) float32, pixels minus 0.5, of (B, 3, S, S) uint8."""
        images = to_unit(pixels)
        if images.shape[-1] != self.size:
            images = F.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)  # (B, 3, 32, 32)
        return images.flatten(1) - 0.5  # (B, 3072)


def majority_accuracy(bank_labels: Tensor, query_labels: Tensor) -> float:
    """Returns the accuracy, in percent, of always answering the bank's commonest class (lowest on a tie)."""
    commonest = torch.bincount(bank_labels).argmax()
    return 100 * float((query_labels == commonest).float().mean())
