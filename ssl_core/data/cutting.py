"""Views of one image of a set, whatever its transform takes and returns."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from ssl_core.contracts.batch import ViewSpec
from ssl_core.contracts.data import ImageSet, Transform, Views
from ssl_core.data.reading import read_clean, read_picture


def cut_views(
    images: ImageSet,
    index: int,
    transform: Transform,
    specs: Mapping[str, ViewSpec],
    rng: Callable[[str], random.Random],
) -> Views:
    """Reads an image as the transform takes it, and cuts its views.

    Args:
        images: what it is read from.
        index: of the image.
        transform: cuts it.
        specs: the views.
        rng: name of a view -> its generator.

    Raises:
        BadImage: it cannot be read or decoded.
    """
    read = read_picture if transform.takes_pictures else read_clean
    found = transform(read(images, index), specs, rng)
    return found if isinstance(found, Views) else Views(found)
