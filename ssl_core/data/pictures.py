"""Pictures: images that are decoded as far as a transform needs them."""

from __future__ import annotations

import io
import os
import stat
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ssl_core.contracts.data import BadImage, Picture
from ssl_core.data.decode import MAX_PIXELS, check_area, decode_rgb, open_image, orientation_of, upright_size
from ssl_core.data.jpeg_header import jpeg_header

try:
    from torchvision.io import ImageReadMode, decode_jpeg
except ImportError:  # torchvision announces that a later version decodes no more: Pillow does it then, more slowly
    decode_jpeg = None

_MOST_BYTES = 1 << 29
"""Size of a file above which it counts as unreadable; a picture holds its whole file in memory."""

LARGE_AREA = 1 << 20
"""Pixels of a JPEG from which on decoding at a fraction of the size saves more than Pillow costs over torchvision."""


class ArrayPicture(Picture):
    """One that is decoded already.

    Args:
        array: RGB (H, W, 3), or grey (H, W); uint8.
    """

    def __init__(self, array: np.ndarray):
        self._array = array

    @property
    def size(self) -> tuple[int, int]:
        return self._array.shape[1], self._array.shape[0]

    def pixels(self, shrink: int = 1) -> Tensor:
        # torch cannot share memory that must not be written to.
        pixels = torch.from_numpy(self._array if self._array.flags.writeable else self._array.copy())
        return pixels.expand(3, *pixels.shape) if pixels.ndim == 2 else pixels.permute(2, 0, 1)  # (3, H, W)


class _Header(NamedTuple):
    """Of an image file: whether it is a JPEG, (width, height) as stored, and the EXIF orientation."""

    jpeg: bool
    size: tuple[int, int]
    orientation: int


class EncodedPicture(Picture):
    """An image file in memory.

    JPEGs are decoded by torchvision, large ones at a fraction of their size where that suffices. Everything else, and
    what torchvision refuses, is left to Pillow, so that one and the same files are unreadable with either.

    Args:
        data: what is in the file.
        max_pixels: width * height above which it is refused.
    """

    def __init__(self, data: bytes, max_pixels: int = MAX_PIXELS):
        self._data = data
        self._max_pixels = max_pixels

    @cached_property
    def _opened(self) -> Image.Image:
        """The file as Pillow opens it, not decoded."""
        return open_image(io.BytesIO(self._data), self._max_pixels)

    @cached_property
    def _header(self) -> _Header:
        found = jpeg_header(self._data)
        if found is None or found.exif:
            return _Header(found is not None, self._opened.size, orientation_of(self._opened))
        check_area(found.width, found.height, self._max_pixels)
        return _Header(True, (found.width, found.height), 1)

    @property
    def size(self) -> tuple[int, int]:
        return upright_size(self._header.size, self._header.orientation)

    def pixels(self, shrink: int = 1) -> Tensor:
        header = self._header
        if header.jpeg:
            width, height = header.size
            if shrink > 1 and width * height >= LARGE_AREA:
                return _from_pillow(self._read_shrunk((width // shrink, height // shrink)))
            pixels = self._decode_jpeg()
            if pixels is not None:
                return _upright(pixels, header.orientation)
        return _from_pillow(self.image())

    def image(self) -> Image.Image:
        image = self._opened
        del self._opened  # one that is decoded knows metadata from behind its pixels, and would be turned by them
        return decode_rgb(image)

    def _decode_jpeg(self) -> Tensor | None:
        """Returns (3, H, W) as the file has it, or None where Pillow must try."""
        if decode_jpeg is None:
            return None
        data = torch.frombuffer(bytearray(self._data), dtype=torch.uint8)
        try:
            pixels = decode_jpeg(data, ImageReadMode.UNCHANGED)
        except RuntimeError:
            return None
        if len(pixels) == 1:
            return pixels.expand(3, -1, -1)
        return pixels if len(pixels) == 3 else None  # four channels are CMYK

    def _read_shrunk(self, least: tuple[int, int]) -> Image.Image:
        """Decodes at 1/2, 1/4 or 1/8 of the size, at least (width, height)."""
        with open_image(io.BytesIO(self._data), self._max_pixels) as image:
            image.draft(None, least)
            return decode_rgb(image)


def read_file(path: str) -> bytes:
    """Reads an image file whole.

    Raises:
        BadImage: it cannot be read, is no regular file, or is far too large for an image.
    """
    try:
        status = os.stat(path)
        # Opening a pipe waits for somebody to write into it, for ever.
        if not stat.S_ISREG(status.st_mode):
            raise BadImage("not a regular file")
        if status.st_size > _MOST_BYTES:
            raise BadImage(f"{status.st_size:,} bytes are more than the limit of {_MOST_BYTES:,}")
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise BadImage(f"{type(error).__name__}: {error}") from None


def _upright(pixels: Tensor, orientation: int) -> Tensor:
    """Turns (3, H, W) as its EXIF orientation says."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 2)  # (3, W, H)
    if orientation in (2, 3, 6, 7):
        pixels = pixels.flip(2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels.flip(1)
    return pixels


def _from_pillow(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)  # (3, H, W)
