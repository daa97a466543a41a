"""Logistic regression by scikit-learn on stored features."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from ssl_benchmarks.linear.heads import ProbeInput
from ssl_benchmarks.linear.norm import FeatureNorm
from ssl_benchmarks.linear.scores import HeadScore
from ssl_core.api import progress

_ITERATIONS = 1000


def logistic_scores(
    inputs: Sequence[ProbeInput],
    norm: FeatureNorm,
    strengths: Sequence[float],
    fit: tuple[Tensor, Tensor],
    held_out: tuple[Tensor, Tensor] | None,
    test: tuple[Tensor, Tensor],
    classes: int,
) -> tuple[list[HeadScore], int]:
    """Fits a multinomial regression for every input and every C.

    Args:
        inputs: what the heads see.
        norm: what the features pass first.
        strengths: values of C.
        fit: features (n, layers, poolings, D) and labels (n,) to learn from.
        held_out: likewise, to choose by; None = no image was held out.
        test: likewise, to report.
        classes: of the labels.

    Returns:
        the scores, input by input and C by C, and how many fits stopped before they converged.
    """
    scores, unfinished = [], 0
    with progress("logistic regressions", len(inputs) * len(strengths), "fits") as advance:
        for item in inputs:
            seen = [None if part is None else _vectors(item, norm, part[0]) for part in (fit, held_out, test)]
            for strength in strengths:
                model = LogisticRegression(C=strength, max_iter=_ITERATIONS)
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always", ConvergenceWarning)
                    model.fit(seen[0], fit[1].numpy())
                unfinished += any(issubclass(item.category, ConvergenceWarning) for item in caught)
                kept, loss = (None, math.nan)
                if held_out is not None:
                    found = _log_probabilities(model, seen[1], classes)
                    kept = 100 * float((found.argmax(1) == held_out[1].numpy()).mean())
                    loss = -float(found[np.arange(len(found)), held_out[1].numpy()].mean())
                found = torch.from_numpy(_log_probabilities(model, seen[2], classes))
                best = found.topk(min(5, classes)).indices == test[1][:, None]  # (n, 5)
                right, among = int(best[:, 0].sum()), int(best.any(1).sum())
                scores.append(HeadScore(item.layer, item.feature, strength, kept, loss, right, among, len(test[1])))
                advance(1)
    return scores, unfinished


def _vectors(item: ProbeInput, norm: FeatureNorm, features: Tensor) -> np.ndarray:
    return item.select(norm(features)).numpy()


def _log_probabilities(model: LogisticRegression, vectors: np.ndarray, classes: int) -> np.ndarray:
    """Returns (n, classes) float64; a class that was not learnt gets the smallest number."""
    found = np.full((len(vectors), classes), np.finfo(np.float64).min)
    found[:, model.classes_] = model.predict_log_proba(vectors)
    return found
