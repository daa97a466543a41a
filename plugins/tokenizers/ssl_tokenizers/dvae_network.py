"""The convolutional encoder and decoder of a discrete VAE, in the style of DALL-E's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_core.api import Grid

_MAX_GROWTH = 8
"""Channels double with each halving, up to this many times the first."""


@dataclass(frozen=True)
class NetworkShape:
    """Dimensions that encoder and decoder share.

    Attributes:
        channels: C, of the images.
        hidden: channels before the first halving.
        blocks: residual blocks in each group.
        downsample: pixels per token and side, a power of two.
        stem: pixels per side that the first convolution takes at a stride; 1 = DALL-E's, at full resolution.
        decoder_width: channels of the decoder's first convolution; None = a quarter of its first group's.
    """

    channels: int
    hidden: int
    blocks: int
    downsample: int
    stem: int
    decoder_width: int | None = None

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each group of blocks, from fine to coarse."""
        halvings = (self.downsample // self.stem).bit_length() - 1
        return tuple(self.hidden * min(2**group, _MAX_GROWTH) for group in range(halvings + 1))


class Block(nn.Module):
    """Residual block: three 3x3 convolutions at a quarter of the width and one 1x1.

    Args:
        width_in, width_out: channels.
        gain: factor of the residual branch, which keeps a deep stack at unit variance.
        mirrored: False = the 1x1 comes last (encoder), True = first (decoder).
    """

    def __init__(self, width_in: int, width_out: int, gain: float, mirrored: bool):
        super().__init__()
        inner = width_out // 4
        kernels = (1, 3, 3, 3) if mirrored else (3, 3, 3, 1)
        widths = (width_in, inner, inner, inner, width_out)
        self.gain = gain
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, kernel, padding=kernel // 2)
            for a, b, kernel in zip(widths, widths[1:], kernels, strict=False)
        )
        self.skip = nn.Identity() if width_in == width_out else nn.Conv2d(width_in, width_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, width_in, H, W) to (B, width_out, H, W)."""
        branch = x
        for conv in self.convs:
            branch = conv(F.relu(branch))
        return self.skip(x) + self.gain * branch


class Encoder(nn.Module):
    """Pixels to one vector per token, halved by max-pooling between groups of blocks.

    Args:
        shape: its dimensions.
        width: channels of the output.
    """

    def __init__(self, shape: NetworkShape, width: int):
        super().__init__()
        widths, blocks, hidden = shape.widths, shape.blocks, shape.hidden
        gain = 1 / (len(widths) * blocks) ** 2
        if shape.stem == 1:
            self.input = nn.Conv2d(shape.channels, hidden, 7, padding=3)
        else:
            self.input = nn.Conv2d(shape.channels, hidden, 2 * shape.stem, stride=shape.stem, padding=shape.stem // 2)
        self.groups = nn.ModuleList(
            nn.Sequential(*(Block(before if b == 0 else after, after, gain, False) for b in range(blocks)))
            for before, after in zip((hidden, *widths), widths, strict=False)
        )
        self.output = nn.Conv2d(widths[-1], width, 1)
        initialise(self)

    def forward(self, pixels: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, width, H / downsample, W / downsample)."""
        return self.output(self.trunk(pixels))

    def trunk(self, pixels: Tensor) -> Tensor:
        """Maps (B, C, H, W) to what the last convolution sees, (B, D, H / downsample, W / downsample)."""
        x = self.input(pixels.contiguous(memory_format=torch.channels_last))  # (B, hidden, H / stem, W / stem)
        for index, group in enumerate(self.groups):
            x = group(F.max_pool2d(x, 2) if index else x)  # (B, D, H / (stem * 2^index), ...)
        return F.relu(x)


def output_at(encoder: Encoder, trunk: Tensor, places: Tensor) -> Tensor:
    """Returns what the last convolution of an encoder makes of a few places: (B, K, width), float32.

    Args:
        trunk: (B, D, h, w).
        places: (B, K) int64, row-major in h * w.
    """
    weight, bias = encoder.output.weight.flatten(1), encoder.output.bias  # (width, D), (width)
    return F.linear(cells_at(trunk, places).float(), weight, bias)  # (B, K, width)


def cells_at(values: Tensor, places: Tensor) -> Tensor:
    """Returns the vectors (B, K, D) of a map (B, D, h, w) at places (B, K)."""
    values = values.flatten(2).transpose(1, 2)  # (B, h * w, D)
    return values.gather(1, places.unsqueeze(-1).expand(-1, -1, values.shape[2]))  # (B, K, D)


def fits(pixels: Tensor, downsample: int, grid: Grid) -> bool:
    """Returns whether images (B, C, H, W) give as many codes as there are patches."""
    return (pixels.shape[-2] // downsample, pixels.shape[-1] // downsample) == tuple(grid)


def all_places(codes: Tensor, places: Tensor, count: int) -> Tensor:
    """Returns (B, count), the codes (B, K) at their places (B, K) and 0 elsewhere."""
    return codes.new_zeros(len(codes), count).scatter(1, places, codes)


class Decoder(nn.Module):
    """Token vectors to two values per pixel and channel: a location and a log scale.

    Args:
        shape: its dimensions, those of the encoder.
        width: channels of the input.
    """

    def __init__(self, shape: NetworkShape, width: int):
        super().__init__()
        widths, blocks = shape.widths[::-1], shape.blocks
        gain = 1 / (len(widths) * blocks) ** 2
        first = shape.decoder_width or widths[0] // 4
        self.stem = shape.stem
        self.input = nn.Conv2d(width, first, 1)
        self.groups = nn.ModuleList(
            nn.Sequential(*(Block(before if b == 0 else after, after, gain, True) for b in range(blocks)))
            for before, after in zip((first, *widths), widths, strict=False)
        )
        self.output = nn.Conv2d(shape.hidden, 2 * shape.channels * shape.stem**2, 1)
        initialise(self)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps (B, width, h, w) to (B, 2 * C, h * downsample, w * downsample)."""
        x = self.input(tokens.contiguous(memory_format=torch.channels_last))
        for index, group in enumerate(self.groups):
            x = group(F.interpolate(x, scale_factor=2) if index else x)  # (B, D, h * 2^index, w * 2^index)
        return F.pixel_shuffle(self.output(F.relu(x)), self.stem)  # (B, 2 * C, H, W)


def initialise(network: nn.Module) -> None:
    """Draws weights from N(0, 1 / fan_in) and sets biases to 0, as DALL-E does."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            nn.init.zeros_(module.bias)
