"""The transformers around a vector quantiser: pixels to code vectors, and codes to what is reconstructed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ssl_core.api import Grid


@dataclass(frozen=True)
class VqkdShape:
    """Dimensions of a tokenizer, all whole numbers.

    Attributes:
        vocab_size: V.
        channels: C, of the images.
        patch_size: pixels per side of a patch.
        rows, columns: h and w, the patches of an image.
        width, depth, heads: of the encoder; the decoder has the same width and heads.
        code_width: d, of a code.
        decoder_depth: blocks of the decoder.
        pixels: 1 = the tokenizer reconstructs pixels, 0 = a teacher's features.
    """

    vocab_size: int
    channels: int
    patch_size: int
    rows: int
    columns: int
    width: int
    depth: int
    heads: int
    code_width: int
    decoder_depth: int
    pixels: int

    @property
    def grid(self) -> Grid:
        return self.rows, self.columns


class Encoder(nn.Module):
    """A ViT with absolute positions, and Linear-Tanh-Linear to the width of a code."""

    def __init__(self, shape: VqkdShape):
        super().__init__()
        size = shape.rows * shape.patch_size, shape.columns * shape.patch_size
        self.vit = _vit(shape, size, shape.patch_size, shape.channels, shape.depth)
        self.head = _head(shape.width, shape.code_width)

    def forward(self, pixels: Tensor) -> Tensor:
        """Maps (B, C, H, W) in [0, 1] to (B, N, d) float32. The last layers run in float32: near ties decide."""
        x = self.vit.forward_features(2 * pixels - 1)[:, self.vit.num_prefix_tokens :]  # (B, N, D)
        with torch.autocast(x.device.type, enabled=False):
            return self.head(x.float())  # (B, N, d)


class Decoder(nn.Module):
    """A ViT on the grid of codes, and Linear-Tanh-Linear to what is reconstructed.

    Args:
        shape: dimensions.
        width: values per patch of what is reconstructed.
    """

    def __init__(self, shape: VqkdShape, width: int):
        super().__init__()
        self.grid = shape.grid
        self.vit = _vit(shape, shape.grid, 1, shape.code_width, shape.decoder_depth)
        self.head = _head(shape.width, width)

    def forward(self, codes: Tensor) -> Tensor:
        """Maps (B, N, d) to (B, N, width) float32."""
        x = codes.transpose(1, 2).unflatten(2, self.grid)  # (B, d, h, w)
        x = self.vit.forward_features(x)[:, self.vit.num_prefix_tokens :]  # (B, N, D)
        return self.head(x).float()  # (B, N, width)


def _vit(shape: VqkdShape, size: Grid, patch_size: int, channels: int, depth: int) -> VisionTransformer:
    return VisionTransformer(
        img_size=size,
        patch_size=patch_size,
        in_chans=channels,
        num_classes=0,
        global_pool="",
        embed_dim=shape.width,
        depth=depth,
        num_heads=shape.heads,
    )


def _head(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, out))
