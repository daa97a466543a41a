"""Textures: the embedded demonstration, generated, so that a first run needs neither files nor network.

Ten families differ in their local structure by design; contrast, its sign, brightness, tint and
noise are random and say nothing about the family. So it shows that pre-training learns something
that neither raw pixels nor random weights know. It is no benchmark.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from ssl_core.builtin.hashed_uniform import hashed_normal, hashed_uniform
from ssl_core.builtin.options import TexturesOptions
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.data import DataSource
from ssl_core.data.memory import ArrayImages
from ssl_core.errors import DataError

_SPLITS = ("train", "test")
_TURN = 2 * np.pi


class TexturesSource(DataSource):
    """Generated grey textures, ten classes, equally many of each."""

    def __init__(self, options: TexturesOptions, context: BuildContext):
        self._options = options

    @property
    def splits(self) -> tuple[str, ...]:
        return _SPLITS

    def open(self, split: str) -> ArrayImages:
        if split not in _SPLITS:
            raise DataError(f"textures has no split '{split}', only {' and '.join(_SPLITS)}")
        options = self._options
        count = options.images if split == "train" else options.images // 3
        pixels, labels = generate(options.seed, split, count, options.size)
        return ArrayImages(pixels, labels, tuple(_FAMILIES))

    def describe(self) -> str:
        options = self._options
        return f"textures (generated, {len(_FAMILIES)} classes, {options.size}x{options.size})"


@lru_cache(maxsize=4)
def generate(seed: int, split: str, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Generates one split; image i follows from (seed, split, i, size) alone.

    Returns:
        pixels (N, size, size, 3) uint8 and labels (N,) int64, both read-only.
    """
    labels = np.arange(count) % len(_FAMILIES)
    image = np.arange(count, dtype=np.uint64) + np.uint64((seed * len(_SPLITS) + _SPLITS.index(split)) << 32)
    pixels = np.empty((count, size, size, 3), dtype=np.uint8)
    for label, family in enumerate(_FAMILIES.values()):
        chosen = np.flatnonzero(labels == label)
        draws = _Draws(image[chosen], size)
        pattern = np.clip(family(draws), -1, 1)  # (n, size, size)
        # Sine and friends may differ in the last bit between machines; this grid hides that.
        pattern = np.rint(pattern * 4096) / 4096
        pixels[chosen] = _photograph(pattern, draws)
    pixels.setflags(write=False)
    labels.setflags(write=False)
    return pixels, labels


