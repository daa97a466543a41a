"""SingleImageSource: one image file."""

from __future__ import annotations

from ssl_core.builtin.folder import FolderImages
from ssl_core.builtin.options import SingleImageOptions
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.data import DataSource
from ssl_core.errors import DataError, UsageError


class SingleImageSource(DataSource):
    """One image without a label, as the split `train`.

    Raises:
        UsageError: no file was given.
        DataError: it is missing, or a folder.
    """

    def __init__(self, options: SingleImageOptions, context: BuildContext):
        if options.path is None:
            raise UsageError("dataset 'image' needs a file: dataset.path=FILE")
        self._path = options.path.expanduser()
        self._max_pixels = options.max_pixels
        if not self._path.is_file():
            raise DataError(f"{self._path}: no such file")

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train",)

    def open(self, split: str) -> FolderImages:
        if split != "train":
            raise DataError(f"{self._path}: no split '{split}'; one image is train")
        return FolderImages(str(self._path.parent), [self._path.name], None, None, self._max_pixels)

    def describe(self) -> str:
        return str(self._path)
