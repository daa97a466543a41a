from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ssl_core.contracts.data import BadImage, ImageSet
from ssl_core.data.facts import median_size
from ssl_core.data.memory import ArrayImages, CachedImages
from ssl_core.errors import DataError


class Sized(ImageSet):
    """Images of the given sizes (None = unreadable) that count how often they are read."""

    classes = ("a",)

    def __init__(self, sizes):
        self.sizes = sizes
        self.reads = 0

    def __len__(self) -> int:
        return len(self.sizes)

    def read(self, index: int) -> Image.Image:
        self.reads += 1
        return Image.new("RGB", self.size(index), (index, 0, 0))

    def label(self, index: int) -> int:
        return index

    def name(self, index: int) -> str:
        return f"n{index}"

    def size(self, index: int) -> tuple[int, int]:
        if self.sizes[index] is None:
            raise BadImage("truncated")
        return self.sizes[index]


def test_median_of_the_shorter_side():
    assert median_size(Sized([(100, 30), (20, 500), (64, 64)])) == 30


def test_median_skips_what_cannot_be_read():
    assert median_size(Sized([None, (50, 60), None])) == 50


def test_median_of_a_sample_is_spread_over_the_set():
    assert median_size(Sized([(10, 10)] * 500 + [(90, 90)] * 501), sample=11) == 10
    assert median_size(Sized([(10, 10)] * 400 + [(90, 90)] * 600), sample=11) == 90


def test_nothing_readable():
    with pytest.raises(DataError, match="none of 2 images can be read; the first is n0: truncated"):
        median_size(Sized([None, None]))


def test_array_images():
    grey = ArrayImages(np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4), np.array([1, 0]), ("a", "b"))
    assert len(grey) == 2
    assert grey.size(0) == (4, 3)
    assert grey.read(1).mode == "RGB"
    assert grey.read(1).getpixel((3, 2)) == (23, 23, 23)
    assert (grey.label(0), ArrayImages(grey.pixels).label(0)) == (1, -1)


def test_cached_images_are_read_once_and_are_the_same():
    images = Sized([(3, 2)] * 5)
    cached = CachedImages(images)
    for _ in range(3):
        image = cached.read(4)
        assert image.size == (3, 2)
        assert image.getpixel((2, 1)) == (4, 0, 0)
    assert images.reads == 1
    assert (len(cached), cached.label(4), cached.name(4), cached.size(4), cached.classes) == (
        5,
        4,
        "n4",
        (3, 2),
        ("a",),
    )


def test_cache_stays_below_its_limit():
    images = Sized([(3, 2)] * 5)
    cached = CachedImages(images, limit_bytes=40)  # two images of 18 bytes
    for _ in range(2):
        for index in range(5):
            cached.read(index)
    assert images.reads == 5 + 3


def test_processes_share_the_limit():
    images = Sized([(3, 2)] * 5)
    cached = CachedImages(images, limit_bytes=40, processes=2)  # one image of 18 bytes
    for _ in range(2):
        for index in range(5):
            cached.read(index)
    assert images.reads == 5 + 4
    assert CachedImages.fits(Sized([(10, 10)] * 10), limit_bytes=6000, processes=2)
    assert not CachedImages.fits(Sized([(10, 10)] * 10), limit_bytes=5999, processes=2)


def test_the_cache_converts_what_a_set_left_to_us():
    class Left(Sized):
        def read(self, index: int) -> Image.Image:
            if index:
                raise OSError("truncated")
            return Image.new("L", (3, 2), 7)

    cached = CachedImages(Left([(3, 2)] * 2))
    assert [cached.read(0).getpixel((0, 0)) for _ in range(2)] == [(7, 7, 7)] * 2
    with pytest.raises(BadImage, match="OSError: truncated"):
        cached.read(1)


def test_what_is_worth_a_cache():
    assert CachedImages.fits(Sized([(10, 10)] * 10), limit_bytes=3000)
    assert not CachedImages.fits(Sized([(10, 10)] * 10), limit_bytes=2999)
    assert not CachedImages.fits(ArrayImages(np.zeros((2, 4, 4, 3), np.uint8)))
