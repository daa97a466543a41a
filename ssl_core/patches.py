"""How an image divides into patches."""

from __future__ import annotations

from ssl_core.contracts.masker import Grid
from ssl_core.errors import UsageError


def patch_grid(image_size: int, patch_size: int) -> Grid:
    """Returns (h, w), the patches of a square image.

    Args:
        image_size: height and width in pixels.
        patch_size: pixels a patch is high and wide.

    Raises:
        UsageError: the image does not divide into whole patches; the message names sizes that do.
    """
    side, rest = divmod(image_size, patch_size)
    if rest:
        sizes = [str(count * patch_size) for count in (side, side + 1) if count]
        raise UsageError(
            f"data.image_size {image_size} is not a multiple of backbone.patch_size {patch_size}; "
            f"set data.image_size to {' or '.join(sizes)}"
        )
    return side, side
