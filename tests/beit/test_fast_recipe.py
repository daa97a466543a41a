"""The fast recipe cuts the crops of the exact one, with the same jitter."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_beit.options import TwoViewOptions
from ssl_beit.two_view import TwoView
from ssl_core.api import ArrayPicture, BuildContext, EncodedPicture, ViewSpec

VIEWS = {"image": ViewSpec(64), "tokens": ViewSpec(32, interpolation="lanczos", crop_of="image")}


def smooth(width: int, height: int) -> Image.Image:
    """A colourful image without noise, which survives JPEG and resizing, and without colours that jitter cuts off."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    pixels = np.stack([x, y, 0.5 + 0.4 * np.sin(9 * x) * np.cos(7 * y)], -1)
    return Image.fromarray((50 + pixels * 90).astype(np.uint8))


def jpeg(image: Image.Image) -> EncodedPicture:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95)
    return EncodedPicture(stream.getvalue())


def _both(seed: int, image, views=VIEWS, **options) -> list[dict[str, torch.Tensor]]:
    """Returns the views of the exact and of the fast recipe."""
    results = []
    for recipe, given in (("exact", image), ("fast", ArrayPicture(np.array(image)))):
        transform = TwoView(TwoViewOptions(recipe=recipe, **options), BuildContext())
        assert transform.takes_pictures == (recipe == "fast")
        results.append(transform(given, views, lambda name: random.Random(f"{seed} {name}")))
    return results


@pytest.mark.parametrize("seed", range(8))
def test_same_crop_flip_and_jitter(seed):
    exact, fast = _both(seed, smooth(120, 90))
    for name in VIEWS:
        assert fast[name].shape == exact[name].shape
        assert fast[name].dtype == torch.uint8
        assert fast[name].is_contiguous()
        assert (exact[name].float() - fast[name].float()).abs().mean() < 1.5
    assert (_both(seed + 100, smooth(120, 90))[0]["image"].float() - fast["image"].float()).abs().mean() > 8


@pytest.mark.parametrize("seed", range(4))
def test_without_jitter_they_differ_by_rounding(seed):
    exact, fast = _both(seed, smooth(120, 90), jitter=0)
    assert (exact["image"].float() - fast["image"].float()).abs().mean() < 0.2
    assert (exact["tokens"].float() - fast["tokens"].float()).abs().mean() < 0.6  # Lanczos against bicubic


def test_several_crops():
    views = {"image": ViewSpec(48, count=3), "tokens": ViewSpec(24, count=2, crop_of="image"), "own": ViewSpec(16)}
    exact, fast = _both(1, smooth(120, 90), views, jitter=0)
    for name, spec in views.items():
        assert fast[name].shape == (spec.count, 3, spec.size, spec.size)
        assert (exact[name].float() - fast[name].float()).abs().mean() < 0.6


def test_a_photograph_of_many_pixels_looks_the_same():
    image = smooth(1600, 1200)
    transform = TwoView(TwoViewOptions(recipe="fast", jitter=0, scale=(0.5, 1)), BuildContext())
    fast = transform(jpeg(image), VIEWS, lambda name: random.Random(f"3 {name}"))
    exact = _both(3, image, jitter=0, scale=(0.5, 1))[0]
    for name in VIEWS:
        assert (exact[name].float() - fast[name].float()).abs().mean() < 1.5


def test_the_exact_recipe_says_what_is_faster():
    assert TwoView(TwoViewOptions(recipe="exact"), BuildContext()).faster == "transform.recipe=fast"
    assert TwoView(TwoViewOptions(recipe="fast"), BuildContext()).faster is None
