"""A small DINO, built as a run builds it, and batches for it."""

from __future__ import annotations

import torch

from ssl_core.api import BuildContext, Registry, validate_options
from ssl_core.contracts.batch import Batch
from ssl_dino.method import Dino
from ssl_dino.options import DinoOptions

SMALL_VIT = {"width": 16, "depth": 1, "heads": 2, "patch_size": 4, "dynamic": True}
SMALL = {"out_dim": 12, "head_hidden_dim": 8, "head_bottleneck_dim": 6, "local_crops_number": 3}


def make_dino(backbone: str = "core:vit", vit: dict | None = None, size: int = 16, seed: int = 0, **options) -> Dino:
    """Builds a DINO; with drop path unless `vit` says otherwise."""
    torch.manual_seed(seed)
    context = BuildContext(image_size=size, parts={})
    component = Registry.load().find(backbone, "backbone").component
    chosen = validate_options(component.options, SMALL_VIT | {"drop_path": 0.5} if vit is None else vit, "backbone")
    context.parts["backbone"] = component.load()(chosen, context)
    return Dino(DinoOptions(**{**SMALL, **options}), context)


def make_batch(dino: Dino, images: int = 4, seed: int = 1) -> Batch:
    """Returns random views as the method asks for them."""
    torch.manual_seed(seed)
    views = {name: torch.rand(spec.count * images, 3, spec.size, spec.size) for name, spec in dino.views.items()}
    numbers = torch.arange(images)
    return Batch(views, numbers, numbers, -torch.ones(images, dtype=torch.int64))
