"""Crops of two sizes: their number, their changes, and nothing drawn from anywhere but the given generators."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps

from ssl_core.api import BuildContext, ViewSpec
from ssl_dino.multi_crop import MultiCrop
from ssl_dino.options import MultiCropOptions

VIEWS = {
    "image": ViewSpec(16, count=2, scale=(0.4, 1.0)),
    "local": ViewSpec(8, count=3, scale=(0.05, 0.4)),
}
PLAIN = {"flip": 0, "jitter": 0, "grayscale": 0, "blur": (0, 0), "local_blur": 0, "solarize": (0, 0)}
WHOLE = {"image": ViewSpec(20, count=2, scale=(1.0, 1.0)), "local": ViewSpec(20, count=2, scale=(1.0, 1.0))}


def _image() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _cut(views=VIEWS, seed=0, **options):
    transform = MultiCrop(MultiCropOptions(ratio=(1.0, 1.0), **options), BuildContext())
    return transform(_image(), views, lambda name: random.Random(f"{seed} {name}"))


def _pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


def test_views_have_their_crops_as_bytes():
    views = _cut()
    assert {name: tuple(view.shape) for name, view in views.items()} == {"image": (2, 3, 16, 16), "local": (3, 3, 8, 8)}
    assert all(view.dtype == torch.uint8 for view in views.values())


def test_crops_follow_from_the_generators_alone():
    random.seed(0)
    torch.manual_seed(0)
    one = _cut(seed=5)
    random.seed(1)
    torch.manual_seed(1)
    two = _cut(seed=5)
    assert all(torch.equal(one[name], two[name]) for name in VIEWS)
    assert not torch.equal(one["image"], _cut(seed=6)["image"])
    assert not torch.equal(one["image"][0], one["image"][1])


def test_crops_cover_the_share_that_the_method_asks_for():
    """In an image whose red is the column and whose green is the row, a crop shows what it covers."""
    ramp = np.arange(200, dtype=np.uint8)
    image = Image.fromarray(
        np.stack(np.broadcast_arrays(ramp[None, :], ramp[:, None], np.uint8(0)), axis=-1), mode="RGB"
    )
    transform = MultiCrop(MultiCropOptions(**PLAIN), BuildContext())
    generators = {name: random.Random(name) for name in VIEWS}
    shares = {"image": [], "local": []}
    for _ in range(50):
        for name, crops in transform(image, VIEWS, generators.__getitem__).items():
            for crop in crops[:, :2].float():
                low, high = crop.flatten(1).min(dim=1).values, crop.flatten(1).max(dim=1).values
                shares[name].append(((high - low) * crop.shape[-1] / (crop.shape[-1] - 1)).prod().item() / 200**2)
    assert min(shares["image"]) > 0.35
    assert max(shares["image"]) > 0.9
    assert min(shares["local"]) > 0.03
    assert max(shares["local"]) < 0.45


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"flip": 1}, ImageOps.mirror),
        ({"grayscale": 1}, lambda image: image.convert("L").convert("RGB")),
        ({"blur": (1, 1), "local_blur": 1, "blur_sigma": (1, 1)}, lambda i: i.filter(ImageFilter.GaussianBlur(1))),
    ],
)
def test_each_change_is_pillows(options, changed):
    views = _cut(WHOLE, **{**PLAIN, **options})
    for crop in [*views["image"], *views["local"]]:
        assert torch.equal(crop, _pixels(changed(_image())))


def test_blur_and_solarisation_go_by_place():
    plain, views = _pixels(_image()), _cut(WHOLE, **{**PLAIN, "blur": (1, 0), "solarize": (0, 1)})
    assert torch.equal(views["image"][1], _pixels(ImageOps.solarize(_image())))
    assert not torch.equal(views["image"][0], plain)
    assert all(torch.equal(crop, plain) for crop in views["local"])


def test_colours_change_where_they_should():
    plain, options = _pixels(_image()), {**PLAIN, "jitter": 1.0}
    assert not torch.equal(_cut(WHOLE, **options)["image"][0], plain)
    still = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}
    assert torch.equal(_cut(WHOLE, **options, **still)["image"][0], plain)


def test_a_view_shares_the_crops_of_another():
    views = {"image": ViewSpec(16, count=2), "tokens": ViewSpec(16, count=1, crop_of="image")}
    found = _cut(views)
    assert torch.equal(found["tokens"][0], found["image"][0])
