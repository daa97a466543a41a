"""Confidence intervals of an accuracy."""

from __future__ import annotations

import numpy as np


def accuracy_interval(correct: int, total: int, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Returns the 95 % percentile bootstrap interval of an accuracy, in percent.

    Resampling `total` right-or-wrong answers with replacement gives a binomial number of right
    ones, so that is drawn at once: the same distribution as drawing them one by one.

    Args:
        correct: right answers.
        total: answers, at least 1.
        resamples: bootstrap samples.
        seed: of the draw.
    """
    counts = np.random.default_rng(seed).binomial(total, correct / total, size=resamples)
    low, high = np.percentile(100 * counts / total, [2.5, 97.5])
    return float(low), float(high)
