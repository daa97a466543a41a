"""Files for the parts that cannot be built without any."""

from __future__ import annotations

import io
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def make_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Writes small files and returns the options by which the parts find them: "kind plugin:name" -> options."""
    pictures = _pictures(folder / "pictures")
    return {
        "dataset core:folder": {"path": pictures},
        "dataset core:shards": {"path": _shards(pictures, folder / "shards-000.tar")},
        "dataset core:image": {"path": next((pictures / "train" / "a").iterdir())},
        "dataset core:cifar10": {"path": _cifar10(folder / "cifar10")},
        "dataset core:cifar100": {"path": _cifar100(folder / "cifar100")},
        "dataset core:fashion_mnist": {"path": _fashion_mnist(folder / "fashion")},
    }


def _pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _pictures(folder: Path) -> Path:
    for split, count in (("train", 8), ("val", 3)):
        for name in ("a", "b"):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                suffix = ("jpg", "png")[number % 2]
                Image.fromarray(_pixels(40, 30 + number, 3)).save(folder / split / name / f"{number}.{suffix}")
    return folder


def _shards(pictures: Path, file: Path) -> Path:
    with tarfile.open(file, "w") as tar:
        for number, picture in enumerate(sorted((pictures / "train").glob("*/*"))):
            tar.add(picture, f"{number:04}{picture.suffix}")
            label = str("ab".index(picture.parent.name)).encode()
            member = tarfile.TarInfo(f"{number:04}.cls")
            member.size = len(label)
            tar.addfile(member, io.BytesIO(label))
    return file


def _cifar(label_bytes: int, count: int) -> bytes:
    labels = [bytes([9] * (label_bytes - 1) + [number % 2]) for number in range(count)]
    return b"".join(label + row.tobytes() for label, row in zip(labels, _pixels(count, 3072), strict=True))


def _cifar10(folder: Path) -> Path:
    folder.mkdir()
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        (folder / f"{name}.bin").write_bytes(_cifar(1, 4))
    (folder / "batches.meta.txt").write_text("airplane\nautomobile\n")
    return folder


def _cifar100(folder: Path) -> Path:
    folder.mkdir()
    for name in ("train", "test"):
        (folder / f"{name}.bin").write_bytes(_cifar(2, 16))
    (folder / "fine_label_names.txt").write_text("apple\nbee\n")
    return folder


def _fashion_mnist(folder: Path) -> Path:
    folder.mkdir()
    for name in ("train", "t10k"):
        for what, values in (("images-idx3", _pixels(16, 28, 28)), ("labels-idx1", _pixels(16) % 10)):
            head = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
            (folder / f"{name}-{what}-ubyte").write_bytes(head + values.tobytes())
    return folder
