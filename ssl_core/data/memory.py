"""Images that are kept in memory."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ssl_core.contracts.data import BadImage, ImageSet, Picture
from ssl_core.data.pictures import ArrayPicture
from ssl_core.data.reading import read_clean


class ArrayImages(ImageSet):
    """Images of one size from an array.

    Args:
        pixels: (N, H, W, 3) or, grey, (N, H, W); uint8.
        labels: (N,) integers; None = unlabelled.
        classes: names by label.
    """

    def __init__(self, pixels: np.ndarray, labels: np.ndarray | None = None, classes: tuple[str, ...] | None = None):
        self.pixels = pixels
        self.labels = labels
        self.classes = classes

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, index: int) -> Image.Image:
        image = Image.fromarray(self.pixels[index])
        return image if image.mode == "RGB" else image.convert("RGB")

    def picture(self, index: int) -> Picture:
        return ArrayPicture(self.pixels[index])

    def label(self, index: int) -> int:
        return -1 if self.labels is None else int(self.labels[index])

    def size(self, index: int) -> tuple[int, int]:
        return self.pixels.shape[2], self.pixels.shape[1]


class CachedImages(ImageSet):
    """Keeps decoded images in memory, from the first read of each on.

    Worth it for many small files, where decoding costs more than all the rest. Every process that
    loads images fills a cache of its own, so they share the limit.

    Args:
        images: the set behind it.
        limit_bytes: of decoded pixels, in all processes together; what does not fit is decoded each time.
        processes: how many load images on this machine: the workers of every training process.
    """

    def __init__(self, images: ImageSet, limit_bytes: int = 1 << 30, processes: int = 1):
        self.images = images
        self.classes = images.classes
        self._free = limit_bytes // max(processes, 1)
        self._decoded: dict[int, tuple[tuple[int, int], bytearray]] = {}

    @staticmethod
    def fits(images: ImageSet, limit_bytes: int = 1 << 30, processes: int = 1, sample: int = 100) -> bool:
        """Returns whether every process could keep the whole set, judged by a few images spread over it."""
        if isinstance(images, ArrayImages):
            return False  # it is in memory already
        count = min(sample, len(images))
        area = 0
        for position in range(count):
            try:
                width, height = images.size(position * len(images) // count)
            except BadImage:
                continue
            area += width * height
        return 3 * area / count * len(images) <= limit_bytes // max(processes, 1)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> Image.Image:
        known = self._decoded.get(index)
        return self._decode(index) if known is None else Image.frombytes("RGB", *known)

    def picture(self, index: int) -> Picture:
        # Always of the decoded image: how much fits into the memory of a process must not decide about the pixels.
        known = self._decoded.get(index)
        if known is None:
            return ArrayPicture(np.array(self._decode(index)))
        (width, height), data = known
        return ArrayPicture(np.frombuffer(data, np.uint8).reshape(height, width, 3))

    def _decode(self, index: int) -> Image.Image:
        image = read_clean(self.images, index)
        data = bytearray(image.tobytes())
        if len(data) <= self._free:
            self._free -= len(data)
            self._decoded[index] = image.size, data
        return image

    def label(self, index: int) -> int:
        return self.images.label(index)

    def name(self, index: int) -> str:
        return self.images.name(index)

    def size(self, index: int) -> tuple[int, int]:
        return self.images.size(index)
