"""Where views are cut: the random crop box of training and the central view of evaluation."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ssl_core.contracts.batch import ViewSpec
from ssl_core.errors import UsageError

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
"""Name in a `ViewSpec` -> Pillow's filter."""

Box = tuple[int, int, int, int]
"""(top, left, height, width) in pixels."""


def random_crop_box(
    width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float], rng: random.Random
) -> Box:
    """Draws a box that covers a random share of the image, at a random aspect ratio.

    The draws and their order (area, log ratio, then top, left if it fits; ten attempts) are the
    reference implementation's, so the same generator gives the same boxes.

    Args:
        width, height: of the image, pixels.
        scale: share of the area, (low, high).
        ratio: width / height, (low, high); drawn log-uniformly.
        rng: generator.

    Returns:
        (top, left, height, width); after ten misses the largest central box of an allowed ratio.
    """
    log_ratio = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(10):
        area = rng.uniform(*scale) * width * height
        aspect = math.exp(rng.uniform(*log_ratio))
        box_width = round(math.sqrt(area * aspect))
        box_height = round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = rng.randint(0, height - box_height)
            left = rng.randint(0, width - box_width)
            return top, left, box_height, box_width
    box_width, box_height = width, height
    if width / height < ratio[0]:
        box_height = min(height, round(width / ratio[0]))
    elif width / height > ratio[1]:
        box_width = min(width, round(height * ratio[1]))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def crop_owner(name: str, views: Mapping[str, ViewSpec]) -> str:
    """Returns the view whose crops a view shows, by `crop_of`; itself where it shares none.

    Args:
        name: of the view.
        views: all of them.

    Raises:
        UsageError: `crop_of` names no other view, or one with fewer crops.
    """
    seen = [name]
    while (other := views[seen[-1]].crop_of) is not None:
        if other not in views or other in seen:
            raise UsageError(f"view '{name}': crop_of='{other}' names no other view; there are {', '.join(views)}")
        if views[name].count > views[other].count:
            raise UsageError(
                f"view '{name}' wants {views[name].count} crops of '{other}', which has {views[other].count}"
            )
        seen.append(other)
    return seen[-1]


def crop_and_resize(image: Image.Image, box: Box, size: int, interpolation: str) -> Image.Image:
    """Cuts `box` and resizes it to (size, size).

    It crops first: `resize(box=...)` would let the filter read pixels outside of the box.
    """
    top, left, height, width = box
    crop = image.crop((left, top, left + width, top + height))
    return crop.resize((size, size), FILTERS[interpolation])


def center_view(image: Image.Image, size: int, crop_fraction: float = 0.875) -> Tensor:
    """Returns the deterministic view that evaluation uses, (3, size, size) uint8.

    The shorter side is resized (bicubic) to size / crop_fraction, then the centre is cut: 256 and
    224 at the default. An image whose shorter side is `size` already is not resized, so small
    images are seen whole.

    Args:
        image: RGB.
        size: pixels of the view.
        crop_fraction: share of the shorter side that is kept; 1.0 keeps it whole.
    """
    width, height = image.size
    short = min(width, height)
    if short != size:
        target = round(size / crop_fraction)
        width, height = int(target * width / short), int(target * height / short)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return to_tensor(image.crop((left, top, left + size, top + size)))


def to_tensor(image: Image.Image) -> Tensor:
    """Returns an RGB image as (3, H, W) uint8, contiguous."""
    pixels = np.frombuffer(image.tobytes(), dtype=np.uint8).reshape(image.height, image.width, 3)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())  # (3, H, W)
