"""CIFAR-10 and CIFAR-100 from the publisher's binary archives, which hold plain bytes and no pickle."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssl_core.builtin.options import StoredOptions
from ssl_core.builtin.stored import data_home, fetch
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.data import DataSource
from ssl_core.data.memory import ArrayImages
from ssl_core.errors import DataError

_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Archive:
    """One of the two sets.

    Attributes:
        name: as the user writes it.
        url: of the binary version; the file's name is its last part.
        md5: as published.
        folder: inside the archive.
        files: split -> names in that folder.
        classes_file: one class name a line.
        label_bytes: before the pixels of each image; the last one is the class.
    """

    name: str
    url: str
    md5: str
    folder: str
    files: dict[str, tuple[str, ...]]
    classes_file: str
    label_bytes: int


CIFAR10 = Archive(
    name="cifar10",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    folder="cifar-10-batches-bin",
    files={"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)},
    classes_file="batches.meta.txt",
    label_bytes=1,
)
CIFAR100 = Archive(
    name="cifar100",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    folder="cifar-100-binary",
    files={"train": ("train.bin",), "test": ("test.bin",)},
    classes_file="fine_label_names.txt",
    label_bytes=2,
)


class CifarSource(DataSource):
    """Reads the unpacked folder where there is one, else the archive, which is fetched when it is missing.

    Members are read straight from the archive: nothing in it can be written outside of a folder.
    """

    archive: Archive

    def __init__(self, options: StoredOptions, context: BuildContext):
        self._home = data_home(options.path)

    @property
    def splits(self) -> tuple[str, ...]:
        return "train", "test"

    def open(self, split: str) -> ArrayImages:
        archive = self.archive
        if split not in self.splits:
            raise DataError(f"{archive.name} has no split '{split}', only {' and '.join(self.splits)}")
        *parts, names = self._read([*archive.files[split], archive.classes_file])
        data = np.frombuffer(b"".join(parts), dtype=np.uint8)
        record = archive.label_bytes + _PIXELS
        if len(data) == 0 or len(data) % record:
            raise DataError(
                f"{archive.name}: its {split} files are not {record} bytes an image; remove them and try again"
            )
        records = data.reshape(-1, record)  # (N, labels + 3072)
        planes = records[:, archive.label_bytes :].reshape(-1, 3, 32, 32)  # (N, 3, 32, 32)
        pixels = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))  # (N, 32, 32, 3)
        labels = records[:, archive.label_bytes - 1].astype(np.int64)
        return ArrayImages(pixels, labels, tuple(names.decode().split()))

    def describe(self) -> str:
        return f"{self.archive.name} (32x32)"

    def _read(self, names: list[str]) -> list[bytes]:
        archive = self.archive
        for folder in (self._home / archive.folder, self._home):
            if all((folder / name).is_file() for name in names):
                return [(folder / name).read_bytes() for name in names]
        file = fetch(archive.url, self._home / Path(archive.url).name, archive.md5)
        try:
            with tarfile.open(file, "r:gz") as tar:
                return [_content(tar, f"{archive.folder}/{name}") for name in names]
        except (tarfile.TarError, OSError, EOFError, KeyError) as error:
            raise DataError(f"{archive.name}: {file} cannot be read: {error}") from None


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    member = tar.getmember(name)
    if not member.isfile():  # a link or a device
        raise tarfile.TarError(f"{name} is not a file")
    stream = tar.extractfile(member)
    return b"" if stream is None else stream.read()


class Cifar10Source(CifarSource):
    """CIFAR-10."""

    archive = CIFAR10


class Cifar100Source(CifarSource):
    """CIFAR-100 with its 100 fine classes."""

    archive = CIFAR100
