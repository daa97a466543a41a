"""Changes of colour that a transform leaves to the device, as a matrix for each crop.

Brightness, contrast, saturation, grey, a tint: each maps a colour to a linear function of it, and so do all of them
together, as long as no value is cut off in between. Drawing and putting them together costs a worker microseconds;
what it costs to apply them to every pixel, a GPU does not feel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey value, as Pillow has them."""

_ROWS = 32
"""How many rows, at least, are looked at for the mean colour of an image that has as many."""


def colour_matrix(changes: Sequence[tuple[str, float]], image: Tensor) -> Tensor:
    """Puts changes of brightness, contrast and saturation together, done one after the other.

    Pillow drops the fraction after each change; here that is half a grey level less for all but the last one, which
    `change_colours` does as Pillow does.

    Args:
        changes: (`brightness`, `contrast` or `saturation`, factor) in order; 1 changes nothing.
        image: (3, H, W) uint8, which they belong to: contrast is about its mean grey value. It is judged by
            a few dozen of its rows.

    Returns:
        (3, 4) float32, for `change_colours`.
    """
    # A colour x becomes scale * x + grey * (grey value of x) + offset.
    scale, grey, offset = 1.0, 0.0, 0.0
    for place, (name, factor) in enumerate(changes):
        if name == "brightness":
            scale, grey, offset = factor * scale, factor * grey, factor * offset
        elif name == "contrast":
            centre = (scale + grey) * _mean_grey(image) + offset
            scale, grey, offset = factor * scale, factor * grey, factor * offset + (1 - factor) * centre
        elif name == "saturation":
            # Each colour is mixed with its grey value, which itself stays as it is.
            scale, grey = factor * scale, grey + (1 - factor) * scale
        else:
            raise ValueError(f"{name} is none of brightness, contrast and saturation")
        if place + 1 < len(changes):
            offset -= 0.5
    shared = [grey * weight for weight in _GREY]
    rows = [[value + scale * (column == row) for column, value in enumerate(shared)] + [offset] for row in range(3)]
    return torch.from_numpy(np.array(rows, np.float32))  # (3, 4)


def same_colours(count: int) -> Tensor:
    """Returns the matrices that change nothing, (count, 3, 4) float32."""
    return torch.eye(3, 4).expand(count, 3, 4)


def change_colours(pixels: Tensor, colours: Tensor) -> Tensor:
    """Applies one matrix to each image. On any device, without waiting for it; an image's result is its own alone.

    Args:
        pixels: (N, 3, H, W), values in 0..255.
        colours: (N, 3, 4) float32: red, green and blue of the result as shares of red, green and blue, and what is
            added to them, in grey levels.

    Returns:
        float32 like `pixels`, whole numbers in 0..255: fractions are dropped, what lies outside is cut off.
    """
    # Products one by one: a matrix product would be computed with 10 bits where TF32 is on.
    red, green, blue = pixels.float().split(1, dim=1)  # (N, 1, H, W)
    by_red, by_green, by_blue, offset = colours[..., None, None].unbind(2)  # (N, 3, 1, 1)
    changed = (red * by_red).addcmul_(green, by_green).addcmul_(blue, by_blue).add_(offset)  # (N, 3, H, W)
    return changed.clamp_(0, 255).floor_()


def _mean_grey(image: Tensor) -> float:
    step = max(1, image.shape[1] // _ROWS)
    rows = image.permute(1, 2, 0).numpy()[step // 2 :: step]  # (n, W, 3)
    # Along the rows first, where numpy adds many columns at a time.
    sums = rows.sum(0, dtype=np.uint32).sum(0, dtype=np.uint64).tolist()
    return sum(weight * total for weight, total in zip(_GREY, sums, strict=True)) / (rows.shape[0] * rows.shape[1])
