"""Pictures decode to what `read_rgb` gives, and refuse what it refuses."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_core.contracts.data import BadImage
from ssl_core.data import pictures
from ssl_core.data.decode import read_rgb
from ssl_core.data.fast_cut import crop_bytes, decode_for, resize_bytes
from ssl_core.data.jpeg_header import jpeg_header
from ssl_core.data.memory import ArrayImages, CachedImages
from ssl_core.data.pictures import ArrayPicture, EncodedPicture, read_file
from ssl_core.data.reading import read_picture
from ssl_core.data.subset import SubsetImages


def smooth(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A colourful image without noise, which survives JPEG and resizing."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    pixels = np.stack([x, y, 0.5 + 0.4 * np.sin(9 * x) * np.cos(7 * y)], -1)
    return Image.fromarray((pixels * 255).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, file_format: str = "JPEG", **arguments) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **arguments)
    return stream.getvalue()


def as_read(data: bytes) -> torch.Tensor:
    """Returns what Pillow makes of a file, (3, H, W)."""
    return torch.from_numpy(np.array(read_rgb(io.BytesIO(data)))).permute(2, 0, 1)


FILES = {
    "JPEG": encoded(smooth(70, 50), quality=92),
    "4:4:4": encoded(smooth(70, 50), quality=92, subsampling=0),
    "progressive": encoded(smooth(70, 50), quality=80, progressive=True),
    "grey JPEG": encoded(smooth(70, 50, "L")),
    "CMYK JPEG": encoded(smooth(70, 50, "CMYK")),
    "PNG": encoded(smooth(70, 50), "PNG"),
    "palette PNG": encoded(smooth(70, 50).quantize(16), "PNG"),
    "transparent PNG": encoded(Image.new("RGBA", (70, 50), (200, 0, 0, 90)), "PNG"),
    "WebP": encoded(smooth(70, 50), "WEBP"),
    "GIF": encoded(smooth(70, 50).quantize(16), "GIF"),
}


@pytest.mark.parametrize("name", FILES)
def test_full_size_pixels_are_those_of_pillow(name):
    picture, expected = EncodedPicture(FILES[name]), as_read(FILES[name])
    assert picture.size == (70, 50)
    # torchvision and Pillow come with their own builds of libjpeg-turbo, whose rounding may differ by a level.
    assert (picture.pixels().int() - expected.int()).abs().max() <= 1
    assert torch.equal(picture.pixels(4), picture.pixels())  # too small to be worth a shrunk decode


def test_without_torchvisions_decoder_pillow_decodes(monkeypatch):
    monkeypatch.setattr(pictures, "decode_jpeg", None)
    for data in FILES.values():
        assert torch.equal(EncodedPicture(data).pixels(), as_read(data))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_it_stands_upright(orientation, file_format):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(smooth(70, 50), file_format, exif=exif)
    picture, expected = EncodedPicture(data), as_read(data)
    assert picture.size == (expected.shape[2], expected.shape[1])
    assert (picture.pixels().int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize(("shrink", "size"), [(1, (1300, 900)), (2, (650, 450)), (4, (325, 225)), (8, (163, 113))])
def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(shrink, size):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = EncodedPicture(encoded(smooth(1300, 900), quality=92, exif=exif))
    pixels = picture.pixels(shrink)
    assert picture.size == (900, 1300)
    assert (pixels.shape[2], pixels.shape[1]) == size[::-1]
    whole = torch.nn.functional.interpolate(picture.pixels()[None].float(), pixels.shape[1:], mode="area")[0]
    assert (whole - pixels.float()).abs().mean() < 1.5


def test_a_picture_is_the_same_each_time_it_is_decoded():
    """A PNG's rotation is not applied where it stands behind the pixels: Pillow knows it once they are decoded."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(smooth(70, 50), "PNG", exif=exif)
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4])
    behind = data.index(b"IEND") - 4
    picture = EncodedPicture(data[:start] + data[end:behind] + data[start:end] + data[behind:])
    assert picture.size == (70, 50)
    for _ in range(2):
        assert picture.image().size == (70, 50)
        assert picture.pixels().shape == (3, 50, 70)


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", FILES["JPEG"][:-300], FILES["JPEG"][:30], FILES["PNG"][:200], b"%!PS-Adobe-3.0 EPSF-3.0\n"],
)
def test_what_pillow_cannot_read_is_bad_here_too(data):
    with pytest.raises(BadImage):
        read_rgb(io.BytesIO(data))
    with pytest.raises(BadImage):
        EncodedPicture(data).pixels()


def test_too_many_pixels_are_refused_before_memory_is_asked_for():
    huge = bytearray(FILES["JPEG"])
    place = huge.index(b"\xff\xc0")
    huge[place + 5 : place + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(BadImage, match="65535x65535 pixels are more than the limit"):
        EncodedPicture(bytes(huge)).pixels()
    with pytest.raises(BadImage, match="more than the limit of 3,000"):
        _ = EncodedPicture(FILES["PNG"], max_pixels=3000).size


@pytest.mark.parametrize("name", ["JPEG", "progressive", "grey JPEG", "CMYK JPEG"])
def test_the_header_of_a_jpeg(name):
    assert jpeg_header(FILES[name])[:2] == (70, 50)
    assert jpeg_header(FILES["PNG"]) is None
    for length in range(0, 200, 7):
        jpeg_header(FILES[name][:length])  # ends


def test_only_regular_files_are_read(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.jpg")
    for name in ("pipe.jpg", "gone.jpg", "."):
        with pytest.raises(BadImage):
            read_file(str(tmp_path / name))


def test_sets_in_memory_and_parts_of_sets_give_pictures():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 9, 3), np.uint8)
    images = ArrayImages(pixels)
    expected = torch.from_numpy(pixels[2]).permute(2, 0, 1)
    cached = CachedImages(images)
    for found in (images, SubsetImages(images, np.array([2, 2, 2])), cached, cached):
        assert torch.equal(read_picture(found, 2).pixels(), expected)
    grey = ArrayImages(pixels[..., 0])
    assert torch.equal(grey.picture(1).pixels(), torch.from_numpy(pixels[1, :, :, 0]).expand(3, -1, -1))
    read_only = pixels[0].copy()
    read_only.flags.writeable = False
    assert torch.equal(ArrayPicture(read_only).pixels(), torch.from_numpy(pixels[0]).permute(2, 0, 1))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_crop_is_pillows_to_a_fraction_of_a_level(interpolation):
    image = smooth(120, 90)
    box = (10, 20, 61, 73)
    found = resize_bytes(crop_bytes(np.array(image), box), 32, interpolation, flip=True)
    assert found.shape == (1, 3, 32, 32)
    assert found.is_contiguous(memory_format=torch.channels_last)
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    crop = image.crop((20, 10, 93, 71)).resize((32, 32), filters[interpolation])
    expected = torch.from_numpy(np.array(crop)).permute(2, 0, 1).flip(2)
    assert (found[0].float() - expected.float()).abs().mean() < 0.2


def test_a_crop_is_never_enlarged_by_a_shrunk_decode():
    picture = EncodedPicture(encoded(smooth(1600, 1200), quality=92))
    for side, shrink in ((223, 1), (447, 1), (448, 2), (900, 4)):
        pixels, boxes = decode_for(picture, [((100, 200, side, side), 224), ((0, 0, 1000, 1000), 224)])
        assert pixels.shape[2] == 1600 // shrink
        assert boxes[0][2] == pytest.approx(side / shrink, abs=1)
        assert boxes[0][:2] == (100 // shrink, 200 // shrink)
