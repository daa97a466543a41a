"""Positions of another grid of patches, with a gradient that a GPU adds up in a fixed order.

`interpolate` has no such gradient there: a run that resizes positions in its steps could not be repeated bit for bit.
Resizing is linear, and along each axis by itself, so two small tables of weights say the same in products and sums.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ssl_core.contracts.masker import Grid


def resize_positions(positions: Tensor, old: Grid, new: Grid, prefix: int = 1, antialias: bool = False) -> Tensor:
    """Resizes absolute positions bicubically, as `interpolate` does. Those of prefix tokens stay.

    Args:
        positions: (1, P + N, D) of the old grid.
        old, new: (h, w).
        prefix: P.
        antialias: whether the filter grows with the step where the grid becomes smaller, as timm has it.

    Returns:
        (1, P + N', D), in the dtype of the old ones.
    """
    kept, patches = positions[0, :prefix], positions[0, prefix:]
    down, across = (_weights(*sides, antialias, positions.device) for sides in zip(old, new, strict=True))
    values = patches.float().unflatten(0, old)  # (h, w, D)
    values = (down[:, :, None, None] * values).sum(1)  # (h', w, D)
    values = (across[:, :, None] * values[:, None]).sum(2)  # (h', w', D)
    return torch.cat([kept, values.flatten(0, 1).to(kept)])[None]  # (1, P + N', D)


def _weights(old: int, new: int, antialias: bool, device: torch.device) -> Tensor:
    """Returns (new, old) float32: what each of the new places takes of the old ones."""
    # A channel for each old place, along the width: torch 2.15 gets images that are one pixel wide wrong.
    each = torch.eye(old, device=device).view(1, old, 1, old)
    return interpolate(each, size=(1, new), mode="bicubic", antialias=antialias)[0, :, 0].T
