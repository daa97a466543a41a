"""Square windows around patch cells, contrast normalisation and PCA whitening."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_CONTRAST_EPS = 1e-4
"""Variance, of pixels in [0, 1], below which a window counts as flat: about 2.5 grey levels squared of 255."""


def extract_windows(pixels: Tensor, cell: int, window: int) -> Tensor:
    """Cuts the window around each patch cell; what lies outside the image is its mirror image.

    Args:
        pixels: (B, C, H, W) float; H and W multiples of `cell`.
        cell: pixels of a patch, the stride.
        window: pixels of a window, at least `cell`.

    Returns:
        (B, N, C * window * window), N = (H / cell) * (W / cell), row-major.
    """
    before = (window - cell) // 2
    after = window - cell - before
    padded = F.pad(pixels, (before, after, before, after), mode="reflect") if window > cell else pixels
    return F.unfold(padded, window, stride=cell).transpose(1, 2)  # (B, N, C * window * window)


def normalise_contrast(windows: Tensor) -> Tensor:
    """Subtracts each window's mean and divides by its standard deviation: (..., d) to (..., d)."""
    centred = windows - windows.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)  # twice as fast as `var_mean` on a CPU
    return centred * torch.rsqrt(variance + _CONTRAST_EPS)


def whitening(windows: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Fits PCA whitening.

    Args:
        windows: (n, d) float32.
        eps: added to each variance, so that the directions of noise are not blown up.

    Returns:
        mean (d,) and projection (d, d): `(windows - mean) @ projection` is white. The columns go from
        the largest variance to the smallest; signs are fixed, so that the result is unique.
    """
    mean = windows.mean(0)
    centred = windows - mean
    covariance = (centred.T @ centred).double() / len(windows)
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))  # (1, d)
    projection = vectors * largest.sign() * torch.rsqrt(values + eps)
    return mean, projection.float()
