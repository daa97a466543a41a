"""Random numbers that follow from a counter, for arrays: the same on every machine and numpy."""

from __future__ import annotations

import numpy as np

_MASK = (1 << 64) - 1


def hashed_bits(counter: np.ndarray, stream: int) -> np.ndarray:
    """Returns 64 random bits for each counter, uint64, by SplitMix64 (Steele et al. 2014).

    Args:
        counter: any shape, uint64.
        stream: independent streams of one counter.
    """
    offset = np.uint64((stream * 0xD1342543DE82EF95 + 0x9E3779B97F4A7C15) & _MASK)
    state = _mix(counter + offset)
    return _mix(state + np.uint64(0x9E3779B97F4A7C15))


def hashed_uniform(counter: np.ndarray, stream: int) -> np.ndarray:
    """Returns float64 in [0, 1) for each counter."""
    return (hashed_bits(counter, stream) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def hashed_normal(counter: np.ndarray, stream: int) -> np.ndarray:
    """Returns float64 of mean 0 and variance 1, nearly normal: the sum of four 16-bit uniforms."""
    bits = hashed_bits(counter, stream)
    total = np.zeros(counter.shape)
    for shift in (0, 16, 32, 48):
        total += (bits >> np.uint64(shift)) & np.uint64(0xFFFF)
    return (total * 2.0**-16 - 2.0) * 3.0**0.5


def _mix(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
