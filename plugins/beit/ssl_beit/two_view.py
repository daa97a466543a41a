"""BEiT's augmentation: two views of one crop, in the reference's order (section 1 of its data path)."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from ssl_beit.options import TwoViewOptions
from ssl_core.api import (
    BuildContext,
    Picture,
    PictureCuts,
    Transform,
    Views,
    ViewSpec,
    colour_matrix,
    crop_and_resize,
    crop_owner,
    random_crop_box,
    to_tensor,
)

_ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}

Box = tuple[int, int, int, int]


class TwoView(Transform):
    """Jitters and flips the whole image, then cuts every view from it.

    Views that name another one in `crop_of` show exactly its crop, resized by their own filter, so
    that the tokenizer sees what the backbone sees, jitter included. The whole image is jittered
    before it is cropped, as the reference does: contrast depends on it.

    The recipe `fast` draws the same numbers and cuts the same crops, on bytes (`ssl_core/data/cuts.py`). Jitter is
    left to the device, by the same factors, contrast about the mean of the whole image (`ssl_core/data/colours.py`).
    """

    def __init__(self, options: TwoViewOptions, context: BuildContext):
        self.options = options
        self.takes_pictures = options.recipe == "fast"
        self.faster = None if self.takes_pictures else "transform.recipe=fast"

    def __call__(
        self, image: Image.Image | Picture, views: Mapping[str, ViewSpec], rng: Callable[[str], random.Random]
    ) -> dict[str, Tensor] | Views:
        owners = {name: crop_owner(name, views) for name in views}
        generators = {name: rng(name) for name, spec in views.items() if spec.crop_of is None}
        first = next(iter(generators.values()))
        jitter, flip = self._jitter(first), first.random() < self.options.flip
        boxes = {name: self._boxes(image.size, views[name], generator) for name, generator in generators.items()}
        shown = {name: boxes[owners[name]][: spec.count] for name, spec in views.items()}
        if isinstance(image, Picture):
            return _cut_fast(image, views, shown, jitter, flip)
        for name, factor in jitter:
            image = _ENHANCERS[name](image).enhance(factor)
        if flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return {
            name: torch.stack(
                [to_tensor(crop_and_resize(image, box, spec.size, spec.interpolation)) for box in shown[name]]
            )  # (count, 3, size, size)
            for name, spec in views.items()
        }

    def _jitter(self, rng: random.Random) -> list[tuple[str, float]]:
        """Draws (what is changed, its factor), in the order in which it is done."""
        strength = self.options.jitter
        if strength == 0:
            return []
        return [(name, rng.uniform(1 - strength, 1 + strength)) for name in rng.sample(list(_ENHANCERS), 3)]

    def _boxes(self, size: tuple[int, int], spec: ViewSpec, rng: random.Random) -> list[Box]:
        scale = spec.scale or self.options.scale
        return [random_crop_box(*size, scale, self.options.ratio, rng) for _ in range(spec.count)]


def _cut_fast(
    picture: Picture,
    views: Mapping[str, ViewSpec],
    shown: Mapping[str, list[Box]],
    jitter: list[tuple[str, float]],
    flip: bool,
) -> Views:
    """Cuts every view out of the picture and flips the views.

    Args:
        shown: name of a view -> its crops, in the flipped image.
        jitter: as `_jitter` draws it.
    """
    if flip:
        width = picture.size[0]
        shown = {name: [_mirrored(box, width) for box in own] for name, own in shown.items()}
    cuts = PictureCuts(picture, [(box, views[name].size) for name, own in shown.items() for box in own])
    # First of all, while the image is in the processor's cache.
    colours = colour_matrix(jitter, cuts.pixels) if jitter else None
    pixels = {}
    for name, spec in views.items():
        cut = [cuts.view(box, spec.size, spec.interpolation, flip) for box in shown[name]]
        pixels[name] = torch.cat(cut) if len(cut) > 1 else cut[0]  # (count, 3, size, size)
    if colours is None:
        return Views(pixels)
    return Views(pixels, {name: colours.expand(spec.count, 3, 4) for name, spec in views.items()})


def _mirrored(box: Box, width: int) -> Box:
    """Returns where a box of the mirror image lies in the image."""
    top, left, box_height, box_width = box
    return top, width - left - box_width, box_height, box_width
