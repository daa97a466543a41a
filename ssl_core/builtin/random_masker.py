"""RandomMasker: single patches, uniformly (MAE section 3, SimMIM section 3.2)."""

from __future__ import annotations

import random

import numpy as np

from ssl_core.builtin.options import RandomMaskerOptions
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.masker import Grid, Mask, Masker
from ssl_core.errors import UsageError


class RandomMasker(Masker):
    """Hides exactly round(ratio * N) patches of N, each set equally likely."""

    def __init__(self, options: RandomMaskerOptions, context: BuildContext):
        self.options = options

    def max_hidden(self, grid: Grid) -> int:
        """Returns K. Raises UsageError where none or all patches would be hidden."""
        patches = grid[0] * grid[1]
        if self.options.count is not None:
            hidden, option = self.options.count, f"masker.count={self.options.count}"
        else:
            hidden, option = round(self.options.ratio * patches), f"masker.ratio={self.options.ratio:g}"
        if not 0 < hidden < patches:
            raise UsageError(
                f"{option} hides {hidden} of the {patches} patches of a {grid[0]}x{grid[1]} grid: "
                f"hide 1 to {patches - 1}"
            )
        return hidden

    def sample(self, grid: Grid, rng: random.Random, batch_rng: random.Random) -> Mask:
        patches = grid[0] * grid[1]
        hidden = np.zeros(patches, dtype=bool)
        # The order of random 64-bit keys is a uniform permutation, several times faster than `rng.sample`.
        keys = np.frombuffer(rng.randbytes(8 * patches), dtype="<u8")
        hidden[np.argsort(keys)[: self.max_hidden(grid)]] = True
        return Mask(hidden.reshape(1, *grid))  # (1, h, w)
