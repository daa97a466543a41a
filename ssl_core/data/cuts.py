"""Cuts: the resized crops of one image, by Pillow or, faster, on bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ssl_core.contracts.data import Picture
from ssl_core.data.cropping import Box, crop_and_resize
from ssl_core.data.fast_cut import crop_bytes, decode_for, resize_bytes

_SMALL_AREA = 64 * 64
"""Pixels up to which Pillow is as fast: torch takes longer to start than to resize so few."""

Change = Callable[[Image.Image], Image.Image]


class Cuts(ABC):
    """Cuts crops out of one image."""

    @abstractmethod
    def view(self, box: Box, size: int, interpolation: str, flip: bool = False, change: Change | None = None) -> Tensor:
        """Returns one crop, (1, 3, size, size) uint8 in the order of `channels_last`.

        Args:
            box: (top, left, height, width) in the image at full size.
            size: pixels.
            interpolation: `bilinear`, `bicubic` or `lanczos`.
            flip: whether it is mirrored.
            change: what Pillow does to it in the end; None = nothing.
        """


class ImageCuts(Cuts):
    """By Pillow, from a decoded image."""

    def __init__(self, image: Image.Image):
        self._image = image

    def view(self, box: Box, size: int, interpolation: str, flip: bool = False, change: Change | None = None) -> Tensor:
        crop = crop_and_resize(self._image, box, size, interpolation)
        crop = ImageOps.mirror(crop) if flip else crop
        return _view_of(crop if change is None else change(crop))


class PictureCuts(Cuts):
    """On bytes, from a picture that is decoded once, as small as its crops allow.

    The resize is torch's bicubic one with antialiasing (`lanczos` is taken as that, `bilinear` as such), which is 0.03
    grey levels from Pillow's on average.

    Args:
        picture: what is cut.
        wanted: every box that will be cut out of it, and the largest size that is made of it.

    Attributes:
        pixels: (3, H, W) uint8, as it is decoded.

    Raises:
        BadImage: it cannot be decoded.
    """

    def __init__(self, picture: Picture, wanted: Sequence[tuple[Box, int]]):
        self.pixels, places = decode_for(picture, wanted)
        self._rows = self.pixels.permute(1, 2, 0).numpy()  # (H, W, 3)
        self._places = {box: place for (box, _), place in zip(wanted, places, strict=True)}
        self._crops: dict[Box, Tensor] = {}

    def view(self, box: Box, size: int, interpolation: str, flip: bool = False, change: Change | None = None) -> Tensor:
        if box not in self._crops:
            self._crops[box] = crop_bytes(self._rows, self._places[box])  # (1, 3, height, width)
        view = resize_bytes(self._crops[box], size, interpolation, flip)  # (1, 3, size, size)
        if change is None:
            return view
        return _view_of(change(Image.fromarray(view[0].permute(1, 2, 0).numpy())))


def cuts_of(image: Image.Image | Picture, wanted: Sequence[tuple[Box, int]]) -> Cuts:
    """Returns what cuts an image: `ImageCuts` where it is decoded or small, else `PictureCuts`.

    Args:
        image: what is cut.
        wanted: every box that will be cut out of it, and the largest size that is made of it.

    Raises:
        BadImage: a picture cannot be decoded.
    """
    if not isinstance(image, Picture):
        return ImageCuts(image)
    width, height = image.size
    return PictureCuts(image, wanted) if width * height > _SMALL_AREA else ImageCuts(image.image())


def _view_of(image: Image.Image) -> Tensor:
    """Returns an RGB image as (1, 3, H, W) uint8 in the order of `channels_last`, which is its own."""
    return torch.from_numpy(np.array(image))[None].permute(0, 3, 1, 2)
