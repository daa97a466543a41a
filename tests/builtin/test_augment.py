from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_core.builtin.augment import Augment
from ssl_core.builtin.options import AugmentOptions
from ssl_core.contracts.batch import ViewSpec
from ssl_core.contracts.context import BuildContext
from ssl_core.data.cropping import to_tensor
from ssl_core.errors import UsageError

WHOLE = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
COLOUR = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "grayscale": 0.3, "blur": 0.5}


def picture(size: int = 32) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8))


def cut(views: dict[str, ViewSpec], seed: int = 0, image: Image.Image | None = None, **options):
    transform = Augment(AugmentOptions(**options), BuildContext())
    return transform(image or picture(), views, lambda name: random.Random(f"{seed}{name}"))


def test_shapes():
    views = cut({"image": ViewSpec(16), "crops": ViewSpec(8, count=3, scale=(0.05, 0.3))})
    assert {name: tuple(view.shape) for name, view in views.items()} == {"image": (1, 3, 16, 16), "crops": (3, 3, 8, 8)}
    assert all(view.dtype == torch.uint8 for view in views.values())
    assert not torch.equal(views["crops"][0], views["crops"][1])


def test_switched_off_it_is_the_image():
    views = cut({"image": ViewSpec(32)}, flip=0, **WHOLE)
    assert torch.equal(views["image"][0], to_tensor(picture()))


def test_flip():
    views = cut({"image": ViewSpec(32)}, flip=1, **WHOLE)
    assert torch.equal(views["image"][0], to_tensor(picture()).flip(-1))
    flipped = [
        not torch.equal(cut({"image": ViewSpec(32)}, seed, **WHOLE)["image"][0], to_tensor(picture()))
        for seed in range(100)
    ]
    assert 30 < sum(flipped) < 70


@pytest.mark.parametrize("colour", [{}, COLOUR])
def test_a_view_with_crop_of_shows_the_same_crop(colour):
    # Smooth, so that the two sizes can be compared.
    smooth = picture(4).resize((64, 64), Image.Resampling.BICUBIC)
    views = {"image": ViewSpec(32, count=4), "tokens": ViewSpec(16, count=4, crop_of="image", interpolation="lanczos")}
    if "blur" in colour:
        colour = colour | {"blur": 0}  # sigma is in pixels of the view
    for seed in range(5):
        result = cut(views, seed, image=smooth, **colour)
        small = torch.nn.functional.avg_pool2d(result["image"].float(), 2)
        assert (small - result["tokens"].float()).abs().mean() < 3


def test_order_of_the_views_does_not_matter():
    image, tokens = ViewSpec(32), ViewSpec(16, crop_of="image")
    one, two = cut({"image": image, "tokens": tokens}), cut({"tokens": tokens, "image": image})
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_views_of_their_own_differ():
    views = cut({"a": ViewSpec(32), "b": ViewSpec(32)})
    assert not torch.equal(views["a"], views["b"])


def test_scale_of_the_view_wins():
    whole = cut({"image": ViewSpec(32, scale=(1.0, 1.0))}, scale=(0.1, 0.1), ratio=(1.0, 1.0), flip=0)
    assert torch.equal(whole["image"][0], to_tensor(picture()))


def test_interpolation_of_the_view():
    results = [cut({"image": ViewSpec(20, interpolation=kind)})["image"] for kind in ("bilinear", "bicubic", "lanczos")]
    assert not torch.equal(results[0], results[1])
    assert not torch.equal(results[1], results[2])


@pytest.mark.parametrize("option", list(COLOUR))
def test_each_colour_change_changes_the_image(option):
    plain = cut({"image": ViewSpec(32)}, flip=0, **WHOLE)["image"]
    value = 1.0 if option in ("grayscale", "blur") else 0.5
    assert not torch.equal(plain, cut({"image": ViewSpec(32)}, flip=0, **{option: value}, **WHOLE)["image"])


def test_grayscale_has_one_channel():
    image = cut({"image": ViewSpec(32)}, grayscale=1)["image"][0]
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[0], image[2])


def test_hue_turns_around_the_circle():
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    seen = {
        tuple(cut({"image": ViewSpec(8)}, seed, image=red, hue=0.5)["image"][0, :, 0, 0].tolist()) for seed in range(40)
    }
    assert any(green > 200 and red_part < 100 for red_part, green, _ in seen)
    assert any(blue > 200 and red_part < 100 for red_part, _, blue in seen)


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ({"a": ViewSpec(8, crop_of="b")}, "crop_of='b' names no other view"),
        ({"a": ViewSpec(8, crop_of="a")}, "crop_of='a' names no other view"),
        ({"a": ViewSpec(8, crop_of="b"), "b": ViewSpec(8, crop_of="a")}, "names no other view"),
        ({"a": ViewSpec(8, count=3, crop_of="b"), "b": ViewSpec(8, count=2)}, "wants 3 crops of 'b', which has 2"),
    ],
)
def test_impossible_views(views, message):
    with pytest.raises(UsageError, match=message):
        cut(views)
