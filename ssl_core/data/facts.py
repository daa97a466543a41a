"""What is known of a data set before training."""

from __future__ import annotations

import statistics

from ssl_core.contracts.data import BadImage, ImageSet
from ssl_core.errors import DataError


def median_size(images: ImageSet, sample: int = 200) -> int:
    """Returns the median of the images' shorter sides, in pixels. Recipes are chosen by it.

    Args:
        images: any split.
        sample: at most so many images are looked at, spread evenly over the set.

    Raises:
        DataError: none of them can be read.
    """
    count = min(sample, len(images))
    shorter, problem = [], None
    for position in range(count):
        index = position * len(images) // count
        try:
            shorter.append(min(images.size(index)))
        except BadImage as error:
            problem = problem or f"{images.name(index)}: {error}"
    if not shorter:
        raise DataError(f"none of {count} images can be read; the first is {problem}")
    return int(statistics.median_low(shorter))
