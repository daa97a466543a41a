"""VQ-VAE and VQ-KD: a transformer whose codes reconstruct pixels, or the features of a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, fields
from pathlib import Path

import torch
from torch import Tensor

from ssl_core.api import (
    BuildContext,
    CheckpointError,
    ConfigError,
    Grid,
    Stage,
    Tokenizer,
    UsageError,
    ViewSpec,
    load_strictly,
)
from ssl_tokenizers.checkpoint import read_tokenizer
from ssl_tokenizers.options import PIXELS, VqkdOptions
from ssl_tokenizers.patches import unpatchify
from ssl_tokenizers.quantizer import Quantizer
from ssl_tokenizers.vqkd_network import Decoder, Encoder, VqkdShape

_NEEDS = ("layout", "quantizer.codebook")
"""Tensors by which a checkpoint of this tokenizer is known."""

_SCALES = (
    # from this many training images: codes, width, blocks, blocks of the decoder
    (1_000_000, 8192, 768, 12, 3),
    (100_000, 2048, 384, 12, 1),
    (10_000, 512, 128, 4, 1),
    (0, 256, 128, 4, 1),
)

_HEAD_WIDTH = 64


class VqkdTokenizer(Tokenizer):
    """Encoder and codebook of BEiT v2's tokenizer (Peng et al. 2022, 2.2), in any size.

    What serves the reconstruction of a teacher's features is the method's, since a trained tokenizer has no
    use for it. The decoder to pixels, which shows what codes stand for, is the tokenizer's.

    Args:
        options: see `VqkdOptions`.
        context: with the backbone in `parts` where there is one, and with `train_images`.

    Attributes:
        shape: its dimensions; `layout` holds the same as a tensor, so that weights alone tell them.
        size: pixels of the square image it sees.
        decoder: codes to pixels; None where a teacher's features are reconstructed.

    Raises:
        ConfigError: options that do not fit together.
        CheckpointError: the checkpoint is no such tokenizer, or one for other images.
    """

    def __init__(self, options: VqkdOptions, context: BuildContext):
        super().__init__()
        self.options = options
        state = _read(options.checkpoint) if options.checkpoint is not None else None
        self.shape = _choose(options, context) if state is None else _shape_of(state, options.checkpoint, context)
        self.vocab_size = self.shape.vocab_size
        self.size = self.shape.rows * self.shape.patch_size
        self.can_decode = bool(self.shape.pixels)
        self.register_buffer("layout", torch.tensor(astuple(self.shape)))
        self.register_buffer("trained", torch.tensor(False))
        self.trained: Tensor
        self.encoder = Encoder(self.shape)
        self.quantizer = Quantizer(self.vocab_size, self.shape.code_width)
        values = self.shape.channels * self.shape.patch_size**2
        self.decoder = Decoder(self.shape, values) if self.shape.pixels else None
        if state is not None:
            self._load(state, options.checkpoint)

    @property
    def ready(self) -> bool:
        return bool(self.trained)

    def view(self, image: ViewSpec, grid: Grid) -> ViewSpec | None:
        if self.size == image.size:
            return None
        return ViewSpec(self.size, crop_of="image")

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Returns ids (B, h, w) int64 of (B, C, H, W) float in [0, 1].

        Raises:
            UsageError: the images are not of the size that it was trained on: its positions are learnt.
        """
        if pixels.shape[-1] != self.size:
            raise UsageError(f"tokenizer vqkd: sees images of {self.size} pixels, {pixels.shape[-1]} were given")
        return self.quantizer.nearest(self.encoder(pixels)).unflatten(1, self.shape.grid)  # (B, h, w)

    @torch.no_grad()
    def decode(self, ids: Tensor) -> Tensor:
        """Returns (B, C, H, W) float32 in [0, 1]. Only where pixels are reconstructed."""
        if self.decoder is None:
            return super().decode(ids)
        patches = self.decoder(self.quantizer.codebook[ids.flatten(1)])  # (B, N, p * p * C)
        return to_images(patches, self.shape).clamp(0, 1)

    def prepare(self, stage: Stage) -> None:
        """Trains the same architecture on the training images as a run of its own, and loads it."""
        shape = self.shape
        if shape.pixels:
            stage.say(
                "without tokenizer.teacher its codes stand for pixels; tokenizer.teacher=RUN, a file or timm:NAME is "
                "BEiT v2's way"
            )
        settings = {
            "data.image_size": self.size,
            "tokenizer.teacher": self.options.teacher,
            "tokenizer.teacher_size": self.options.teacher_size,
            "tokenizer.vocab_size": shape.vocab_size,
            "tokenizer.patch_size": shape.patch_size,
            "tokenizer.width": shape.width,
            "tokenizer.depth": shape.depth,
            "tokenizer.heads": shape.heads,
            "tokenizer.code_width": shape.code_width,
            "tokenizer.decoder_depth": shape.decoder_depth,
        }
        run = stage.train("tokenizers:vqkd", settings)
        self._load(_read(run), run)

    def _load(self, state: Mapping[str, Tensor], path: Path) -> None:
        load_strictly(self, state, str(path))
        self.trained.fill_(True)


