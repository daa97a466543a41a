"""Options of classification. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ssl_core.options import Options


class ClassifierOptions(Options):
    """How a backbone is made a classifier."""

    pooling: Literal["mean", "cls"] = "mean"
    """What the classifier sees: the normalised `mean` of the patch tokens, as they leave the last block, or the `cls`
    token after the final norm."""
    layer_decay: float = Field(0.65, gt=0, le=1)
    """Factor on the learning rate from each block to the one below it; 1 = the same for all."""
    init_scale: float = Field(0.001, ge=0)
    """Factor on the classifier's first weights, which are normal with standard deviation 0.02."""
    mixup: float = Field(0.8, ge=0)
    """alpha of mixup, 0 = off."""
    cutmix: float = Field(1.0, ge=0)
    """alpha of CutMix, 0 = off."""
    mix_prob: float = Field(1.0, ge=0, le=1)
    """Chance that a micro-batch is mixed at all."""
    switch_prob: float = Field(0.5, ge=0, le=1)
    """Chance of CutMix where both are on."""
    smoothing: float = Field(0.1, ge=0, lt=1)
    """Share of each target that is spread over all classes."""
    erasing: float = Field(0.25, ge=0, le=1)
    """Chance that a rectangle of an image is replaced by noise."""
    eval_every: float | None = Field(None, ge=0)
    """Epochs between two evaluations on the test split; None = up to ten in a run, as few as cost
    a tenth of the training; 0 = at the end only."""
    test_split: str | None = None
    """Split that is evaluated; None = `test`, else `val`, else none."""
    crop_pct: float | None = Field(None, gt=0, le=1)
    """Share of the shorter side that the evaluated central square keeps; None = 0.875 below 384 pixels, else 1."""
