"""Options of fine-tuning: its transform, and the evaluator. Imports no torch."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from ssl_core.api import Options

_POLICY = re.compile(r"rand(-(m\d+|n\d+|p[\d.]+|mstd[\d.]+|mmax\d+|inc[01]|t\w+))*")


class RandAugmentOptions(Options):
    """Random resized crops with flips and RandAugment."""

    recipe: Literal["fast", "exact"] = "fast"
    """`fast`: decoded as small as the crops allow, and resized on bytes. `exact`: decoded and resized by Pillow. The
    crops and changes are the same."""
    scale: tuple[float, float] = (0.08, 1.0)
    """Share of the image's area that a crop covers, (low, high)."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width over height of a crop, (low, high)."""
    flip: float = Field(0.5, ge=0, le=1)
    """Chance of a mirrored crop."""
    policy: str | None = "rand-m9-mstd0.5-inc1"
    """timm's description of RandAugment: m = magnitude, mstd = its standard deviation, n = operations an image, p =
    chance of each, inc1 = operations that grow with the magnitude; None = no RandAugment."""

    @field_validator("policy")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and not _POLICY.fullmatch(value):
            raise ValueError(f"'{value}' is no RandAugment of timm's; as in rand-m9-mstd0.5-inc1, or none")
        return value


class FinetuneOptions(Options):
    """A classifier trained on the checkpoint, all of it, and scored on the test split."""

    recipe: Literal["auto", "beit", "mae", "small"] = "auto"
    """Settings of the method `finetune`: `beit` and `mae` as in these papers, by the size of the backbone; `small` for
    a CPU or small images; `auto` = by the images and the backbone."""
    epochs: float | None = Field(None, gt=0)
    """Passes over the training images; None = the recipe's."""
    steps: int | None = Field(None, ge=1)
    """Updates, in place of `epochs`."""
    batch_size: int | None = Field(None, ge=1)
    """Images an update sees; None = the recipe's, shrunk to fit the data."""
    lr: float | None = Field(None, gt=0)
    """Peak learning rate of the classifier; None = the recipe's."""
    layer_decay: float | None = Field(None, gt=0, le=1)
    """Factor on the learning rate from each block to the one below it; None = the recipe's."""
    fraction: float | None = Field(None, gt=0, le=1)
    """Share of the training images that is used, the same share of each class: 0.01 and 0.1 are usual; None = all."""
    per_class: int | None = Field(None, ge=1)
    """Training images of each class, in place of `fraction`."""
    drop_path: float | None = Field(None, ge=0, lt=1)
    """Chance that a residual branch is skipped in the last block; None = the recipe's."""
    scratch: bool = False
    """Whether the same recipe is run from random weights, too."""
    test_split: str | None = None
    """Split that is scored; None = `test`, else `val`."""
    ema: float | None = Field(None, gt=0, lt=1)
    """Decay of an average of the weights, which is then what is scored; None = the last weights."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` = CUDA where there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of matrix products; weights stay fp32. `auto` = bf16 where the device has it."""
    workers: int | None = Field(None, ge=0)
    """Processes that load images; None = chosen from the cores and the images."""
    bootstrap: int = Field(1000, ge=100)
    """Resamples of the 95 % confidence interval."""
    seed: int = Field(0, ge=0)
    """Of the run: the classifier's first weights, order, crops and mixing; and of the subset and the resamples."""

    @model_validator(mode="after")
    def _one_of_two(self) -> FinetuneOptions:
        for pair in (("epochs", "steps"), ("fraction", "per_class")):
            if all(getattr(self, name) is not None for name in pair):
                raise ValueError(f"{' and '.join(pair)}: give only one of them")
        return self