class _Draws:
    """What is random about n images; each call of `uniform` or `noise` is a new stream."""

    def __init__(self, image: np.ndarray, size: int):
        self._image = image[:, None, None]  # (n, 1, 1)
        self._stream = 0
        steps = np.arange(size) - (size - 1) / 2
        self.y = steps[None, :, None]  # (1, size, 1)
        self.x = steps[None, None, :]  # (1, 1, size)
        self._pixel = np.arange(size * size, dtype=np.uint64).reshape(1, size, size)

    def uniform(self, low: float, high: float) -> np.ndarray:
        """Returns one number an image, (n, 1, 1)."""
        self._stream += 1
        return low + (high - low) * hashed_uniform(self._image, self._stream)

    def noise(self) -> np.ndarray:
        """Returns white noise of variance 1, (n, size, size)."""
        self._stream += 1
        counter = self._image * np.uint64(0x9E3779B97F4A7C15) + self._pixel
        return hashed_normal(counter, self._stream)

    def turned(self, angle: float, spread: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns coordinates turned by `angle` give or take `spread` (radians), at a random place."""
        turn = angle + self.uniform(-spread, spread)
        cos, sin = np.cos(turn), np.sin(turn)
        across = cos * self.x + sin * self.y + self.uniform(0, 32)  # (n, size, size)
        along = cos * self.y - sin * self.x + self.uniform(0, 32)
        return across, along


def _photograph(pattern: np.ndarray, draws: _Draws) -> np.ndarray:
    """Turns patterns (n, size, size) in [-1, 1] into pixels (n, size, size, 3) uint8."""
    sign = np.sign(draws.uniform(-1, 1))
    contrast = draws.uniform(35, 80)
    level = draws.uniform(100, 155)
    grey = level + sign * contrast * pattern + 10 * draws.noise()  # (n, size, size)
    tint = np.concatenate([draws.uniform(-8, 8) for _ in range(3)], axis=2)[:, :, None]  # (n, 1, 1, 3)
    return np.clip(np.rint(grey[..., None] + tint), 0, 255).astype(np.uint8)  # (n, size, size, 3)


def _wave(position: np.ndarray, period: np.ndarray) -> np.ndarray:
    """A sine with flattened tops, in [-1, 1]."""
    return np.clip(1.6 * np.sin(_TURN * position / period), -1, 1)


def _lines(position: np.ndarray, period: np.ndarray, width: float) -> np.ndarray:
    """1 on lines of `width` pixels, -1 between them."""
    offset = np.abs(np.mod(position, period) - period / 2)
    return np.clip(1 + width - 2 * offset, -1, 1)


def _smooth(noise: np.ndarray, across: int, along: int) -> np.ndarray:
    """Box-blurs (n, size, size) over odd widths, wrapping around, twice; back to variance 1."""
    for _ in range(2):
        for axis, width in ((2, across), (1, along)):
            noise = sum(np.roll(noise, shift, axis) for shift in range(-(width // 2), width // 2 + 1))
    return noise / noise.std(axis=(1, 2), keepdims=True)


def _stripes(draws: _Draws) -> np.ndarray:
    across, _ = draws.turned(np.pi / 4, 0.5)
    return _wave(across, draws.uniform(4, 8))


def _waves(draws: _Draws) -> np.ndarray:
    across, along = draws.turned(np.pi / 4, 0.5)
    bent = across + draws.uniform(1.2, 2) * np.sin(_TURN * along / draws.uniform(9, 13))
    return _wave(bent, draws.uniform(4, 8))


def _checks(draws: _Draws) -> np.ndarray:
    across, along = draws.turned(0, 0.4)
    period = draws.uniform(6, 11)
    return np.clip(3 * np.sin(_TURN * across / period) * np.sin(_TURN * along / period), -1, 1)


def _dots(draws: _Draws) -> np.ndarray:
    across, along = draws.turned(0, 0.4)
    period = draws.uniform(5, 9)
    x = np.mod(across, period) / period - 0.5
    y = np.mod(along, period) / period - 0.5
    return np.clip(6 * (0.3 - np.sqrt(x * x + y * y)) * period / 5, -1, 1)


def _rings(draws: _Draws) -> np.ndarray:
    x, y = draws.x - draws.uniform(-8, 8), draws.y - draws.uniform(-8, 8)
    radius = np.sqrt(x * x + y * y)
    return _wave(radius + draws.uniform(0, 8), draws.uniform(4, 8))


def _bricks(draws: _Draws) -> np.ndarray:
    across, along = draws.turned(0, 0.15)
    height = draws.uniform(4, 7)
    row = np.floor(along / height)
    shifted = across + np.mod(row, 2) * height
    return np.maximum(_lines(along, height, 1.0), _lines(shifted, 2 * height, 1.0))


def _net(draws: _Draws) -> np.ndarray:
    across, along = draws.turned(np.pi / 4, 0.4)
    period = draws.uniform(5, 9)
    return np.maximum(_lines(across, period, 1.0), _lines(along, period, 1.0))


def _blobs(draws: _Draws) -> np.ndarray:
    return np.clip(1.5 * _smooth(draws.noise(), 5, 5), -1, 1)


def _grain(draws: _Draws) -> np.ndarray:
    return 0.6 * draws.noise()


def _streaks(draws: _Draws) -> np.ndarray:
    return np.clip(_smooth(draws.noise(), 9, 1), -1, 1)


_FAMILIES: dict[str, Callable[[_Draws], np.ndarray]] = {
    "stripes": _stripes,
    "waves": _waves,
    "checks": _checks,
    "dots": _dots,
    "rings": _rings,
    "bricks": _bricks,
    "net": _net,
    "blobs": _blobs,
    "grain": _grain,
    "streaks": _streaks,
}
"""Class name -> pattern (n, size, size) in [-1, 1]."""
