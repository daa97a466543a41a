"""digits, CIFAR and Fashion-MNIST, on tiny files of the same layout."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ssl_core.builtin import cifar, fashion_mnist
from ssl_core.builtin.digits import DigitsSource
from ssl_core.builtin.options import StoredOptions
from ssl_core.builtin.stored import data_home, fetch
from ssl_core.contracts.context import BuildContext
from ssl_core.errors import DataError
from ssl_core.options import NoOptions


def test_digits():
    data = DigitsSource(NoOptions(), BuildContext())
    train, test = data.open("train"), data.open("test")
    assert (len(train), len(test)) == (1438, 359)
    assert train.size(0) == (16, 16)
    assert train.classes == tuple("0123456789")
    assert np.bincount(test.labels).min() >= 30
    assert train.pixels.max() == 255


def cifar_files(label_bytes: int, split_files: dict[str, int]) -> dict[str, bytes]:
    """Returns file name -> bytes; image n of a file has class n % 2, coarse class 9, red n, green 100, blue 200."""
    files = {}
    for name, count in split_files.items():
        planes = [bytes([n] * 1024 + [100] * 1024 + [200] * 1024) for n in range(count)]
        files[name] = b"".join(bytes([9] * (label_bytes - 1) + [n % 2]) + planes[n] for n in range(count))
    return files


@pytest.fixture
def archive(tmp_path, monkeypatch) -> Path:
    """A CIFAR-10 archive of 5 x 2 + 3 images that has the expected md5."""
    files = cifar_files(1, {f"data_batch_{n}.bin": 2 for n in range(1, 6)} | {"test_batch.bin": 3})
    files["batches.meta.txt"] = b"airplane\nautomobile\n\n"
    file = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(file, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    md5 = hashlib.md5(file.read_bytes()).hexdigest()
    monkeypatch.setattr(cifar.Cifar10Source, "archive", replace(cifar.CIFAR10, md5=md5))
    return file


def check_cifar10(data: cifar.CifarSource) -> None:
    train, test = data.open("train"), data.open("test")
    assert (len(train), len(test)) == (10, 3)
    assert train.classes == ("airplane", "automobile")
    assert [test.label(index) for index in range(3)] == [0, 1, 0]
    assert test.read(2).getpixel((31, 0)) == (2, 100, 200)
    assert test.size(0) == (32, 32)


def test_cifar10_from_the_archive_and_from_its_folder(archive, tmp_path):
    check_cifar10(cifar.Cifar10Source(StoredOptions(path=tmp_path), BuildContext()))
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    archive.unlink()
    check_cifar10(cifar.Cifar10Source(StoredOptions(path=tmp_path), BuildContext()))
    check_cifar10(cifar.Cifar10Source(StoredOptions(path=tmp_path / "cifar-10-batches-bin"), BuildContext()))


def test_cifar100_reads_the_fine_class(tmp_path):
    for name, data in cifar_files(2, {"train.bin": 4, "test.bin": 2}).items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "fine_label_names.txt").write_text("apple\nbee\n")
    train = cifar.Cifar100Source(StoredOptions(path=tmp_path), BuildContext()).open("train")
    assert [train.label(index) for index in range(4)] == [0, 1, 0, 1]
    assert train.read(3).getpixel((0, 31)) == (3, 100, 200)


def test_damaged_archive(archive, tmp_path):
    with archive.open("ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match="is damaged, or another file: its md5 is"):
        cifar.Cifar10Source(StoredOptions(path=tmp_path), BuildContext()).open("train")


def test_truncated_folder(tmp_path):
    for name, data in cifar_files(2, {"train.bin": 2, "test.bin": 2}).items():
        (tmp_path / name).write_bytes(data[:-1])
    (tmp_path / "fine_label_names.txt").write_text("apple\nbee\n")
    with pytest.raises(DataError, match="not 3074 bytes an image"):
        cifar.Cifar100Source(StoredOptions(path=tmp_path), BuildContext()).open("train")


def test_without_network_one_line_says_what_to_do(tmp_path):
    target = tmp_path / "new" / "set.tar.gz"
    with pytest.raises(DataError) as caught:
        fetch("http://127.0.0.1:9/set.tar.gz", target, "0" * 32)
    message = str(caught.value)
    assert str(target) in message
    assert "http://127.0.0.1:9/set.tar.gz cannot be fetched" in message
    assert "put the file there yourself" in message
    assert "\n" not in message
    assert list(target.parent.iterdir()) == []


def test_fetch_checks_what_it_got_and_fetches_once(tmp_path):
    published = tmp_path / "published.bin"
    published.write_bytes(b"data")
    md5 = hashlib.md5(b"data").hexdigest()
    target = tmp_path / "here.bin"
    assert fetch(published.as_uri(), target, md5).read_bytes() == b"data"
    published.unlink()
    assert fetch(published.as_uri(), target, md5) == target
    published.write_bytes(b"other")
    with pytest.raises(DataError, match="damaged, or another file"):
        fetch(published.as_uri(), tmp_path / "second.bin", md5)
    assert not (tmp_path / "second.bin").exists()


def test_where_data_sets_are_kept(monkeypatch, tmp_path):
    monkeypatch.delenv("SSL_DATA", raising=False)
    assert data_home(None) == Path.home() / ".cache/ssl_core/data"
    monkeypatch.setenv("SSL_DATA", str(tmp_path))
    assert data_home(None) == tmp_path
    assert data_home(Path("/elsewhere")) == Path("/elsewhere")


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("folder", ["", "fashion_mnist"])
def test_fashion_mnist(tmp_path, suffix, folder):
    pixels = np.arange(2 * 28 * 28).reshape(2, 28, 28)
    pack = gzip.compress if suffix else bytes
    (tmp_path / folder).mkdir(exist_ok=True)
    for name in ("train", "t10k"):
        (tmp_path / folder / f"{name}-images-idx3-ubyte{suffix}").write_bytes(pack(idx(pixels)))
        (tmp_path / folder / f"{name}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(np.array([9, 0]))))
    images = fashion_mnist.FashionMnistSource(StoredOptions(path=tmp_path), BuildContext()).open("test")
    assert len(images) == 2
    assert images.classes[images.label(0)] == "Ankle boot"
    assert images.read(0).getpixel((2, 1)) == (30, 30, 30)
    assert images.size(0) == (28, 28)


@pytest.mark.parametrize("data", [b"", b"\0\0\x08\x01\0\0\0\x05abc", b"\0\0\x0d\x01\0\0\0\x01abcd", b"<html>"])
def test_damaged_idx(tmp_path, data):
    for name, content in (("x", data), ("x.gz", gzip.compress(data)), ("y.gz", data)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError):
            fashion_mnist.read_idx(tmp_path / name)
