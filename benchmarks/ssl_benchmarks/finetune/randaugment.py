"""The transform of fine-tuning: random resized crop, flip, and timm's RandAugment."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from PIL import Image
from timm.data.auto_augment import RandAugment, rand_augment_transform
from torch import Tensor

from ssl_benchmarks.finetune.options import RandAugmentOptions
from ssl_core.api import (
    BuildContext,
    Cuts,
    Picture,
    Transform,
    UsageError,
    ViewSpec,
    cuts_of,
    random_crop_box,
    seeded_globals,
)

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.BICUBIC,  # Pillow's rotations and shears have no Lanczos
}
"""Filter of a view -> that of RandAugment's rotations and shears."""

_TRANSLATION = 0.45
"""Largest shift, as a share of the view."""


@dataclass(frozen=True)
class Crop:
    """Everything random about one crop.

    Attributes:
        box: in the image.
        flip: whether it is mirrored.
        seed: of RandAugment; None = none.
    """

    box: tuple[int, int, int, int]
    flip: bool
    seed: int | None


class RandAugmentCrops(Transform):
    """Cuts each view by itself, in the order of timm's `create_transform`: crop, flip, RandAugment.

    Random erasing, which comes next there, is the method's: it fills with noise in normalised pixels, which
    bytes cannot hold.
    """

    def __init__(self, options: RandAugmentOptions, context: BuildContext):
        self.options = options
        self.takes_pictures = options.recipe == "fast"
        self.faster = None if self.takes_pictures else "transform.recipe=fast"
        self._fill = tuple(min(255, round(255 * value)) for value in context.mean)
        self._augment: dict[tuple[int, str], RandAugment] = {}

    def __call__(
        self, image: Image.Image | Picture, views: Mapping[str, ViewSpec], rng: Callable[[str], random.Random]
    ) -> dict[str, Tensor]:
        crops = {name: self._draw(image.size, name, view, rng(name)) for name, view in views.items()}
        cuts = cuts_of(image, [(crop.box, views[name].size) for name, own in crops.items() for crop in own])
        return {
            name: torch.cat([self._cut(cuts, crop, view) for crop in crops[name]]) for name, view in views.items()
        }  # (count, 3, size, size) each

    def _draw(self, size: tuple[int, int], name: str, view: ViewSpec, rng: random.Random) -> list[Crop]:
        if view.crop_of is not None:
            raise UsageError(
                f"transform 'randaugment' cuts each view by itself, and view '{name}' wants the crops of "
                f"'{view.crop_of}'; choose another one, --transform augment"
            )
        options, crops = self.options, []
        for _ in range(view.count):
            box = random_crop_box(*size, view.scale or options.scale, options.ratio, rng)
            flip = rng.random() < options.flip
            crops.append(Crop(box, flip, None if options.policy is None else rng.getrandbits(64)))
        return crops

    def _cut(self, cuts: Cuts, crop: Crop, view: ViewSpec) -> Tensor:
        """Returns one crop, (1, 3, size, size) uint8."""
        if crop.seed is None:
            return cuts.view(crop.box, view.size, view.interpolation, crop.flip)

        def change(image: Image.Image) -> Image.Image:
            with seeded_globals(crop.seed):
                return self._policy(view)(image)

        return cuts.view(crop.box, view.size, view.interpolation, crop.flip, change)

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
