"""Reading one image of a set, whatever the set leaves to Pillow or to us."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ssl_core.contracts.data import BadImage, ImageSet, Picture
from ssl_core.data.decode import to_rgb
from ssl_core.data.pictures import ArrayPicture


def read_clean(images: ImageSet, index: int) -> Image.Image:
    """Reads an image of any set, a third party's among them, as decoded RGB.

    Args:
        images: what it is read from.
        index: of the image.

    Raises:
        BadImage: it cannot be read or decoded.
    """
    try:
        image = images.read(index)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        # What Pillow raises in a set that does not make it a BadImage. Anything else is a mistake of the set.
        raise BadImage(f"{type(error).__name__}: {error}") from None
    try:
        # Only where the conversion was left to us: a rotation that the set has applied may still be in the metadata.
        if image.mode != "RGB":
            return to_rgb(image)
        image.load()
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise a dozen kinds on damaged files
        raise BadImage(f"{type(error).__name__}: {error}") from None
    return image


def read_picture(images: ImageSet, index: int) -> Picture:
    """Returns an image of any set undecoded, or decoded where the set does not offer more.

    Args:
        images: what it is read from.
        index: of the image.

    Raises:
        BadImage: it cannot be read. One that cannot be decoded may show later.
    """
    try:
        picture = images.picture(index)
    except OSError as error:
        raise BadImage(f"{type(error).__name__}: {error}") from None
    return ArrayPicture(np.array(read_clean(images, index))) if picture is None else picture
