"""Masker: chooses the patches that are hidden."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

Grid = tuple[int, int]
"""Rows and columns of patches, (h, w)."""


@dataclass(frozen=True)
class Mask:
    """The mask, or the M masks, of one image.

    Attributes:
        hidden: (M, h, w) bool, True = hidden. M is 1 for most methods.
        context: (h, w) bool, True = the encoder may see it; None means every patch that no
            mask hides. Only methods that leave a gap between the two need it (I-JEPA).
    """

    hidden: np.ndarray
    context: np.ndarray | None = None


class Masker(ABC):
    """Samples masks on the CPU, in the data worker, one image at a time.

    A masker is built as `Masker(options, context)` and must be picklable. It must draw from
    nothing but the two generators that it is given: then a mask follows from (seed, epoch,
    sample), and a resumed run sees the same ones.
    """

    equal_counts: bool = True
    """Whether every mask hides exactly `max_hidden(grid)` patches. Methods that drop the hidden
    patches need it; the others are padded to `max_hidden`, so that shapes are static either way."""

    masks_per_image: int = 1
    """M, the first dimension of `Mask.hidden`."""

    may_be_empty: bool = False
    """Whether an image may go without a single hidden patch."""

    @abstractmethod
    def sample(self, grid: Grid, rng: random.Random, batch_rng: random.Random) -> Mask:
        """Samples the masks of one image.

        Args:
            grid: (h, w), the backbone's patches.
            rng: the image's own generator.
            batch_rng: the same sequence for each image of one batch (for sizes that a batch shares).
        """

    @abstractmethod
    def max_hidden(self, grid: Grid) -> int:
        """Returns K, the most patches that one mask of this grid hides."""
