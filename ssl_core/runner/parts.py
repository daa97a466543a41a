"""Builds the parts of a run, in the order in which they may know of each other."""

from __future__ import annotations

from typing import Any

import torch

from ssl_core.config.run_config import RunConfig
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.data import Transform
from ssl_core.contracts.method import Method
from ssl_core.data.seeding import torch_seed
from ssl_core.patches import patch_grid

BUILD_ORDER = ("backbone", "tokenizer", "masker", "head")


def build_method(config: RunConfig, train_images: int, classes: tuple[str, ...] | None) -> Method:
    """Builds the method with all its parts, with weights that follow from the seed.

    Args:
        train_images: how many training images there are.
        classes: their classes; None = unlabelled.

    Raises:
        UsageError: an image size that the backbone cannot cut into patches.
    """
    parts: dict[str, Any] = {}
    image_size = config.data.image_size
    assert image_size is not None, "resolved by the config"
    context = BuildContext(
        image_size=image_size,
        mean=config.data.mean,
        std=config.data.std,
        train_images=train_images,
        classes=classes,
        seed=config.seed,
        parts=parts,
        names={slot: part.written_name for slot, part in config.parts.items()},
    )
    for place, slot in enumerate(BUILD_ORDER):
        if slot in config.parts:
            # Each part has a seed of its own, so that swapping one leaves the others' weights alone.
            torch.manual_seed(torch_seed(config.seed, "build", place))
            part = config.parts[slot]
            parts[slot] = part.match.component.load()(part.options, context)
            if slot == "backbone":
                patch_grid(image_size, parts[slot].patch_size)  # refuses what does not divide
    torch.manual_seed(torch_seed(config.seed, "build", "method"))
    return config.method.match.component.load()(config.method.options, context)


def build_transform(config: RunConfig) -> Transform:
    """Builds what cuts the views."""
    part, data = config.parts["transform"], config.data
    assert data.image_size is not None, "resolved by the config"
    context = BuildContext(image_size=data.image_size, mean=data.mean, std=data.std, seed=config.seed)
    return part.match.component.load()(part.options, context)
