"""Features of clean, whole images: each image is decoded once, for all the features that are wanted."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ssl_benchmarks.progress import progress
from ssl_core.api import (
    Backbone,
    BackboneSpec,
    BadImage,
    Device,
    ImageSet,
    Normalize,
    NumericError,
    UsageError,
    center_view,
    to_unit,
)

Embedder = Callable[[Tensor], Tensor]
"""(B, 3, S, S) uint8 on the device to (B, D) float32."""

_SMALL_IMAGE = 64
"""Pixels up to which decoding is so cheap that worker processes cost more than they bring."""
_FEW_IMAGES = 1024


@dataclass(frozen=True)
class Extracted:
    """Features of one image set.

    Attributes:
        features: name of the embedder -> (n, D) float32 on the CPU.
        labels: (n,) int64.
        unreadable: names of the images that are left out because they cannot be read.
    """

    features: dict[str, Tensor]
    labels: Tensor
    unreadable: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


class BackboneFeatures:
    """Embeds images with a frozen backbone, which is moved to the device.

    Args:
        backbone: with its `spec`.
        device: where and in which precision.
        feature: `mean` of the patch tokens, the `cls` token, or both side by side.
        layer: 0-based block, negative from the end, before the final norm; None = after it.

    Raises:
        UsageError: there is no such layer, or no CLS token.
    """

    def __init__(
        self,
        backbone: Backbone,
        device: Device,
        feature: Literal["mean", "cls", "cls+mean"] = "mean",
        layer: int | None = None,
    ):
        if feature != "mean" and "cls" not in backbone.provides:
            raise UsageError(f"feature={feature}: this backbone has no CLS token; use feature=mean")
        if layer is not None and not -backbone.depth <= layer < backbone.depth:
            raise UsageError(f"layer={layer}: the backbone has blocks 0 to {backbone.depth - 1} (-1 is the last)")
        spec = spec_of(backbone)
        self._device = device
        self._feature = feature
        self._layer = layer
        self._backbone = backbone.to(device.device).eval()
        self._normalize = Normalize(spec.mean, spec.std).to(device.device)

    def __call__(self, pixels: Tensor) -> Tensor:
        with torch.inference_mode(), self._device.autocast():
            images = self._normalize(to_unit(pixels))
            found = self._backbone(images, layers=() if self._layer is None else (self._layer,))
        if self._layer is None:
            patches, cls = found.patches, found.summary
        else:
            tokens = found.layers[0]
            patches, cls = tokens[:, self._backbone.num_prefix :], tokens[:, 0]
        parts = {"mean": lambda: patches.float().mean(1), "cls": lambda: cls.float()}
        return torch.cat([parts[name]() for name in self._feature.split("+")], dim=1)  # (B, D) or (B, 2 D)


def spec_of(backbone: Backbone) -> BackboneSpec:
    """Returns what the backbone was built from. Raises UsageError where nobody wrote it down."""
    if backbone.spec is None:
        raise UsageError("the backbone has no spec, so its image size is unknown; get it from `ssl_core.load`")
    return backbone.spec


def extract(
    images: ImageSet,
    indices: Sequence[int],
    embedders: Mapping[str, Embedder],
    *,
    size: int,
    device: torch.device,
    crop_fraction: float = 1.0,
    batch_size: int | None = None,
    workers: int | None = None,
    label: str = "features",
) -> Extracted:
    """Computes every feature of the given images, in their order, in one pass.

    Args:
        images: one split.
        indices: which of its images.
        embedders: name -> what makes features.
        size: pixels of the central square that the embedders see.
        device: where they want it.
        crop_fraction: share of the shorter side that the square keeps.
        batch_size: images at once; None = by device and size.
        workers: decoding processes; None = by cores and images.
        label: what the progress says.

    Raises:
        NumericError: a feature is not finite.
    """
    dataset = _CleanViews(images, indices, size, crop_fraction)
    loader = DataLoader(
        dataset,
        batch_size=batch_size or default_batch_size(size, device),
        num_workers=default_workers(images, len(indices)) if workers is None else workers,
        collate_fn=_collate,
        pin_memory=device.type == "cuda",
    )
    collected: dict[str, list[Tensor]] = {name: [] for name in embedders}
    labels: list[Tensor] = []
    unreadable: list[str] = []
    with progress(label, len(indices)) as advance:
        for pixels, found, missing in loader:
            if len(found):
                pixels = pixels.to(device, non_blocking=True)
                for name, embed in embedders.items():
                    collected[name].append(embed(pixels).cpu())
            labels.append(found)
            unreadable += missing
            advance(len(found) + len(missing))
    features = {name: torch.cat(parts) if parts else torch.empty(0, 1) for name, parts in collected.items()}  # (n, D)
    for name, values in features.items():
        broken = int((~values.isfinite()).any(1).sum())
        if broken:
            raise NumericError(
                f"features '{name}': not finite for {broken} of {len(values)} images; try precision=fp32"
            )
    return Extracted(features, torch.cat(labels) if labels else torch.empty(0, dtype=torch.int64), tuple(unreadable))


def default_batch_size(size: int, device: torch.device) -> int:
    """Returns how many images of that many pixels go through a backbone at once."""
    if device.type == "cuda":
        return 512
    return 256 if size <= _SMALL_IMAGE else 32


def default_workers(images: ImageSet, count: int) -> int:
    """Returns 0 where decoding is cheap, else one process a core, at most 8."""
    try:
        shorter = min(images.size(0))
    except BadImage:
        shorter = _SMALL_IMAGE + 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if count < _FEW_IMAGES or shorter <= _SMALL_IMAGE or cores == 1 else min(cores, 8)


class _CleanViews(Dataset):
    """(view (3, S, S) uint8, label, None), or (None, label, name) where the image cannot be read."""

    def __init__(self, images: ImageSet, indices: Sequence[int], size: int, crop_fraction: float):
        self._images = images
        self._indices = indices
        self._size = size
        self._crop_fraction = crop_fraction

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> tuple[Tensor | None, int, str | None]:
        index = self._indices[position]
        label = self._images.label(index)
        try:
            return center_view(self._images.read(index), self._size, self._crop_fraction), label, None
        except BadImage:
            return None, label, self._images.name(index)


def _collate(samples: list[tuple[Tensor | None, int, str | None]]) -> tuple[Tensor, Tensor, list[str]]:
    views = [view for view, _, _ in samples if view is not None]
    labels = torch.tensor([label for view, label, _ in samples if view is not None], dtype=torch.int64)
    pixels = torch.stack(views) if views else torch.empty(0, dtype=torch.uint8)  # (B, 3, S, S)
    return pixels, labels, [name for _, _, name in samples if name is not None]
