"""Brings features to one scale before a linear head sees them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_IMAGES_AT_ONCE = 2048


class FeatureNorm(nn.Module):
    """What features (B, layers, poolings, D) pass in every step; it has no trained parameters.

    Args:
        shape: (layers, poolings, D).
        kind: `batchnorm` as MAE has it, eps 1e-6; `layernorm` over D; anything else = nothing.
    """

    def __init__(self, shape: torch.Size, kind: str):
        super().__init__()
        self._kind = kind
        self._width = shape[-1]
        self.norm = nn.BatchNorm1d(shape.numel(), eps=1e-6, affine=False) if kind == "batchnorm" else None

    def forward(self, features: Tensor) -> Tensor:
        features = features.float()
        if self.norm is not None:
            return self.norm(features.flatten(1)).view_as(features)
        if self._kind == "layernorm":
            return F.layer_norm(features, (self._width,), eps=1e-6)
        return features


def standardize(learnt: Tensor, others: Sequence[Tensor]) -> None:
    """Brings stored features (n, layers, poolings, D) to mean 0 and variance 1, in place.

    Args:
        learnt: of the training images; their mean and variance are used.
        others: are brought to the same scale.
    """
    mean, variance = torch.zeros(2, *learnt.shape[1:], dtype=torch.float64)
    for part in learnt.split(_IMAGES_AT_ONCE):
        mean += part.double().sum(0) / len(learnt)
    for part in learnt.split(_IMAGES_AT_ONCE):
        variance += (part.double() - mean).square_().sum(0) / len(learnt)
    scale = 1 / (variance.sqrt() + 1e-6)
    for table in (learnt, *others):
        for part in table.split(_IMAGES_AT_ONCE):
            part.copy_((part.double() - mean) * scale)
