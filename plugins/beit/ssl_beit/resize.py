"""Positions for another grid of patches, as BEiT's fine-tuning resizes them.

A table of relative positions is not stretched evenly: most of what it knows is about near offsets, which mean the
same in the larger grid. So its rows and columns are taken to lie at the distances 0, 1, 1 + q, 1 + q + q^2, ...,
with q such that the outermost one falls on the outermost offset of the new grid, and a bicubic spline through them is
read at the new, whole offsets.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ssl_core.api import Grid, UsageError

_CLS_ROWS = 3
_TOLERANCE = 1e-6


def growth(source_half: int, target_half: int) -> float:
    """Returns q, such that 1 + q + ... + q^(n - 1) is the outermost new offset.

    Bisected as in the reference, and from the same bounds where they hold the solution, so that q is
    the reference's to the last digit.

    Args:
        source_half: n, the farthest offset of the old grid (its side less 1), at least 2.
        target_half: that of the new grid, at least n.

    Returns:
        q, at most 1e-6 off.
    """
    low, high = 1.01, 1.5
    if _series(low, source_half) > target_half:
        low = 1.0
    while _series(high, source_half) < target_half:
        high *= 2
    middle = high
    while high - low > _TOLERANCE:
        middle = (low + high) / 2
        if _series(middle, source_half) > target_half:
            high = middle
        else:
            low = middle
    return middle


def _series(ratio: float, terms: int) -> float:
    return float(np.sum(ratio ** np.arange(terms)))


def source_coordinates(old_side: int, new_side: int) -> np.ndarray:
    """Returns where the old offsets lie among the new ones, (2 * old_side - 1) float64, ascending from - to +.

    On a side that does not grow they stay whole numbers, so that a smaller grid takes the offsets it has.

    Args:
        old_side, new_side: patches along one side.
    """
    half = old_side - 1
    ratio = growth(half, new_side - 1) if new_side > old_side else 1.0
    positive = np.cumsum(ratio ** np.arange(half))
    return np.concatenate([-positive[::-1], [0.0], positive])


def resize_table(table: Tensor, old: Grid, new: Grid) -> Tensor:
    """Resizes a table of relative positions. Its last three rows, about the CLS token, stay.

    Args:
        table: ((2h - 1)(2w - 1) + 3, H) of the old grid.
        old, new: (h, w), square or not; each side by itself.

    Returns:
        the table of the new grid, in the dtype of the old one.

    Raises:
        UsageError: the old grid is less than three patches high or wide, too little for a cubic spline.
    """
    if min(old) < 3:
        raise UsageError(
            f"relative positions of {old[0]}x{old[1]} patches cannot be resized; set data.image_size to the size that "
            "the weights were trained at"
        )
    # Imported here: it takes half a second, which only a resize should cost.
    from scipy.interpolate import RectBivariateSpline

    down, across = (source_coordinates(*sides) for sides in zip(old, new, strict=True))
    heads = table[:-_CLS_ROWS].T.reshape(-1, len(down), len(across))  # (H, 2h - 1, 2w - 1)
    new_down, new_across = (np.arange(1.0 - side, side) for side in new)
    splines = [RectBivariateSpline(down, across, head, kx=3, ky=3) for head in heads.double().cpu().numpy()]
    resized = np.stack([spline(new_down, new_across) for spline in splines])  # (H, 2h' - 1, 2w' - 1)
    offsets = torch.from_numpy(resized).flatten(1).T.to(table)  # ((2h' - 1)(2w' - 1), H)
    return torch.cat([offsets, table[-_CLS_ROWS:]])  # (T', H)
