"""Options of BEiT's parts. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ssl_core.api import Options


class BlockMaskerOptions(Options):
    """How many patches are hidden, in blocks of which shape."""

    ratio: float = Field(0.4, gt=0, le=1)
    """Share of the patches that is hidden; K = round(ratio * N)."""
    count: int | None = Field(None, ge=1)
    """K itself, in place of `masker.ratio`."""
    min_block: int | None = Field(None, ge=1)
    """Smallest area of a block, in patches; None = 16 of 196, scaled with the grid."""
    max_block: int | None = Field(None, ge=1)
    """Largest area of a block, in patches; None = K."""
    min_aspect: float = Field(0.3, gt=0, le=1)
    """Flattest block, height over width; the steepest is its reciprocal."""
    exact: bool = True
    """Hide exactly K, filling up with single patches (as BEiT v2 does). False = at most K, as BEiT's own code does."""


class BeitVitOptions(Options):
    """Which ViT, and how it starts."""

    model: Literal["vit_tiny", "vit_small", "vit_base", "vit_large", "vit_huge"] = "vit_base"
    """Size: width, depth and heads."""
    variant: Literal["beit+", "plain"] = "beit+"
    """`beit+`: a relative-position bias shared by all blocks, and LayerScale. `plain`: absolute
    positions only, as in the paper's main tables."""
    rel_pos_bias: Literal["auto", "shared", "per_block", "none"] = "auto"
    """Relative-position bias: one table shared by all blocks (pre-training), one in each block
    (fine-tuning), or none; auto = none in `plain`, else one in each block with `pool=mean` and a shared one without."""
    abs_pos_emb: bool | None = None
    """Absolute positions, added to the tokens; None = as `variant` says."""
    pool: Literal["cls", "mean"] = "cls"
    """What stands for the image. `cls`: all tokens are normalised after the last block, and it is the CLS
    token. `mean`, as in fine-tuned BEiTs: the tokens stay as the last block gives them, and it is the
    normalised mean of the patches."""
    patch_size: int | None = Field(None, ge=1)
    """Pixels a patch is high and wide; None = 16, or 14 for vit_huge."""
    width: int | None = Field(None, ge=1)
    """D, in place of the size's own."""
    depth: int | None = Field(None, ge=1)
    """Blocks, in place of the size's own."""
    heads: int | None = Field(None, ge=1)
    """Attention heads, in place of the size's own."""
    mlp_ratio: float = Field(4.0, gt=0)
    """Width of the hidden layer of a block's MLP, in D."""
    drop_path: float = Field(0.0, ge=0, lt=1)
    """Chance that a residual branch is skipped in the last block; it grows linearly from 0 in the first."""
    init_values: float | None = Field(None, ge=0)
    """Start of LayerScale, 0 = no LayerScale; None = 0.1 (1e-5 for vit_large and vit_huge) in `beit+`, 0 in `plain`."""
    init_std: float = Field(0.02, gt=0)
    """Standard deviation of the weights' initial normal distribution, cut off at one standard deviation."""
    norm_eps: float = Field(1e-6, gt=0)
    """Added to the variance in every LayerNorm."""
    dynamic: bool = False
    """Take images of any size: absolute positions are resized, and of the relative ones a smaller grid uses the near
    offsets, a larger one the outermost again for all beyond."""


class TwoViewOptions(Options):
    """How an image is changed and cut."""

    recipe: Literal["fast", "exact"] = "fast"
    """`fast`: decoded for the crop, on bytes, jitter after the crop, bicubic for both views. `exact`: as the reference
    does it, jitter on the whole image, with Pillow, Lanczos for the tokenizer. Crops and factors are the same."""
    jitter: float = Field(0.4, ge=0, le=1)
    """Brightness, contrast and saturation are each scaled by a factor from [1 - jitter, 1 + jitter]."""
    flip: float = Field(0.5, ge=0, le=1)
    """Chance of a mirror image."""
    scale: tuple[float, float] = (0.08, 1.0)
    """Share of the image's area that a crop covers, (low, high)."""
    ratio: tuple[float, float] = (0.75, 4 / 3)
    """Width over height of a crop, (low, high)."""
