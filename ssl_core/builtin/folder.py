"""FolderSource: a folder of image files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from ssl_core.builtin.options import FolderOptions
from ssl_core.builtin.scan import EXTENSIONS, PackedPaths, find_images
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.data import DataSource, ImageSet, Picture
from ssl_core.data.decode import read_rgb, read_size
from ssl_core.data.pictures import EncodedPicture, read_file
from ssl_core.errors import DataError, UsageError

_SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
"""Split -> the folder names that mean it, in any case."""


class FolderImages(ImageSet):
    """The image files of one split.

    Args:
        root: folder that `paths` are relative to.
        paths: of the files.
        labels: (N,) int64; None = unlabelled.
        classes: names by label; None = unlabelled.
        max_pixels: above which a file counts as unreadable.
    """

    def __init__(
        self,
        root: str,
        paths: list[str],
        labels: np.ndarray | None,
        classes: tuple[str, ...] | None,
        max_pixels: int,
    ):
        self.classes = classes
        self._root = root
        self._paths = PackedPaths(paths)
        self._labels = labels
        self._max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, index: int) -> Image.Image:
        return read_rgb(self._file(index), self._max_pixels)

    def picture(self, index: int) -> Picture:
        return EncodedPicture(read_file(self._file(index)), self._max_pixels)

    def label(self, index: int) -> int:
        return -1 if self._labels is None else int(self._labels[index])

    def name(self, index: int) -> str:
        return self._paths[index]

    def stamp(self, index: int) -> str:
        try:
            status = os.stat(self._file(index))
        except OSError:
            return "unreadable"
        return f"{status.st_size} {status.st_mtime_ns}"

    def size(self, index: int) -> tuple[int, int]:
        return read_size(self._file(index), self._max_pixels)

    def _file(self, index: int) -> str:
        return os.path.join(self._root, self._paths[index])


class FolderSource(DataSource):
    """A folder as it is found.

    `train/` beside `val/` (or `valid/`, `validation/`) or `test/` are splits; anything else is one
    split, `train`. Below a split, the folders of the first level are the classes, however deep the
    images lie in them. A split is unlabelled if it has fewer than two such folders or if an image
    lies beside them.

    Raises:
        UsageError: no folder was given.
        DataError: it is missing, a file, empty, or its splits differ in their classes.
    """

    def __init__(self, options: FolderOptions, context: BuildContext):
        if options.path is None:
            raise UsageError("dataset 'folder' needs a folder: --data PATH")
        self._path = options.path.expanduser()
        self._max_pixels = options.max_pixels
        if not self._path.exists():
            raise DataError(f"{self._path}: no such folder")
        if not self._path.is_dir():
            raise DataError(f"{self._path}: is a file; give the folder that the images are in")
        self._folders = _split_folders(self._path)
        self._open: dict[str, FolderImages] = {}

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._folders)

    def open(self, split: str) -> FolderImages:
        if split not in self._folders:
            raise DataError(f"{self._path}: no split '{split}'; there is {', '.join(self._folders)}")
        if split not in self._open:
            images = self._scan(split)
            if split != "train" and images.classes is not None:
                self._check_classes(split, images.classes)
            self._open[split] = images
        return self._open[split]

    def describe(self) -> str:
        classes = self.open("train").classes
        kind = "unlabelled" if classes is None else f"{len(classes):,} classes"
        others = f", also {' and '.join(self.splits[1:])}" if len(self.splits) > 1 else ""
        return f"{self._path} ({kind}{others})"

    def _scan(self, split: str) -> FolderImages:
        folder = self._folders[split]
        inside = find_images(str(folder))
        if not inside:
            looked_for = " ".join(sorted(extension[1:] for extension in EXTENSIONS))
            raise DataError(f"{folder}: no images in it; looked for {looked_for}, in all its folders")
        first_level = [path.partition(os.sep)[0] if os.sep in path else None for path in inside]
        classes, labels = None, None
        if None not in first_level and len(names := sorted(set(first_level))) >= 2:
            classes = tuple(names)
            number = {name: label for label, name in enumerate(names)}
            labels = np.array([number[name] for name in first_level])
        # Names are relative to what the user gave, so that a listed file can be found.
        prefix = "" if folder == self._path else folder.name
        paths = [os.path.join(prefix, path) for path in inside]
        return FolderImages(str(self._path), paths, labels, classes, self._max_pixels)

    def _check_classes(self, split: str, classes: tuple[str, ...]) -> None:
        known = self.open("train").classes
        if known is None or known == classes:
            return
        problems = [
            f"only in {where}: {_some(names)}"
            for where, names in (("train", set(known) - set(classes)), (split, set(classes) - set(known)))
            if names
        ]
        raise DataError(f"{self._path}: the class folders of train and {split} differ ({'; '.join(problems)})")


def _split_folders(path: Path) -> dict[str, Path]:
    """Returns split -> folder, `train` first."""
    inside = {}
    others = False
    try:
        entries = sorted(path.iterdir())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            inside.setdefault(entry.name.lower(), entry)
        others |= entry.suffix.lower() in EXTENSIONS
    found = {}
    for split, names in _SPLIT_FOLDERS.items():
        for name in names:
            if name in inside:
                found.setdefault(split, inside[name])
    # A lone `train` folder is a split as well: nobody means a data set of one class by that.
    if "train" in found and (len(found) > 1 or (len(inside) == 1 and not others)):
        return found
    return {"train": path}


def _some(names: set[str], most: int = 5) -> str:
    listed = ", ".join(sorted(names)[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"
