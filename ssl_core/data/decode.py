"""Any image file to upright 8-bit RGB.

What is handled here is what silently spoils training elsewhere: 16-bit files that saturate to
white, colour hidden under transparent pixels, EXIF rotation, half-decoded files.
"""

from __future__ import annotations

import os
import stat
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from ssl_core.contracts.data import BadImage

MAX_PIXELS = 89_478_485
"""Default limit of an image's pixels; a small file can claim to be far larger than memory."""

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")  # JPEG opens MPO, too
# Closed list: Pillow would hand an EPS file that is named .jpg to Ghostscript.

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the image upright."""

_TRANSPARENT_MODES = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})


def read_rgb(file: Path | str | BinaryIO, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Reads an image file as upright RGB.

    Args:
        file: path or binary stream.
        max_pixels: width * height above which the file is refused.

    Raises:
        BadImage: missing, not an image, truncated, or too large.
    """
    with open_image(file, max_pixels) as image:
        return decode_rgb(image)


def open_image(file: Path | str | BinaryIO, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Opens an image file, of which Pillow reads no more than the header.

    Raises:
        BadImage: missing, not an image, or too large.
    """
    try:
        return _open(file, max_pixels)
    except (BadImage, MemoryError):
        raise
    except Exception as error:
        raise BadImage(f"{type(error).__name__}: {error}") from None


def decode_rgb(image: Image.Image) -> Image.Image:
    """Decodes an opened image to upright RGB, see `to_rgb`.

    Raises:
        BadImage: it is damaged or truncated.
    """
    try:
        return to_rgb(image)
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise a dozen kinds on damaged files
        raise BadImage(f"{type(error).__name__}: {error}") from None


def read_size(file: Path | str | BinaryIO, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Returns (width, height) of the upright image from the file's header alone. Raises `BadImage`."""
    with open_image(file, max_pixels) as image:
        return upright_size(image.size, orientation_of(image))


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Returns (width, height) once the EXIF orientation is applied."""
    return size[::-1] if orientation >= 5 else size


def orientation_of(image: Image.Image) -> int:
    """Returns the EXIF orientation that is left to apply to an opened image, 1 to 8."""
    if image.format == "TIFF":
        return 1  # Pillow turns these itself: the size is that of the upright image from the start
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # getexif would decode the whole file to look for it behind the pixels
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata does not spoil the pixels
        return 1


def check_area(width: int, height: int, max_pixels: int) -> None:
    """Raises `BadImage` for an image of more pixels than that."""
    if width * height > max_pixels:
        raise BadImage(f"{width}x{height} pixels are more than the limit of {max_pixels:,}")


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts to upright RGB: EXIF rotation applied, 16-bit scaled to 8, transparency on white.

    Integers beyond 8 bits are taken as 16-bit; floats as in [0, 1] unless a pixel is larger.
    """
    orientation = orientation_of(image)
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_8_bit(np.asarray(image))).convert("RGB")
    if image.mode in _TRANSPARENT_MODES or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    if image.mode == "RGB":
        image.load()
        return image
    return image.convert("RGB")


def _to_8_bit(values: np.ndarray) -> np.ndarray:
    """Scales grey values (H, W), uint16, int32 or float32, to uint8."""
    scaled = values.astype(np.float64)
    if values.dtype.kind == "f":
        scaled = np.nan_to_num(scaled)
        if scaled.max(initial=0) <= 1:
            scaled = scaled * 255
    if values.dtype.kind == "u" or scaled.max(initial=0) > 255:
        scaled = scaled / 257  # 65,535 to 255
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _open(file: Path | str | BinaryIO, max_pixels: int) -> Image.Image:
    # Opening a pipe waits for somebody to write into it, for ever.
    if isinstance(file, str | Path) and not stat.S_ISREG(os.stat(file).st_mode):
        raise BadImage("not a regular file")
    with warnings.catch_warnings():
        # The limit below stands in for Pillow's warning, which would not say which file it means.
        warnings.simplefilter("ignore")
        image = Image.open(file, formats=_FORMATS)
    try:
        check_area(image.width, image.height, max_pixels)
    except BadImage:
        image.close()
        raise
    return image
