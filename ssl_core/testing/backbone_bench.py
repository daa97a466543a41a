"""A backbone under test with weights that hide nothing, and what it makes of images."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_core.contracts.backbone import Backbone, Features
from ssl_core.testing.check import require
from ssl_core.testing.stand_ins import pictures
from ssl_core.testing.subject import IMAGE_SIZE, Subject

CLOSE = 1e-4
"""Largest difference that rounding explains, in outputs of the size of one."""


def build_backbone(subject: Subject, size: int = IMAGE_SIZE, seed: int = 0) -> Backbone:
    """Builds the part for images of `size` pixels, in eval mode, every parameter moved off its start.

    Raises:
        NotBuilt: it refuses its options.
    """
    backbone: Backbone = subject.build(subject.context(size), seed)
    # Parts of many backbones start at zero (positions, the last layer of a branch), which hides what they do.
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)
    return backbone.eval()


def normalised_images(count: int = 3, size: int = IMAGE_SIZE) -> Tensor:
    """Returns images (count, 3, size, size) float in [-1, 1]."""
    return pictures(count, size) * 2 - 1


def encode(backbone: Backbone, images: Tensor, **keywords) -> Features:
    """Returns the features of images (B, C, H, W), without gradient; `keywords` are those of `Backbone.encode`."""
    with torch.no_grad():
        return backbone.encode(backbone.embed(images), backbone.grid(*images.shape[-2:]), **keywords)


def require_float(name: str, tensor: Tensor, shape: tuple[int, ...], fix: str) -> None:
    """Raises `Failed` unless a tensor is float and of that shape."""
    require(
        tensor.shape == shape and tensor.is_floating_point(),
        f"{name} is {str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}, not float {shape}",
        fix,
    )
