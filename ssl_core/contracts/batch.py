"""What a training step is given, and the views that a method asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class ViewSpec:
    """One named view of an image that a method, or its target source, wants.

    Attributes:
        size: height and width in pixels.
        count: how many crops of this size are drawn; they run as one batch.
        interpolation: filter of the resize.
        scale: share of the image's area a crop covers, (low, high); None = the transform's own option.
        crop_of: name of the view whose crop box this view shares (BEiT's tokenizer sees the very
            crop that the backbone sees); None = its own.
    """

    size: int
    count: int = 1
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = "bicubic"
    scale: tuple[float, float] | None = None
    crop_of: str | None = None


@dataclass(frozen=True)
class MaskBatch:
    """The masks of a batch, with index tensors so that a step needs no `nonzero`.

    Attributes:
        hidden: (B, M, N) bool, True = hidden; N = h * w, row-major.
        ids: (B, M, K) int64, the hidden patches in ascending order, padded with 0 to K.
        valid: (B, M, K) bool, False = padding; None when nothing is padded.
        visible_ids: (B, L) int64, the patches the encoder may see, ascending. None when the
            masker does not hide equally many in each image.
    """

    hidden: Tensor
    ids: Tensor
    valid: Tensor | None = None
    visible_ids: Tensor | None = None

    def take(self, values: Tensor) -> Tensor:
        """Returns what belongs to the hidden patches, mask after mask, with static shapes and no wait for the device.

        Args:
            values: (B, N), or (B, N, D).

        Returns:
            (B, M * K), or (B, M * K, D); places of padding hold patch 0.
        """
        ids = self.ids.flatten(1)  # (B, M * K)
        if values.ndim == 3:
            ids = ids.unsqueeze(-1).expand(-1, -1, values.shape[2])  # (B, M * K, D)
        return values.gather(1, ids)


@dataclass(frozen=True)
class Batch:
    """One micro-batch.

    Attributes:
        views: name -> (count * B, C, H, W), crop-major (the first B rows are every image's first
            crop). uint8 in 0..255 as the loader makes them, perhaps `channels_last` in memory; the runner turns
            them into float32 in [0, 1] on the device, before the step.
        mask: None for methods without a masker.
        targets: (B, N) int64, the ids that the target source would give, where the run keeps them on disk
            (`data.cache_targets`); the view `tokens` is then not in `views`. None = compute them.
        keep_targets: whether the run keeps the targets that the step computes, so that it needs those of all patches.
        index: (B,) int64, each sample's place in the data set.
        source: (B,) int64, the sample that was really read: another one where the image was broken.
        label: (B,) int64, -1 where there is none. Only supervised methods may read it.
        colours: name -> (count * B, 3, 4) float32, changes of colour that a view still needs, see `Views`. The runner
            makes them on the device; a step finds none.
    """

    views: dict[str, Tensor]
    index: Tensor
    source: Tensor
    label: Tensor
    mask: MaskBatch | None = None
    targets: Tensor | None = None
    keep_targets: bool = False
    colours: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device) -> Batch:
        """Returns the batch with every tensor on `device`; from pinned memory the copy is asynchronous."""
        return _map_tensors(self, lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Returns the batch in page-locked memory. The DataLoader calls it."""
        return _map_tensors(self, Tensor.pin_memory)


def _map_tensors(value, function: Callable[[Tensor], Tensor]):
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {name: _map_tensors(item, function) for name, item in value.items()}
    if isinstance(value, Batch | MaskBatch):
        return replace(value, **{f.name: _map_tensors(getattr(value, f.name), function) for f in fields(value)})
    return value
