"""What a score says, read against the same backbone untrained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def verdict(model: Mapping[str, Any], random_init: Mapping[str, Any], headline: str, judge: str = "k-NN") -> str:
    """Returns which number to read against which, and what it says.

    Args:
        model: metrics, with the headline and its interval `HEADLINE_ci`.
        random_init: the same of the untrained backbone.
        headline: name of the metric.
        judge: who looked at the features.
    """
    ours, theirs = model[headline], random_init[headline]
    start = f"read {headline} of the model, {ours:.2f}, against random init, {theirs:.2f}: "
    if ours <= theirs:
        return start + f"not above it, so {judge} sees nothing that was learnt"
    if model[f"{headline}_ci"][0] <= random_init[f"{headline}_ci"][1]:
        return start + "above it, but the intervals overlap, so it may be chance"
    return start + "above it, and the intervals are disjoint"
