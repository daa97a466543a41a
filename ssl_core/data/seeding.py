"""Stateless randomness: every random stream follows from what it is for, never from what was drawn before.

So a resumed run draws what the uninterrupted one would have drawn, whatever the number of workers
and devices.
"""

from __future__ import annotations

import hashlib
import random


def sample_rng(seed: int, epoch: int, index: int, purpose: str) -> random.Random:
    """Returns the generator of one image in one epoch.

    Args:
        seed: of the run.
        epoch: which pass over the data.
        index: the image's place in the data set.
        purpose: what is drawn, `mask` or `view:image`; each purpose has an independent stream.
    """
    return random.Random(_digest("sample", seed, epoch, index, purpose))


def batch_rng(seed: int, step: int) -> random.Random:
    """Returns the generator that all images of one optimizer step share."""
    return random.Random(_digest("batch", seed, step))


def torch_seed(seed: int, *parts: int | str) -> int:
    """Returns 63 bits for `torch.manual_seed`, e.g. `torch_seed(seed, "step", step, rank)`."""
    return _digest("torch", seed, *parts) >> 1


def _digest(*parts: int | str) -> int:
    # repr keeps 1 and "1" apart, and the separator keeps ("a", "bc") and ("ab", "c") apart.
    text = "\x1f".join(map(repr, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
