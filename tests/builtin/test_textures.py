from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from torch.nn import functional

from ssl_core.builtin.options import TexturesOptions
from ssl_core.builtin.textures import TexturesSource, generate
from ssl_core.contracts.context import BuildContext
from ssl_core.errors import DataError


def source(**options) -> TexturesSource:
    return TexturesSource(TexturesOptions(**options), BuildContext())


def test_splits_and_classes():
    data = source(images=60, size=16)
    train, test = data.open("train"), data.open("test")
    assert data.splits == ("train", "test")
    assert (len(train), len(test)) == (60, 20)
    assert len(train.classes) == 10
    assert np.bincount(train.labels).tolist() == [6] * 10
    assert np.bincount(test.labels).tolist() == [2] * 10
    assert train.size(3) == (16, 16)
    assert train.read(0).mode == "RGB"
    with pytest.raises(DataError, match="no split 'val', only train and test"):
        data.open("val")


def test_golden_pixels():
    # The demonstration's numbers in README depend on these very images.
    pixels, _ = generate(0, "train", 200, 32)
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == "b08806805d99e029"


def test_an_image_depends_on_seed_split_and_index_alone():
    few, many = generate(0, "train", 30, 16)[0], generate(0, "train", 90, 16)[0]
    assert np.array_equal(few, many[:30])
    for other in (generate(1, "train", 30, 16), generate(0, "test", 30, 16)):
        assert (other[0] != few).any(axis=(1, 2, 3)).all()


def test_no_image_is_flat_or_shown_twice():
    pixels, _ = generate(0, "train", 300, 32)
    assert pixels.std(axis=(1, 2, 3)).min() > 5
    assert len({image.tobytes() for image in pixels}) == 300


def test_raw_pixels_know_some_of_it_but_not_all():
    # What the demonstration must beat: cosine k-NN of centred pixels, k = 20. 63 % with seed 0.
    train, test = generate(0, "train", 6000, 32), generate(0, "test", 2000, 32)
    bank, queries = (
        functional.normalize(torch.from_numpy(pixels.copy()).float().flatten(1) / 255 - 0.5)
        for pixels, _ in (train, test)
    )
    weights, neighbours = (queries @ bank.T).topk(20)
    votes = torch.zeros(2000, 10).scatter_add_(1, torch.from_numpy(train[1].copy())[neighbours], (weights / 0.07).exp())
    accuracy = (votes.argmax(1) == torch.from_numpy(test[1].copy())).float().mean()
    assert 0.55 < accuracy < 0.70
