"""The transform of fine-tuning: random resized crop, flip, and timm's RandAugment."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import torch
from PIL import Image, ImageOps
from timm.data.auto_augment import RandAugment, rand_augment_transform
from torch import Tensor

from ssl_benchmarks.finetune.options import RandAugmentOptions
from ssl_core.api import (
    BuildContext,
    Transform,
    UsageError,
    ViewSpec,
    crop_and_resize,
    random_crop_box,
    seeded_globals,
    to_tensor,
)

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.BICUBIC,  # Pillow's rotations and shears have no Lanczos
}
"""Filter of a view -> that of RandAugment's rotations and shears."""

_TRANSLATION = 0.45
"""Largest shift, as a share of the view."""


class RandAugmentCrops(Transform):
    """Cuts each view by itself, in the order of timm's `create_transform`: crop, flip, RandAugment.

    Random erasing, which comes next there, is the method's: it fills with noise in normalised pixels, which
    bytes cannot hold.
    """

    def __init__(self, options: RandAugmentOptions, context: BuildContext):
        self.options = options
        self._fill = tuple(min(255, round(255 * value)) for value in context.mean)
        self._augment: dict[tuple[int, str], RandAugment] = {}

    def __call__(
        self, image: Image.Image, views: Mapping[str, ViewSpec], rng: Callable[[str], random.Random]
    ) -> dict[str, Tensor]:
        return {name: self._crops(image, name, view, rng(name)) for name, view in views.items()}

    def _crops(self, image: Image.Image, name: str, view: ViewSpec, rng: random.Random) -> Tensor:
        if view.crop_of is not None:
            raise UsageError(
                f"transform 'randaugment' cuts each view by itself, and view '{name}' wants the crops of "
                f"'{view.crop_of}'; choose another one, --transform augment"
            )
        return torch.stack([self._crop(image, view, rng) for _ in range(view.count)])  # (count, 3, size, size)

    def _crop(self, image: Image.Image, view: ViewSpec, rng: random.Random) -> Tensor:
        options = self.options
        box = random_crop_box(*image.size, view.scale or options.scale, options.ratio, rng)
        crop = crop_and_resize(image, box, view.size, view.interpolation)
        if rng.random() < options.flip:
            crop = ImageOps.mirror(crop)
        if options.policy is not None:
            with seeded_globals(rng.getrandbits(64)):
                crop = self._policy(view)(crop)
        return to_tensor(crop)

    def _policy(self, view: ViewSpec) -> RandAugment:
        key = view.size, view.interpolation
        if key not in self._augment:
            settings = {
                "translate_const": int(view.size * _TRANSLATION),
                "img_mean": self._fill,
                "interpolation": _FILTERS[view.interpolation],
            }
            self._augment[key] = rand_augment_transform(self.options.policy, settings)
        return self._augment[key]
