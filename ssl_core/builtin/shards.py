"""ShardSource: images in tar archives, as WebDataset lays them out, with random access."""

from __future__ import annotations

import glob
import io
import os
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ssl_core.builtin.options import ShardOptions
from ssl_core.builtin.shard_index import ShardIndex, shard_index
from ssl_core.builtin.stored import data_home
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.data import BadImage, DataSource, ImageSet, Picture
from ssl_core.data.decode import read_rgb, read_size
from ssl_core.data.pictures import EncodedPicture
from ssl_core.errors import DataError, UsageError

_MOST_OPEN = 64
"""Shards that a process keeps open."""
_MOST_SHARDS = 1_000_000
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_SPLIT = re.compile(r"(?<![a-z])(train|val|valid|validation|test)(?![a-z])")
_MEANING = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


class ShardImages(ImageSet):
    """The images of one split, in the order of the shards and of the members in them.

    Args:
        shards: paths of the tar files.
        index: what lies in them.
        max_pixels: above which an image counts as unreadable.
    """

    def __init__(self, shards: list[str], index: ShardIndex, max_pixels: int):
        self._shards = shards
        self._index = index
        self._max_pixels = max_pixels
        self.classes, self._labels = _classes(index)
        self._open: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._index.places)

    def read(self, index: int) -> Image.Image:
        return read_rgb(io.BytesIO(self._bytes(index)), self._max_pixels)

    def picture(self, index: int) -> Picture:
        return EncodedPicture(self._bytes(index), self._max_pixels)

    def label(self, index: int) -> int:
        return -1 if self._labels is None else int(self._labels[index])

    def name(self, index: int) -> str:
        return self._index.names[index]

    def stamp(self, index: int) -> str:
        shard, offset, size = self._index.places[index]
        return f"{os.stat(self._shards[shard]).st_mtime_ns} {offset} {size}"

    def size(self, index: int) -> tuple[int, int]:
        return read_size(io.BytesIO(self._bytes(index)), self._max_pixels)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def _bytes(self, index: int) -> bytes:
        shard, offset, size = (int(value) for value in self._index.places[index])
        try:
            # Reads at a place leave the file's position alone, so that forked processes may share it.
            descriptor = self._descriptor(shard)
            # Asked first: memory is taken for as many bytes as a header claims.
            if offset + size > os.fstat(descriptor).st_size:
                raise BadImage(f"{size:,} bytes at {offset:,}: its shard is cut short")
            return os.pread(descriptor, size, offset)
        except OSError as error:
            raise BadImage(f"{type(error).__name__}: {error}") from None

    def _descriptor(self, shard: int) -> int:
        if shard in self._open:
            self._open.move_to_end(shard)
            return self._open[shard]
        if len(self._open) >= _MOST_OPEN:
            os.close(self._open.popitem(last=False)[1])
        self._open[shard] = os.open(self._shards[shard], os.O_RDONLY)
        return self._open[shard]


class ShardSource(DataSource):
    """Tar archives by a pattern, or a folder of them.

    A member is an image if its name says so; `.cls` and `.json` beside it hold its class. Nothing else is read.

    Raises:
        UsageError: no pattern was given.
        DataError: no shard, or a damaged one.
    """

    def __init__(self, options: ShardOptions, context: BuildContext):
        if options.path is None:
            raise UsageError("dataset 'shards' needs tar files: --data 'shards-{000..009}.tar', or a folder of them")
        self._options = options
        self._path = options.path.expanduser()
        self._shards = self._find()
        self._open: dict[str, ShardImages] = {}
        self._notes: list[str] = []

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._shards)

    def open(self, split: str) -> ShardImages:
        if split not in self._shards:
            raise DataError(f"{self._path}: no split '{split}'; there is {', '.join(self._shards)}")
        if split not in self._open:
            shards = self._shards[split]
            index = shard_index(shards, data_home(self._options.index) / "shards")
            if not len(index.places):
                raise DataError(f"{self._path}: no images in {len(shards)} shards of the split '{split}'")
            self._notes += [f"{split}: {note}" for note in index.notes()]
            self._open[split] = ShardImages(shards, index, self._options.max_pixels)
        return self._open[split]

    def describe(self) -> str:
        classes = self.open("train").classes
        kind = "unlabelled" if classes is None else f"{len(classes):,} classes"
        return "; ".join([f"{self._path} ({len(self._shards['train']):,} shards, {kind})", *self._notes])

    def _find(self) -> dict[str, list[str]]:
        """Returns split -> shards, `train` first."""
        found = _expand(self._path)
        given = {"val": self._options.val, "test": self._options.test}
        others = {split: _expand(path.expanduser()) for split, path in given.items() if path is not None}
        if others:
            return {"train": found, **others}
        meant = [_SPLIT.findall(os.path.relpath(shard, self._path.parent).lower()) for shard in found]
        if not all(meant) or not any(_MEANING[words[-1]] == "train" for words in meant):
            return {"train": found}
        splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
        for shard, words in zip(found, meant, strict=True):
            splits[_MEANING[words[-1]]].append(shard)
        return {split: shards for split, shards in splits.items() if shards}


def _expand(path: Path) -> list[str]:
    """Returns the tar files of a folder, or of a pattern with `{000..009}`, `*` and `?`, sorted.

    Raises:
        DataError: there are none, or one that was counted is missing.
    """
    if path.is_dir():
        found = sorted(str(file) for file in path.rglob("*.tar") if file.is_file())
    else:
        found = []
        for one in _ranges(str(path)):
            if os.path.exists(one):
                found.append(one)
                continue
            matches = sorted(glob.glob(one))
            if not matches:
                raise DataError(f"{one}: no such shard")
            found += matches
    if not found:
        raise DataError(f"{path}: no .tar files in it")
    return found


def _ranges(pattern: str) -> list[str]:
    """Writes out `{000..009}`, as often as it occurs."""
    found = _RANGE.search(pattern)
    if found is None:
        return [pattern]
    low, high = found.groups()
    if int(high) < int(low) or int(high) - int(low) >= _MOST_SHARDS:
        raise DataError(f"{pattern}: {found[0]} is no range of shards")
    return [
        written
        for number in range(int(low), int(high) + 1)
        for written in _ranges(f"{pattern[: found.start()]}{number:0{len(low)}d}{pattern[found.end() :]}")
    ]


def _classes(index: ShardIndex) -> tuple[tuple[str, ...] | None, np.ndarray | None]:
    """Returns the names of the classes, in the order of their numbers if they are numbers, and each image's label.

    A split in which an image has no class is unlabelled.
    """
    found = [index.labels[place] for place in range(len(index.places))]
    names = set(found)
    if "" in names or len(names) < 2:
        return None, None
    if all(name.isascii() and name.isdigit() and len(name) < 10 for name in names) and max(map(int, names)) < len(
        found
    ):
        numbers = np.array([int(name) for name in found])
        return tuple(str(number) for number in range(int(numbers.max()) + 1)), numbers
    ordered = sorted(names)
    number = {name: label for label, name in enumerate(ordered)}
    return tuple(ordered), np.array([number[name] for name in found])
