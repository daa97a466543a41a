"""Sheets of pictures for masked modelling: image | masked image | reconstruction."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_core.contracts.batch import Batch, MaskBatch

_HIDDEN_GREY = 0.5


def first_images(batch: Batch, count: int) -> Batch:
    """Returns the first `count` images of a batch whose views hold one crop each."""
    mask = batch.mask
    if mask is not None:
        mask = MaskBatch(
            hidden=mask.hidden[:count],
            ids=mask.ids[:count],
            valid=mask.valid[:count] if mask.valid is not None else None,
            visible_ids=mask.visible_ids[:count] if mask.visible_ids is not None else None,
        )
    return replace(
        batch,
        views={name: pixels[:count] for name, pixels in batch.views.items()},
        index=batch.index[:count],
        source=batch.source[:count],
        label=batch.label[:count],
        targets=batch.targets[:count] if batch.targets is not None else None,
        mask=mask,
    )


def picture_sheet(image: Tensor, hidden: Tensor, decoded: Tensor | None) -> Tensor:
    """Lays pictures out in a sheet, one image a row.

    Args:
        image: (B, 3, H, W) float in [0, 1].
        hidden: (B, h, w) bool, True = hidden; greyed out in the second column.
        decoded: (B, 3, H', W') float in [0, 1], the third column; None = no such column.

    Returns:
        (3, B * H, columns * W) float32 in [0, 1].
    """
    size = image.shape[-2:]
    grey = F.interpolate(hidden.unsqueeze(1).float(), size, mode="nearest") > 0  # (B, 1, H, W)
    columns = [image, torch.where(grey, _HIDDEN_GREY, image)]
    if decoded is not None:
        columns.append(F.interpolate(decoded.float(), size, mode="bilinear", antialias=True, align_corners=False))
    rows = torch.cat([column.float() for column in columns], dim=3)  # (B, 3, H, columns * W)
    return torch.cat(list(rows), dim=1).clamp(0, 1)  # (3, B * H, columns * W)
