"""Blockwise masking (BEiT, section 2.3 and algorithm 1)."""

from __future__ import annotations

import math
import random

import numpy as np

from ssl_beit.options import BlockMaskerOptions
from ssl_core.api import BuildContext, Grid, Mask, Masker, UsageError

_ATTEMPTS = 10
_REFERENCE_BLOCK, _REFERENCE_PATCHES = 16, 196


class BlockMasker(Masker):
    """Hides rectangles of patches, one after the other, until K are hidden.

    It follows the reference implementation, down to the order of its random draws, rather than the
    paper's algorithm: a block is drawn again, up to ten times, when it would span a whole side, hide
    nothing new, or hide more than K; and it gives up where all ten fail. `exact` then hides single
    patches, chosen evenly among the rest, until they are K.
    """

    def __init__(self, options: BlockMaskerOptions, context: BuildContext):
        self.options = options
        self.equal_counts = options.exact
        self.may_be_empty = not options.exact
        self._log_aspect = (math.log(options.min_aspect), -math.log(options.min_aspect))

    def max_hidden(self, grid: Grid) -> int:
        """Returns K. Raises `UsageError` where the grid has no room for it."""
        patches = grid[0] * grid[1]
        count = self.options.count
        if count is None:
            count = max(1, round(self.options.ratio * patches))
        if count > patches:
            raise UsageError(f"masker.count {count} is more than the {grid[0]}x{grid[1]} patches there are; lower it")
        return count

    def sample(self, grid: Grid, rng: random.Random, batch_rng: random.Random) -> Mask:
        hidden = np.zeros(grid, dtype=bool)  # (h, w)
        budget = self.max_hidden(grid)
        smallest = self._smallest_block(grid, budget)
        largest = budget if self.options.max_block is None else self.options.max_block
        count = 0
        while count < budget:
            added = self._add_block(hidden, smallest, min(budget - count, largest), rng)
            if added == 0:
                break
            count += added
        if self.options.exact and count < budget:
            free = np.flatnonzero(~hidden).tolist()
            hidden.flat[rng.sample(free, budget - count)] = True
        return Mask(hidden[None])  # (1, h, w)

    def _smallest_block(self, grid: Grid, budget: int) -> int:
        if self.options.min_block is not None:
            return self.options.min_block
        return min(budget, max(1, round(_REFERENCE_BLOCK * grid[0] * grid[1] / _REFERENCE_PATCHES)))

    def _add_block(self, hidden: np.ndarray, smallest: int, room: int, rng: random.Random) -> int:
        """Hides one block of at most `room` new patches; returns how many were new, 0 = no block was found."""
        height, width = hidden.shape
        for _ in range(_ATTEMPTS):
            area = rng.uniform(smallest, room)  # `room` may be the smaller one; the reference allows that too
            aspect = math.exp(rng.uniform(*self._log_aspect))
            rows = round(math.sqrt(area * aspect))
            columns = round(math.sqrt(area / aspect))
            if rows >= height or columns >= width:
                continue
            top = rng.randint(0, height - rows)
            left = rng.randint(0, width - columns)
            block = hidden[top : top + rows, left : left + columns]
            added = rows * columns - int(np.count_nonzero(block))
            if 0 < added <= room:
                block[:] = True
                return added
        return 0
