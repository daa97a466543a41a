"""Stateless randomness for libraries that draw from Python's and numpy's global generators."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """Seeds both global generators, and puts them back as they were.

    timm's augmentations take no generator. Inside, what they draw follows from the seed alone; outside,
    nobody notices.

    Args:
        seed: 0 to 2^64 - 1.
    """
    python, legacy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed([seed & 0xFFFFFFFF, seed >> 32])
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)
