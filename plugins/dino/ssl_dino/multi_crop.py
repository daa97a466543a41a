"""DINO's augmentation: crops of two sizes, each with colours, blur and solarisation of its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor
from torchvision.transforms import functional

from ssl_core.api import BuildContext, Transform, ViewSpec, crop_and_resize, random_crop_box, to_tensor
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
    grey, blur, solarisation. What is switched off draws nothing. All changes are made on the resized crop.
    A view with `crop_of` shows the same crops as that view, at its own size.
    """

    def __init__(self, options: MultiCropOptions, context: BuildContext):
        self.options = options

    def __call__(
        self, image: Image.Image, views: Mapping[str, ViewSpec], rng: Callable[[str], random.Random]
    ) -> dict[str, Tensor]:
        crops = {
            name: self._draw(image.size, name, spec, rng(name)) for name, spec in views.items() if spec.crop_of is None
        }
        return {
            name: torch.stack([self._cut(image, crop, spec) for crop in crops[spec.crop_of or name][: spec.count]])
            for name, spec in views.items()
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

    @staticmethod
    def _cut(image: Image.Image, crop: Crop, spec: ViewSpec) -> Tensor:
        """Returns one crop, (3, size, size) uint8."""
        result = crop_and_resize(image, crop.box, spec.size, spec.interpolation)
        if crop.flip:
            result = ImageOps.mirror(result)
        for operation, amount in crop.colours:
            result = _COLOURS[operation](result, amount)
        if crop.gray:
            result = result.convert("L").convert("RGB")
        if crop.sigma:
            result = result.filter(ImageFilter.GaussianBlur(crop.sigma))
        if crop.solarize:
            result = ImageOps.solarize(result)
        return to_tensor(result)


def _happens(probability: float, rng: random.Random) -> bool:
    return probability > 0 and rng.random() < probability
