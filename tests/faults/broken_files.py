"""A zoo of image files that are broken or odd, made by code: each fault under the name that a person would use."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 32
"""Height and width in pixels of what can be read."""


def encoded(image: Image.Image, file_format: str, **arguments) -> bytes:
    """Returns an image as the bytes of a file."""
    stream = io.BytesIO()
    image.save(stream, file_format, **arguments)
    return stream.getvalue()


def good_image(number: int) -> Image.Image:
    """Returns noise, another for each number."""
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), np.uint8))


def png_that_claims(width: int, height: int) -> bytes:
    """Returns a small, valid PNG whose header says that it has so many pixels."""
    data = bytearray(encoded(Image.new("1", (8, 8)), "PNG"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def bomb() -> bytes:
    """Returns an honest PNG of 10,000 x 10,000 black pixels, in a few kilobytes."""
    return encoded(Image.new("1", (10_000, 10_000)), "PNG")


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _link_to(target: str) -> Callable[[Path], None]:
    return lambda file: file.symlink_to(target)


def _socket(file: Path) -> None:
    there = os.getcwd()
    os.chdir(file.parent)  # the name of a socket may have a hundred characters only
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(file.name)
    finally:
        os.chdir(there)


def _folder(file: Path) -> None:
    file.mkdir()


UNREADABLE: dict[str, tuple[str | bytes, bytes | Callable[[Path], None]]] = {
    "zero bytes": ("zero.jpg", b""),
    "text": ("text.jpg", b"hello, I am text\n"),
    "a web page": ("page.jpg", b"<!doctype html><title>404 Not Found</title>"),
    "a truncated JPEG": ("half.jpg", _cut(encoded(good_image(1), "JPEG"))),
    "a truncated PNG": ("half.png", _cut(encoded(good_image(2), "PNG"))),
    "PostScript": ("program.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"),
    "a link that leads nowhere": ("nowhere.jpg", _link_to("gone.jpg")),
    "a link to itself": ("itself.jpg", _link_to("itself.jpg")),
    "a pipe": ("pipe.jpg", os.mkfifo),
    "a socket": ("socket.jpg", _socket),
    "a device": ("device.jpg", _link_to("/dev/zero")),
    "a decompression bomb": ("bomb.png", bomb()),
    "a header of huge dimensions": ("huge.png", png_that_claims(2**31 - 1, 2**31 - 1)),
    "a pickle": ("pickle.jpg", b"\x80\x04]\x94."),
    "a name with a new line": ("new\nline.jpg", b""),
    "a name with an escape sequence": ("red\x1b[31m.jpg", b""),
    "a name that cannot be decoded": (b"undecodable\xff.jpg", b""),
}
"""Fault -> (file name, content or what makes the file). None of them is an image."""

LISTED = {
    "a name with a new line": "new\\nline.jpg",
    "a name with an escape sequence": "red\\x1b[31m.jpg",
    "a name that cannot be decoded": "undecodable\\udcff.jpg",
}
"""Fault -> the line in bad_files.txt, where it is not the name itself."""


def _rotated() -> bytes:
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    pixels[-1, 0] = (0, 255, 0)  # bottom left; top left once it stands upright
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(pixels), "PNG", exif=exif)


def _palette() -> bytes:
    image = Image.new("P", (SIZE, SIZE))
    image.putpalette([9, 8, 7, 60, 50, 40])
    return encoded(image, "PNG")


def _frames() -> bytes:
    frames = [Image.new("RGB", (SIZE, SIZE), colour) for colour in ("red", "blue")]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def _plain(mode: str, colour: object, file_format: str = "PNG") -> bytes:
    return encoded(Image.new(mode, (SIZE, SIZE), colour), file_format)


READABLE: dict[str, tuple[str | bytes, bytes, tuple[int, int, int]]] = {
    "16 bit": ("deep.png", encoded(Image.fromarray(np.full((SIZE, SIZE), 25_700, np.uint16)), "PNG"), (100,) * 3),
    "transparent (RGBA)": ("rgba.png", _plain("RGBA", (200, 0, 0, 0)), (255,) * 3),
    "grey with transparency (LA)": ("la.png", _plain("LA", (10, 0)), (255,) * 3),
    "a palette (P)": ("palette.png", _palette(), (9, 8, 7)),
    "CMYK": ("cmyk.tiff", _plain("CMYK", (0, 255, 255, 0), "TIFF"), (255, 0, 0)),
    "EXIF rotation": ("rotated.png", _rotated(), (0, 255, 0)),
    "an animation": ("frames.gif", _frames(), (255, 0, 0)),
    "a wrong extension": ("really_a_png.jpg", _plain("RGB", (1, 2, 3)), (1, 2, 3)),
    "an extension in capitals": ("CAPITALS.PNG", _plain("RGB", (4, 5, 6)), (4, 5, 6)),
    "an umlaut in its name": ("Grüße 1.png", _plain("RGB", (7, 8, 9)), (7, 8, 9)),
    "a readable file with an undecodable name": (b"fine\xfe.png", _plain("RGB", (3, 2, 1)), (3, 2, 1)),
}
"""What is odd -> (file name, content, (R, G, B) of the upper left pixel after reading)."""

NO_IMAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a folder called x.jpg": ("x.jpg", _folder),
    "a link that leads back": ("loop", _link_to(".")),
}
"""What has the look of an image or of a folder with more of them, but is neither -> (name, what makes it)."""


def write(folder: Path, name: str | bytes, content: bytes | Callable[[Path], None]) -> Path:
    """Makes one file of the zoo."""
    file = folder / os.fsdecode(name)
    if callable(content):
        content(file)
    else:
        file.write_bytes(content)
    return file


def make_zoo(folder: Path, good: int) -> Path:
    """Makes a folder with everything in it, and so many ordinary images."""
    folder.mkdir(parents=True)
    for number in range(good):
        good_image(number).save(folder / f"good{number:03d}.png")
    for name, content in UNREADABLE.values():
        write(folder, name, content)
    for name, content, _ in READABLE.values():
        write(folder, name, content)
    for name, content in NO_IMAGES.values():
        write(folder, name, content)
    return folder
