"""Every transform with a fast recipe cuts the crops of its exact one, and changes them alike."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from ssl_core.api import ArrayPicture, BuildContext, EncodedPicture, Registry, UsageError, Views, ViewSpec
from ssl_core.data.cuts import ImageCuts, PictureCuts, cuts_of

COLOUR = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "grayscale": 0.3, "blur": 0.5}
TWO = {"image": ViewSpec(48, count=2), "tokens": ViewSpec(24, count=2, crop_of="image", interpolation="lanczos")}
SIZES = {"image": ViewSpec(48, count=2), "local": ViewSpec(24, count=3, scale=(0.05, 0.3))}
TRANSFORMS = {
    "crops": ("core:augment", {}, TWO, 0.6),
    "colours": ("core:augment", COLOUR, TWO, 1.0),
    "dino": ("dino:multi_crop", {}, SIZES, 1.5),
    "crops of randaugment": ("benchmarks:randaugment", {"policy": None}, SIZES, 0.3),
    "randaugment": ("benchmarks:randaugment", {"policy": "rand-m3-n1-mstd0-inc1"}, SIZES, 1.5),
}
"""What is tested -> transform, options, views, and grey levels that the recipes may be apart on average."""


def smooth(width: int, height: int) -> Image.Image:
    """A colourful image without noise, which survives JPEG and resizing."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    pixels = np.stack([x, y, 0.5 + 0.4 * np.sin(9 * x) * np.cos(7 * y)], -1)
    return Image.fromarray((50 + pixels * 90).astype(np.uint8))


def jpeg(image: Image.Image) -> EncodedPicture:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95)
    return EncodedPicture(stream.getvalue())


def build(name: str, recipe: str, options):
    component = Registry.load().find(name, "transform").component
    return component.load()(component.options(recipe=recipe, **options), BuildContext(image_size=48))


def cut(transform, image, views, seed: int):
    return transform(image, views, lambda name: random.Random(f"{seed} {name}"))


@pytest.mark.parametrize("case", TRANSFORMS)
def test_the_recipes_give_the_same_crops_and_changes(case):
    name, options, views, apart = TRANSFORMS[case]
    fast, exact = build(name, "fast", options), build(name, "exact", options)
    assert (fast.takes_pictures, fast.faster) == (True, None)
    assert (exact.takes_pictures, exact.faster) == (False, "transform.recipe=fast")
    distances, others = [], []
    for seed in range(6):
        image = smooth(120, 90)
        found = cut(fast, ArrayPicture(np.array(image)), views, seed)
        expected, other = cut(exact, image, views, seed), cut(exact, image, views, seed + 100)
        for view, spec in views.items():
            assert found[view].shape == expected[view].shape == (spec.count, 3, spec.size, spec.size)
            assert found[view].dtype == expected[view].dtype == torch.uint8
            assert found[view].is_contiguous(memory_format=torch.channels_last)
            distances.append((found[view].float() - expected[view].float()).abs().mean())
            others.append((other[view].float() - expected[view].float()).abs().mean())
    assert sum(distances) / len(distances) < apart
    assert sum(others) / len(others) > 8


@pytest.mark.parametrize("recipe", ["fast", "exact"])
@pytest.mark.parametrize("name", ["core:augment", "dino:multi_crop", "beit:two_view"])
def test_views_that_share_no_crops_are_refused(name, recipe):
    transform, image = build(name, recipe, {}), smooth(120, 90)
    image = ArrayPicture(np.array(image)) if recipe == "fast" else image
    for views in (
        {"a": ViewSpec(8, crop_of="b")},
        {"a": ViewSpec(8, crop_of="b"), "b": ViewSpec(8, crop_of="a")},
        {"a": ViewSpec(8, count=3, crop_of="b"), "b": ViewSpec(8, count=2)},
    ):
        with pytest.raises(UsageError, match="view 'a'"):
            cut(transform, image, views, 0)
    chain = {"a": ViewSpec(24), "b": ViewSpec(24, crop_of="c"), "c": ViewSpec(16, crop_of="a")}
    found = cut(transform, image, chain, 0)
    found = found.pixels if isinstance(found, Views) else found
    assert torch.equal(found["a"], found["b"])


def test_pillow_cuts_decoded_images_and_bytes_are_cut_of_pictures():
    image, box = smooth(90, 60), (5, 10, 30, 20)
    pillow, fast = cuts_of(image, [(box, 24)]), cuts_of(ArrayPicture(np.array(image)), [(box, 24)])
    assert (type(pillow), type(fast)) == (ImageCuts, PictureCuts)
    crop = image.crop((10, 5, 30, 35)).resize((24, 24), Image.Resampling.BICUBIC)
    mirrored = ImageOps.invert(ImageOps.mirror(crop))
    expected = torch.from_numpy(np.array(mirrored)).permute(2, 0, 1)
    assert torch.equal(pillow.view(box, 24, "bicubic", flip=True, change=ImageOps.invert)[0], expected)
    found = fast.view(box, 24, "bicubic", flip=True, change=ImageOps.invert)[0]
    assert (found.float() - expected.float()).abs().mean() < 0.2


def test_a_small_picture_is_cut_by_pillow():
    image, view = smooth(64, 64), ("bicubic", True, ImageOps.invert)
    wanted = [((5, 10, 30, 20), 24)]
    for picture in (ArrayPicture(np.array(image)), ArrayPicture(np.array(image)[..., 0]), jpeg(image)):
        found = cuts_of(picture, wanted)
        assert isinstance(found, ImageCuts)
        assert torch.equal(found.view(*wanted[0], *view), ImageCuts(picture.image()).view(*wanted[0], *view))
    assert np.array_equal(np.array(ArrayPicture(np.array(image)).image()), np.array(image))


def test_small_crops_of_a_large_jpeg_do_not_keep_it_from_being_decoded_small():
    """A crop needs the pixels of its own view, not of the largest one."""
    picture = jpeg(smooth(1600, 1200))
    wanted = [((0, 0, 900, 900), 224), ((50, 60, 400, 400), 96)]
    cuts = PictureCuts(picture, wanted)
    assert cuts.pixels.shape[1:] == (300, 400)
    assert PictureCuts(picture, [*wanted, ((0, 0, 100, 300), 96)]).pixels.shape[1:] == (1200, 1600)
    for box, size in wanted:
        expected = ImageCuts(smooth(1600, 1200)).view(box, size, "bicubic")
        assert (cuts.view(box, size, "bicubic").float() - expected.float()).abs().mean() < 1.5
