"""Samples to a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ssl_core.contracts.batch import Batch
from ssl_core.contracts.masker import Grid, Masker
from ssl_core.data.colours import same_colours
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
    views = {name: _stack([sample.views[name] for sample in samples]) for name in samples[0].views}
    changed = [name for name in views if any(name in sample.colours for sample in samples)]
    colours = {
        name: _crop_major([sample.colours.get(name, same_colours(len(sample.views[name]))) for sample in samples])
        for name in changed
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
        colours=colours,
    )


def _stack(views: Sequence[Tensor]) -> Tensor:
    """Stacks B views (count, C, H, W) to (count * B, C, H, W), in the memory format of the first one.

    Reordering bytes is work that the device does on the way to floats.
    """
    if views[0].is_contiguous():
        return _crop_major(views)
    return _crop_major([view.permute(0, 2, 3, 1) for view in views]).permute(0, 3, 1, 2)


def _crop_major(parts: Sequence[Tensor]) -> Tensor:
    """Makes (count * B, ...) of B tensors (count, ...): the first B rows are every image's first crop."""
    return torch.stack(list(parts), dim=1).flatten(0, 1)  # one copy
