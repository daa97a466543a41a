"""Principal components of patch features, as colours."""

from __future__ import annotations

import torch
from torch import Tensor


def principal_components(features: Tensor, count: int = 3) -> Tensor:
    """Returns the coordinates of each row along the first principal components, (n, count) float64.

    The sign of a component is free; here its largest coefficient is positive, so that colours do not flip from
    one machine to another. Components that the features do not have are 0.

    Args:
        features: (n, D).
        count: how many components.
    """
    centred = features.double() - features.double().mean(dim=0)  # (n, D)
    _, vectors = torch.linalg.eigh(centred.T @ centred)  # ascending; (D, D)
    axes = vectors.flip(1)[:, :count]  # (D, count)
    largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))  # (1, count)
    found = centred @ (axes * largest.sign())  # (n, count)
    missing = count - found.shape[1]
    return torch.nn.functional.pad(found, (0, missing)) if missing > 0 else found


def as_colours(coordinates: Tensor) -> Tensor:
    """Returns (n, 3) in [0, 1]: each column stretched over its whole range; one without a range is 0.5."""
    low, high = coordinates.amin(dim=0), coordinates.amax(dim=0)
    spread = high - low
    flat = spread <= 1e-9 * spread.max()
    return torch.where(flat, 0.5, (coordinates - low) / torch.where(flat, 1.0, spread))
