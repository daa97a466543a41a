"""Options of DINO's parts. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ssl_core.api import Options


class DinoOptions(Options):
    """Which crops, which head, and how the teacher follows and judges."""

    global_crops_scale: tuple[float, float] = (0.25, 1.0)
    """Share of the image's area that one of the two global crops covers, (low, high)."""
    local_crops_scale: tuple[float, float] = (0.05, 0.25)
    """Share that a local crop covers, (low, high)."""
    local_crops_number: int = Field(10, ge=0)
    """Local crops an image; 0 = the two global ones alone."""
    local_crops_size: int | None = Field(None, ge=1)
    """Pixels of a local crop, a multiple of the patch size; None = 3/7 of `data.image_size`, rounded to patches (96 of
    224)."""
    out_dim: int = Field(65536, ge=2)
    """V, the outputs of the head."""
    head_hidden_dim: int = Field(2048, ge=1)
    """Width of the head's two hidden layers."""
    head_bottleneck_dim: int = Field(256, ge=1)
    """Width of the vector that the last layer compares with its V rows."""
    norm_last_layer: bool = True
    """Keep the rows of the last layer at length 1. False = learn their lengths, which is better where it is stable
    (the authors: with vit_small)."""
    freeze_last_layer: float = Field(1.0, ge=0)
    """Epochs at the start in which the last layer stays as it is."""
    momentum_teacher: float = Field(0.996, ge=0, le=1)
    """Share of the teacher that stays at the first update; a cosine takes it to 1 at the end."""
    student_temp: float = Field(0.1, gt=0)
    """Temperature of the student's softmax."""
    warmup_teacher_temp: float = Field(0.04, gt=0)
    """Temperature of the teacher's softmax at the start; lower = sharper."""
    teacher_temp: float = Field(0.07, gt=0)
    """Temperature of the teacher's softmax after its warm-up. Above 0.07 training is mostly unstable."""
    warmup_teacher_temp_epochs: float = Field(30.0, ge=0)
    """Epochs of the linear way from one to the other."""
    center_momentum: float = Field(0.9, ge=0, lt=1)
    """Share of the centre that stays at each update."""
    export: Literal["teacher", "student"] = "teacher"
    """Whose backbone is exported, and evaluated while training."""


class MultiCropOptions(Options):
    """How each crop is changed. A pair is for the first and the second crop of the view `image`."""

    recipe: Literal["fast", "exact"] = "fast"
    """`fast`: decoded as small as the crops allow, and resized on bytes. `exact`: decoded and resized by Pillow. The
    crops and changes are the same."""
    scale: tuple[float, float] = (0.25, 1.0)
    """Share of the image's area that a crop covers, where the method does not say."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width / height of a crop, before it is resized to a square."""
    flip: float = Field(0.5, ge=0, le=1)
    """Probability of a mirrored crop."""
    jitter: float = Field(0.8, ge=0, le=1)
    """Probability that the colours are changed at all."""
    brightness: float = Field(0.4, ge=0)
    """Brightness is scaled by 1 plus or minus up to this much."""
    contrast: float = Field(0.4, ge=0)
    """Contrast, likewise."""
    saturation: float = Field(0.2, ge=0)
    """Saturation, likewise."""
    hue: float = Field(0.1, ge=0, le=0.5)
    """Hue is turned by up to this share of the colour circle, either way."""
    grayscale: float = Field(0.2, ge=0, le=1)
    """Probability that the colour is dropped."""
    blur: tuple[float, float] = (1.0, 0.1)
    """Probability of a Gaussian blur, of the two global crops."""
    local_blur: float = Field(0.5, ge=0, le=1)
    """Probability of a Gaussian blur, of every other crop."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Strength of a blur, sigma in pixels of the finished crop, (low, high)."""
    solarize: tuple[float, float] = (0.0, 0.2)
    """Probability that bright values are inverted, of the two global crops."""
