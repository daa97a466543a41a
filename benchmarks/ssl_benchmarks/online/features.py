"""Features of a backbone in the middle of its training, which must not notice."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ssl_benchmarks.features import extract
from ssl_core.api import Backbone, Device, ImageSet, Normalize, NumericError, to_unit

_SMALL_IMAGE = 64
_BATCH, _BATCH_OF_SMALL = 64, 256
"""Images at once: few, because the training holds most of the memory."""


@dataclass(frozen=True)
class ProbeImages:
    """The images that are looked at, decoded once.

    Attributes:
        pixels: (n, 3, S, S) uint8 on the CPU.
        labels: (n,) int64; None where there are none, or one class only.
        classes: how many there are.
    """

    pixels: Tensor
    labels: Tensor | None
    classes: int

    def __len__(self) -> int:
        return len(self.pixels)


def choose_images(images: ImageSet, count: int, seed: int, size: int) -> ProbeImages:
    """Picks images at random, those with labels where there are enough, and decodes their central squares.

    Args:
        images: the training images.
        count: how many; unreadable ones are left out.
        seed: of the choice.
        size: pixels of the square.
    """
    order = np.random.default_rng(seed).permutation(len(images)).tolist()
    chosen: list[int] = []
    if images.classes is not None:
        for index in order:
            if images.label(index) >= 0:
                chosen.append(index)
            if len(chosen) == count:
                break
    labelled = len(chosen) == count
    found = extract(
        images,
        chosen if labelled else order[:count],
        {"pixels": lambda pixels: pixels},
        size=size,
        device=torch.device("cpu"),
        label="monitor: images",
        dtype=torch.uint8,
    )
    labels = found.labels if labelled and len(found.labels.unique()) > 1 else None
    return ProbeImages(found.features["pixels"], labels, len(images.classes or ()))


class OnlineFeatures:
    """Embeds images with a backbone as it is now, on the device it is on.

    Args:
        feature: `mean` of the patch tokens, the `cls` token, or both side by side; after the final norm.
        mean, std: how the method normalises pixels in [0, 1].
    """

    def __init__(
        self,
        feature: Literal["mean", "cls", "cls+mean"],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: Device,
    ):
        self._feature = feature
        self._device = device
        self._normalize = Normalize(mean, std).to(device.device)

    def __call__(self, backbone: Backbone, pixels: Tensor) -> Tensor:
        """Returns (n, D) float32 on the CPU, (n, 2 D) for both, of (n, 3, S, S) uint8.

        Raises:
            NumericError: a feature is not finite.
        """
        batch = _BATCH_OF_SMALL if pixels.shape[-1] <= _SMALL_IMAGE else _BATCH
        with undisturbed(backbone, self._device.device), self._device.autocast():
            parts = [self._embed(backbone, part) for part in pixels.split(batch)]
        features = torch.cat(parts).cpu()  # (n, D)
        if not features.isfinite().all():
            raise NumericError("the features are not finite")
        return features

    def _embed(self, backbone: Backbone, pixels: Tensor) -> Tensor:
        found = backbone(self._normalize(to_unit(pixels.to(self._device.device))))
        parts = {"mean": lambda: found.patches.float().mean(1), "cls": lambda: found.summary.float()}
        return torch.cat([parts[name]() for name in self._feature.split("+")], dim=1)  # (B, D) or (B, 2 D)


@contextmanager
def undisturbed(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluates inside a training run: eval mode, no gradients, and everything as it was afterwards.

    Each submodule gets its own mode back, and so do torch's generators. Not inference mode, whose tensors a
    module may keep and later need a gradient through.
    """
    modes = [(part, part.training) for part in module.modules()]
    generators = torch.random.fork_rng([device] if device.type == "cuda" else [])
    module.eval()
    try:
        with generators, torch.no_grad(), _uncompiled():
            yield
    finally:
        for part, training in modes:
            part.training = training


def _uncompiled():
    """Compiled blocks would be compiled again for eval mode and this batch size: slower than as they are."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and importing it takes seconds
        return nullcontext()
    return torch.compiler.set_stance("force_eager")
