from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_core.data.cropping import center_view, crop_and_resize, random_crop_box, to_tensor


def test_boxes_of_the_reference_sampler():
    # Made with microsoft/unilm's transform after random.seed(0), on a 500x375 image (width x height).
    rng = random.Random(0)
    boxes = [random_crop_box(500, 375, (0.08, 1.0), (3 / 4, 4 / 3), rng) for _ in range(5)]
    assert boxes == [
        (3, 5, 372, 432),
        (103, 155, 243, 245),
        (24, 316, 219, 178),
        (34, 45, 340, 450),
        (9, 6, 350, 442),
    ]


def test_boxes_lie_inside_and_cover_their_share():
    rng = random.Random(1)
    for _ in range(300):
        top, left, height, width = random_crop_box(60, 40, (0.3, 0.6), (3 / 4, 4 / 3), rng)
        assert 0 <= top <= top + height <= 40
        assert 0 <= left <= left + width <= 60
        assert 0.25 < height * width / 2400 < 0.65


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [(1000, 10, (0, 493, 10, 13)), (10, 1000, (493, 0, 13, 10))],
)
def test_fallback_is_the_largest_central_box(width, height, box):
    assert random_crop_box(width, height, (1.0, 1.0), (3 / 4, 4 / 3), random.Random(0)) == box


def test_crop_does_not_read_beyond_the_box():
    pixels = np.full((8, 8, 3), 255, np.uint8)
    pixels[2:6, 2:6] = 0
    cut = crop_and_resize(Image.fromarray(pixels), (2, 2, 4, 4), 16, "lanczos")
    assert np.asarray(cut).max() == 0


def gradient(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x, y, x * 0], -1).astype(np.uint8))


def test_center_view_leaves_small_images_whole():
    image = gradient(32, 32)
    assert torch.equal(center_view(image, 32), to_tensor(image))


def test_center_view_cuts_the_centre_without_resizing():
    view = center_view(gradient(40, 32), 32)
    assert view.shape == (3, 32, 32)
    assert view.dtype == torch.uint8
    assert (view[0, 0, 0], view[0, 0, -1], view[1, 0, 0]) == (4, 35, 0)


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (224 * 3, 224), (64, 64), (1000, 20)])
def test_center_view_has_the_size_that_was_asked_for(size):
    assert center_view(gradient(*size), 48).shape == (3, 48, 48)


def test_center_view_resizes_the_shorter_side_to_size_over_fraction():
    image = gradient(250, 200)
    # 200 -> 128 (112 / 0.875), then the middle 112 of 160 x 128.
    expected = image.resize((160, 128), Image.Resampling.BICUBIC).crop((24, 8, 136, 120))
    assert torch.equal(center_view(image, 112), to_tensor(expected))
    whole = image.resize((140, 112), Image.Resampling.BICUBIC).crop((14, 0, 126, 112))
    assert torch.equal(center_view(image, 112, crop_fraction=1.0), to_tensor(whole))


def test_to_tensor_is_channels_first():
    tensor = to_tensor(gradient(5, 3))
    assert tensor.shape == (3, 3, 5)
    assert tensor.is_contiguous()
    assert tensor[0, 2].tolist() == [0, 1, 2, 3, 4]
    assert tensor[1, :, 4].tolist() == [0, 1, 2]
