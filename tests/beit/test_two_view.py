"""The two views: one crop, jittered and flipped alike, resized apart."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as tv

from ssl_beit.options import TwoViewOptions
from ssl_beit.two_view import TwoView
from ssl_core.api import BuildContext, ViewSpec

VIEWS = {"image": ViewSpec(64), "tokens": ViewSpec(32, interpolation="lanczos", crop_of="image")}


def _image(width=120, height=90) -> Image.Image:
    """Smooth, with a gradient across, so that flips and crops are visible."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    pixels = np.stack([x, y, 0.5 + 0.4 * np.sin(9 * x) * np.cos(7 * y)], -1)
    return Image.fromarray((pixels * 255).astype(np.uint8))


def _cut(views=VIEWS, seed=0, image=None, **options):
    transform = TwoView(TwoViewOptions(**options), BuildContext())
    return transform(image or _image(), views, lambda name: random.Random(f"{seed} {name}"))


def test_shapes_and_dtype():
    views = _cut()
    assert views["image"].shape == (1, 3, 64, 64)
    assert views["tokens"].shape == (1, 3, 32, 32)
    assert views["image"].dtype == views["tokens"].dtype == torch.uint8


@pytest.mark.parametrize("seed", range(5))
def test_both_views_show_the_same_crop(seed):
    views = _cut(seed=seed)
    shrunk = torch.nn.functional.avg_pool2d(views["image"].float(), 2)
    assert (shrunk - views["tokens"].float()).abs().mean() < 2.5


def test_it_is_jitter_then_flip_then_one_crop_then_resize():
    """Done over by hand with torchvision's functions, from the same draws."""
    found = _cut(seed=3, flip=1.0)
    rng = random.Random("3 image")
    image = _image()
    adjust = rng.sample([tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation], 3)
    for function in adjust:
        image = function(image, rng.uniform(0.6, 1.4))
    rng.random()
    image = tv.hflip(image)
    from ssl_core.api import random_crop_box

    box = random_crop_box(120, 90, (0.08, 1.0), (3 / 4, 4 / 3), rng)
    crop = tv.crop(image, *box)
    for name, filter_, size in (("image", Image.BICUBIC, 64), ("tokens", Image.LANCZOS, 32)):
        expected = tv.pil_to_tensor(crop.resize((size, size), filter_))
        assert torch.equal(found[name][0], expected)


def test_flip_and_jitter_can_be_switched_off():
    whole = {"image": ViewSpec(90, scale=(1.0, 1.0))}
    square = _image(90, 90)
    plain = _cut(whole, image=square, jitter=0, flip=0, ratio=(1, 1))["image"][0]
    assert torch.equal(plain, tv.pil_to_tensor(square))
    flipped = _cut(whole, image=square, jitter=0, flip=1, ratio=(1, 1))["image"][0]
    assert torch.equal(flipped, plain.flip(-1))


def test_half_are_flipped_and_brightness_varies():
    whole = {"image": ViewSpec(16, scale=(1.0, 1.0))}
    left = [float(_cut(whole, seed)["image"][0, 0, :, :8].float().mean()) for seed in range(200)]
    right = [float(_cut(whole, seed)["image"][0, 0, :, 8:].float().mean()) for seed in range(200)]
    assert 75 < sum(a > b for a, b in zip(left, right, strict=True)) < 125
    assert np.std(left) > 10


def test_several_crops_are_cut_apart():
    views = _cut({"image": ViewSpec(32, count=3)})
    assert views["image"].shape == (3, 3, 32, 32)
    assert not torch.equal(views["image"][0], views["image"][1])


def test_views_follow_from_the_generators_alone():
    assert all(torch.equal(a, b) for a, b in zip(_cut(seed=1).values(), _cut(seed=1).values(), strict=True))
    assert not torch.equal(_cut(seed=1)["image"], _cut(seed=2)["image"])
