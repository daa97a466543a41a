"""Fashion-MNIST from its four IDX files, gzipped or plain."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from ssl_core.builtin.options import StoredOptions
from ssl_core.builtin.stored import data_home, fetch
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.data import DataSource
from ssl_core.data.memory import ArrayImages
from ssl_core.errors import DataError

_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where `apt install dataset-fashion-mnist` puts the same files."""
_FOLDER = "fashion_mnist"
_FILES = {"train": "train", "test": "t10k"}
_MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
_CLASSES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_UINT8 = 8


class FashionMnistSource(DataSource):
    """70,000 grey pictures of clothes, 28x28. Looks in the given or default folder and in Debian's."""

    def __init__(self, options: StoredOptions, context: BuildContext):
        self._home = data_home(options.path)

    @property
    def splits(self) -> tuple[str, ...]:
        return "train", "test"

    def open(self, split: str) -> ArrayImages:
        if split not in self.splits:
            raise DataError(f"fashion_mnist has no split '{split}', only {' and '.join(self.splits)}")
        images = read_idx(self._find(f"{_FILES[split]}-images-idx3-ubyte"))
        labels = read_idx(self._find(f"{_FILES[split]}-labels-idx1-ubyte"))
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise DataError(f"fashion_mnist: {images.shape} pixels and {labels.shape} labels do not belong together")
        return ArrayImages(images, labels.astype(np.int64), _CLASSES)

    def describe(self) -> str:
        return "fashion_mnist (10 classes, 28x28)"

    def _find(self, name: str) -> Path:
        for folder in (self._home, self._home / _FOLDER, _DEBIAN):
            for candidate in (folder / name, folder / f"{name}.gz"):
                if candidate.is_file():
                    return candidate
        archive = f"{name}.gz"
        return fetch(_URL + archive, self._home / _FOLDER / archive, _MD5[archive])


def read_idx(file: Path) -> np.ndarray:
    """Reads an IDX file of bytes: two zeros, the type, the number of dimensions, their sizes, the values.

    Raises:
        DataError: it is damaged or something else.
    """
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: cannot be read: {error}") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != _UINT8:
        raise DataError(f"{file}: not an IDX file of bytes")
    start = 4 + 4 * data[3]
    shape = [int(size) for size in np.frombuffer(data[4:start], dtype=">u4")]
    values = np.frombuffer(data, dtype=np.uint8, offset=min(start, len(data)))
    if len(values) != np.prod(shape):
        raise DataError(f"{file}: {len(values):,} bytes where {shape} were announced; remove it and try again")
    return values.reshape(shape)
