"""The size of a JPEG from its bytes, in a few microseconds: Pillow takes a tenth of the time of decoding to say it."""

from __future__ import annotations

from typing import NamedTuple

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of the segments that hold the size: SOF0 to SOF15 without DHT, JPG and DAC (ITU T.81, table B.1)."""

_NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})
_EXIF = 0xE1


class JpegHeader(NamedTuple):
    """What is known of a JPEG without decoding it.

    Attributes:
        width, height: pixels as they are stored, before any rotation.
        exif: whether there may be an EXIF block, and in it a rotation.
    """

    width: int
    height: int
    exif: bool


def jpeg_header(data: bytes) -> JpegHeader | None:
    """Returns the header, or None where it is no JPEG or its segments make no sense."""
    if data[:3] != b"\xff\xd8\xff":
        return None
    exif, place = False, 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # filling
            place += 1
            continue
        if marker in _NO_LENGTH:
            place += 2
            continue
        if marker in _FRAMES:
            height, width = int.from_bytes(data[place + 5 : place + 7]), int.from_bytes(data[place + 7 : place + 9])
            return JpegHeader(width, height, exif) if width and height else None
        exif |= marker == _EXIF
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return None
