"""Scores are made from every image once, whatever the number of processes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_core.contracts.data import BadImage
from ssl_core.data.clean import clean_loader
from ssl_core.data.cropping import center_view
from ssl_core.data.memory import ArrayImages


class SomeBroken(ArrayImages):
    def read(self, index):
        if index == 4:
            raise BadImage("broken on purpose")
        return super().read(index)


@pytest.fixture
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (11, 12, 16, 3), np.uint8)
    return SomeBroken(pixels, np.arange(11) % 3, tuple("abc"))


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_each_image_once_in_equally_many_equal_batches(images, world_size):
    loaders = [
        clean_loader(images, range(11), size=8, crop_fraction=0.5, batch_size=2, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    batches = [list(loader) for loader in loaders]
    assert len({tuple(len(batch) for batch in own) for own in batches}) == 1
    seen = [
        (int(index), int(label))
        for own in batches
        for batch in own
        for index, label in zip(batch.index, batch.label, strict=True)
    ]
    scored = sorted(index for index, label in seen if label >= 0)
    assert scored == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]  # the broken one is not scored, and nobody twice
    assert all(label == index % 3 for index, label in seen if label >= 0)


def test_the_view_is_the_clean_central_square(images):
    batch = next(iter(clean_loader(images, [7, 2], size=8, crop_fraction=0.5, batch_size=2)))
    assert batch.views["image"].dtype == torch.uint8
    assert torch.equal(batch.views["image"][1], center_view(images.read(2), 8, 0.5))


def test_the_global_generator_is_left_alone(images):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(clean_loader(images, range(11), size=8, crop_fraction=1.0, batch_size=4))
    assert torch.equal(before, torch.get_rng_state())
