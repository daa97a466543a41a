"""Builds a part among stand-ins, ready to be called."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssl_core.contracts.backbone import Backbone
from ssl_core.contracts.batch import ViewSpec
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.target import TargetSource
from ssl_core.options import NoOptions
from ssl_core.testing import trial
from ssl_core.testing.stand_ins import StandInBackbone, pictures
from ssl_core.testing.subject import IMAGE_SIZE, Subject


def stand_in_backbone(seed: int = 0) -> Backbone:
    """Returns a tiny ViT with fresh weights, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return StandInBackbone(NoOptions(), BuildContext()).eval()


def built(subject: Subject, seed: int = 0) -> Any:
    """Builds the part as its kind is used: a target source ready, a head beside what it predicts.

    Raises:
        NotBuilt: it refuses its options.
    """
    if subject.kind in ("tokenizer", "target"):
        backbone = stand_in_backbone()
        source: TargetSource = subject.build(subject.context(backbone=backbone), seed)
        trial.make_ready(source, subject)
        source.bind(backbone)
        return source.requires_grad_(False).eval()
    if subject.kind == "head":
        from ssl_core.testing.head_bench import find_bench

        return find_bench(subject).build(seed)
    if subject.kind == "method":
        return trial.method_of(subject)[0]
    if subject.kind == "masker":
        return subject.build(subject.context(backbone=stand_in_backbone()), seed)
    return subject.build(seed=seed)


def views_of(source: TargetSource, count: int = 4, size: int = IMAGE_SIZE) -> tuple[dict[str, Tensor], tuple[int, int]]:
    """Returns the views that a target source reads, (count, 3, H, W) float in [0, 1], and the backbone's grid."""
    grid = stand_in_backbone().grid(size, size)
    image = ViewSpec(size)
    tokens = source.view(image, grid)
    views = {"image": pictures(count, size)}
    if tokens is not None:
        views["tokens"] = pictures(count, tokens.size)
    return views, grid
