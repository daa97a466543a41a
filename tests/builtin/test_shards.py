"""Tar archives of images: read in place, in one order, and nothing but images and labels is read."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ssl_core
from ssl_core.builtin import shard_index
from ssl_core.builtin.options import ShardOptions
from ssl_core.builtin.shards import ShardSource
from ssl_core.config.select import find_data
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.data import BadImage
from ssl_core.errors import DataError
from ssl_core.plugins.registry import Registry
from ssl_core.training import open_source


def png(number: int, size: int = 16) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(number).integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue()


def shard(file: Path, members: dict[str, bytes]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as archive:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return file


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_DATA", str(tmp_path / "home"))


@pytest.fixture
def shards(tmp_path) -> Path:
    """Three shards of four labelled images."""
    for number in range(3):
        members = {}
        for place in range(4):
            index = 4 * number + place
            members[f"img{index:03d}.png"] = png(index)
            members[f"img{index:03d}.cls"] = str(index % 3).encode()
        shard(tmp_path / "set" / f"part-{number:03d}.tar", members)
    return tmp_path / "set"


def opened(path, **options) -> ShardSource:
    return ShardSource(ShardOptions(path=path, **options), BuildContext())


@pytest.mark.parametrize("pattern", ["", "part-{000..002}.tar", "part-*.tar"])
def test_images_and_labels_in_order(shards, pattern):
    source = opened(shards / pattern)
    images = source.open("train")
    assert source.splits == ("train",)
    assert len(images) == 12
    assert images.classes == ("0", "1", "2")
    for index in range(12):
        expected = Image.open(io.BytesIO(png(index)))
        assert images.read(index).tobytes() == expected.tobytes()
        assert torch.equal(images.picture(index).pixels(), torch.from_numpy(np.array(expected)).permute(2, 0, 1))
        assert images.label(index) == index % 3
        assert images.size(index) == (16, 16)
        assert images.name(index) == f"part-{index // 4:03d}.tar/img{index:03d}.png"
    again = pickle.loads(pickle.dumps(images))
    assert again.read(7).tobytes() == images.read(7).tobytes()


def test_the_index_is_made_once_and_follows_the_files(shards, monkeypatch):
    first = opened(shards).open("train")
    monkeypatch.setattr(shard_index, "_make", lambda shards: pytest.fail("made again"))
    second = opened(shards).open("train")
    assert [second.name(index) for index in range(12)] == [first.name(index) for index in range(12)]
    monkeypatch.undo()
    shard(shards / "part-002.tar", {"other.png": png(99)})
    assert len(opened(shards).open("train")) == 9


def test_a_damaged_or_unwritable_index_is_made_again(shards, tmp_path):
    opened(shards).open("train")
    file = next((tmp_path / "home" / "shards").iterdir())
    for content in (b"", file.read_bytes()[:100], pickle.dumps([1])):
        file.write_bytes(content)
        assert len(opened(shards).open("train")) == 12
    (tmp_path / "file").write_text("")
    assert len(opened(shards, index=tmp_path / "file" / "below").open("train")) == 12


class Bomb:
    def __reduce__(self):
        return os.system, ("touch bomb-went-off",)


def test_a_pickle_is_left_out_and_never_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = pickle.dumps(Bomb())
    members = {
        "a.pkl": evil,
        "a.png": png(1),
        "a.cls": evil,
        "b.pyd": evil,
        "b.png": png(2),
        "b.json": evil,
        "c.jpg": evil,
        "d.pth": evil,
    }
    source = opened(shard(tmp_path / "evil.tar", members))
    images = source.open("train")
    assert [images.name(index) for index in range(len(images))] == [
        "evil.tar/a.png",
        "evil.tar/b.png",
        "evil.tar/c.jpg",
    ]
    assert images.classes is None
    with pytest.raises(BadImage):
        images.read(2)
    assert "3 members of other kinds left out, unread: .pkl .pth .pyd" in source.describe()
    assert not (tmp_path / "bomb-went-off").exists()


def test_links_and_paths_that_climb_lead_nowhere(tmp_path):
    (tmp_path / "secret.png").write_bytes(png(5))
    file = tmp_path / "links.tar"
    with tarfile.open(file, "w") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "../secret.png"
        archive.addfile(link)
        climbing = tarfile.TarInfo("../../climbing.png")
        climbing.size = len(png(6))
        archive.addfile(climbing, io.BytesIO(png(6)))
    images = opened(file).open("train")
    assert len(images) == 1
    assert images.read(0).tobytes() == Image.open(io.BytesIO(png(6))).tobytes()
    assert not (tmp_path.parent / "climbing.png").exists()


def test_a_shard_that_is_cut_short(tmp_path):
    file = shard(tmp_path / "cut.tar", {f"{number}.png": png(number, 40) for number in range(4)})
    file.write_bytes(file.read_bytes()[: 512 * 11 + 3000])
    source = opened(file)
    images = source.open("train")
    assert "cut short: cut.tar" in source.describe()
    images.read(0)
    with pytest.raises(BadImage):
        images.read(len(images) - 1)


@pytest.mark.parametrize("size", [1 << 45, 1 << 70, -5000])
def test_a_header_that_claims_an_impossible_size(tmp_path, size):
    file = shard(tmp_path / "odd.tar", {"good.png": png(0)})
    header = tarfile.TarInfo("claims.png")
    header.size = size
    file.write_bytes(
        file.read_bytes()[: 512 * (1 + -(-len(png(0)) // 512))] + header.tobuf(tarfile.GNU_FORMAT) + b"x" * 512
    )
    source = opened(file)
    images = source.open("train")
    images.read(0)
    for index in range(1, len(images)):
        with pytest.raises(BadImage):
            images.read(index)
    assert "cut short: odd.tar" in source.describe()


def test_a_header_that_is_nonsense_ends_its_shard(tmp_path):
    file = shard(tmp_path / "odd.tar", {"good.png": png(0)})
    header = tarfile.TarInfo("header")
    record = b"99999999999999999999 a=b\n"
    header.type, header.size = tarfile.XHDTYPE, len(record)
    with file.open("r+b") as stream:
        stream.seek(512 * (1 + -(-len(png(0)) // 512)))
        stream.write(header.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0"))
    source = opened(file)
    assert len(source.open("train")) == 1
    assert "cut short: odd.tar" in source.describe()


@pytest.mark.parametrize("label", ['"\\ud800"', '"' + "9" * 5000 + '"', "9" * 5000, '"' + "a" * 1000 + '"'])
def test_labels_that_are_none(tmp_path, label):
    members = {"a.png": png(0), "a.json": f'{{"label": {label}}}'.encode(), "b.png": png(1), "b.json": b'{"label": 0}'}
    assert opened(shard(tmp_path / "x.tar", members)).open("train").classes is None


@pytest.mark.parametrize(("field", "value"), [("shard", 3), ("shard", -1), ("offset", -1), ("size", -1)])
def test_an_index_that_points_elsewhere_is_made_again(shards, tmp_path, field, value):
    opened(shards).open("train")
    file = next((tmp_path / "home" / "shards").iterdir())
    with np.load(file) as arrays:
        kept = dict(arrays)
    kept["places"][field][5] = value
    np.savez(file, **kept)
    images = opened(shards).open("train")
    assert images.read(5).tobytes() == Image.open(io.BytesIO(png(5))).tobytes()


@pytest.mark.parametrize(
    ("values", "label"), [({"label": 1}, "1"), ({"cls": "cat"}, "cat"), ([1], None), ({"label": [1]}, None)]
)
def test_classes_from_json(tmp_path, values, label):
    members = {"a.png": png(0), "a.json": json.dumps(values).encode(), "b.png": png(1), "b.json": b'{"label": 0}'}
    images = opened(shard(tmp_path / "x.tar", members)).open("train")
    assert images.classes == {None: None, "1": ("0", "1"), "cat": ("0", "cat")}[label]
    assert images.label(0) == (-1 if label is None else 1)


def test_splits(tmp_path):
    for name in ("set-train-0", "set-train-1", "set-validation-0"):
        shard(tmp_path / "one" / f"{name}.tar", {f"{name}.png": png(0)})
    shard(tmp_path / "two" / "train" / "0.tar", {"0.png": png(0)})
    shard(tmp_path / "two" / "val" / "0.tar", {"1.png": png(0)})
    assert {split: len(opened(tmp_path / "one").open(split)) for split in ("train", "val")} == {"train": 2, "val": 1}
    assert opened(tmp_path / "two").splits == ("train", "val")
    named = opened(tmp_path / "one" / "set-train-{0..1}.tar", test=tmp_path / "one" / "set-validation-0.tar")
    assert named.splits == ("train", "test")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "part-{000..003}.tar", r"part-003\.tar: no such shard"),
        (lambda folder: folder / "part-{3..1}.tar", "no range of shards"),
        (lambda folder: folder.parent / "gone", "gone: no such shard"),
        (lambda folder: write(folder / "text.tar", b"hello" * 200), "not an uncompressed tar archive"),
        (lambda folder: shard(folder.parent / "none.tar", {"a.txt": b"x"}), "no images in 1 shards"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(shards, make, message):
    with pytest.raises(DataError, match=message):
        opened(make(shards)).open("train")


def write(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def test_what_data_means(shards, tmp_path):
    registry = Registry.load()
    for data in (shards, shards / "part-000.tar", shards / "part-{000..002}.tar"):
        assert find_data(str(data), registry).qualified == "core:shards"
    (tmp_path / "images").mkdir()
    write(tmp_path / "images" / "a.png", png(0))
    assert find_data(str(tmp_path / "images"), registry).qualified == "core:folder"
    assert len(open_source(str(shards / "part-000.tar")).open("train")) == 4


def test_a_training_on_shards_is_that_on_the_same_files(shards, tmp_path):
    """And goes on bit for bit; a broken member is replaced and listed."""
    broken = shard(shards / "part-003.tar", {"img012.png": png(3)[:60], "img012.cls": b"0"})
    folder = tmp_path / "files"
    folder.mkdir()
    for index in range(12):
        write(folder / f"img{index:03d}.png", png(index))
    write(folder / "img012.png", png(3)[:60])
    settings = {
        "data.image_size": 16,
        "backbone.depth": 1,
        "train.batch_size": 4,
        "train.steps": 6,
        "data.max_bad_fraction": 0.5,
        "data.workers": 0,
        "log.every": 1,
        "log.pictures_every": 0,
        "runtime.device": "cpu",
        "runtime.precision": "fp32",
        "recipe": "none",
    }
    lines = []
    for name, data in (("tar", shards), ("files", folder)):
        ssl_core.train(
            "beit", backbone="vit_tiny", tokenizer="pixel", data=data, out=tmp_path / f"run-{name}", settings=settings
        )
        every = [json.loads(line) for line in (tmp_path / f"run-{name}" / "metrics.jsonl").read_text().splitlines()]
        lines.append([line["loss"] for line in every if "loss" in line])
    assert lines[0] == lines[1]
    assert (tmp_path / "run-tar" / "bad_files.txt").read_text().splitlines() == [f"{broken.name}/img012.png"]
