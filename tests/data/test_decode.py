"""What a file's pixels become, by exact value."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ssl_core.contracts.data import BadImage
from ssl_core.data.decode import read_rgb, read_size, to_rgb


def encoded(image: Image.Image, file_format: str, **arguments) -> io.BytesIO:
    stream = io.BytesIO()
    image.save(stream, file_format, **arguments)
    stream.seek(0)
    return stream


def pixels(image: Image.Image) -> list:
    assert image.mode == "RGB"
    return np.asarray(image).reshape(-1, 3).tolist()


def test_grey_is_repeated():
    assert pixels(read_rgb(encoded(Image.fromarray(np.array([[0, 200]], np.uint8)), "PNG"))) == [[0] * 3, [200] * 3]


def test_several_pictures_in_a_jpeg_are_read_as_the_first():
    first, second = (Image.new("RGB", (16, 16), (shade,) * 3) for shade in (40, 200))
    assert pixels(read_rgb(encoded(first, "MPO", save_all=True, append_images=[second])))[0] == [40] * 3


def test_what_is_no_image_is_said_to_be_none():
    with pytest.raises(BadImage, match="cannot identify image file"):
        read_rgb(io.BytesIO(b"nonsense" * 8))


def test_one_bit():
    assert pixels(to_rgb(Image.fromarray(np.array([[False, True]])))) == [[0] * 3, [255] * 3]


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_16_bit_is_scaled_and_does_not_saturate(file_format):
    values = np.array([[0, 257, 25700, 65535]], np.uint16)
    stream = encoded(Image.fromarray(values), file_format)
    assert pixels(read_rgb(stream)) == [[0] * 3, [1] * 3, [100] * 3, [255] * 3]


def test_big_endian_16_bit():
    image = Image.frombytes("I;16B", (2, 1), np.array([25700, 65535], ">u2").tobytes())
    assert pixels(to_rgb(image)) == [[100] * 3, [255] * 3]


def test_32_bit_integers_within_8_bits_stay():
    assert pixels(to_rgb(Image.fromarray(np.array([[0, 7, 255]], np.int32)))) == [[0] * 3, [7] * 3, [255] * 3]
    assert pixels(to_rgb(Image.fromarray(np.array([[0, 25700]], np.int32)))) == [[0] * 3, [100] * 3]


def test_floats():
    assert pixels(to_rgb(Image.fromarray(np.array([[0, 0.5, 1]], np.float32)))) == [[0] * 3, [128] * 3, [255] * 3]
    assert pixels(to_rgb(Image.fromarray(np.array([[0, 99, np.nan]], np.float32)))) == [[0] * 3, [99] * 3, [0] * 3]


def test_transparency_is_put_on_white():
    rgba = Image.fromarray(np.array([[[200, 0, 0, 0], [200, 0, 0, 255], [0, 0, 0, 128]]], np.uint8), "RGBA")
    assert pixels(read_rgb(encoded(rgba, "PNG"))) == [[255] * 3, [200, 0, 0], [127] * 3]


def test_grey_with_alpha():
    image = Image.fromarray(np.array([[[10, 0], [10, 255]]], np.uint8), "LA")
    assert pixels(read_rgb(encoded(image, "PNG"))) == [[255] * 3, [10] * 3]


def test_palette():
    image = Image.new("P", (2, 1))
    image.putpalette([9, 8, 7, 60, 50, 40])
    image.putdata([0, 1])
    assert pixels(read_rgb(encoded(image, "PNG"))) == [[9, 8, 7], [60, 50, 40]]
    assert pixels(read_rgb(encoded(image, "PNG", transparency=1))) == [[9, 8, 7], [255] * 3]


def test_cmyk():
    image = Image.new("CMYK", (1, 1), (0, 255, 255, 0))
    assert pixels(to_rgb(image)) == [[255, 0, 0]]


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, [[1, 2], [3, 4]]),
        (2, [[2, 1], [4, 3]]),
        (3, [[4, 3], [2, 1]]),
        (4, [[3, 4], [1, 2]]),
        (5, [[1, 3], [2, 4]]),
        (6, [[3, 1], [4, 2]]),
        (7, [[4, 2], [3, 1]]),
        (8, [[2, 4], [1, 3]]),
    ],
)
def test_exif_rotation_is_applied(orientation, expected):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.array([[1, 2], [3, 4]], np.uint8))
    for file_format in ("PNG", "TIFF"):
        image = read_rgb(encoded(stored, file_format, exif=exif))
        assert np.asarray(image)[..., 0].tolist() == expected
        size = read_size(encoded(Image.new("L", (3, 2)), file_format, exif=exif))
        assert size == ((2, 3) if orientation >= 5 else (3, 2))


def test_size_is_that_of_the_upright_image():
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.new("RGB", (30, 20))
    for file_format in ("JPEG", "PNG"):
        assert read_size(encoded(stored, file_format, exif=exif)) == (20, 30)
        assert read_size(encoded(stored, file_format)) == (30, 20)


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    stream = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixels(read_rgb(stream))[0] == [255, 0, 0]


def bad_files() -> dict[str, bytes]:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    jpeg, png = encoded(noise, "JPEG").getvalue(), encoded(noise, "PNG").getvalue()
    return {
        "empty": b"",
        "text": b"hello, I am text",
        "html": b"<!doctype html><title>404</title>",
        "half a jpeg": jpeg[: len(jpeg) // 2],
        "half a png": png[: len(png) // 2],
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    }


@pytest.mark.parametrize("kind", list(bad_files()))
def test_damaged_files_are_bad_images(kind, tmp_path):
    file = tmp_path / "image.jpg"
    file.write_bytes(bad_files()[kind])
    with pytest.raises(BadImage):
        read_rgb(file)


def test_missing_file_and_dangling_link(tmp_path):
    link = tmp_path / "link.jpg"
    link.symlink_to(tmp_path / "nowhere.jpg")
    for file in (tmp_path / "missing.jpg", link):
        with pytest.raises(BadImage):
            read_rgb(file)
        with pytest.raises(BadImage):
            read_size(file)


def test_too_many_pixels(recwarn):
    image = Image.new("1", (200, 100))
    with pytest.raises(BadImage, match="200x100 pixels are more than the limit of 19,999"):
        read_rgb(encoded(image, "PNG"), max_pixels=19_999)
    assert read_rgb(encoded(image, "PNG"), max_pixels=20_000).size == (200, 100)
    for width in (10_000, 20_000):  # beyond Pillow's own warning and beyond its own error
        data = bytearray(encoded(image, "PNG").getvalue())
        data[16:24] = struct.pack(">II", width, 10_000)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        with pytest.raises(BadImage, match="limit"):
            read_rgb(io.BytesIO(data))
    assert not recwarn
