"""SampleOrder: which images each step trains on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ssl_core.data.seeding import torch_seed
from ssl_core.errors import DataError


class SampleKey(NamedTuple):
    """One image in one step.

    Attributes:
        step: optimizer step, from 0.
        epoch: pass over the data, from 0.
        index: place in the data set.
    """

    step: int
    epoch: int
    index: int


class SampleOrder:
    """A new permutation of the images in each epoch, cut into global batches.

    The images left over at the end of an epoch (fewer than a batch) are dropped; another epoch
    drops others. A step's batch follows from (seed, step) alone, so a resumed run needs no state
    and the order does not depend on the number of devices.

    Args:
        length: images in the data set.
        batch_size: global batch size.
        seed: of the run.

    Raises:
        DataError: fewer images than a batch.
    """

    def __init__(self, length: int, batch_size: int, seed: int):
        if length < batch_size:
            raise DataError(
                f"{length:,} training images are fewer than one batch of {batch_size:,}: "
                f"set train.batch_size to at most {length}"
            )
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.steps_per_epoch = length // batch_size
        self._epoch = -1
        self._permutation = np.empty(0, dtype=np.int64)

    def batch(self, step: int) -> list[SampleKey]:
        """Returns the `batch_size` images of a step, in order."""
        epoch, position = divmod(step, self.steps_per_epoch)
        first = position * self.batch_size
        indices = self._order_of(epoch)[first : first + self.batch_size]
        return [SampleKey(step, epoch, index) for index in indices.tolist()]

    def _order_of(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            # Raw bits and a stable sort: numpy promises these streams between versions, but not its shuffle.
            bits = np.random.PCG64(torch_seed(self.seed, "order", epoch)).random_raw(self.length)
            self._permutation = np.argsort(bits, kind="stable")
            self._epoch = epoch
        return self._permutation
