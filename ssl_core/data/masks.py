"""The masks of a batch, checked, with the index tensors that a training step reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ssl_core.contracts.batch import MaskBatch
from ssl_core.contracts.masker import Grid, Mask, Masker
from ssl_core.errors import PluginError


def collate_masks(masks: Sequence[Mask], masker: Masker, grid: Grid) -> MaskBatch:
    """Stacks the masks of B images.

    `valid` is None for maskers of equal counts. `visible_ids` is the context where the masker
    gives one, else every patch that no mask hides; None unless equally many in each image.

    Args:
        masks: one an image.
        masker: who made them; says how many patches to expect.
        grid: (h, w), N = h * w.

    Raises:
        PluginError: a mask breaks the masker's own promises; the message names the class.
    """
    for mask in masks:
        _check(mask, masker, grid)
    batch, per_image, patches = len(masks), masker.masks_per_image, grid[0] * grid[1]
    hidden = np.stack([mask.hidden for mask in masks]).reshape(batch, per_image, patches)  # (B, M, N)
    most = masker.max_hidden(grid)
    counts = hidden.sum(-1)  # (B, M)
    _check_counts(counts, most, masker)
    if masker.equal_counts:
        ids = np.nonzero(hidden)[2].reshape(batch, per_image, most)  # (B, M, K)
        valid = None
    else:
        # A stable sort puts the hidden patches first, in ascending order.
        ids = np.argsort(~hidden, axis=-1, kind="stable")[..., :most]  # (B, M, K)
        valid = np.arange(most) < counts[..., None]  # (B, M, K)
        ids = np.where(valid, ids, 0)
    return MaskBatch(
        hidden=torch.from_numpy(hidden),
        ids=torch.from_numpy(ids),
        valid=None if valid is None else torch.from_numpy(valid),
        visible_ids=_visible_ids(masks, hidden),
    )


def _visible_ids(masks: Sequence[Mask], hidden: np.ndarray) -> Tensor | None:
    """Returns (B, L), or None where the images differ in L."""
    if masks[0].context is None:
        visible = ~hidden.any(axis=1)  # (B, N)
    else:
        visible = np.stack([mask.context for mask in masks]).reshape(len(masks), -1)  # (B, N)
    counts = visible.sum(-1)
    if (counts != counts[0]).any():
        return None
    return torch.from_numpy(np.nonzero(visible)[1].reshape(len(masks), -1))  # (B, L)


def _check(mask: Mask, masker: Masker, grid: Grid) -> None:
    expected = (masker.masks_per_image, *grid)
    given = [("hidden", mask.hidden, expected)]
    if mask.context is not None:
        given.append(("context", mask.context, grid))
    for name, array, shape in given:
        if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != np.bool_:
            what = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise PluginError(
                f"masker {type(masker).__name__}: Mask.{name} must be a numpy bool array of shape {shape} "
                f"for the grid {grid[0]}x{grid[1]}, got {what}"
            )


def _check_counts(counts: np.ndarray, most: int, masker: Masker) -> None:
    name = type(masker).__name__
    if counts.max() > most:
        raise PluginError(f"masker {name} hid {counts.max()} patches, but its max_hidden says at most {most}")
    if counts.min() == 0 and not masker.may_be_empty:
        raise PluginError(f"masker {name} hid no patch of an image; it must hide one or declare may_be_empty = True")
    if masker.equal_counts and counts.min() != most:
        raise PluginError(
            f"masker {name} hid {counts.min()} patches of an image and promises {most}; "
            "it must hide equally many or declare equal_counts = False"
        )
