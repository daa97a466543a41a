"""Options of the built-in parts. Imports neither torch nor numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from ssl_core.options import Options


class FolderOptions(Options):
    """A folder of image files."""

    path: Path | None = None
    """The folder: class folders, nested or flat, or `train/` beside `val/` or `test/`. What `--data` is given."""
    max_pixels: int = Field(89_478_485, ge=1, le=178_956_970)
    """Pixels above which a file counts as unreadable: a small file can claim to be larger than memory."""


class ShardOptions(Options):
    """Tar archives of images, as WebDataset lays them out."""

    path: Path | None = None
    """The archives: a folder of them, or a pattern, `shards-{000..009}.tar`, `*.tar`. What `--data` is given."""
    val: Path | None = None
    """Those of the split `val`, likewise. Where neither this nor `test` is given, folders and file names decide that
    say train, val, valid, validation or test."""
    test: Path | None = None
    """Those of the split `test`."""
    index: Path | None = None
    """Folder in which it is kept what lies where; None = $SSL_DATA, or else ~/.cache/ssl_core/data."""
    max_pixels: int = Field(89_478_485, ge=1, le=178_956_970)
    """Pixels above which an image counts as unreadable."""


class SingleImageOptions(Options):
    """One image file."""

    path: Path | None = None
    """The file."""
    max_pixels: int = Field(89_478_485, ge=1, le=178_956_970)
    """Pixels above which it counts as unreadable."""


class TexturesOptions(Options):
    """Generated grey textures."""

    images: int = Field(6000, ge=20)
    """Training images. A third as many again are the test split."""
    size: int = Field(32, ge=8, le=256)
    """Height and width in pixels."""
    seed: int = Field(0, ge=0)
    """Which textures; independent of the run's seed."""


class StoredOptions(Options):
    """A data set that is kept on this computer and fetched once."""

    path: Path | None = None
    """Folder that holds its files; None = $SSL_DATA, or else ~/.cache/ssl_core/data."""


class TimmDatasetOptions(Options):
    """A data set that timm opens by name."""

    source: str = ""
    """timm's name with its prefix: `hfds/uoft-cs/cifar10`, `torch/mnist`, `tfds/...`, `wds/...`."""
    path: Path | None = None
    """Folder that holds its files, or receives them; None = $SSL_DATA, or else ~/.cache/ssl_core/data."""
    train_split: str = "train"
    """timm's name of the training split."""
    eval_split: str | None = None
    """timm's name of the evaluation split, opened as `val`; None = there is none (`torch/` sets: `validation`)."""
    image_column: str | None = None
    """Name of the column or key that holds the image; None = timm's choice."""
    label_column: str | None = None
    """Name of the column or key that holds the class; None = timm's choice."""


class AugmentOptions(Options):
    """Random resized crops with flips and, if wanted, colour changes."""

    recipe: Literal["fast", "exact"] = "fast"
    """`fast`: decoded as small as the crops allow, and resized on bytes. `exact`: decoded and resized by Pillow. The
    crops and changes are the same."""
    scale: tuple[float, float] = (0.2, 1.0)
    """Share of the image's area that a crop covers, where the method does not say."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width / height of a crop, before it is resized to a square."""
    flip: float = Field(0.5, ge=0, le=1)
    """Probability of a mirrored crop."""
    brightness: float = Field(0.0, ge=0)
    """Brightness is scaled by 1 plus or minus up to this much."""
    contrast: float = Field(0.0, ge=0)
    """Contrast, likewise."""
    saturation: float = Field(0.0, ge=0)
    """Saturation, likewise."""
    hue: float = Field(0.0, ge=0, le=0.5)
    """Hue is turned by up to this share of the colour circle, either way."""
    grayscale: float = Field(0.0, ge=0, le=1)
    """Probability that the colour is dropped."""
    blur: float = Field(0.0, ge=0, le=1)
    """Probability of a Gaussian blur, sigma 0.1 to 2 pixels."""


class RandomMaskerOptions(Options):
    """Patches hidden one by one, uniformly."""

    ratio: float = Field(0.6, gt=0, lt=1)
    """Share of the patches that is hidden."""
    count: int | None = Field(None, ge=1)
    """Number of hidden patches, in place of `ratio`."""


class TimmVitOptions(Options):
    """Any of timm's ViTs, untrained."""

    model: str = "vit_base"
    """`vit_tiny` to `vit_huge`, or timm's name of a ViT, DeiT or BEiT: `deit3_small_patch16_224`."""
    patch_size: int | None = Field(None, ge=1)
    """Pixels a patch is high and wide; None = the model's own."""
    width: int | None = Field(None, ge=1)
    """D, in place of the model's own."""
    depth: int | None = Field(None, ge=1)
    """Blocks, in place of the model's own."""
    heads: int | None = Field(None, ge=1)
    """Attention heads, in place of the model's own."""
    mlp_ratio: float | None = Field(None, gt=0)
    """Width of the hidden layer of a block's MLP, in D; None = the model's own."""
    norm_eps: float | None = Field(None, gt=0)
    """Epsilon of the LayerNorms; None = the model's own, 1e-6 in most."""
    final_norm: bool = True
    """Normalise the last block's output. False for weights that were fine-tuned on the mean of the patches. Not for
    BEiTs."""
    drop_path: float = Field(0.0, ge=0, lt=1)
    """Chance that a residual branch is skipped in the last block; it grows linearly from 0 in the first."""
    dynamic: bool = False
    """Take images of any size, by resizing the positions. Not for BEiTs."""
    pos_embed: Literal["learn", "sincos"] = "learn"
    """Positions: learnt, or two-dimensional sines and cosines that stay as they are, as in MAE. Not for BEiTs."""
    weight_init: Literal["timm", "xavier"] = "timm"
    """How it starts: as timm starts this model; or as MAE, with Xavier-uniform linear layers and patch projection and a
    CLS token of standard deviation 0.02."""
