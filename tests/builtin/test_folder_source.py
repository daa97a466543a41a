from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from ssl_core.builtin.folder import FolderSource
from ssl_core.builtin.options import FolderOptions
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.data import BadImage
from ssl_core.errors import DataError, UsageError


def fill(root: Path, *names: str | bytes) -> Path:
    for name in names:
        file = Path(os.fsdecode(os.path.join(os.fsencode(root), os.fsencode(name))))
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), (10, 20, 30)).save(file, "PNG")
    return root


def source(path: Path | None, **options) -> FolderSource:
    return FolderSource(FolderOptions(path=path, **options), BuildContext())


def names(images) -> list[str]:
    return [images.name(index) for index in range(len(images))]


def labels(images) -> list[int]:
    return [images.label(index) for index in range(len(images))]


def test_flat_folder_is_unlabelled(tmp_path):
    data = source(fill(tmp_path, "b.png", "a.JPG", "c.tiff"))
    images = data.open("train")
    assert data.splits == ("train",)
    assert names(images) == ["a.JPG", "b.png", "c.tiff"]
    assert images.classes is None
    assert labels(images) == [-1, -1, -1]
    assert images.read(1).getpixel((0, 0)) == (10, 20, 30)
    assert images.size(0) == (6, 4)
    assert data.describe() == f"{tmp_path} (unlabelled)"


def test_class_folders_however_deep(tmp_path):
    data = source(fill(tmp_path, "cat/x/1.png", "cat/2.png", "ant/y/z/3.png"))
    images = data.open("train")
    assert images.classes == ("ant", "cat")
    assert dict(zip(names(images), labels(images), strict=True)) == {
        "ant/y/z/3.png": 0,
        "cat/2.png": 1,
        "cat/x/1.png": 1,
    }
    assert data.describe() == f"{tmp_path} (2 classes)"


@pytest.mark.parametrize("extra", ["loose.png", None])
def test_loose_images_or_a_single_folder_mean_unlabelled(tmp_path, extra):
    given = ["a/1.png", "b/2.png", extra] if extra else ["a/1.png", "a/2.png"]
    images = source(fill(tmp_path, *given)).open("train")
    assert images.classes is None
    assert len(images) == len(given)


@pytest.mark.parametrize("folder", ["val", "valid", "validation", "Val"])
def test_splits(tmp_path, folder):
    fill(tmp_path, "train/a/1.png", "train/b/2.png", f"{folder}/a/3.png", f"{folder}/b/4.png", "test/a/5.png")
    data = source(fill(tmp_path, "test/b/6.png"))
    assert data.splits == ("train", "val", "test")
    assert names(data.open("train")) == ["train/a/1.png", "train/b/2.png"]
    assert names(data.open("val")) == [f"{folder}/a/3.png", f"{folder}/b/4.png"]
    assert labels(data.open("test")) == [0, 1]
    assert data.open("val").read(1).size == (6, 4)
    with pytest.raises(DataError, match="no split 'dev'; there is train, val, test"):
        data.open("dev")


def test_a_lone_train_folder_is_a_split(tmp_path):
    assert source(fill(tmp_path, "train/a/1.png", "train/b/2.png")).open("train").classes == ("a", "b")


def test_train_beside_other_classes_is_a_class(tmp_path):
    assert source(fill(tmp_path, "train/1.png", "plane/2.png")).open("train").classes == ("plane", "train")


def test_classes_that_differ_between_splits(tmp_path):
    data = source(fill(tmp_path, "train/a/1.png", "train/b/2.png", "val/a/3.png", "val/c/4.png"))
    assert len(data.open("train")) == 2
    with pytest.raises(DataError, match=r"train and val differ \(only in train: b; only in val: c\)"):
        data.open("val")


def test_hidden_and_foreign_files_are_skipped(tmp_path):
    fill(tmp_path, "1.png", ".hidden.png", ".cache/2.png", "__MACOSX/3.png")
    (tmp_path / "notes.txt").write_text("no image")
    assert names(source(tmp_path).open("train")) == ["1.png"]


def test_links_are_followed_once(tmp_path):
    root = fill(tmp_path / "data", "a/1.png", "b/2.png")
    fill(tmp_path / "elsewhere", "3.png", "4.png")
    (root / "c").symlink_to(tmp_path / "elsewhere")
    (root / "d").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "loop").symlink_to(root)
    (root / "b" / "self").symlink_to(".")
    assert names(source(root).open("train")) == ["a/1.png", "b/2.png", "c/3.png", "c/4.png"]


def test_a_link_that_leads_nowhere_is_a_bad_image(tmp_path):
    fill(tmp_path, "1.png")
    (tmp_path / "2.png").symlink_to(tmp_path / "gone.png")
    images = source(tmp_path).open("train")
    assert len(images) == 2
    with pytest.raises(BadImage):
        images.read(1)


def test_odd_names_survive(tmp_path):
    fill(tmp_path, "Grüße 1.png", b"undecodable\xff.png", "new\nline.png")
    images = source(tmp_path).open("train")
    assert set(names(images)) == {"Grüße 1.png", "undecodable\udcff.png", "new\nline.png"}
    assert all(images.read(index).size == (6, 4) for index in range(3))


def test_pixel_limit_is_an_option(tmp_path):
    images = source(fill(tmp_path, "1.png"), max_pixels=20).open("train")
    with pytest.raises(BadImage, match="6x4 pixels are more than the limit of 20"):
        images.read(0)


def test_missing_empty_and_file(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        source(tmp_path / "missing")
    file = fill(tmp_path, "1.png") / "1.png"
    with pytest.raises(DataError, match="is a file; give the folder"):
        source(file)
    (tmp_path / "empty" / "deep").mkdir(parents=True)
    with pytest.raises(DataError, match="no images in it; looked for bmp gif jpeg jpg png") as caught:
        source(tmp_path / "empty").open("train")
    assert caught.value.exit_code == 3
    with pytest.raises(UsageError, match="--data PATH"):
        source(None)
