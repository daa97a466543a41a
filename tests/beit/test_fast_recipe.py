"""The fast recipe cuts the crops of the exact one, with the same jitter."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_beit.options import TwoViewOptions
from ssl_beit.two_view import TwoView
from ssl_core.api import (
    ArrayPicture,
    Batch,
    BuildContext,
    EncodedPicture,
    ImageSet,
    SampleOrder,
    Views,
    ViewSpec,
    change_colours,
    training_loader,
    unit_views,
)

VIEWS = {"image": ViewSpec(64), "tokens": ViewSpec(32, interpolation="lanczos", crop_of="image")}


def smooth(width: int, height: int) -> Image.Image:
    """A colourful image without noise, which survives JPEG and resizing, and without colours that jitter cuts off."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    pixels = np.stack([x, y, 0.5 + 0.4 * np.sin(9 * x) * np.cos(7 * y)], -1)
    return Image.fromarray((50 + pixels * 90).astype(np.uint8))


def jpeg(image: Image.Image) -> EncodedPicture:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95)
    return EncodedPicture(stream.getvalue())


def _both(seed: int, image, views=VIEWS, **options) -> list[dict[str, torch.Tensor]]:
    """Returns the views of the exact and of the fast recipe."""
    results = []
    for recipe, given in (("exact", image), ("fast", ArrayPicture(np.array(image)))):
        transform = TwoView(TwoViewOptions(recipe=recipe, **options), BuildContext())
        assert transform.takes_pictures == (recipe == "fast")
        results.append(_shown(transform(given, views, lambda name: random.Random(f"{seed} {name}"))))
    return results


def _shown(found: dict[str, torch.Tensor] | Views) -> dict[str, torch.Tensor]:
    """Returns the views in grey levels, with the changes of colour that were left to the device."""
    if not isinstance(found, Views):
        return found
    assert all(view.dtype == torch.uint8 for view in found.pixels.values())
    assert all(view.is_contiguous(memory_format=torch.channels_last) for view in found.pixels.values())
    changed = {name: change_colours(found.pixels[name], colours) for name, colours in found.colours.items()}
    return {**found.pixels, **changed}


@pytest.mark.parametrize("seed", range(8))
def test_same_crop_flip_and_jitter(seed):
    exact, fast = _both(seed, smooth(120, 90))
    for name in VIEWS:
        assert fast[name].shape == exact[name].shape
        assert (exact[name].float() - fast[name].float()).abs().mean() < 1.5
    assert (_both(seed + 100, smooth(120, 90))[0]["image"].float() - fast["image"].float()).abs().mean() > 8


@pytest.mark.parametrize("seed", range(4))
def test_without_jitter_they_differ_by_rounding(seed):
    exact, fast = _both(seed, smooth(120, 90), jitter=0)
    assert (exact["image"].float() - fast["image"].float()).abs().mean() < 0.2
    assert (exact["tokens"].float() - fast["tokens"].float()).abs().mean() < 0.6  # Lanczos against bicubic


def test_several_crops():
    views = {"image": ViewSpec(48, count=3), "tokens": ViewSpec(24, count=2, crop_of="image"), "own": ViewSpec(16)}
    exact, fast = _both(1, smooth(120, 90), views, jitter=0)
    for name, spec in views.items():
        assert fast[name].shape == (spec.count, 3, spec.size, spec.size)
        assert (exact[name].float() - fast[name].float()).abs().mean() < 0.6


def test_a_photograph_of_many_pixels_looks_the_same():
    image = smooth(1600, 1200)
    transform = TwoView(TwoViewOptions(recipe="fast", jitter=0, scale=(0.5, 1)), BuildContext())
    fast = _shown(transform(jpeg(image), VIEWS, lambda name: random.Random(f"3 {name}")))
    exact = _both(3, image, jitter=0, scale=(0.5, 1))[0]
    for name in VIEWS:
        assert (exact[name].float() - fast[name].float()).abs().mean() < 1.5


def test_the_exact_recipe_says_what_is_faster():
    assert TwoView(TwoViewOptions(recipe="exact"), BuildContext()).faster == "transform.recipe=fast"
    assert TwoView(TwoViewOptions(recipe="fast"), BuildContext()).faster is None


class Jpegs(ImageSet):
    """Six photographs."""

    def __len__(self) -> int:
        return 6

    def read(self, index: int) -> Image.Image:
        return smooth(60 + index, 50)

    def picture(self, index: int) -> EncodedPicture:
        return jpeg(self.read(index))

    def size(self, index: int) -> tuple[int, int]:
        return 60 + index, 50


def _loaded(jitter: float = 0.4, **changes) -> list[Batch]:
    arguments = {"micro_batch_size": 6, "first_step": 0, "total_steps": 2, "seed": 3, "masker": None, "grid": None}
    transform = TwoView(TwoViewOptions(recipe="fast", jitter=jitter), BuildContext())
    loader = training_loader(Jpegs(), transform, VIEWS, order=SampleOrder(6, 6, 3), **{**arguments, **changes})
    return [unit_views(batch) for batch in loader]


def _joined(batches: list[Batch]) -> dict[str, torch.Tensor]:
    return {name: torch.cat([batch.views[name] for batch in batches]) for name in VIEWS}


def test_jitter_depends_neither_on_the_micro_batch_nor_on_workers_ranks_and_resume():
    whole = _joined(_loaded())
    plain = _joined(_loaded(jitter=0))
    assert all((whole[name] != plain[name]).float().mean() > 0.9 for name in VIEWS)
    ranks = [_loaded(rank=rank, world_size=2, micro_batch_size=3) for rank in range(2)]
    in_turn = [batch for step in zip(*ranks, strict=True) for batch in step]
    for found in (_loaded(micro_batch_size=2), _loaded(micro_batch_size=1), _loaded(workers=2), in_turn):
        assert all(torch.equal(_joined(found)[name], whole[name]) for name in VIEWS)
    resumed = _joined(_loaded(first_step=1))
    assert all(torch.equal(resumed[name], whole[name][6:]) for name in VIEWS)


def test_fixed_views_keep_their_jitter():
    first, again = _loaded(fixed_views=1, total_steps=2)
    places = [first.index.tolist().index(number) for number in again.index.tolist()]
    assert all(torch.equal(again.views[name], first.views[name][places]) for name in VIEWS)


def test_the_image_has_the_same_jitter_where_the_tokens_are_known():
    transform = TwoView(TwoViewOptions(recipe="fast"), BuildContext())
    both, alone = (
        transform(Jpegs().picture(0), views, lambda name: random.Random(f"5 {name}"))
        for views in (VIEWS, {"image": VIEWS["image"]})
    )
    assert torch.equal(both.colours["image"], both.colours["tokens"])
    assert torch.equal(alone.colours["image"], both.colours["image"])
    assert torch.equal(alone.pixels["image"], both.pixels["image"])
