"""DINO's augmentation: crops of two sizes, each with colours, blur and solarisation of its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor
from torchvision.transforms import functional

from ssl_core.api import BuildContext, Cuts, Picture, Transform, ViewSpec, crop_owner, cuts_of, random_crop_box
from ssl_dino.options import MultiCropOptions

_COLOURS = {
    "brightness": functional.adjust_brightness,
    "contrast": functional.adjust_contrast,
    "saturation": functional.adjust_saturation,
    "hue": functional.adjust_hue,
}
_GLOBAL = "image"
"""The view whose crops have a blur and a solarisation by their place."""


@dataclass(frozen=True)
class Crop:
    """Everything random about one crop, so that two views can share it.

    Attributes:
        box: in the image.
        flip: whether it is mirrored.
        colours: (operation, amount) in the order in which they are applied.
        gray: whether the colour is dropped.
        sigma: of the blur, in pixels; 0 = none.
        solarize: whether values from 128 are inverted.
    """

    box: tuple[int, int, int, int]
    flip: bool
    colours: tuple[tuple[str, float], ...]
    gray: bool
    sigma: float
    solarize: bool


class MultiCrop(Transform):
    """Cuts each view's crops; those of the view `image` are the global ones.

    Per crop the draws are, in order: the box, the flip, whether the colours change, by how much and in which order,
    grey, blur, solarisation. What is switched off draws nothing. All changes are made on the resized crop, by Pillow.
    A view with `crop_of` shows the same crops as that view, at its own size.
    """

    def __init__(self, options: MultiCropOptions, context: BuildContext):
        self.options = options
        self.takes_pictures = options.recipe == "fast"
        self.faster = None if self.takes_pictures else "transform.recipe=fast"

    def __call__(
        self, image: Image.Image | Picture, views: Mapping[str, ViewSpec], rng: Callable[[str], random.Random]
    ) -> dict[str, Tensor]:
        crops = {
            name: self._draw(image.size, name, spec, rng(name)) for name, spec in views.items() if spec.crop_of is None
        }
        shown = {name: crops[crop_owner(name, views)][: spec.count] for name, spec in views.items()}
        cuts = cuts_of(image, [(crop.box, views[name].size) for name, own in shown.items() for crop in own])
        return {
            name: torch.cat([_cut(cuts, crop, spec) for crop in shown[name]]) for name, spec in views.items()
        }  # (count, 3, size, size) each

    def _draw(self, size: tuple[int, int], name: str, spec: ViewSpec, rng: random.Random) -> list[Crop]:
        options = self.options
        crops = []
        for place in range(spec.count):
            pair = min(place, 1)
            blur, solarize = options.local_blur, 0.0
            if name == _GLOBAL:
                blur, solarize = options.blur[pair], options.solarize[pair]
            crops.append(
                Crop(
                    box=random_crop_box(*size, spec.scale or options.scale, options.ratio, rng),
                    flip=_happens(options.flip, rng),
                    colours=self._colours(rng),
                    gray=_happens(options.grayscale, rng),
                    sigma=rng.uniform(*options.blur_sigma) if _happens(blur, rng) else 0.0,
                    solarize=_happens(solarize, rng),
                )
            )
        return crops

    def _colours(self, rng: random.Random) -> tuple[tuple[str, float], ...]:
        if not _happens(self.options.jitter, rng):
            return ()
        colours = []
        for operation in _COLOURS:
            strength = getattr(self.options, operation)
            if strength:
                middle = 0.0 if operation == "hue" else 1.0
                low = middle - strength if operation == "hue" else max(0.0, middle - strength)
                colours.append((operation, rng.uniform(low, middle + strength)))
        rng.shuffle(colours)
        return tuple(colours)


def _cut(cuts: Cuts, crop: Crop, spec: ViewSpec) -> Tensor:
    """Returns one crop, (1, 3, size, size) uint8."""
    changed = crop.colours or crop.gray or crop.sigma or crop.solarize
    change = partial(_change, crop=crop) if changed else None
    return cuts.view(crop.box, spec.size, spec.interpolation, crop.flip, change)


def _change(image: Image.Image, crop: Crop) -> Image.Image:
    for operation, amount in crop.colours:
        image = _COLOURS[operation](image, amount)
    if crop.gray:
        image = image.convert("L").convert("RGB")
    if crop.sigma:
        image = image.filter(ImageFilter.GaussianBlur(crop.sigma))
    return ImageOps.solarize(image) if crop.solarize else image


def _happens(probability: float, rng: random.Random) -> bool:
    return probability > 0 and rng.random() < probability
