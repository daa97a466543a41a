"""Every image decoded once, into one file that is mapped into the memory of all processes.

A cache is a folder: `pixels.bin`, RGB row by row, image after image; `places.npy`, where each begins and how large it
is; `description.json`. It is named after what it was made of, and gets its name once it is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ssl_core.contracts.data import BadImage, ImageSet, Picture
from ssl_core.data.killed_workers import surviving_batches
from ssl_core.data.loader import start_worker
from ssl_core.data.pictures import LARGE_AREA, ArrayPicture
from ssl_core.data.reading import read_clean
from ssl_core.errors import DataError
from ssl_core.progress import progress

_FORMAT = "ssl-decoded-1"
_PLACE = np.dtype([("offset", "<i8"), ("width", "<i4"), ("height", "<i4")])
_BAD, _LEFT_OUT = 0, -1
"""Widths of images that have no pixels in the cache: unreadable ones, and those that are too large for it."""

_BATCH = 8
_SAMPLE = 200


@dataclass(frozen=True)
class CacheSpec:
    """What a cache is made of.

    Attributes:
        images: the set behind it.
        data: the data set's name and options, plain values.
        side: pixels of the shorter side to which larger images are shrunk; None = as they are.
    """

    images: ImageSet
    data: Any
    side: int | None = None

    def key(self) -> str:
        """Returns the name of its folder, which follows from every image's name and stamp."""
        found = hashlib.sha256(json.dumps([_FORMAT, self.data, self.side, len(self.images)]).encode())
        for index in range(len(self.images)):
            line = f"{self.images.name(index)}\0{self.images.stamp(index)}\n"
            found.update(line.encode(errors="surrogateescape"))
        return found.hexdigest()[:32]

    def bytes(self) -> int:
        """Returns about how large it will be, judged by a few images spread over the set."""
        count, total = min(_SAMPLE, len(self.images)), 0
        for position in range(count):
            try:
                width, height = _kept_size(*self.images.size(position * len(self.images) // count), self.side)
            except BadImage:
                continue
            total += 3 * width * height
        return total * len(self.images) // max(count, 1)


class DecodedImages(ImageSet):
    """A set whose images lie in a cache.

    Without `side` it gives what the set behind it gives, to the bit: images of a megapixel and more are not kept then,
    since a part of the pixels may be all that is decoded of them.

    Args:
        images: the set behind it.
        folder: a complete cache of it.

    Raises:
        DataError: the cache is not complete, or was made of something else.
    """

    def __init__(self, images: ImageSet, folder: Path):
        self.images = images
        self.classes = images.classes
        self._folder = folder
        self._pixels: np.memmap | None = None
        try:
            values = json.loads((folder / "description.json").read_text())
            self._places = np.load(folder / "places.npy", allow_pickle=False)
            size = (folder / "pixels.bin").stat().st_size
            sound = size == values["bytes"] and values["format"] == _FORMAT and _inside(self._places, size)
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder}: not a complete cache of images ({error}); delete it") from None
        if not sound or len(self._places) != len(images):
            raise DataError(f"{folder}: a damaged cache of images, or one of another version; delete it")

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> Image.Image:
        pixels = self._array(index)
        return self.images.read(index) if pixels is None else Image.fromarray(pixels)

    def picture(self, index: int) -> Picture | None:
        pixels = self._array(index)
        return self.images.picture(index) if pixels is None else ArrayPicture(pixels)

    def label(self, index: int) -> int:
        return self.images.label(index)

    def name(self, index: int) -> str:
        return self.images.name(index)

    def stamp(self, index: int) -> str:
        return self.images.stamp(index)

    def size(self, index: int) -> tuple[int, int]:
        _, width, height = self._places[index]
        return (int(width), int(height)) if width > 0 else self.images.size(index)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pixels": None}

    def _array(self, index: int) -> np.ndarray | None:
        """Returns (H, W, 3) uint8, or None where the image is not kept. Raises `BadImage`."""
        offset, width, height = (int(value) for value in self._places[index])
        if width == _BAD:
            raise BadImage("it could not be decoded when the cache was made")
        if width == _LEFT_OUT:
            return None
        if self._pixels is None:
            # Private: whoever writes into an array does not write into the file.
            self._pixels = np.memmap(self._folder / "pixels.bin", np.uint8, "c")
        return np.asarray(self._pixels[offset : offset + 3 * width * height]).reshape(height, width, 3)


def build_cache(spec: CacheSpec, folder: Path, workers: int, warn: Callable[[str], Any] | None = None) -> None:
    """Decodes every image into a folder that is complete once it has its name.

    Args:
        spec: what it is made of.
        folder: where it shall be. If another process has made it in the meantime, that one stays.
        workers: processes that decode.
        warn: takes a line when a killed one was replaced.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".tmp-{folder.name}-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        places = np.zeros(len(spec.images), _PLACE)
        done = size = 0
        with (partial / "pixels.bin").open("wb") as file, progress("decoding", len(spec.images)) as advance:
            for pixels, sizes in surviving_batches(lambda batches: _loader(spec, batches * _BATCH, workers), warn):
                file.write(pixels.numpy())
                for width, height in sizes.tolist():
                    places[done] = size, width, height
                    size += 3 * width * height if width > 0 else 0
                    done += 1
                advance(len(sizes))
            file.flush()
            os.fsync(file.fileno())
        np.save(partial / "places.npy", places, allow_pickle=False)
        values = {"format": _FORMAT, "images": len(places), "bytes": size, "side": spec.side}
        (partial / "description.json").write_text(json.dumps(values, indent=2) + "\n")
        try:
            partial.rename(folder)
        except OSError:
            if not (folder / "description.json").is_file():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _loader(spec: CacheSpec, done: int, workers: int) -> DataLoader:
    return DataLoader(
        _Decoded(spec),
        batch_size=_BATCH,
        sampler=range(done, len(spec.images)),
        num_workers=workers,
        collate_fn=_joined,
        worker_init_fn=start_worker,
        generator=torch.Generator(),
    )


class _Decoded(Dataset):
    """(pixels, (width, height)) of each image as it is kept."""

    def __init__(self, spec: CacheSpec):
        self.spec = spec

    def __len__(self) -> int:
        return len(self.spec.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, tuple[int, int]]:
        nothing = np.empty(0, np.uint8)
        images, side = self.spec.images, self.spec.side
        try:
            if side is None and 0 in _kept_size(*images.size(index), side):
                return nothing, (_LEFT_OUT, 0)
            image = read_clean(images, index)
        except BadImage:
            return nothing, (_BAD, 0)
        size = _kept_size(*image.size, side)
        if size != image.size:
            image = image.resize(size, Image.Resampling.BICUBIC)
        return np.array(image).reshape(-1), size


def _joined(samples: Sequence[tuple[np.ndarray, tuple[int, int]]]) -> tuple[Tensor, Tensor]:
    pixels, sizes = zip(*samples, strict=True)
    return torch.from_numpy(np.concatenate(pixels)), torch.tensor(sizes)


def _inside(places: np.ndarray, size: int) -> bool:
    """Returns whether all places lie in a file of `size` bytes."""
    if places.dtype != _PLACE or places.ndim != 1:
        return False
    kept = places[places["width"] > 0]
    ends = kept["offset"] + 3 * kept["width"].astype(np.int64) * kept["height"]
    return not ((kept["offset"] < 0) | (kept["height"] < 1) | (ends > size)).any()


def _kept_size(width: int, height: int, side: int | None) -> tuple[int, int]:
    """Returns (width, height) in the cache; (0, 0) for what is not kept."""
    if side is None:
        return (0, 0) if width * height >= LARGE_AREA else (width, height)
    factor = side / min(width, height)
    return (width, height) if factor >= 1 else (max(1, round(width * factor)), max(1, round(height * factor)))
