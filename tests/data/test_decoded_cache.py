"""Images that are decoded once: the same pixels, whole or not at all, and never of other images."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_core.builtin.folder import FolderSource
from ssl_core.builtin.options import FolderOptions
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.data import BadImage
from ssl_core.data import decoded_cache
from ssl_core.data.decoded_cache import CacheSpec, DecodedImages, build_cache
from ssl_core.data.reading import read_picture
from ssl_core.errors import DataError

SIZES = [(40, 30), (33, 60), (64, 64), (20, 20)]


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number, (width, height) in enumerate(SIZES):
        noise = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.{'jpg' if number % 2 else 'png'}")
    (folder / "broken.jpg").write_bytes(b"nothing")
    return opened(folder)


def opened(folder):
    return FolderSource(FolderOptions(path=folder), BuildContext()).open("train")


def cached(images, tmp_path, side=None, workers=0) -> DecodedImages:
    spec = CacheSpec(images, "a folder", side)
    folder = tmp_path / "cache" / spec.key()
    build_cache(spec, folder, workers)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    return DecodedImages(images, folder)


@pytest.mark.parametrize("workers", [0, 2])
def test_it_gives_the_very_pixels(images, tmp_path, workers):
    kept = cached(images, tmp_path, workers=workers)
    assert len(kept) == 5
    for index in range(4):
        assert kept.size(index) == images.size(index)
        assert kept.read(index).tobytes() == images.read(index).tobytes()
        assert torch.equal(kept.picture(index).pixels(), read_picture(images, index).pixels())
    for read in (kept.read, kept.picture):
        with pytest.raises(BadImage, match="could not be decoded"):
            read(4)
    again = pickle.loads(pickle.dumps(kept))
    assert again.read(2).tobytes() == kept.read(2).tobytes()


def test_the_file_cannot_be_changed_through_it(images, tmp_path):
    kept = cached(images, tmp_path)
    before = kept.read(0).tobytes()
    kept.picture(0).pixels().zero_()
    assert pickle.loads(pickle.dumps(kept)).read(0).tobytes() == before


def test_a_shorter_side(images, tmp_path):
    kept = cached(images, tmp_path, side=24)
    assert [kept.size(index) for index in range(4)] == [(32, 24), (24, 44), (24, 24), (20, 20)]
    expected = images.read(0).resize((32, 24), Image.Resampling.BICUBIC)
    assert kept.read(0).tobytes() == expected.tobytes()
    assert kept.read(3).tobytes() == images.read(3).tobytes()


def test_large_images_are_left_to_the_decoder(images, tmp_path, monkeypatch):
    monkeypatch.setattr(decoded_cache, "LARGE_AREA", 64 * 64)
    kept = cached(images, tmp_path)
    assert kept._array(2) is None
    assert kept._array(0) is not None
    assert kept.read(2).tobytes() == images.read(2).tobytes()
    assert torch.equal(kept.picture(2).pixels(), images.picture(2).pixels())
    assert cached(images, tmp_path / "b", side=64)._array(2) is not None


def test_the_name_follows_from_the_files_and_the_settings(images, tmp_path):
    first = CacheSpec(images, "a").key()
    assert CacheSpec(images, "a").key() == first
    keys = {first, CacheSpec(images, "b").key(), CacheSpec(images, "a", 24).key()}
    file = tmp_path / "images" / "0.png"
    os.utime(file, ns=(1, 1))
    keys.add(CacheSpec(images, "a").key())
    Image.new("RGB", (9, 9)).save(tmp_path / "images" / "new.png")
    keys.add(CacheSpec(opened(tmp_path / "images"), "a").key())
    assert len(keys) == 5


def test_an_interrupted_one_leaves_nothing(images, tmp_path, monkeypatch):
    monkeypatch.setattr(np, "save", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        build_cache(CacheSpec(images, "a"), tmp_path / "cache" / "x", 0)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("damage", ["description.json", "places.npy", "pixels.bin"])
def test_a_damaged_one_is_refused_in_a_line(images, tmp_path, damage):
    folder = cached(images, tmp_path)._folder
    file = folder / damage
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(DataError, match="delete it"):
        DecodedImages(images, folder)


@pytest.mark.parametrize(("field", "value"), [("offset", -9), ("offset", 1 << 40), ("width", 1 << 20), ("height", -1)])
def test_places_outside_of_the_pixels_are_refused_in_a_line(images, tmp_path, field, value):
    folder = cached(images, tmp_path)._folder
    places = np.load(folder / "places.npy")
    places[field][1] = value
    np.save(folder / "places.npy", places)
    with pytest.raises(DataError, match="delete it"):
        DecodedImages(images, folder)


def test_a_pickle_in_place_of_the_places_is_not_loaded(images, tmp_path):
    folder = cached(images, tmp_path)._folder
    np.save(folder / "places.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="delete it"):
        DecodedImages(images, folder)


def test_its_size_is_estimated(images):
    assert CacheSpec(images, "a").bytes() == pytest.approx(3 * sum(w * h for w, h in SIZES), rel=0.01)
