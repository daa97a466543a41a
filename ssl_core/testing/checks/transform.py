"""Checks of transforms."""

from __future__ import annotations

import random

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ssl_core.contracts.batch import ViewSpec
from ssl_core.contracts.data import Picture, Transform, Views
from ssl_core.data.pictures import ArrayPicture
from ssl_core.errors import UsageError
from ssl_core.testing.bench import built
from ssl_core.testing.check import check, require
from ssl_core.testing.global_state import GlobalGenerators
from ssl_core.testing.pickling import round_trip
from ssl_core.testing.subject import IMAGE_SIZE, Subject

SPECS = {"image": ViewSpec(IMAGE_SIZE), "small": ViewSpec(IMAGE_SIZE // 2, count=3, scale=(0.1, 0.5))}
SHARED = {"image": ViewSpec(IMAGE_SIZE), "tokens": ViewSpec(IMAGE_SIZE // 2, crop_of="image")}

LARGE = (110, 90)
"""Width and height of an image that is not cut as small ones are, see `cuts_of`."""


def _image(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def _views(transform: Transform, image: Image.Image | Picture, specs=SPECS, seed: int = 0) -> Views:
    found = transform(image, specs, lambda view: random.Random(f"{seed} {view}"))
    return found if isinstance(found, Views) else Views(found)


def _as_it_takes(transform: Transform, image: Image.Image) -> Image.Image | Picture:
    return ArrayPicture(np.array(image)) if getattr(transform, "takes_pictures", False) else image


def _same(one: Views, two: Views) -> bool:
    return _equal(one.pixels, two.pixels) and _equal(one.colours, two.colours)


def _equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@check("transform")
def views_have_the_right_shape_and_dtype(subject: Subject) -> None:
    """Each view is (count, 3, size, size) uint8, whatever the image's size: tall, wide, tiny, or one pixel."""
    transform: Transform = built(subject)
    for specs in (SPECS, SHARED):
        for width, height in (LARGE, (40, 30), (13, 90), (5, 3), (1, 1)):
            try:
                found = _views(transform, _as_it_takes(transform, _image(width, height)), specs)
            except UsageError:
                if specs is SHARED:
                    break  # it says that it cannot cut two views of one crop
                raise
            views = found.pixels
            require(
                views.keys() == specs.keys(),
                f"the views {', '.join(specs)} were asked for, {', '.join(views)} came",
                "return every view in `views` by its name, and no other",
            )
            for name, spec in specs.items():
                view, shape = views[name], (spec.count, 3, spec.size, spec.size)
                require(
                    view.dtype == torch.uint8 and view.shape == shape,
                    f"the view '{name}' of an image of {width}x{height} is {view.dtype} {tuple(view.shape)}",
                    f"return uint8 in 0..255 of shape (count, 3, size, size) = {shape}",
                )
            for name, colours in found.colours.items():
                shape = (specs[name].count, 3, 4) if name in specs else None
                require(
                    colours.dtype == torch.float32 and colours.shape == shape,
                    f"the colours of the view '{name}' are {colours.dtype} {tuple(colours.shape)}",
                    "return float32 of shape (count, 3, 4) for views that were asked for",
                )


@check("transform")
def same_seed_same_views(subject: Subject) -> None:
    """Views follow from the image and the generators alone, whatever was cut before."""
    transform: Transform = built(subject)
    first = _views(transform, _as_it_takes(transform, _image(*LARGE)))
    for seed in range(1, 4):
        _views(transform, _as_it_takes(transform, _image(31, 57)), seed=seed)
    require(
        _same(first, _views(transform, _as_it_takes(transform, _image(*LARGE)))),
        "the same image and generators gave other views the second time",
        "draw from rng(view) alone, and keep nothing from one call to the next",
    )


@check("transform")
def views_leave_global_generators_alone(subject: Subject) -> None:
    """No global generator is drawn from: torchvision's random transforms do that."""
    transform: Transform = built(subject)
    with GlobalGenerators() as generators:
        _views(transform, _as_it_takes(transform, _image(40, 30)))
    require(
        not generators.used,
        f"it draws from {generators.used}",
        "draw parameters from rng(view), a random.Random, and call functional transforms with them",
    )


@check("transform")
def leaves_the_image_as_it_is(subject: Subject) -> None:
    """The image that it is given is not changed: it may be cached."""
    transform: Transform = built(subject)
    image = _image(*LARGE)
    before = image.tobytes()
    given = _as_it_takes(transform, image)
    for seed in range(4):
        _views(transform, given, seed=seed)
    same = image.tobytes() == before
    if isinstance(given, Picture):
        same = torch.equal(given.pixels(), ArrayPicture(np.array(image)).pixels())
    require(same, "it changed the image that it was given", "work on image.copy()")


@check("transform")
def transform_goes_to_the_data_workers(subject: Subject) -> None:
    """It can be pickled, and cuts the same views afterwards."""
    transform: Transform = built(subject)
    image = _as_it_takes(transform, _image(40, 30))
    same = _same(_views(transform, image), _views(round_trip(transform), image))
    require(same, "a pickled copy cuts other views", "keep what it needs in plain attributes that pickle copies")
