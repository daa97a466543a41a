"""BEiT's augmentation: two views of one crop, in the reference's order (section 1 of its data path)."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from ssl_beit.options import TwoViewOptions
from ssl_core.api import BuildContext, Transform, ViewSpec, crop_and_resize, random_crop_box, to_tensor

_ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


class TwoView(Transform):
    """Jitters and flips the whole image, then cuts every view from it.

    Views that name another one in `crop_of` show exactly its crop, resized by their own filter, so
    that the tokenizer sees what the backbone sees, jitter included. The whole image is jittered
    before it is cropped, as the reference does: contrast depends on it.
    """

    def __init__(self, options: TwoViewOptions, context: BuildContext):
        self.options = options

    def __call__(
        self, image: Image.Image, views: Mapping[str, ViewSpec], rng: Callable[[str], random.Random]
    ) -> dict[str, Tensor]:
        generators = {name: rng(name) for name, spec in views.items() if spec.crop_of is None}
        image = self._changed(image, next(iter(generators.values())))
        boxes = {name: self._boxes(image, views[name], generator) for name, generator in generators.items()}
        return {
            name: torch.stack(
                [
                    to_tensor(crop_and_resize(image, box, spec.size, spec.interpolation))
                    for box in boxes[spec.crop_of or name][: spec.count]
                ]
            )  # (count, 3, size, size)
            for name, spec in views.items()
        }

    def _changed(self, image: Image.Image, rng: random.Random) -> Image.Image:
        strength = self.options.jitter
        if strength > 0:
            for enhancer in rng.sample(_ENHANCERS, len(_ENHANCERS)):
                image = enhancer(image).enhance(rng.uniform(1 - strength, 1 + strength))
        if rng.random() < self.options.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return image

    def _boxes(self, image: Image.Image, spec: ViewSpec, rng: random.Random) -> list[tuple[int, int, int, int]]:
        scale = spec.scale or self.options.scale
        return [random_crop_box(*image.size, scale, self.options.ratio, rng) for _ in range(spec.count)]
