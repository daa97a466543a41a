"""How many directions the features of a backbone use: RankMe and the feature std. Neither needs labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_EPSILON = 1e-7
"""Added to each share, as in the paper."""


def rankme(features: Tensor) -> float:
    """Returns the effective rank of the features (Garrido et al. 2023, equation 1), from 1 to min(n, D).

    It is exp of the entropy of the singular values, divided by their sum. The features are taken as they
    are, neither centred nor normalised.

    Args:
        features: (n, D).
    """
    values = features.double()
    # Of the smaller Gram matrix: its eigenvalues are the squares, many times faster than a decomposition of it all.
    gram = values.T @ values if values.shape[0] > values.shape[1] else values @ values.T  # (min(n, D), min(n, D))
    singular = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    total = singular.sum()
    if total == 0:
        return 1.0
    shares = singular / total + _EPSILON
    return float(torch.exp(-(shares * shares.log()).sum()))


def feature_std(features: Tensor) -> float:
    """Returns the spread of the L2-normalised features as a share of the largest there is (Chen and He 2021, 4.1).

    The standard deviation over the images, averaged over the dimensions, times sqrt(D): about 1 where the
    directions are spread evenly, 0 where all images have the same one.

    Args:
        features: (n, D), n at least 2.
    """
    units = F.normalize(features.double(), dim=1)
    return float(units.std(dim=0, correction=0).mean() * features.shape[1] ** 0.5)
