from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import timm.data
from PIL import Image

from ssl_core.builtin import timm_data
from ssl_core.builtin.options import TimmDatasetOptions
from ssl_core.builtin.timm_data import StreamedImages, TimmSource
from ssl_core.builtin.timm_names import is_timm_dataset
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.data import BadImage
from ssl_core.errors import DataError, UsageError


def source(name: str, **options) -> TimmSource:
    return TimmSource(TimmDatasetOptions(source=name, **options), BuildContext())


@pytest.mark.parametrize("name", ["hfds/uoft-cs/cifar10", "torch/mnist", "TFDS/cifar10", "wds/x", "hfids/a/b"])
def test_names_of_timm(name):
    assert is_timm_dataset(name)


@pytest.mark.parametrize("name", ["folder", "cifar10", "/torch/mnist", "torch", "torch/", "data/torch/x", "torch//x"])
def test_other_names(name):
    assert not is_timm_dataset(name)


def test_names_are_recognised_without_torch():
    code = "import sys; import ssl_core.builtin.timm_names, ssl_core.builtin.plugin; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torch/cifar10", "would unpickle a download; use --data cifar10"),
        ("torch/CIFAR100", "use --data cifar100"),
        ("torch/folder", "give the folder itself"),
        ("torch/stl10", "not known to be safe.*torch/mnist"),
        ("wds/pipe:curl x", "would run a command"),
        ("", "needs a name with a prefix"),
    ],
)
def test_refused_names(name, message):
    with pytest.raises(UsageError, match=message):
        source(name)


def test_a_missing_package_is_named(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install datasets"):
        source("hfds/a/b").open("train")
    assert capsys.readouterr().out == ""


def test_what_timm_says_becomes_one_line(monkeypatch, tmp_path):
    def fail(*_, **__):
        raise ValueError("no\n  such set")

    monkeypatch.setattr(timm.data, "create_dataset", fail)
    with pytest.raises(DataError, match="torch/mnist: timm cannot open its split 'train': no such set"):
        source("torch/mnist", path=tmp_path).open("train")


class TorchSet:
    """What a torchvision data set looks like; image 1 is broken."""

    targets = (1, 0, 1)
    class_to_idx = {"b": 1, "a": 0}  # noqa: RUF012

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int):
        if index == 1:
            raise OSError("truncated")
        return Image.new("L", (5, 4), index), self.targets[index]


def test_torch_sets(monkeypatch, tmp_path):
    asked = []

    def create(name, **arguments):
        asked.append((name, arguments["split"], arguments["root"]))
        return TorchSet()

    monkeypatch.setattr(timm.data, "create_dataset", create)
    data = source("torch/mnist", path=tmp_path)
    assert data.splits == ("train", "val")
    images = data.open("val")
    assert asked == [("torch/mnist", "validation", str(tmp_path))]
    assert len(images) == 3
    assert images.classes == ("a", "b")
    assert [images.label(index) for index in range(3)] == [1, 0, 1]
    assert images.read(2).getpixel((0, 0)) == (2, 2, 2)
    assert images.size(0) == (5, 4)
    with pytest.raises(BadImage, match="truncated"):
        images.read(1)


def broken_stream():
    yield Image.new("RGB", (3, 2)), 0
    raise ValueError("no key")


def test_streams_are_kept_in_memory(monkeypatch):
    stream = [(Image.fromarray(np.full((2, 3), n, np.uint8)), n % 2) for n in range(4)]
    images = StreamedImages(iter(stream), "wds/x")
    assert len(images) == 4
    assert images.read(3).getpixel((2, 1)) == (3, 3, 3)
    assert images.classes == ("0", "1")
    assert images.label(3) == 1
    monkeypatch.setattr(timm_data, "_STREAM_LIMIT", 50)
    with pytest.raises(DataError, match="kept in memory"):
        StreamedImages(iter(stream), "wds/x")
    with pytest.raises(DataError, match="wds/x: the stream broke: no key"):
        StreamedImages(broken_stream(), "wds/x")
    with pytest.raises(DataError, match="empty"):
        StreamedImages(iter([]), "wds/x")
