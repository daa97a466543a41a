"""Samples to a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from ssl_core.contracts.batch import Batch
from ssl_core.contracts.masker import Grid, Masker
from ssl_core.data.masks import collate_masks

if TYPE_CHECKING:
    from ssl_core.data.dataset import Sample


def collate(samples: Sequence[Sample], masker: Masker | None, grid: Grid | None) -> Batch:
    """Stacks B samples.

    Args:
        samples: with the same views.
        masker: who made the masks; None where there are none.
        grid: (h, w), of the masks; None without a masker.
    """
    # Stacking on dimension 1 makes the rows crop-major in a single copy.
    views = {
        name: torch.stack([sample.views[name] for sample in samples], dim=1).flatten(0, 1)  # (count * B, C, H, W)
        for name in samples[0].views
    }
    mask = None
    if masker is not None and grid is not None:
        mask = collate_masks([sample.mask for sample in samples], masker, grid)
    return Batch(
        views=views,
        index=torch.tensor([sample.index for sample in samples]),
        source=torch.tensor([sample.source for sample in samples]),
        label=torch.tensor([sample.label for sample in samples]),
        mask=mask,
    )
