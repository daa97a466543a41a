"""Augment: random resized crops, flips and colour changes."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter
from torch import Tensor

from ssl_core.builtin.options import AugmentOptions
from ssl_core.contracts.batch import ViewSpec
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.data import Picture, Transform
from ssl_core.data.cropping import Box, crop_owner, random_crop_box
from ssl_core.data.cuts import Cuts, cuts_of

_ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


@dataclass(frozen=True)
class Crop:
    """Everything random about one crop, so that two views can share it.

    Attributes:
        box: in the image.
        flip: whether it is mirrored.
        colour: (operation, amount) in the order in which they are applied.
        gray: whether the colour is dropped.
        blur: sigma in pixels of the finished view; 0 = none.
    """

    box: Box
    flip: bool
    colour: tuple[tuple[str, float], ...]
    gray: bool
    blur: float


class Augment(Transform):
    """Cuts each view's crops; a view with `crop_of` shows the same crops as that view, at its own size.

    Per crop the draws are, in order: the box (`random_crop_box`), the flip, the colour changes and
    their order, grey, blur. What is switched off draws nothing. Changes of colour are made on the
    resized crop, which is where they are cheap, by Pillow with either recipe.
    """

    def __init__(self, options: AugmentOptions, context: BuildContext):
        self.options = options
        self.takes_pictures = options.recipe == "fast"
        self.faster = None if self.takes_pictures else "transform.recipe=fast"

    def __call__(
        self, image: Image.Image | Picture, views: Mapping[str, ViewSpec], rng: Callable[[str], random.Random]
    ) -> dict[str, Tensor]:
        owners = {name: crop_owner(name, views) for name in views}
        crops: dict[str, list[Crop]] = {}
        for owner in owners.values():
            if owner not in crops:
                generator = rng(owner)
                crops[owner] = [
                    self._draw(image.size, views[owner].scale, generator) for _ in range(views[owner].count)
                ]
        shown = {name: crops[owners[name]][: view.count] for name, view in views.items()}
        cuts = cuts_of(image, [(crop.box, views[name].size) for name, own in shown.items() for crop in own])
        result = {}
        for name, view in views.items():
            cut = [_cut(cuts, crop, view) for crop in shown[name]]
            result[name] = torch.cat(cut) if len(cut) > 1 else cut[0]  # (count, 3, size, size)
        return result

    def _draw(self, size: tuple[int, int], scale: tuple[float, float] | None, rng: random.Random) -> Crop:
        options = self.options
        box = random_crop_box(*size, scale or options.scale, options.ratio, rng)
        flip = options.flip > 0 and rng.random() < options.flip
        colour = []
        for operation in _ENHANCERS:
            strength = getattr(options, operation)
            if strength:
                colour.append((operation, rng.uniform(max(0.0, 1 - strength), 1 + strength)))
        if options.hue:
            colour.append(("hue", rng.uniform(-options.hue, options.hue)))
        rng.shuffle(colour)
        gray = options.grayscale > 0 and rng.random() < options.grayscale
        blur = rng.uniform(0.1, 2.0) if options.blur > 0 and rng.random() < options.blur else 0.0
        return Crop(box, flip, tuple(colour), gray, blur)


def _cut(cuts: Cuts, crop: Crop, view: ViewSpec) -> Tensor:
    """Returns one crop of a view, (1, 3, size, size) uint8."""
    changed = crop.colour or crop.gray or crop.blur
    change = partial(_change, crop=crop) if changed else None
    return cuts.view(crop.box, view.size, view.interpolation, crop.flip, change)


def _change(image: Image.Image, crop: Crop) -> Image.Image:
    for operation, amount in crop.colour:
        image = _turn_hue(image, amount) if operation == "hue" else _ENHANCERS[operation](image).enhance(amount)
    if crop.gray:
        image = image.convert("L").convert("RGB")
    return image.filter(ImageFilter.GaussianBlur(crop.blur)) if crop.blur else image


def _turn_hue(image: Image.Image, amount: float) -> Image.Image:
    """Turns the hue by a share of the colour circle, in [-0.5, 0.5]."""
    hue, saturation, value = image.convert("HSV").split()
    turned = np.asarray(hue) + np.uint8(round(amount * 256) % 256)  # uint8 wraps, as the circle does
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")