def to_images(patches: Tensor, shape: VqkdShape) -> Tensor:
    """Makes images (B, C, H, W), about [0, 1], of patches (B, N, p * p * C) of pixels in [-1, 1]."""
    return (unpatchify(patches, shape.grid, shape.channels) + 1) / 2


def _read(path: Path) -> dict[str, Tensor]:
    return read_tokenizer(path, "tokenizers:vqkd", "a VQ-KD tokenizer", _NEEDS)


def _shape_of(state: Mapping[str, Tensor], path: Path, context: BuildContext) -> VqkdShape:
    """Reads the dimensions of a checkpoint, and refuses one that was trained for other images."""
    values = state["layout"].tolist()
    if len(values) != len(fields(VqkdShape)):
        raise CheckpointError(f"{path}: damaged: its layout has {len(values)} numbers, not {len(fields(VqkdShape))}")
    shape = VqkdShape(*values)
    if shape.channels != context.channels:
        raise CheckpointError(
            f"{path}: trained on {shape.channels} colour channels, the images have {context.channels}"
        )
    if "backbone" in context.parts and context.grid != shape.grid:
        h, w = context.grid
        raise CheckpointError(
            f"{path}: trained for {shape.rows}x{shape.columns} patches, the backbone has {h}x{w}; "
            f"set data.image_size={shape.rows * context.backbone.patch_size}, or train another one"
        )
    return shape


def _choose(options: VqkdOptions, context: BuildContext) -> VqkdShape:
    """Fills in what the options leave open. An unknown number of images counts as a large one."""
    images = context.train_images or _SCALES[0][0]
    _, vocab_size, width, depth, decoder_depth = next(scale for scale in _SCALES if images >= scale[0])
    width = options.width or width
    heads = options.heads or max(1, width // _HEAD_WIDTH)
    if width % heads:
        raise ConfigError(
            [f"tokenizer.width={width} does not divide into {heads} heads; set tokenizer.heads to a divisor"]
        )
    if "backbone" in context.parts:
        grid = context.grid
        patch_size = options.patch_size or context.backbone.patch_size
    else:
        size = context.image_size
        patch_size = options.patch_size or (4 if size <= 48 else 8 if size <= 96 else 16)
        if size % patch_size or size < patch_size:
            raise ConfigError([f"data.image_size={size} is no multiple of tokenizer.patch_size={patch_size}"])
        grid = (size // patch_size, size // patch_size)
    return VqkdShape(
        vocab_size=options.vocab_size or vocab_size,
        channels=context.channels,
        patch_size=patch_size,
        rows=grid[0],
        columns=grid[1],
        width=width,
        depth=options.depth or depth,
        heads=heads,
        code_width=options.code_width,
        decoder_depth=options.decoder_depth or decoder_depth,
        pixels=int(options.teacher == PIXELS),
    )
