"""Options of the heads. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ssl_core.api import Options


class CodeHeadOptions(Options):
    """How the output layer starts."""

    init_std: float = Field(0.02, gt=0)
    """Standard deviation of the weights' initial normal distribution, cut off at one standard deviation;
    biases start at 0."""


class PatchAggregationOptions(CodeHeadOptions):
    """Where the shallow decoder begins, and how deep it is."""

    early_layers: int | None = Field(None, ge=1)
    """Blocks of the backbone before its patches are taken; None = all but three, at least three quarters: 9 of 12, 21
    of 24, 3 of 4."""
    head_layers: int = Field(2, ge=1)
    """Further blocks."""


class RegressionHeadOptions(Options):
    """What is minimised, and how the output layer starts."""

    distance: Literal["smooth_l1", "l1", "l2"] = "smooth_l1"
    """Between prediction and target: `l1` is SimMIM's, `l2` MAE's, `smooth_l1` data2vec's."""
    beta: float = Field(1.0, gt=0)
    """Difference at which `smooth_l1` turns from quadratic to linear."""
    init_std: float = Field(0.02, gt=0)
    """Standard deviation of the weights' initial normal distribution, cut off at one standard deviation;
    biases start at 0."""
