"""scikit-learn's digits: the one real data set that comes with the installation."""

from __future__ import annotations

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.data import DataSource
from ssl_core.data.memory import ArrayImages
from ssl_core.errors import DataError
from ssl_core.options import NoOptions

_SIZE = 16
_TRAIN = 1438
"""The first four fifths. The file goes by writer, so the test digits are from other hands."""


class DigitsSource(DataSource):
    """1,797 handwritten digits of 8x8 pixels, shown at 16x16. The last fifth is the test split."""

    def __init__(self, options: NoOptions, context: BuildContext):
        pass

    @property
    def splits(self) -> tuple[str, ...]:
        return "train", "test"

    def open(self, split: str) -> ArrayImages:
        if split not in self.splits:
            raise DataError(f"digits has no split '{split}', only {' and '.join(self.splits)}")
        digits = load_digits()
        chosen = slice(_TRAIN) if split == "train" else slice(_TRAIN, None)
        grey = np.rint(digits.images[chosen] * (255 / 16)).astype(np.uint8)  # (N, 8, 8)
        pixels = np.stack([_enlarge(image) for image in grey])  # (N, 16, 16)
        return ArrayImages(pixels, digits.target[chosen], tuple(str(name) for name in digits.target_names))

    def describe(self) -> str:
        return "digits (handwritten, 10 classes, 16x16, from scikit-learn)"


def _enlarge(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((_SIZE, _SIZE), Image.Resampling.BICUBIC))
