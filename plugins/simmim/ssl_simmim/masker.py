"""SquareMasker: whole squares of several patches, uniformly (SimMIM, section 3.2)."""

from __future__ import annotations

import math
import random

import numpy as np

from ssl_core.api import BuildContext, ConfigError, Grid, Mask, Masker, UsageError
from ssl_simmim.options import SquareMaskerOptions


class SquareMasker(Masker):
    """Cuts the image into squares of `block_size` pixels and hides ceil(ratio * squares), each set equally likely.

    Unlike BEiT's rectangles, the squares lie on a fixed lattice and do not overlap.

    Raises:
        ConfigError: the method has no backbone, whose patches the squares are made of.
        UsageError: a square is no whole number of patches.
    """

    def __init__(self, options: SquareMaskerOptions, context: BuildContext):
        if "backbone" not in context.parts:
            raise ConfigError(["simmim:squares needs a backbone, whose patches it hides; this method has none"])
        patch = context.backbone.patch_size
        if options.block_size % patch:
            raise UsageError(
                f"masker.block_size {options.block_size} is no multiple of the backbone's patches of {patch} pixels; "
                f"set it to {patch} or {2 * patch}, say"
            )
        self.options = options
        self.side = options.block_size // patch  # patches a square is high and wide

    def max_hidden(self, grid: Grid) -> int:
        """Returns K. Raises UsageError where the squares do not fill the grid, or every one would be hidden."""
        return self._hidden_squares(grid) * self.side**2

    def sample(self, grid: Grid, rng: random.Random, batch_rng: random.Random) -> Mask:
        count = self._hidden_squares(grid)
        rows, columns = grid[0] // self.side, grid[1] // self.side
        squares = np.zeros((rows, columns), dtype=bool)
        squares.flat[rng.sample(range(rows * columns), count)] = True
        hidden = squares.repeat(self.side, axis=0).repeat(self.side, axis=1)  # (h, w)
        return Mask(hidden[None])  # (1, h, w)

    def _hidden_squares(self, grid: Grid) -> int:
        h, w = grid
        size = self.options.block_size
        if h % self.side or w % self.side:
            raise UsageError(
                f"masker.block_size {size}: squares of {self.side}x{self.side} patches do not fill a {h}x{w} grid; "
                "set masker.block_size or data.image_size"
            )
        squares = (h // self.side) * (w // self.side)
        hidden = math.ceil(self.options.ratio * squares)
        if hidden >= squares:
            raise UsageError(
                f"masker.ratio={self.options.ratio:g} hides every one of {squares} squares; "
                f"set a lower one, or masker.block_size below {size}"
            )
        return hidden
